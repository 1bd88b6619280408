"""What a network costs on a target: its kernels, their measured times, and predictions between."""

from __future__ import annotations

from edgeprune.cost.conditions import host_conditions
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import MeasuredCost
from edgeprune.cost.profiling import profile

__all__ = ["MeasuredCost", "host_conditions", "kernels", "profile"]
