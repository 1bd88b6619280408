"""Where a command writes: made and tried before any work is done, and never emptied."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune.errors import OutputError

MARKER = ".edgeprune"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of an OSError: there is no room for what was written, on the disk or in what the user may use."""


def claim_directory(path: Path, *, force: bool = False) -> Path:
    """`path` as a directory that exists, can be written, and holds a run of ours or nothing.

    Raises `OutputError` if it cannot be made or written, or if it holds other people's files and
    `force` is not set. Nothing that is there is ever removed.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"cannot write to {path}: it is a file; name a directory with -o")
    _try_writing(path, path)
    foreign = not (path / MARKER).exists() and any(path.iterdir())
    if foreign and not force:
        raise OutputError(
            f"{path} is not empty and is not a run of edgeprune; choose another directory with -o, "
            "or write into this one with --force"
        )
    (path / MARKER).write_text("An edgeprune run: `edgeprune report` shows it.\n", encoding="utf-8")
    return path


def claim_file(path: Path) -> Path:
    """`path` as a file that can be written: its folder is made and tried, the file is not touched.

    Raises `OutputError` if it is a directory or its folder cannot be written.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory; name a file with -o")
    _try_writing(path.parent, path)
    return path


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, then, once it is on disk, put it in its place whole.

    Raises `OutputError` where that cannot be done; what was there before is then still there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            write(beside)
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def serialised(save: Callable[[Any, io.BytesIO], Any], value: Any) -> bytes:
    """What `save` (torch.save and its like) writes of `value`.

    To be written to a file in one piece: PyTorch's own writer ends the process where the disk is
    full, or raises a RuntimeError that does not say so.
    """
    buffer = io.BytesIO()
    save(value, buffer)
    return buffer.getvalue()


def _try_writing(folder: Path, asked: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A real file, because permissions alone do not tell: read-only and full disks, root.
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"edgeprune")
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {asked}: {reason}; choose another with -o") from None
