"""A kit's files → a folder or a zip. The same files give the same bytes."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from edgeprune.errors import DataError, OutputError
from edgeprune.output import write_whole

Files = Mapping[str, bytes]
"""Contents by path in the kit."""

_THEN = (2020, 1, 1, 0, 0, 0)
_EXECUTABLE, _PLAIN = 0o755, 0o644
_MARK = "kit.json"
# Results come from elsewhere: a small text must not become all of the memory.
_MOST_UNPACKED = 256_000_000


def check_place(out: Path) -> None:
    """Raises OutputError where a kit cannot go: a file that is no zip, a folder of other things."""
    if out.suffix == ".zip":
        if out.is_dir():
            raise OutputError(f"cannot write {out}: it is a directory")
        return
    if out.exists() and not out.is_dir():
        raise OutputError(f"cannot write {out}: it is a file; name a directory, or a .zip")
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
        raise OutputError(f"{out} is not empty and is no kit: choose another directory")


def pack(files: Files, out: Path) -> None:
    """Writes a kit to `out`: a zip where its name ends so, else a folder.

    In a folder that holds a kit already, files of the same name are replaced. Raises OutputError.
    """
    check_place(out)
    if out.suffix == ".zip":
        data = zipped(files, out.stem)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, data)
        return
    try:
        for name, data in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(_mode(name, data))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error


def zipped(files: Files, folder: str) -> bytes:
    """A zip of `files` in one folder: sorted, with a fixed date, scripts executable."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(f"{folder}/{name}", _THEN)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, wherever it is made: only there is the mode read
            info.external_attr = _mode(name, files[name]) << 16
            archive.writestr(info, files[name])
    return held.getvalue()


def packed(data: bytes) -> str:
    """Bytes as a text of a JSON document: gzip, base64. The same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def unpacked(text: str, what: str) -> bytes:
    """What `packed`, or `gzip | base64` in a kit's script, was given. Raises DataError."""
    try:
        with gzip.open(io.BytesIO(base64.b64decode(text, validate=True))) as file:
            data = file.read(_MOST_UNPACKED + 1)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{what} is damaged: {error}") from error
    if len(data) > _MOST_UNPACKED:
        raise DataError(f"{what} is more than {_MOST_UNPACKED} bytes: no kit asks for that much")
    return bytes(data)


def _mode(name: str, data: bytes) -> int:
    return _EXECUTABLE if name.endswith(".sh") or data.startswith(b"\x7fELF") else _PLAIN
