"""What the stages of run.py share: rows on disk, and networks with their costs, loaded once."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_macs import ByMacs
from cases import build

from edgeprune import capture, channel_groups
from edgeprune.candidates import Baseline
from edgeprune.cost import profile
from edgeprune.lowering import lower
from edgeprune.measuring import Effort, compare
from edgeprune.records import ChannelGroups, CostModel, Graph, Scores
from edgeprune.targets import load_target

Row = dict[str, Any]


class Rows:
    """The rows made so far, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self.made = [json.loads(line) for line in lines]

    def missing(self, **key: Any) -> bool:
        return not any(all(row.get(k) == v for k, v in key.items()) for row in self.made)

    def add(self, row: Row) -> None:
        row = {**row, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.made.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def of(self, stage: str) -> list[Row]:
        return [row for row in self.made if row["stage"] == stage]


class Bench:
    """What the stages share: the arguments, and networks that are loaded once."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rows = Rows(arguments.out)
        self.table = arguments.costs
        self.only = arguments.only
        self.most = arguments.most
        self.checkpoint = arguments.checkpoint
        self.formula = arguments.formula
        self.calibrate = arguments.calibrate
        self.target = load_target("host")
        self._known: dict[str, tuple[Graph, ChannelGroups, CostModel]] = {}

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only

    def network(self, name: str) -> tuple[Graph, ChannelGroups, CostModel]:
        if name not in self._known:
            self._known.clear()
            module, shape = build(name)
            graph = capture(module, (torch.zeros(shape),), name=name)
            groups = channel_groups(graph)
            if self.formula:
                self._known[name] = graph, groups, ByMacs.of(graph, groups)
            else:
                cost = profile(graph, self.target, groups, table=self.table)
                self._known[name] = graph, groups, cost
        return self._known[name]

    def baseline(self, name: str, graph: Graph) -> Baseline:
        """The full network's program, lowered once and kept beside the rows."""
        folder = self.rows.path.with_suffix(".programs")
        folder.mkdir(exist_ok=True)
        path, known = folder / f"{name}.pte", folder / f"{name}.seconds"
        if not known.exists():
            known.write_text(str(lower(graph, self.target, path).seconds))
        (before,) = compare([path], self.target, Effort(processes=2))
        seconds = float(known.read_text())
        return Baseline(path, before.median_ms, path.stat().st_size, seconds)


def drawn(groups: ChannelGroups, seed: int = 0) -> Scores:
    """Importance as trained networks have it: long-tailed within a group, different between groups.

    Log-normal channels (sigma 1), groups scaled log-normally (sigma 0.5).
    """
    random = np.random.default_rng(seed)
    values = {
        g.name: random.lognormal(0, 1, g.size) * random.lognormal(0, 0.5) for g in groups.groups
    }
    return Scores("drawn", values)
