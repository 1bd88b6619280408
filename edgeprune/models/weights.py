"""Weights files: read safely, unwrapped, and checked key by key before anything is loaded."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeprune.errors import ModelError

WRAPPERS = ("state_dict", "model_state_dict", "model", "ema")
# torchvision's heads that run in training only; our modules are built without them.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
_SHOWN = 8


def load_weights(module: nn.Module, path: Path) -> tuple[str, ...]:
    """Put the weights of `path` into `module`; what was done on the way comes back as notes.

    Reads `.safetensors`, or anything `torch.load(weights_only=True)` reads; the wrappers in
    `WRAPPERS` and the prefixes of DataParallel (`module.`) and torch.compile (`_orig_mod.`) are
    taken off. Raises ModelError if the file cannot be read, or if keys are missing, unexpected
    or of another shape (counts, and the first 8 of each).
    """
    state, notes = _unwrap(_read(path), path)
    wanted = module.state_dict()
    state = {_bare(key, wanted): value for key, value in state.items()}
    state.pop("n_averaged", None)  # torch.optim.swa_utils.AveragedModel counts here
    left_out = [k for k in state if k.startswith(_AUXILIARY) and k not in wanted]
    if left_out:
        state = {k: v for k, v in state.items() if k not in left_out}
        notes += (f"{len(left_out)} weights of auxiliary training heads in {path.name} are unused",)
    _check(state, wanted, path)
    module.load_state_dict(state, strict=False)
    return notes


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"no such weights file: {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, or is no PyTorch file; nothing but tensors is read "
            "from weights files. Save model.state_dict(), with torch.save or as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} cannot be read as weights: {reason}") from error


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    for _ in WRAPPERS:
        if not isinstance(content, Mapping):
            break
        inner = [w for w in WRAPPERS if isinstance(content.get(w), Mapping)]
        if not inner:
            break
        if len(inner) > 1:
            notes += (f"{path.name} holds {', '.join(inner)}: {inner[0]!r} is used",)
        content = content[inner[0]]
    tensors: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ModelError(
            f"{path} holds no weights: a state dict was expected, bare or under one of "
            f"{', '.join(WRAPPERS)}"
        )
    return tensors, notes


def _bare(key: str, wanted: Mapping[str, Tensor]) -> str:
    """`key` without the prefixes that wrappers add and `wanted` does not have."""
    if key in wanted:
        return key
    key = key.replace("_orig_mod.", "")
    while key not in wanted and key.startswith("module."):
        key = key.removeprefix("module.")
    return key


def _check(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    # checkpoints older than PyTorch 0.4.1 have no batch counters, and inference needs none
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    shapes = [
        f"{k} (file {_show(state[k])}, model {_show(wanted[k])})"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    problems = [
        _first(name, keys)
        for name, keys in (
            ("missing from the file", missing),
            ("not in the model", unexpected),
            ("of another shape", shapes),
        )
        if keys
    ]
    if problems:
        raise ModelError(
            f"the weights in {path} do not fit the model; " + "; ".join(problems) + _hint(shapes)
        )


def _first(name: str, keys: list[str]) -> str:
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {name}: {', '.join(keys[:_SHOWN])}{more}"


def _hint(shapes: list[str]) -> str:
    return ". Is the number of classes, or the width, that of the file?" if shapes else ""


def _show(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
