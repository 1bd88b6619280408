from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune import capture
from edgeprune.errors import EdgepruneError
from edgeprune.recipes import check_recipe
from edgeprune.records import Graph, Recipe
from edgeprune.recovery.averaging import Average
from edgeprune.recovery.recipes import careful, fresh, resolved


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


def test_small_networks_with_batch_norms_start_anew() -> None:
    layers = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
    plain, normed = graph(layers[0], *layers[2:]), graph(*layers)
    assert resolved(Recipe(10), normed).lr == resolved(Recipe(5), normed).lr == 0.2
    assert resolved(Recipe(1), normed).lr == resolved(Recipe(0), normed).lr == pytest.approx(0.04)
    assert resolved(Recipe(10), plain).lr == resolved(Recipe(1), plain).lr == 0.03


def test_small_batches_take_small_steps() -> None:
    net = graph(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    assert resolved(Recipe(5), net, 128).lr == resolved(Recipe(5), net, 512).lr == 0.2
    assert resolved(Recipe(5), net, 32).lr == pytest.approx(0.05)
    assert resolved(Recipe(5, accumulate=4), net, 32).lr == 0.2
    assert resolved(Recipe(lr=0.2), net, 32).lr == 0.2
    assert resolved(Recipe(optimiser="adamw"), net, 32).lr == 2e-4


def test_what_was_trained_is_trained_on_with_care() -> None:
    net = graph(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    assert careful(Recipe(), net).lr == pytest.approx(0.003)
    assert careful(Recipe(lr=0.1), net).lr == pytest.approx(0.01)
    with pytest.raises(EdgepruneError):
        careful(Recipe(epochs=-1), net)


def test_what_nothing_has_trained_gets_the_rates_of_a_start() -> None:
    normed = graph(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    layered = graph(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    plain = graph(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    found = [fresh(Recipe(), net) for net in (normed, layered, plain)]
    assert [recipe.lr for recipe in found] == [0.2, 1e-3, 0.05]
    assert fresh(Recipe(), normed, 32).lr == pytest.approx(0.05)
    assert fresh(Recipe(lr=0.3), normed, 32).lr == 0.3


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
