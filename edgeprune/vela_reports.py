"""What Vela reports of a network: a summary of the whole and a table of its layers.

Vela's numbers are its own model of the hardware, not measurements of silicon.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import LoweringError

SUFFIX = ".vela.json"
"""What is kept beside a program for Ethos-U, because the program itself does not say it."""


@dataclass(frozen=True)
class VelaLayer:
    """One operator of the NPU: cycles it takes, of them computing, MACs, share of the MACs used."""

    name: str
    op: str
    cycles: int
    npu_cycles: int
    macs: int
    utilisation: float


@dataclass(frozen=True)
class VelaEstimate:
    """A whole network: Vela's total cycles (of its summary), the clock, SRAM, and its layers."""

    accelerator: str
    system_config: str
    memory_mode: str
    clock_hz: float
    cycles: int
    sram_bytes: int
    layers: tuple[VelaLayer, ...]

    @property
    def ms(self) -> float:
        """Milliseconds of one inference, by the summary."""
        return 1000 * self.cycles / self.clock_hz

    @property
    def layer_cycles(self) -> int:
        """The sum over the layers; equal to `cycles` where Vela overlaps nothing."""
        return sum(layer.cycles for layer in self.layers)


def read_reports(folder: Path) -> VelaEstimate:
    """The reports that Vela left somewhere under `folder` for one delegate.

    Raises LoweringError where there are none (nothing was delegated) or the network was cut into
    several parts, of which upstream keeps only the last one's reports.
    """
    summaries = sorted(folder.rglob("*_summary_*.csv"))
    parts = sorted(folder.glob("*_tag*.tosa"))
    if not summaries:
        raise LoweringError("nothing of the network runs on the Ethos-U: Vela was given no part")
    if len(parts) > 1:
        raise LoweringError(
            f"the network falls into {len(parts)} parts on the Ethos-U, with operators between "
            "that it cannot run; Vela's reports can be read for one part only"
        )
    (summary,) = _rows(summaries[-1])
    layers = tuple(
        VelaLayer(
            name=row["Name"],
            op=row["NNG Operator"],
            cycles=round(float(row["Op Cycles"])),
            npu_cycles=round(float(row["NPU"])),
            macs=round(float(row["MAC Count"])),
            utilisation=float(row["Util% (MAC)"]) / 100,
        )
        for row in _rows(next(folder.rglob("*_per-layer.csv")))
    )
    return VelaEstimate(
        accelerator=summary["accelerator_configuration"],
        system_config=summary["system_config"],
        memory_mode=summary["memory_mode"],
        clock_hz=float(summary["core_clock"]),
        cycles=round(float(summary["cycles_total"])),
        sram_bytes=round(1024 * float(summary["sram_memory_used"])),
        layers=layers,
    )


def estimate_from_json(document: dict[str, object]) -> VelaEstimate:
    """An estimate as `asdict` made it; keys that are not its own are left out."""
    own = {key: document[key] for key in VelaEstimate.__dataclass_fields__ if key != "layers"}
    layers = document["layers"]
    assert isinstance(layers, list)
    return VelaEstimate(layers=tuple(VelaLayer(**layer) for layer in layers), **own)  # type: ignore[arg-type]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
