"""`fit` under torchrun: two processes on gloo make the plan that one makes, and one report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgeprune.plans import Plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.name != "posix" or not torch.distributed.is_available(), reason="gloo on POSIX"
    ),
]

NETWORK = """
import torch
from torch import nn

def make(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(216, num_classes))
"""


def fitted(folder: Path, processes: int) -> Path:
    """The directory of a run by so many processes; its budget is a size, which does not jitter."""
    (folder / "net.py").write_text(NETWORK)
    out = folder / f"run{processes}"
    started = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [
        "-m", "edgeprune", "fit", "--model", f"{folder / 'net.py'}:make", "--data", "digits",
        "--input", "1x1x8x8", "--budget-mb", "0.02", "--epochs", "2", "--baseline-epochs", "1",
        "-o", str(out),
    ]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, *(started if processes > 1 else []), *words],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    return out


def test_two_processes_fit_as_one_does(tmp_path: Path) -> None:
    alone, both = fitted(tmp_path, 1), fitted(tmp_path, 2)
    plans = [Plan.from_json((run / "plan.json").read_text("utf-8")) for run in (alone, both)]
    assert plans[0].kept == plans[1].kept
    assert any(len(kept) < plans[0].sizes[name] for name, kept in plans[0].kept.items())
    one, two = (load_file(run / "weights.safetensors") for run in (alone, both))
    assert one.keys() == two.keys()
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 1e-3
    reports = [json.loads((run / "report.json").read_text("utf-8")) for run in (alone, both)]
    top1 = [report["final"]["metric"]["value"] for report in reports]
    assert top1[0] == pytest.approx(top1[1], abs=0.6)
