""".pte → samples on a target, with their uncertainty; one file per runner."""

from __future__ import annotations

from edgeprune.measuring.agreement import parity as parity
from edgeprune.measuring.deciding import compare_until as compare_until
from edgeprune.measuring.deciding import measure_until_decided as measure_until_decided
from edgeprune.measuring.deciding import verdict as verdict
from edgeprune.measuring.execute import execute as execute
from edgeprune.measuring.latency import compare as compare
from edgeprune.measuring.latency import measure as measure
from edgeprune.measuring.latency import speedup as speedup
from edgeprune.measuring.session import Effort as Effort
from edgeprune.measuring.structure import check_structure as check_structure

__all__ = [
    "Effort",
    "check_structure",
    "compare",
    "compare_until",
    "execute",
    "measure",
    "measure_until_decided",
    "parity",
    "speedup",
    "verdict",
]
