"""What a recipe leaves open, chosen by the network."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from edgeprune.graph import parameters_of
from edgeprune.recipes import check_recipe
from edgeprune.records import Graph, Precision, Recipe
from edgeprune.recovery.norms import norms

aten = torch.ops.aten
_SMALL = 2_000_000
"""Parameters below which a network takes a higher rate."""
_BATCH = 128
"""Samples to an update that the rates of SGD are for; with fewer they are lower in proportion."""
_EPOCHS = 5
"""Epochs that the rate of small cut networks with batch norms is for; with fewer it is lower in
proportion."""


class _Rates(NamedTuple):
    """Learning rates: of AdamW, and of SGD for (small, large) networks with batch norms and without
    any."""

    adamw: float
    normed: tuple[float, float]
    plain: tuple[float, float]


_CUT = _Rates(adamw=2e-4, normed=(0.2, 0.01), plain=(0.03, 0.01))
_FRESH = _Rates(adamw=1e-3, normed=(0.2, 0.1), plain=(0.05, 0.01))


def resolved(recipe: Recipe, graph: Graph, batch: int | None = None) -> Recipe:
    """The recipe with nothing left open, for batches of so many samples (None: not known).
    Raises EdgepruneError if it makes no sense.

    Networks that normalise layers and not batches (transformers and their like) get AdamW with a
    rate of 2e-4 and a decay of 0.05 (Touvron et al. 2021, arXiv 2012.12877, table 9, a fifth of
    their rate, since weights come trained); all others SGD with momentum and a decay of 5e-4. Its
    rate is 0.2 where batches are normalised and parameters are fewer than two million: what such
    networks are trained with from scratch, as what is left of a network gets further from such a
    start than from a careful one (Renda et al. 2020, arXiv 2003.02389; Le and Hua 2021, arXiv
    2105.03193; measured in benchmarks/recovery). Without batch norms that would be too much: 0.03;
    above two million parameters, 0.01. For updates of fewer than 128 samples the rate of SGD falls
    with them (Goyal et al. 2017, arXiv 1706.02677). That of 0.2 falls for fewer than five epochs,
    too: what it shakes loose needs time to settle (in one, a deep network loses by it).
    """
    small, large = _CUT.normed
    small *= min(1.0, max(recipe.epochs, 1) / _EPOCHS)
    return _resolved(recipe, graph, batch, _CUT._replace(normed=(small, large)))


def fresh(recipe: Recipe, graph: Graph, batch: int | None = None) -> Recipe:
    """`resolved`, for weights that nothing has trained yet: the rates that networks are trained
    with from scratch. AdamW's is 1e-3 (Touvron et al. 2021), SGD's with batch norms 0.2 below two
    million parameters and 0.1 above (He et al. 2015, arXiv 1512.03385), without any 0.05 and 0.01
    (Simonyan and Zisserman 2014, arXiv 1409.1556)."""
    return _resolved(recipe, graph, batch, _FRESH)


def careful(recipe: Recipe, graph: Graph) -> Recipe:
    """`resolved`, for weights that training has found already and that are to be kept near: a tenth
    of the rate given, or where none is, of one that does not start anew."""
    found = _resolved(recipe, graph, None, _CUT._replace(normed=_CUT.plain))
    assert found.lr is not None
    return replace(found, lr=found.lr / 10)


def _resolved(recipe: Recipe, graph: Graph, batch: int | None, rates: _Rates) -> Recipe:
    """The recipe with nothing left open, its rate one of these if it has none."""
    check_recipe(recipe)
    normed = bool(norms(graph.program))
    layered = not normed and any(
        node.target is aten.layer_norm.default for node in graph.program.graph.nodes
    )
    optimiser = recipe.optimiser or ("adamw" if layered else "sgd")
    if optimiser == "adamw":
        lr, decay = rates.adamw, 0.05
    else:
        small, large = rates.normed if normed else rates.plain
        lr = small if parameters_of(graph) < _SMALL else large
        lr, decay = lr * min(1.0, (batch or _BATCH) * recipe.accumulate / _BATCH), 5e-4
    return replace(
        recipe,
        optimiser=optimiser,
        lr=lr if recipe.lr is None else recipe.lr,
        weight_decay=decay if recipe.weight_decay is None else recipe.weight_decay,
        precision=_precision(recipe, graph),
    )


def _precision(recipe: Recipe, graph: Graph) -> Precision:
    """ "auto" as what this machine computes quickly."""
    if recipe.precision != "auto":
        return recipe.precision
    parameter = next(graph.program.parameters(), None)
    if parameter is not None and parameter.device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    features = torch.backends.cpu.get_cpu_capability()
    quick: bool = "AVX512" in features and torch.cpu._is_avx512_bf16_supported()
    return quick or bool(torch.cpu._is_amx_tile_supported())
