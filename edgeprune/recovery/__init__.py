"""Getting the accuracy back after a cut, cheap before dear.

statistics.py takes batch-norm statistics anew; reconstruction.py refits layers by least squares
(twins.py finds them and an order, equations.py solves them, shelf.py holds activations between
them); training.py trains with the original as teacher. Each can be used by itself.
"""

from __future__ import annotations

from edgeprune.recovery.training import finetune as finetune

__all__ = ["finetune"]
