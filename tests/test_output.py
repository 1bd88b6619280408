"""Output directories: tried before any work, never emptied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.errors import OutputError
from edgeprune.output import MARKER, claim_directory, claim_file


def test_a_new_directory_is_made_and_marked(tmp_path):
    path = claim_directory(tmp_path / "runs" / "one")
    assert [entry.name for entry in path.iterdir()] == [MARKER]
    assert claim_directory(path) == path


def test_a_run_of_ours_can_be_claimed_again(tmp_path):
    path = claim_directory(tmp_path / "run")
    (path / "plan.json").write_text("{}")
    claim_directory(path)
    assert (path / "plan.json").read_text() == "{}"


def test_other_peoples_files_are_safe(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not a run of edgeprune"):
        claim_directory(tmp_path)
    claim_directory(tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is a file"):
        claim_directory(tmp_path / "file")
    with pytest.raises(OutputError, match=r"cannot write .*file/run"):
        claim_directory(tmp_path / "file" / "run")
    with pytest.raises(OutputError, match=r"cannot write .*plan\.json"):
        claim_file(tmp_path / "file" / "plan.json")
    with pytest.raises(OutputError, match="it is a directory"):
        claim_file(tmp_path)


def test_claiming_a_file_leaves_it_as_it_is(tmp_path):
    path = tmp_path / "new" / "plan.json"
    assert claim_file(path) == path
    assert list(path.parent.iterdir()) == []
    path.write_text("kept")
    claim_file(path)
    assert path.read_text() == "kept"


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    """In a process that may write no more than 10 kB to a file, which fails as a full disk does."""
    kept = {name: tmp_path / name for name in ("plan.json", "train.checkpoint", "model.pt2")}
    for path in kept.values():
        path.write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *map(str, kept.values())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for said, path in zip(done.stdout.splitlines(), kept.values(), strict=True):
        assert said.startswith("cannot write ")
        assert said.endswith(f"{path}: File too large")
        assert path.read_text() == "kept"
    assert {entry.name for entry in tmp_path.iterdir()} == set(kept)


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from edgeprune.errors import OutputError
from edgeprune.output import serialised, write_whole
from edgeprune.recovery.checkpoint import write_checkpoint

plan, checkpoint, program = map(Path, sys.argv[1:])
tensor = torch.zeros(10_000)
exported = torch.export.export(torch.nn.Linear(100, 100), (torch.zeros(1, 100),))
data = serialised(torch.export.save, exported)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (
    lambda: write_whole(plan, "x" * 20_000),
    lambda: write_checkpoint(checkpoint, "", {"weights": tensor}),
    lambda: write_whole(program, data),
):
    try:
        write()
    except OutputError as error:
        print(error)
"""
