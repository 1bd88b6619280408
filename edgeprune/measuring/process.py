"""Start a worker process, wait for it, and read its answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeprune.errors import MeasureError

# The worker imports exactly what this process would. `-m` would put the current directory first,
# where a user's statistics.py or torch.py would take the place of the real one.
_START = (
    "import sys; sys.path[:] = sys.argv[1:]; import runpy; "
    "runpy.run_module('edgeprune.measuring.worker', run_name='__main__')"
)
_LOG_LINE = re.compile(r"^\[[\w.]+:\d+\] (.+)$", re.MULTILINE)
_STARTUP = ("Reading file", "Failed to open midr", "CPU info", "Resetting threadpool")
_TAIL_LINES = 5


def run_worker(request: Mapping[str, Any], subject: str, timeout_s: float) -> dict[str, Any]:
    """The worker's answer to `request` (see worker.py), in a process of its own.

    Raises MeasureError naming `subject`: when the worker says why it cannot, when it has not
    answered after `timeout_s` (it is killed), and when it dies, with its exit code and the end of
    what it wrote to stderr.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        result = Path(folder) / "result.json"
        try:
            done = subprocess.run(
                [sys.executable, "-c", _START, *sys.path],
                input=json.dumps({**request, "result": str(result)}),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                env={**_openvino(), **os.environ},
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureError(
                f"{subject} was not done after {timeout_s:g} s and was stopped; "
                "measure fewer rounds, or allow more time"
            ) from error
        if done.returncode != 0 or not result.exists():
            raise MeasureError(
                f"running {subject} ended with {_ending(done.returncode)}: {_tail(done.stderr)}"
            )
        answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "error" in answer:
        said = last_log_line(done.stderr)
        raise MeasureError(answer["error"] + (f" ({said})" if said else ""))
    return answer


def _openvino() -> dict[str, str]:
    """Where OpenVINO's runtime is, if it is installed: ExecuTorch's delegate for it asks there."""
    spec = find_spec("openvino")
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = [path for folder in folders for path in Path(folder).glob("libs/libopenvino_c.so*")]
    return {"OPENVINO_LIB_PATH": str(found[0])} if found else {}


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _tail(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL_LINES:]) or "it wrote nothing to stderr"


def last_log_line(stderr: str) -> str | None:
    """The runtime's own last word, which is more than the error code it returns."""
    said = [x for x in _LOG_LINE.findall(stderr) if not x.startswith(_STARTUP)]
    return said[-1] if said else None
