"""Data sets by name: a spec → loaders to train, validate and test on, a loss and a metric."""

from __future__ import annotations

from edgeprune.data.evaluate import check_fit, evaluate
from edgeprune.data.records import Data, DataRequest
from edgeprune.data.sampling import epoch_batches
from edgeprune.data.sources import load_data

__all__ = ["Data", "DataRequest", "check_fit", "epoch_batches", "evaluate", "load_data"]
