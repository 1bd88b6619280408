"""A task that is not classification: the example in examples/segmentation.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgeprune import capture, channel_groups, finetune, plan, prune, score
from edgeprune.data import DataRequest, evaluate, load_data
from edgeprune.models import ModelRequest, load_model
from edgeprune.records import Recipe
from edgeprune.recovery.reconstruction import Effort, reconstruct
from edgeprune.recovery.statistics import recompute_statistics
from edgeprune.surgery import kept_positions

EXAMPLE = Path(__file__).parents[2] / "examples" / "segmentation.py"


def test_every_step_of_recovery_works_on_masks() -> None:
    data = load_data(DataRequest(f"{EXAMPLE}:loaders", batch_size=32))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load_model(ModelRequest(f"{EXAMPLE}:make", input_shape=(1, *data.sample_shape)))
    fresh = capture(model.module, (torch.zeros(model.input_shape),))
    trained = finetune(fresh, data, Recipe(epochs=2, lr=0.1, distill=0.0))
    groups = channel_groups(trained)
    half = plan(trained, groups, score(trained, groups, "taylor", data), keep=0.3)
    small = prune(trained, half)
    refitted = reconstruct(
        trained, small, kept_positions(trained, half), data, Effort(samples=64)
    ).graph
    student = finetune(refitted, data, Recipe(epochs=1, lr=0.05), teacher=trained.module())
    full, cut, statistics, again, tuned = (
        evaluate(g.program, data.validation, data).value
        for g in (trained, small, recompute_statistics(small, data), refitted, student)
    )
    assert full > 60
    assert cut < full - 5
    assert again > cut
    assert statistics != cut
    assert tuned >= again


@pytest.mark.slow
def test_fit_takes_the_example(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "edgeprune", "fit", "--model", f"{EXAMPLE}:make",
        "--data", f"{EXAMPLE}:loaders", "--input", "1x3x32x32", "--speedup", "1.5",
        "--epochs", "1", "--baseline-epochs", "2", "-o", str(tmp_path / "run"), "--json",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 3), ended.stderr
    report = json.loads(ended.stdout)
    assert report["final"]["metric"]["name"] == "mIoU"
    told = {stage["name"]: stage["metric"] for stage in report["stages"]}
    assert told["reconstruct"]["value"] >= told["prune"]["value"]
