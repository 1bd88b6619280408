"""One model at full size through edgeprune, and through Torch-Pruning; each in its own process."""

from __future__ import annotations

from dataclasses import replace

from zoo_checks import Note, _captured, _half, _ready, _timed
from zoo_models import Entry
from zoo_peer import pruner_of

from edgeprune.channels import channel_groups
from edgeprune.surgery import prune

FULL = (3, 224, 224)


def check_ours(name: str, note: Note) -> None:
    """Seconds of export, of analysis, and of cutting at most half of everything."""
    graph = _captured(note, _full(name))
    groups = _timed(note, "analysis", channel_groups, graph)
    _timed(note, "surgery", prune, graph, _half(groups))


def check_theirs(name: str, note: Note) -> None:
    """Seconds of building Torch-Pruning's graph, and of its cut."""
    entry = _full(name)
    pruner = _timed(note, "build", pruner_of, entry.make(), entry.inputs(1))
    _timed(note, "step", pruner.step)


def _full(name: str) -> Entry:
    return replace(_ready(name), sample=FULL)
