"""A kit's script as a separate process, as whoever has the device runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.records import Target

HOST = Target("host", "this machine", "xnnpack", "local", "fp32", 1, "measured")
QUICK = ("-n", "3", "-p", "2")


@dataclass(frozen=True)
class Ran:
    """How a kit's script ended, and the result it wrote."""

    code: int
    err: str
    result: dict[str, Any]


def unzip(archive: Path, folder: Path) -> Path:
    """The kit in a zip, unpacked as `unzip` does, modes included; its folder."""
    with zipfile.ZipFile(archive) as held:
        for info in held.infolist():
            Path(held.extract(info, folder)).chmod(info.external_attr >> 16)
    return folder / archive.stem


def run_kit(kit: Path, *options: str, python: str = sys.executable) -> Ran:
    """The kit's script, run from another directory than its own."""
    environment = {**os.environ, "PYTHON": python}
    environment.pop("EXECUTORCH_ROOT", None)
    done = subprocess.run(
        [str(kit / "run.sh"), *options],
        cwd=kit.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    result = kit / "result.json"
    found = json.loads(result.read_text()) if result.exists() else {}
    return Ran(done.returncode, done.stderr, found)
