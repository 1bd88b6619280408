"""Whether training has given anything: its weights, or those it started from."""

from __future__ import annotations

import math

from torch import nn

from edgeprune.data import Data
from edgeprune.data.evaluate import Estimate, estimate
from edgeprune.records import Metric


def better_trained(
    start: nn.Module, trained: nn.Module, data: Data, values: tuple[Metric, Metric]
) -> tuple[bool, str]:
    """Whether the trained weights are to be kept, and what there is to know about it ("" for what
    is ordinary). `values` are the metrics of (start, trained) on the validation split.

    The better one on that split is kept; of equals the trained one. But a split that was held out
    of the training samples only now is known by heart to the weights that came: it speaks for them,
    and for what was hardly changed. Where the start is as good on it as on training samples (the
    difference is within two standard errors), and the split prefers the start, the training samples
    decide, which both have seen.
    """
    before, after = values
    if after.better_than(before) or after.value == before.value or math.isnan(before.value):
        return True, ""
    told = (
        f"no epoch of training was better than its start ({before.name} {before.value:.2f}, the "
        f"best epoch's {after.value:.2f}) on the validation split"
    )
    kept = f"{told}: the weights are those of the start"
    if data.train_plain is data.train:  # augmented, perhaps: that would be no comparison
        return False, kept
    held_out = estimate(start, data.validation, data)
    seen = estimate(start, data.train_plain, data, most=held_out.samples)
    if not _alike(seen, held_out):
        return False, kept
    again = estimate(trained, data.train_plain, data, most=held_out.samples).metric
    if not again.better_than(seen.metric):
        return False, kept
    return True, (
        f"{told}, but the start is as good there as on training samples "
        f"({seen.metric.value:.2f}): it seems to know both by heart. On training samples training "
        f"is ahead ({again.value:.2f}), so its weights were taken"
    )


def _alike(seen: Estimate, held_out: Estimate) -> bool:
    """Whether a network is as good on samples that were held out as on those it has seen."""
    return seen.metric.lead_over(held_out.metric) <= 2 * math.hypot(seen.error, held_out.error)
