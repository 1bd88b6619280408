"""Kernels → samples: asks a worker process, and says what happened if it dies."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO

from edgeprune.cost.keys import key_from_json, key_to_json
from edgeprune.errors import MeasureError
from edgeprune.records import KernelKey, Progress, silent

WORKER = "edgeprune.cost.worker"
_STAGE = "measuring kernels"
_TAIL = 800


@dataclass(frozen=True)
class Effort:
    """How much measuring: at most `rounds` executions of each kernel, five at least, within
    `seconds` for all together.

    `batch_bytes` is how many bytes of weights are executed in turn before the first comes again.
    About as many as the network has, and a kernel finds its weights in the same cache as there.
    """

    seconds: float = 20.0
    rounds: int = 20
    batch_bytes: int = 32_000_000


def sample(
    keys: Sequence[KernelKey],
    threads: int,
    effort: Effort = Effort(),
    *,
    progress: Progress = silent,
) -> Iterator[tuple[KernelKey, tuple[float, ...]]]:
    """Executes `keys` in a process of their own; yields (key, samples in µs) as they come.

    Raises MeasureError with the exit code and the end of stderr if the worker dies,
    after yielding what it had finished. An op outside the delegate that ExecuTorch's compiler
    cannot take by itself is warned about and not yielded.
    """
    if not keys:
        return
    request = {
        "threads": threads,
        **asdict(effort),
        "keys": [key_to_json(key) for key in keys],
    }
    with tempfile.TemporaryFile("w+") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            answers = _answers(worker, json.dumps(request))
            for done, (key, samples) in enumerate(answers, start=1):
                progress(_STAGE, done, len(keys), key.op)
                if samples:
                    yield key, samples
            code = worker.wait()
        finally:
            # Also when the caller stops early or is interrupted: leave no process behind.
            worker.kill()
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
        if code != 0:
            raise MeasureError(_died(code, errors))


def _answers(
    worker: subprocess.Popen[str], request: str
) -> Iterator[tuple[KernelKey, tuple[float, ...]]]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        with worker.stdin:
            worker.stdin.write(request)
    except BrokenPipeError:
        return  # it died before it read everything; its exit code says more
    for line in worker.stdout:
        answer = json.loads(line)
        if answer["refused"] is not None:
            warnings.warn(refusal(key_from_json(answer["key"]), answer["refused"]), stacklevel=3)
        yield key_from_json(answer["key"]), tuple(answer["samples_us"])


def refusal(key: KernelKey, reason: str) -> str:
    """What is said of an op that the compiler cannot take by itself."""
    return (
        f"{key.op} cannot be measured by itself and is left out of the predicted latency (whole "
        f"programs are measured all the same): {reason.splitlines()[0]}"
    )


def _died(code: int, errors: IO[str]) -> str:
    errors.seek(0)
    tail = errors.read()[-_TAIL:].strip() or "(nothing on stderr)"
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    return (
        f"the process that measures kernels {how}; its last words: {tail}\n"
        f"`edgeprune doctor` says whether the installed runtime is one that works"
    )
