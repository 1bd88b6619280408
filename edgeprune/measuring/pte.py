"""Is a file a program at all? Asked before a process is started for it."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import MeasureError

# `file_identifier` of ExecuTorch's program.fbs; runtimes refuse any other.
MAGIC = b"ET12"


def check_program(path: Path) -> Path:
    """`path` made absolute. Raises MeasureError, one line, unless it starts like a .pte."""
    if not path.exists():
        raise MeasureError(f"no such program: {path}")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise MeasureError(f"cannot read {path}: {error.strerror or error}") from error
    magic = head[4:8]
    if magic == MAGIC:
        return path.resolve()
    if magic[:2] == b"ET" and magic[2:].isdigit():
        age = "newer" if magic > MAGIC else "older"
        raise MeasureError(
            f"{path} has program format {magic.decode()}, {age} than the {MAGIC.decode()} that the "
            "installed executorch runs; lower it again with this executorch, or install the "
            "executorch that made it"
        )
    raise MeasureError(
        f"{path} is not an ExecuTorch program (a .pte has {MAGIC.decode()!r} at byte 4); "
        "`edgeprune lower` writes one"
    )
