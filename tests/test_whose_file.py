"""Whose file it is: ours, torch's, or somebody else's."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision

import edgeprune
from edgeprune.reasons import is_ours


def test_only_our_own_and_torchs_files_are_ours() -> None:
    assert is_ours(str(Path(edgeprune.__file__).parent / "graph.py"))
    assert is_ours(str(Path(torch.__file__).parent / "nn" / "modules" / "conv.py"))
    assert not is_ours(str(Path(torchvision.__file__).parent / "models" / "resnet.py"))
    assert not is_ours("/home/someone/edgeprune/models/net.py")
