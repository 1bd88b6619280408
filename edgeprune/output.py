"""Where a command writes: made and tried before any work is done, and never emptied."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
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


def write_whole(path: Path, content: str | bytes, draft: Path | None = None) -> None:
    """A file with this content (text as UTF-8) at `path`, all or nothing.

    It is complete on disk, as `draft`, before it takes the name, so that a kill or a power cut
    leaves the old file or the new one. Drafts have a name for each process, so that two can write
    one path; a kill leaves them, and what is large and written often names one of its own. Raises
    `OutputError` where it cannot be written; what was there before is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    draft = draft or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            with suppress(OSError):  # the folder itself may be what is wrong
                draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
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


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _try_writing(folder: Path, asked: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A real file, because permissions alone do not tell: read-only and full disks, root.
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"edgeprune")
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {asked}: {reason}; choose another with -o") from None
