"""Which program measures on a board: the C++ runner where it runs, else the board's Python."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import MeasureError
from edgeprune.measuring.board import Board, called
from edgeprune.measuring.bundle import (
    RUNNER,
    Bundle,
    CannotBuild,
    bundle_of,
    python_bundle,
    runner_bundle,
)
from edgeprune.records import Target

PutTogether = Callable[[Sequence[Path], str], str]
"""Puts files on the board as one folder under a name of their content; gives its path there."""

_USAGE_CODE = 2
_IMPORTS = (
    "import sys, torch, executorch.extension.pybindings._C; "
    "sys.exit(sys.version_info < (3, 10) and 'Python is older than 3.10')"
)


@dataclass(frozen=True)
class Engine:
    """How a command line for the runner starts on this board, and whether it writes traces."""

    start: tuple[str, ...]
    traces: bool

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The whole command line."""
        return [*self.start, *arguments]


def choose_engine(
    board: Board, target: Target, put_together: PutTogether
) -> tuple[Engine, str | None]:
    """The engine for `board`, pushed and tried, and a warning where it is not the first choice.

    Raises MeasureError that says why neither runs there, TargetError where the profile names a
    runner that is none.
    """
    architecture = called(board, ["uname", "-m"]).text
    given = target.reach.runner
    try:
        bundle = bundle_of(Path(given).expanduser()) if given else runner_bundle(architecture)
        return _native(board, bundle, put_together), None
    except CannotBuild as error:
        reason = str(error)
    try:
        engine = _python(board, target.reach.python, put_together)
    except CannotBuild as error:
        raise MeasureError(
            f"nothing measures on {board.name} ({architecture}): {reason}; and {error}"
        ) from None
    return engine, f"measured by Python on {board.name}, not by the C++ runner: {reason}"


def _native(board: Board, bundle: Bundle, put_together: PutTogether) -> Engine:
    folder = put_together(bundle.files, bundle.digest)
    command = f"{folder}/{RUNNER}"
    tried = board.call([command])
    # Without arguments it shows how it is used. Whatever else happens, it does not run there.
    if tried.code != _USAGE_CODE or "usage" not in tried.err:
        said = (tried.err.strip() or f"exit code {tried.code}").splitlines()[-1]
        raise CannotBuild(f"the C++ runner does not run there: {said}")
    return Engine((command,), traces=True)


def _python(board: Board, python: str, put_together: PutTogether) -> Engine:
    tried = board.call([python, "-c", _IMPORTS], timeout_s=120.0)
    if tried.code != 0:
        said = (tried.err.strip() or f"exit code {tried.code}").splitlines()[-1]
        raise CannotBuild(
            f"{python} there cannot either: {said} (it needs Python 3.10 and "
            "`pip install executorch torch`; another Python is named by reach.python)"
        )
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as scratch:
        bundle = python_bundle(Path(scratch))
        folder = put_together(bundle.files, bundle.digest)
    return Engine((python, f"{folder}/{bundle.files[0].name}"), traces=False)
