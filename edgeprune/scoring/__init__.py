"""How much each channel matters: one small function per criterion."""

from __future__ import annotations

from edgeprune.scoring import activations as activations
from edgeprune.scoring import loss as loss
from edgeprune.scoring import refit as refit
from edgeprune.scoring import similarity as similarity
from edgeprune.scoring import weights as weights
from edgeprune.scoring.blocks import score_blocks
from edgeprune.scoring.core import criteria, score

__all__ = ["criteria", "score", "score_blocks"]
