"""What an upstream exception has to say to the user: one line, and the line of their code."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_NOT_THE_USERS = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3)[/\\]|^<")
# Headings of torch's longer messages: what follows them is the reason.
_HEADING = re.compile(r"^(An error occurred when running|While executing|Encountered|$)")
_LONGEST = 300


def reason_of(error: BaseException) -> str:
    """The first line of the deepest cause that says something, at most 300 characters."""
    for cause in reversed(_causes(error)):
        lines = [line.strip() for line in str(cause).splitlines()]
        useful = [line for line in lines if not _HEADING.match(line)] or [x for x in lines if x]
        if useful:
            return f"{type(cause).__name__}: {useful[0][:_LONGEST]}"
    return type(error).__name__


def source_of(error: BaseException) -> str | None:
    """ "file.py:12" of the user's code, where upstream's message quotes a traceback of it."""
    for cause in reversed(_causes(error)):
        for file, line in reversed(_FRAME.findall(str(cause))):
            if not _NOT_THE_USERS.search(file) and not is_ours(file):
                return f"{file}:{line}"
    return None


def is_ours(file: str) -> bool:
    """Whether a source file is edgeprune's or torch's own, wherever they are installed; a user's
    folder may have any name."""
    parents = Path(file).parents
    return any(home in parents for home in _homes())


@cache
def _homes() -> tuple[Path, ...]:
    torch = find_spec("torch")
    found = torch.submodule_search_locations if torch is not None else None
    return (Path(__file__).parent, *(Path(home) for home in found or ()))


def _causes(error: BaseException) -> list[BaseException]:
    """`error` and what it was raised from, outermost first."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain
