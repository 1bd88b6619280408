"""What a recipe leaves open, chosen by the network."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgeprune.graph import parameters_of
from edgeprune.recipes import check_recipe
from edgeprune.records import Graph, Precision, Recipe
from edgeprune.recovery.norms import norms

aten = torch.ops.aten
_SMALL = 2_000_000
"""Parameters below which a network takes a higher rate."""
_SMALL_RATE, _CAREFUL, _LARGE_RATE = 0.2, 0.03, 0.01
_BATCH = 128
"""Samples to an update that the rates of SGD are for; with fewer they are lower in proportion."""


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
    with them (Goyal et al. 2017, arXiv 1706.02677).
    """
    return _resolved(recipe, graph, batch, _SMALL_RATE if norms(graph.program) else _CAREFUL)


def careful(recipe: Recipe, graph: Graph) -> Recipe:
    """`resolved`, for weights that training has found already and that are to be kept near: a tenth
    of the rate given, or where none is, of one that does not start anew."""
    found = _resolved(recipe, graph, None, _CAREFUL)
    assert found.lr is not None
    return replace(found, lr=found.lr / 10)


def _resolved(recipe: Recipe, graph: Graph, batch: int | None, small: float) -> Recipe:
    """The recipe with nothing left open; `small` is the rate of SGD for small networks."""
    check_recipe(recipe)
    layered = not norms(graph.program) and any(
        node.target is aten.layer_norm.default for node in graph.program.graph.nodes
    )
    optimiser = recipe.optimiser or ("adamw" if layered else "sgd")
    if optimiser == "adamw":
        lr, decay = 2e-4, 0.05
    else:
        lr = small if parameters_of(graph) < _SMALL else _LARGE_RATE
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
