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


def resolved(recipe: Recipe, graph: Graph) -> Recipe:
    """The recipe with nothing left open. Raises EdgepruneError if it makes no sense.

    Networks that normalise layers and not batches (transformers and their like) get AdamW with a
    rate of 2e-4 and a decay of 0.05 (Touvron et al. 2021, arXiv 2012.12877, table 9, a fifth of
    their rate, since weights come trained); all others SGD with momentum, a decay of 5e-4 and a
    rate of 0.03 below two million parameters and 0.01 above (a tenth of those that He et al. 2015
    train such networks with, rounded).
    """
    check_recipe(recipe)
    layered = not norms(graph.program) and any(
        node.target is aten.layer_norm.default for node in graph.program.graph.nodes
    )
    optimiser = recipe.optimiser or ("adamw" if layered else "sgd")
    if optimiser == "adamw":
        lr, decay = 2e-4, 0.05
    else:
        lr, decay = (0.03 if parameters_of(graph) < _SMALL else 0.01), 5e-4
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
