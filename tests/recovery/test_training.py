from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from edgeprune.data import Data, DataRequest, evaluate, load_data
from edgeprune.errors import EdgepruneError, ModelError
from edgeprune.graph import capture
from edgeprune.records import Graph, Precision, Recipe
from edgeprune.recovery.session import TrainingSession, Tuned
from edgeprune.recovery.training import finetune, train

RECIPE = Recipe(epochs=3, lr=0.1, warmup=0.1, seed=3)
FULL = replace(RECIPE, lr=0.01, optimiser="adamw", accumulate=2, ema=0.9, patience=2)


class Net(nn.Module):
    """Batch norm, dropout and a flatten that counts on N C H W order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.head(self.drop(x.flatten(1)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(DataRequest("digits", (1, 8, 8), batch_size=64))


def make_graph(seed: int = 0) -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return capture(Net(), (torch.zeros(1, 1, 8, 8),))


def weights(tuned: Tuned) -> dict[str, Tensor]:
    return dict(tuned.graph.module().state_dict())


def furthest(one: Tuned, other: Tuned) -> float:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


# --- what training does ----------------------------------------------------------------------


def test_a_graph_learns_and_the_given_one_stays_as_it_was(data: Data) -> None:
    graph = make_graph()
    before = {k: v.clone() for k, v in graph.module().state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    tuned = train(graph, data, RECIPE)
    assert torch.equal(torch.rand(2), expected), "no global generator is moved"
    for key, value in graph.module().state_dict().items():
        assert torch.equal(value, before[key])
    assert not graph.module().training
    assert not tuned.graph.module().training
    assert tuned.graph.module().state_dict().keys() == before.keys()
    assert [epoch.number for epoch in tuned.history] == [0, 1, 2, 3]
    assert tuned.history[0].metric.value < 30
    assert tuned.metric.value > 80
    assert tuned.metric == evaluate(tuned.graph.module(), data.validation, data)
    assert all(p.is_contiguous() and p.grad is None for p in tuned.graph.module().parameters())


def test_the_seed_decides_everything(data: Data) -> None:
    short = replace(RECIPE, epochs=1)
    one, same = train(make_graph(), data, short), train(make_graph(), data, short)
    other = train(make_graph(), data, replace(short, seed=4))
    assert furthest(one, same) == 0
    assert furthest(one, other) > 1e-4


def test_a_teacher_pulls_the_student_towards_itself(data: Data) -> None:
    teacher = train(make_graph(), data, RECIPE).graph.module()
    teacher.train()
    state = {k: v.clone() for k, v in teacher.state_dict().items()}
    alone = replace(RECIPE, epochs=2, distill=0.0)
    taught = replace(RECIPE, epochs=2, distill=1.0)
    students = [
        finetune(make_graph(5), data, recipe, teacher=teacher).module()
        for recipe in (alone, taught)
    ]
    assert teacher.training, "its mode is given back"
    assert all(torch.equal(v, state[k]) for k, v in teacher.state_dict().items())
    x = next(iter(data.validation))[0]
    teacher.eval()
    with torch.no_grad():
        far, near = (
            nn.functional.kl_div(s(x).log_softmax(1), teacher(x).softmax(1), reduction="batchmean")
            for s in students
        )
    assert near < far


def test_the_best_epoch_is_kept_the_start_included(data: Data) -> None:
    good = train(make_graph(), data, RECIPE).graph
    spoilt = train(good, data, replace(RECIPE, epochs=2, lr=30.0, clip=0.0, warmup=0.0))
    assert spoilt.metric.value >= spoilt.history[0].metric.value
    best = max(epoch.metric.value for epoch in spoilt.history)
    assert spoilt.metric.value == best == spoilt.history[0].metric.value
    assert "no epoch of training was better than its start" in spoilt.notes[-1]
    assert evaluate(spoilt.graph.module(), data.validation, data).value == best


def test_no_epochs_change_nothing(data: Data) -> None:
    graph = make_graph()
    tuned = train(graph, data, replace(RECIPE, epochs=0))
    assert len(tuned.history) == 1
    for key, value in graph.module().state_dict().items():
        assert torch.equal(value, weights(tuned)[key])


def test_divergence_stops_goes_back_and_says_so(data: Data, tmp_path: Path) -> None:
    told = []
    session = TrainingSession(tmp_path / "run.ckpt", progress=lambda s, d, t, n="": told.append(n))
    steps = len(data.train)

    def loss(output: Tensor, target: Tensor, calls: list[int] = []) -> Tensor:  # noqa: B006
        calls.append(1)
        value = nn.functional.cross_entropy(output, target)
        # call 1 is the trial of the memory format; then one epoch is fine
        return value * float("nan") if len(calls) > steps + 5 else value

    graph = make_graph()
    tuned = train(graph, replace(data, loss=loss), RECIPE, session=session)
    assert len(tuned.history) == 2
    assert tuned.metric == max((e.metric for e in tuned.history), key=lambda m: m.value)
    assert all(torch.isfinite(v).all() for v in weights(tuned).values())
    assert "diverged (the loss became nan in epoch 2, batch" in tuned.notes[0]
    assert "lower learning rate" in told[-1]
    again = train(graph, replace(data, loss=loss), RECIPE, session=session)
    assert furthest(tuned, again) == 0
    assert again.notes == tuned.notes


def test_recipes_that_make_no_sense_are_refused_at_once(data: Data) -> None:
    with pytest.raises(EdgepruneError) as caught:
        train(make_graph(), data, Recipe(epochs=-1, lr=float("nan"), distill=2.0))
    assert all(word in str(caught.value) for word in ("epochs is -1", "lr is nan", "distill is 2"))


def test_batches_too_small_to_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(DataRequest("digits", (1, 8, 8), batch_size=2))
    monkeypatch.setattr("edgeprune.ranks.count", lambda: 3)
    with pytest.raises(EdgepruneError, match="batches of 2 cannot be shared among 3 processes"):
        train(make_graph(), data, RECIPE)


def test_a_model_with_other_outputs_is_refused(data: Data) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    graph = capture(net, (torch.zeros(1, 1, 8, 8),))
    with pytest.raises(ModelError, match="7 outputs"):
        train(graph, data, RECIPE)


def test_a_graph_that_relies_on_memory_order_trains_too(data: Data) -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.head = nn.Linear(9, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).view(-1, 16, 9)).mean(1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph = capture(Rows(), (torch.zeros(1, 1, 8, 8),))
    tuned = train(graph, data, replace(RECIPE, epochs=2))
    first, second = (epoch.loss for epoch in tuned.history[1:])
    assert first is not None
    assert second is not None
    assert second < first


def test_gradients_of_several_batches_make_one_update(data: Data) -> None:
    """Without batch norm and dropout, two halves of a batch are the batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (torch.zeros(1, 1, 8, 8),))
    inputs, targets = next(iter(data.train_plain))
    halves = DataLoader(TensorDataset(inputs, targets), batch_size=len(inputs) // 2)
    whole = DataLoader(TensorDataset(inputs, targets), batch_size=len(inputs))
    recipe = Recipe(epochs=2, lr=0.1, warmup=0.0, distill=0.0)
    one = train(graph, replace(data, train=whole), recipe)
    two = train(graph, replace(data, train=halves), replace(recipe, accumulate=2))
    assert furthest(one, train(graph, data, replace(recipe, epochs=0))) > 0
    assert furthest(one, two) < 1e-6


def test_training_stops_where_nothing_gets_better(data: Data) -> None:
    recipe = replace(RECIPE, epochs=9, lr=1e-12, patience=2)
    tuned = train(make_graph(), data, recipe)
    assert len(tuned.history) < 9
    assert "stopped after epoch" in tuned.notes[0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_fp32_weights(data: Data, precision: Precision) -> None:
    tuned = train(make_graph(), data, replace(RECIPE, epochs=2, precision=precision))
    assert all(v.dtype == torch.float32 for k, v in weights(tuned).items() if "num" not in k)
    assert tuned.metric.value > 60


def test_an_average_of_weights_is_what_is_kept(data: Data) -> None:
    plain = train(make_graph(), data, replace(RECIPE, epochs=1))
    averaged = train(make_graph(), data, replace(RECIPE, epochs=1, ema=0.9))
    assert furthest(plain, averaged) > 1e-4
    assert averaged.metric == evaluate(averaged.graph.module(), data.validation, data)


def test_adamw_trains(data: Data) -> None:
    recipe = replace(RECIPE, epochs=2, lr=0.01, optimiser="adamw")
    assert train(make_graph(), data, recipe).metric.value > 60


# --- going on after a kill -------------------------------------------------------------------

KILLED = dedent(
    """
    import os, signal, sys
    from pathlib import Path
    import torch
    sys.path.insert(0, sys.argv[1])
    from test_training import (
        FULL, RECIPE, DataRequest, TrainingSession, load_data, make_graph, train)

    torch.set_num_threads(1)
    data = load_data(DataRequest("digits", (1, 8, 8), batch_size=64))
    steps = len(data.train)

    def watch(stage, done, total, note=""):
        if done == steps + int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    session = TrainingSession(Path(sys.argv[2]), every_s=float(sys.argv[4]), progress=watch)
    train(make_graph(), data, FULL if sys.argv[5] == "full" else RECIPE, session=session)
    """
)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize(
    ("every_s", "where", "recipe"), [(0.0, 6, "plain"), (600.0, 0, "plain"), (0.0, 6, "full")]
)
def test_a_killed_training_ends_where_an_unbroken_one_does(
    data: Data, tmp_path: Path, every_s: float, where: int, recipe: str
) -> None:
    path, wanted = tmp_path / "run.ckpt", FULL if recipe == "full" else RECIPE
    step = "8" if recipe == "full" else "7"  # an update ends there
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path), step]
    killed = subprocess.run([*command, str(every_s), recipe], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    unbroken = train(make_graph(), data, wanted)
    resumed = train(make_graph(), data, wanted, session=TrainingSession(path))
    assert resumed.notes == (f"continued in epoch 2 after batch {where} of {len(data.train)}",)
    assert furthest(unbroken, resumed) <= 1e-6
    assert [e.metric for e in resumed.history] == [e.metric for e in unbroken.history]
    for one, other in zip(unbroken.history[1:], resumed.history[1:], strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)


def test_a_finished_training_is_not_run_again(data: Data, tmp_path: Path) -> None:
    done: list[int] = []
    session = TrainingSession(tmp_path / "run.ckpt", progress=lambda s, d, t, n="": done.append(d))
    first = train(make_graph(), data, replace(RECIPE, epochs=1), session=session)
    assert done
    done.clear()
    again = train(make_graph(), data, replace(RECIPE, epochs=1), session=session)
    assert not done
    assert furthest(first, again) == 0
    assert again.history == first.history


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": replace(RECIPE, epochs=1, lr=0.05)},
        {"key": "another plan"},
    ],
)
def test_another_runs_checkpoint_is_not_used(
    data: Data, tmp_path: Path, change: dict[str, object]
) -> None:
    recipe = replace(RECIPE, epochs=1)
    path = tmp_path / "run.ckpt"
    train(make_graph(), data, recipe, session=TrainingSession(path))
    other = change.get("recipe", recipe)
    assert isinstance(other, Recipe)
    session = TrainingSession(path, key=str(change.get("key", "")))
    tuned = train(make_graph(), data, other, session=session)
    assert "belongs to another" in tuned.notes[0]
    assert len(tuned.history) == 2


def test_a_damaged_checkpoint_is_set_aside(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    path.write_bytes(b"cut off")
    recipe = replace(RECIPE, epochs=1)
    tuned = train(make_graph(), data, recipe, session=TrainingSession(path))
    assert "damaged" in tuned.notes[0]
    assert furthest(tuned, train(make_graph(), data, recipe)) == 0
