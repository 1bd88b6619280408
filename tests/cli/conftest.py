"""How the tests of the command line call it: through `main`, as the console script does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from edgeprune.cli import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def edgeprune(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line; what really went to file descriptors 1 and 2 comes back."""

    def run(*words: object) -> Ended:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Ended(code, *capfd.readouterr())

    return run
