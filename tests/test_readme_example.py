"""The README's Python example, as it stands there, on 28x28 digits: the textbook case."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from networks import relative_error
from torch import Tensor, nn

from edgeprune import channel_groups, mask, prune, score
from edgeprune.data import DataRequest, evaluate, load_data
from edgeprune.plans import Plan

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def example() -> str:
    return next(b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "nn.Conv2d" in b)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("readme")
    code = example().replace('"digits.pte"', repr(str(folder / "digits.pte")))
    torch.manual_seed(0)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_network_is_the_textbooks(ran: dict) -> None:
    shapes = {k: tuple(v.shape) for k, v in ran["net"].state_dict().items() if "weight" in k}
    assert list(shapes.values()) == [(4, 1, 3, 3), (8, 4, 3, 3), (64, 392), (10, 64)]


def test_two_of_four_filters_go_by_l1_and_nothing_else_changes(ran: dict) -> None:
    graph, small = ran["graph"], ran["small"]
    first = next(g for g in channel_groups(graph).groups if g.size == 4)
    norms = score(graph, channel_groups(graph), "l1").values[first.name]
    assert ran["chosen"].kept[first.name] == tuple(sorted(norms.argsort()[-2:].tolist()))
    before = {k: tuple(v.shape) for k, v in graph.module().named_parameters()}
    after = {k: tuple(v.shape) for k, v in small.module().named_parameters()}
    changed = {k: after[k] for k in before if before[k] != after[k]}
    assert list(changed.values()) == [(2, 1, 3, 3), (2,), (8, 2, 3, 3)]


def test_it_is_exact(ran: dict) -> None:
    x = torch.rand(5, 1, 28, 28)
    removed = prune(ran["graph"], ran["chosen"])
    zeroed = mask(ran["graph"], ran["chosen"])
    with torch.no_grad():
        assert relative_error(removed.module()(x), zeroed.module()(x)) < 1e-5


def test_it_is_as_good_after_retraining(ran: dict) -> None:
    data = ran["data"]
    full = evaluate(ran["graph"].program, data.test, data).value
    small = evaluate(ran["small"].program, data.test, data).value
    assert full > 85
    assert small > full - 5


def test_the_program_computes_the_same(ran: dict) -> None:
    assert ran["agreement"].max_rel < 1e-4
    assert ran["artifact"].path.stat().st_size == ran["artifact"].size_bytes


class ByHand(nn.Module):
    """The pruned network written out, to compare with."""

    def __init__(self, net: nn.Module, kept: tuple[int, ...]) -> None:
        super().__init__()
        state = net.state_dict()
        names = [k.removesuffix(".weight") for k in state if k.endswith(".weight")]
        self.state, self.names, self.kept = state, names, list(kept)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three, four = self.names
        w, b = self.state[f"{one}.weight"][self.kept], self.state[f"{one}.bias"][self.kept]
        x = torch.max_pool2d(torch.relu(nn.functional.conv2d(x, w, b, padding=1)), 2)
        w = self.state[f"{two}.weight"][:, self.kept]
        x = torch.relu(nn.functional.conv2d(x, w, self.state[f"{two}.bias"], padding=1))
        x = torch.max_pool2d(x, 2).flatten(1)
        x = torch.relu(x @ self.state[f"{three}.weight"].T + self.state[f"{three}.bias"])
        return x @ self.state[f"{four}.weight"].T + self.state[f"{four}.bias"]


def test_it_is_what_one_would_write_by_hand(ran: dict) -> None:
    chosen: Plan = ran["chosen"]
    first = next(g for g in channel_groups(ran["graph"]).groups if g.size == 4)
    by_hand = ByHand(ran["net"], chosen.kept[first.name])
    x = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(
            prune(ran["untrained"], chosen).module()(x), by_hand(x), rtol=1e-5, atol=1e-6
        )


def test_data_of_the_example_are_28_by_28() -> None:
    assert load_data(DataRequest("digits", (1, 28, 28))).sample_shape == (1, 28, 28)
