from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeprune.errors import OutputError
from edgeprune.recovery.checkpoint import read_checkpoint, write_checkpoint

STATE = {"weights": {"w": torch.arange(3.0)}, "epoch": 4, "history": [(0, None, 0.5)]}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.ckpt"
    write_checkpoint(path, "abc", STATE)
    state, why = read_checkpoint(path, "abc")
    assert why == ""
    assert state is not None
    assert torch.equal(state["weights"]["w"], torch.arange(3.0))
    assert state["epoch"] == 4
    assert [p.name for p in path.parent.iterdir()] == ["run.ckpt"], "no draft is left behind"


def test_no_file_is_no_news(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "run.ckpt", "abc") == (None, "")


def test_another_runs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    write_checkpoint(path, "abc", STATE)
    state, why = read_checkpoint(path, "xyz")
    assert state is None
    assert "another recipe" in why
    assert read_checkpoint(path, "abc")[0] is not None


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_cut_off_file_is_set_aside(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "run.ckpt"
    write_checkpoint(path, "abc", STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    state, why = read_checkpoint(path, "abc")
    assert state is None
    assert "run.ckpt.damaged" in why
    assert not path.exists()
    assert (tmp_path / "run.ckpt.damaged").read_bytes() == whole[:keep]


def test_a_file_of_something_else_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    torch.save([1, 2], path)
    assert "damaged" in read_checkpoint(path, "abc")[1]


def test_a_draft_that_was_cut_off_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    write_checkpoint(path, "abc", STATE)
    (tmp_path / "run.ckpt.tmp").write_bytes(b"half")
    assert read_checkpoint(path, "abc")[0] is not None
    write_checkpoint(path, "abc", {**STATE, "epoch": 5})
    state, _ = read_checkpoint(path, "abc")
    assert state is not None
    assert state["epoch"] == 5


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*run\.ckpt"):
        write_checkpoint(tmp_path / "file" / "run.ckpt", "abc", STATE)
