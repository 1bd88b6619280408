"""A device that nothing here reaches: its kernels' times are those that the cost table has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.runs import Samples
from edgeprune.cost.sampler import Effort
from edgeprune.cost.table import CostTable
from edgeprune.errors import MeasureError
from edgeprune.records import Conditions, KernelKey, Progress, Target


class KnownRuns:
    """What kits of a target have brought home; nothing is executed.

    Raises MeasureError where the table has nothing for the target.
    """

    def __init__(self, table: CostTable, target: Target) -> None:
        self._target = target
        self._conditions = _latest(table, target)

    def conditions(self) -> Conditions:
        """Those of the latest kit of this target."""
        return self._conditions

    def sample(self, keys: Sequence[KernelKey], effort: Effort, progress: Progress) -> Samples:
        """Nothing: raises MeasureError for kernels that the kit did not hold."""
        inside = [key for key in keys if not key.op.startswith(PREFIX)]
        if inside:
            raise MeasureError(
                f"the cost table has no times of {len(inside)} kernels of this model on "
                f"{self._target.name!r} (such as {inside[0].op} on {inside[0].shapes[0]}): "
                f"{_mend(self._target)}"
            )
        for op in sorted({key.op for key in keys}):
            warnings.warn(
                f"the cost table has no time of {op} on {self._target.name!r}: it is left out of "
                "the predicted latency",
                stacklevel=2,
            )
        return _nothing()


def _nothing() -> Iterator[tuple[KernelKey, tuple[float, ...]]]:
    yield from ()


def _latest(table: CostTable, target: Target) -> Conditions:
    wanted = (target.name, target.backend, target.dtype, target.threads)
    found = [
        batch.conditions
        for batch in table.everything()
        if (c := batch.conditions) and (c.device, c.backend, c.dtype, c.threads) == wanted
    ]
    if not found:
        raise MeasureError(
            f"the cost table {table.path} has nothing of {target.name!r} ({target.backend}, "
            f"{target.dtype}, {target.threads} thread(s)), and runner 'kit' executes nothing: "
            f"{_mend(target)}"
        )
    return max(found, key=lambda conditions: conditions.date)


def _mend(target: Target) -> str:
    return (
        f"`edgeprune kit kit.zip --profile MODEL --target {target.source or target.name}`, run it "
        "on the device, and `edgeprune report --import result.json --as-table`"
    )
