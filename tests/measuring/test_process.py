"""Workers that crash, hang or are asked nonsense end in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.errors import MeasureError
from edgeprune.measuring import process
from edgeprune.measuring.process import run_worker


def test_an_unforeseen_end_gives_exit_code_and_stderr() -> None:
    with pytest.raises(MeasureError, match=r"exit code 1: .*KeyError: 'juggle'"):
        run_worker({"task": "juggle"}, "x.pte", 60)


def test_a_users_file_does_not_take_the_place_of_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MeasureError, match="KeyError: 'juggle'"):
        run_worker({"task": "juggle"}, "x.pte", 60)


def test_a_crash_gives_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = "import os, sys; sys.stderr.write('about to fall\\n'); sys.stderr.flush(); os.abort()"
    monkeypatch.setattr(process, "_START", crash)
    with pytest.raises(MeasureError, match=r"x\.pte ended with signal SIGABRT: about to fall"):
        run_worker({"task": "time"}, "x.pte", 60)


def test_a_worker_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START", "import time; time.sleep(60)")
    with pytest.raises(MeasureError, match=r"x\.pte was not done after 0\.5 s"):
        run_worker({"task": "time"}, "x.pte", 0.5)


def test_no_answer_is_an_error_even_with_exit_code_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START", "print('{}')")
    with pytest.raises(MeasureError, match="exit code 0: it wrote nothing to stderr"):
        run_worker({"task": "time"}, "x.pte", 60)
