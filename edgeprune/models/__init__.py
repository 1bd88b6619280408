"""Models by name: a spec, perhaps a weights file, → a module in eval mode and its input shape."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from edgeprune.errors import ModelError
from edgeprune.models.records import LoadedModel, ModelRequest
from edgeprune.models.sources import SOURCES, split_spec
from edgeprune.models.weights import load_weights
from edgeprune.randomness import seeded
from edgeprune.usercode import describe

__all__ = ["LoadedModel", "ModelRequest", "default_input_shape", "load_model", "parse_shape"]


def load_model(request: ModelRequest) -> LoadedModel:
    """The model that `request` names, in eval mode, tried once on zeros of its input shape.

    Fresh weights are a function of `request.seed`; no global generator is changed. Raises
    ModelError for a name, weights or an input shape that cannot be used; the message says which
    and how to mend it.
    """
    scheme, rest = split_spec(request.spec)
    with seeded(request.seed):
        loaded = SOURCES[scheme].build(rest, request)
    shape = request.input_shape or loaded.input_shape
    if not shape:
        raise ModelError(
            f"the input shape of {request.spec} is not known: give it as N x C x H x W, "
            "such as --input 1x3x224x224"
        )
    notes = loaded.notes
    if request.weights is not None:
        notes += load_weights(loaded.module, request.weights)
    module = loaded.module.eval()
    model = replace(
        loaded,
        module=module,
        input_shape=tuple(shape),
        has_weights=loaded.has_weights or request.weights is not None,
        notes=notes,
    )
    _try(model)
    return model


def default_input_shape(spec: str) -> tuple[int, ...] | None:
    """The input shape (N, C, H, W) a spec implies, without building the model.

    None where only the user can know it (factories). Raises ModelError for an unknown name.
    """
    scheme, rest = split_spec(spec)
    return SOURCES[scheme].shape(rest)


def parse_shape(text: str) -> tuple[int, ...]:
    """`1x3x224x224` (or with commas) as integers. Raises ModelError if it is no shape."""
    parts = re.split(r"\s*[x×X,]\s*", text.strip())
    if len(parts) < 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise ModelError(
            f"{text!r} is no input shape: write positive whole numbers as 1x3x224x224"
            " (batch, channels, height, width)"
        )
    return tuple(int(p) for p in parts)


def _try(model: LoadedModel) -> None:
    try:
        with torch.no_grad():
            model.module(torch.zeros(model.input_shape))
    except Exception as error:
        shape = "x".join(map(str, model.input_shape))
        code = getattr(type(model.module).forward, "__code__", None)
        folder = Path(code.co_filename).parent if code is not None else Path()
        raise ModelError(
            f"{model.name} does not run on an input of {shape}: {describe(error, folder)}. "
            "Give the shape it was made for with --input, such as --input 1x3x224x224"
        ) from error
