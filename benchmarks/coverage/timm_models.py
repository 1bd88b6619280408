"""timm's architectures as entries of the zoo: one or two of every family, the smallest of each.

timm is no dependency of edgeprune: `pip install timm` (or a folder on PYTHONPATH) to have the set.
Only names stand here; the size of the input is what timm's own configuration allows.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

SIZE = 128
"""The input of an architecture that takes any size, in pixels."""

NAMES = Path(__file__).with_name("timm_names.txt").read_text(encoding="utf-8").split()


def is_installed() -> bool:
    """Whether timm can be imported."""
    return find_spec("timm") is not None


def inputs() -> dict[str, tuple[int, ...]]:
    """The shape of one sample by name, for those architectures that this timm has."""
    import timm

    known = set(timm.list_models())
    return {name: _sample(name) for name in NAMES if name in known}


def _sample(name: str) -> tuple[int, ...]:
    import timm

    config = timm.get_pretrained_cfg(name)
    channels, _, size = config.input_size
    if not config.fixed_input_size:
        size = config.min_input_size[-1] if config.min_input_size else min(size, SIZE)
    return (channels, max(size, SIZE), max(size, SIZE))


def maker(name: str, awake: Callable[[nn.Module], nn.Module]) -> Callable[[], nn.Module]:
    """A function that makes the model with random weights, none of them trivial."""

    def make() -> nn.Module:
        import timm

        torch.manual_seed(0)
        return awake(timm.create_model(name, pretrained=False))

    return make
