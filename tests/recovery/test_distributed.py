"""Two processes on gloo against one: the same plan, statistics, weights and loss curve."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not torch.distributed.is_available(), reason="gloo on POSIX"
)

PROGRAM = dedent(
    """
    import os, signal, sys
    from dataclasses import replace
    from pathlib import Path

    import torch
    import torch.distributed as dist
    from torch import nn

    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    if "RANK" in os.environ:
        dist.init_process_group("gloo")

    from edgeprune import capture, channel_groups, plan, prune, score
    from edgeprune.data import DataRequest, load_data
    from edgeprune.records import Recipe
    from edgeprune.recovery.features import matches
    from edgeprune.recovery.reconstruction import Effort, reconstruct
    from edgeprune.recovery.session import TrainingSession
    from edgeprune.recovery.statistics import recompute_statistics
    from edgeprune.recovery.training import train
    from edgeprune.surgery import kept_positions

    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(6)] if sys.argv[2] == "norm" else []
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), *norm, nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(72, 10))
    graph = capture(net.eval(), (torch.zeros(1, 1, 8, 8),))
    data = load_data(DataRequest("digits", (1, 8, 8), batch_size=64))
    groups = channel_groups(graph)
    found = {}
    for criterion in ("taylor", "fisher", "activation"):
        scores = score(graph, groups, criterion, data)
        found[criterion] = {k: v.tolist() for k, v in scores.values.items()}
    chosen = plan(graph, groups, scores, keep=0.5)
    found["plan"] = {k: list(v) for k, v in chosen.kept.items()}
    small = prune(graph, chosen)
    found["statistics"] = recompute_statistics(small, data).program.state_dict()
    done = reconstruct(graph, small, kept_positions(graph, chosen), data, Effort(samples=256))
    found["reconstructed"] = done.graph.program.state_dict()

    kill = int(sys.argv[3])

    def watch(stage, at, total, note=""):
        if kill and at == kill and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    session = TrainingSession(out.with_suffix(".ckpt"), every_s=0.0, progress=watch)
    recipe = Recipe(epochs=2, lr=0.05, distill=0.5, features=1.0, seed=1)
    same = matches(graph, small, kept_positions(graph, chosen))
    tuned = train(
        done.graph, data, recipe, teacher=graph.program, matches=same, session=session)
    found["losses"] = [epoch.loss for epoch in tuned.history[1:]]
    found["metrics"] = [epoch.metric.value for epoch in tuned.history]
    found["notes"] = list(tuned.notes)
    found["weights"] = tuned.graph.program.state_dict()
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save(found, out)
    if dist.is_initialized():
        dist.destroy_process_group()
    """
)


def run(folder: Path, name: str, processes: int, *, net: str = "plain", kill: int = 0) -> Path:
    """The program in so many processes; returns where it wrote what it found."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    out = folder / f"{name}.pt"
    words = [str(program), str(out), net, str(kill)]
    if processes > 1:
        words = [
            "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *words,
        ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=env, check=False
    )
    assert (ended.returncode != 0) == bool(kill), ended.stderr[-3000:]
    if kill:
        assert not out.exists()
        assert "SIGKILL" in ended.stderr or str(-signal.SIGKILL) in ended.stderr
    return out


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return torch.load(run(tmp_path_factory.mktemp("alone"), "alone", 1))


def test_two_processes_find_what_one_finds(alone: dict, tmp_path: Path) -> None:
    both = torch.load(run(tmp_path, "both", 2))
    assert both["plan"] == alone["plan"]
    for criterion in ("taylor", "fisher", "activation"):
        for name, values in alone[criterion].items():
            assert both[criterion][name] == pytest.approx(values, rel=1e-9)
    assert furthest(both["statistics"], alone["statistics"]) == 0
    assert furthest(both["reconstructed"], alone["reconstructed"]) < 1e-5
    assert both["losses"] == pytest.approx(alone["losses"], abs=1e-4)
    assert furthest(both["weights"], alone["weights"]) < 1e-3


def test_a_killed_process_ends_all_and_any_number_goes_on(alone: dict, tmp_path: Path) -> None:
    run(tmp_path, "broken", 2, kill=15)
    again = torch.load(run(tmp_path, "broken", 1))
    assert any("continued in epoch 1 after batch" in note for note in again["notes"])
    assert again["losses"] == pytest.approx(alone["losses"], abs=1e-4)
    assert furthest(again["weights"], alone["weights"]) < 1e-3


@pytest.mark.slow
def test_with_batch_norm_the_loss_curves_agree(tmp_path: Path) -> None:
    """Each process normalises by its own share of a batch, so they agree roughly, not exactly."""
    one, two = (torch.load(run(tmp_path, f"norm{n}", n, net="norm")) for n in (1, 2))
    assert two["plan"] == one["plan"]
    assert furthest(two["statistics"], one["statistics"]) < 1e-6
    assert two["losses"] == pytest.approx(one["losses"], rel=0.1)
