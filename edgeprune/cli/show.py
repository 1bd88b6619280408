"""The one place that writes to stdout: results, as text, as tables or as one JSON document."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

_reserved: TextIO | None = None
_P = ParamSpec("_P")


class ReaderLeft(Exception):
    """Whoever read our stdout has read enough: `edgeprune inspect ... | head`."""


def results_only(command: Callable[_P, None]) -> Callable[_P, None]:
    """Run a command's body with stdout reserved for what this module writes."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with reserved_stdout():
            command(*args, **kwargs)

    return run


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Keep stdout for results: what models, data loaders and native code print goes to stderr.

    File descriptor 1 itself is turned round, because libraries in C++ write past `sys.stdout`.
    """
    global _reserved
    sys.stdout.flush()
    stream = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace")  # noqa: SIM115
    os.dup2(2, 1)
    _reserved = stream
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _reserved = None
        os.dup2(stream.fileno(), 1)
        with suppress(BrokenPipeError):  # told as ReaderLeft already
            stream.close()


def line(text: str = "") -> None:
    """One line (or several) of plain text."""
    with _stream() as stream:
        stream.write(text + "\n")


def document(value: object) -> None:
    """A whole result for programs, records and paths included: one JSON document."""
    line(dumped(value))


def dumped(value: object) -> str:
    """The JSON text of a result."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: object) -> Any:
    """What `json` does not know, one level down: a record by its fields, a path by its name."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON document")


def rich(*parts: RenderableType) -> None:
    """Tables and styled text; 80 columns wide where there is no terminal to ask."""
    from rich.console import Console

    with _stream() as stream:
        console = Console(file=stream, highlight=False)
        with console.capture() as captured:  # rich itself would end the process if nobody reads
            for part in parts:
                console.print(part)
        stream.write(captured.get())


@contextmanager
def _stream() -> Iterator[TextIO]:
    stream = _reserved if _reserved is not None else sys.stdout
    try:
        yield stream
        stream.flush()
    except BrokenPipeError:
        raise ReaderLeft from None
