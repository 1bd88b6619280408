"""The frozen records that cross a layer. Nothing here computes, and nothing here imports torch."""

from __future__ import annotations

from edgeprune.records.costs import CostModel as CostModel
from edgeprune.records.costs import Kernel as Kernel
from edgeprune.records.costs import KernelKey as KernelKey
from edgeprune.records.device import Artifact as Artifact
from edgeprune.records.device import Conditions as Conditions
from edgeprune.records.device import Measurement as Measurement
from edgeprune.records.device import Rates as Rates
from edgeprune.records.device import Reach as Reach
from edgeprune.records.device import Target as Target
from edgeprune.records.device import Vela as Vela
from edgeprune.records.network import Block as Block
from edgeprune.records.network import ChannelGroup as ChannelGroup
from edgeprune.records.network import ChannelGroups as ChannelGroups
from edgeprune.records.network import EqualCounts as EqualCounts
from edgeprune.records.network import Extent as Extent
from edgeprune.records.network import Graph as Graph
from edgeprune.records.network import ParameterSlice as ParameterSlice
from edgeprune.records.network import Pinned as Pinned
from edgeprune.records.network import Scores as Scores
from edgeprune.records.network import Sparsity as Sparsity
from edgeprune.records.network import Widths as Widths
from edgeprune.records.network import block_key as block_key
from edgeprune.records.outcome import Layer as Layer
from edgeprune.records.outcome import Made as Made
from edgeprune.records.outcome import OnDevice as OnDevice
from edgeprune.records.outcome import Parity as Parity
from edgeprune.records.outcome import Report as Report
from edgeprune.records.outcome import Round as Round
from edgeprune.records.outcome import Side as Side
from edgeprune.records.outcome import Stage as Stage
from edgeprune.records.outcome import Verdict as Verdict
from edgeprune.records.progress import Progress as Progress
from edgeprune.records.progress import silent as silent
from edgeprune.records.shipping import Bundle as Bundle
from edgeprune.records.shipping import Manifest as Manifest
from edgeprune.records.shipping import Normalisation as Normalisation
from edgeprune.records.shipping import Port as Port
from edgeprune.records.wishes import Budget as Budget
from edgeprune.records.wishes import FitOptions as FitOptions
from edgeprune.records.wishes import Metric as Metric
from edgeprune.records.wishes import Optimiser as Optimiser
from edgeprune.records.wishes import Precision as Precision
from edgeprune.records.wishes import Recipe as Recipe

__all__ = [
    "Artifact",
    "Block",
    "Budget",
    "Bundle",
    "ChannelGroup",
    "ChannelGroups",
    "Conditions",
    "CostModel",
    "EqualCounts",
    "Extent",
    "FitOptions",
    "Graph",
    "Kernel",
    "KernelKey",
    "Layer",
    "Made",
    "Manifest",
    "Measurement",
    "Metric",
    "Normalisation",
    "OnDevice",
    "Optimiser",
    "ParameterSlice",
    "Parity",
    "Pinned",
    "Port",
    "Precision",
    "Progress",
    "Rates",
    "Reach",
    "Recipe",
    "Report",
    "Round",
    "Scores",
    "Side",
    "Sparsity",
    "Stage",
    "Target",
    "Vela",
    "Verdict",
    "Widths",
    "block_key",
    "silent",
]
