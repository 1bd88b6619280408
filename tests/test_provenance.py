"""Sharing what upstream copies changes nothing but the time."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx.traceback import NodeSource

from edgeprune import capture, load_target, lower
from edgeprune.lowering import program
from edgeprune.provenance import shared_provenance


def test_the_program_is_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    graph = capture(layer.eval(), (torch.randn(1, 6, 16),))
    shared = lower(graph, load_target("host"), tmp_path / "shared.pte")
    monkeypatch.setattr(program, "shared_provenance", nullcontext)
    copied = lower(graph, load_target("host"), tmp_path / "copied.pte")
    assert shared.sha256 == copied.sha256
    assert shared.sha256 == hashlib.sha256(copied.path.read_bytes()).hexdigest()


def test_upstream_is_as_it_was_afterwards() -> None:
    before = dict(vars(NodeSource))
    with pytest.raises(ZeroDivisionError), shared_provenance(), shared_provenance():
        raise ZeroDivisionError
    with shared_provenance():
        with shared_provenance():
            pass
        assert "__deepcopy__" in vars(NodeSource)
    assert dict(vars(NodeSource)) == before
