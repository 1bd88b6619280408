"""A device that is reached through a connection which may drop: what ssh and adb have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edgeprune.errors import MeasureError

T = TypeVar("T")

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


class Dropped(Exception):
    """The connection failed or ended before the command's own end was known."""


class BoardLost(MeasureError):
    """A board could not be reached for as long as its profile allows."""


@dataclass(frozen=True)
class Answer:
    """How a command on the board ended: exit code, stdout, and stderr as text."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Stdout as text, without the white space around it."""
        return self.out.decode(errors="replace").strip()


class Board(Protocol):
    """One device. All methods raise Dropped where the connection fails.

    `name` is for messages; `folder` is the directory on the device that is ours.
    """

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> str: ...

    def close(self) -> None:
        """End what was kept open between calls."""
        ...

    def call(self, argv: Sequence[str], timeout_s: float = 60.0) -> Answer:
        """Run a command there, as a list of arguments, and wait for its end."""
        ...

    def push(self, path: Path, remote: str) -> None:
        """Write the file `path` to `remote` (MeasureError where it cannot be written there)."""
        ...

    def pull(self, remote: str) -> bytes:
        """The contents of the file `remote` (MeasureError where there is none)."""
        ...


def persistently(board: Board, reconnect_s: float, action: Callable[[], T]) -> T:
    """`action()`, again after each drop of the connection, until `reconnect_s` have gone by.

    Only what may be done twice belongs in `action`. Raises BoardLost with the last reason.
    """
    started: float | None = None
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except Dropped as error:
            now = time.monotonic()
            started = now if started is None else started
            if now - started + pause > reconnect_s:
                raise BoardLost(
                    f"{board.name} cannot be reached (tried for {now - started:.0f} s): {error}"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def called(board: Board, argv: Sequence[str], timeout_s: float = 60.0) -> Answer:
    """`board.call`, for commands that must succeed; MeasureError with what they said if not."""
    answer = board.call(argv, timeout_s)
    if answer.code != 0:
        said = (answer.err.strip() or answer.text or "it said nothing").splitlines()[-1]
        raise MeasureError(f"{board.name}: {argv[0]} ended with exit code {answer.code}: {said}")
    return answer
