from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune import capture
from edgeprune.errors import EdgepruneError
from edgeprune.recipes import check_recipe
from edgeprune.records import Graph, Recipe
from edgeprune.recovery.averaging import Average
from edgeprune.recovery.recipes import resolved


def graph(*layers: nn.Module) -> Graph:
    return capture(nn.Sequential(*layers).eval(), (torch.zeros(1, 8),))


def test_a_network_gets_what_fits_it() -> None:
    normed = resolved(Recipe(), graph(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)))
    plain = resolved(Recipe(), graph(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    large = resolved(Recipe(), graph(nn.Linear(8, 130_000), nn.ReLU(), nn.Linear(130_000, 8)))
    assert (normed.optimiser, plain.optimiser, large.optimiser) == ("adamw", "sgd", "sgd")
    assert normed.lr is not None
    assert plain.lr is not None
    assert large.lr is not None
    assert normed.lr < large.lr < plain.lr


def test_what_is_given_stays() -> None:
    recipe = Recipe(lr=0.5, optimiser="adamw", weight_decay=0.0)
    found = resolved(recipe, graph(nn.Linear(8, 2)))
    assert (found.lr, found.optimiser, found.weight_decay) == (0.5, "adamw", 0.0)
    assert found == recipe


def test_auto_precision_is_one_that_exists() -> None:
    assert resolved(Recipe(precision="auto"), graph(nn.Linear(8, 2))).precision in ("fp32", "bf16")


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {"optimiser": "lion", "ema": 1.0, "accumulate": 0, "patience": -1, "precision": "fp8"}
    with pytest.raises(EdgepruneError) as caught:
        check_recipe(Recipe(**wrong))  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in wrong)


def test_the_average_follows_and_is_lent() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = Average(module, 0.9)
    start = module[0].weight.detach().clone()
    with torch.no_grad():
        for _ in range(3):
            module[0].weight += 1
            average.update(module)
    kept = average.state["0.weight"] - start
    expected = 0.0
    for t in range(1, 4):
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * t
    torch.testing.assert_close(kept, torch.full_like(kept, expected))
    with average.lent(module):
        torch.testing.assert_close(module[0].weight.detach(), average.state["0.weight"])
    torch.testing.assert_close(module[0].weight.detach(), start + 3)
