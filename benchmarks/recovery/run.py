"""What each step of recovery gives back on CIFAR-10: cut, statistics, reconstruction, epochs.

    python benchmarks/recovery/run.py OUT [--depths 20 56] [--speedups 1.5 2 3]
        [--criteria auto refit l2 tp-taylor-global] [--epochs 1 10] [--seeds 0] [--set lr=0.1]

OUT holds the images as an image folder (OUT/cifar10-jpeg), a plan for every case, lowered and
measured (OUT/plans), checkpoints, and rows.jsonl, to which every finished row is added: a second
call goes on. The checkpoints are those of a folder named shared/ beside the repository.
All choices are made on a validation split of the training images (its first 2048 where nothing is
trained); every row looks at the test set once, or never with --no-test. The checkpoints have seen
these validation images in training, the test set not. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cases import Case, Cut, OutOfReach, cut_of, images
from shown import kept, show

from edgeprune.data import Data, evaluate
from edgeprune.records import Graph, Recipe
from edgeprune.recovery.features import matches
from edgeprune.recovery.reconstruction import Effort, reconstruct
from edgeprune.recovery.session import TrainingSession
from edgeprune.recovery.statistics import recompute_statistics
from edgeprune.recovery.training import train

JUDGED = 2048
"""Validation images that steps without labels are judged by."""


def main() -> None:
    """Compute the rows that are missing, and print all."""
    words = arguments()
    torch.set_num_threads(words.threads)
    words.out = words.out.resolve()
    words.out.mkdir(parents=True, exist_ok=True)
    data = None if words.show else images(words.out)
    for depth, speedup, criterion in itertools.product(
        words.depths, words.speedups, words.criteria
    ):
        case = Case(depth, speedup, criterion)
        rows = list(missing(case, words))
        if data is not None and rows:
            try:
                cut = cut_of(words.out, case, data)
            except OutOfReach as error:
                print(f"{case.name}: {error}", file=sys.stderr)
                continue
            for row in rows:
                add(words.out, row, found(row, cut, data, words))
    show(words.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56])
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.0, 1.5, 3.0])
    parser.add_argument("--criteria", nargs="+", default=["taylor", "refit", "l2"])
    parser.add_argument("--epochs", type=int, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", nargs="*", default=[], help="of the recipe, as lr=0.1")
    parser.add_argument("--no-test", action="store_true")
    parser.add_argument("--no-steps", action="store_true", help="only epochs")
    parser.add_argument("--show", action="store_true", help="print what is there, and end")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def missing(case: Case, words: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of a case that are not in rows.jsonl yet, without their results."""
    known = [row["row"] for row in kept(words.out)]
    steps = [] if words.no_steps else ["baseline", "cut", "statistics", "reconstruction"]
    if case.criterion.startswith("tp-") and steps:
        steps.remove("reconstruction")  # it does not say which channels it kept
    wanted = [(step, 0, "") for step in steps]
    recipe = " ".join([words.precision, *words.set])
    wanted += [(f"{n} epochs", seed, recipe) for n in words.epochs for seed in words.seeds]
    for step, seed, recipe in wanted:
        row = {
            "case": case.name if step != "baseline" else f"resnet{case.depth}",
            "step": step, "seed": seed, "recipe": recipe, "test": not words.no_test,
            "samples": words.samples if step not in ("baseline", "cut") else 0,
        }  # fmt: skip
        if row not in known:
            yield row


def found(row: dict[str, Any], cut: Cut, data: Data, words: argparse.Namespace) -> dict[str, Any]:
    """One row's metrics, and the seconds of CPU that the step took, judging included."""
    steps = Steps(cut, data, words)
    began = time.process_time()
    step = row["step"]
    made, told = steps.trained(row) if "epochs" in step else getattr(steps, step)()
    seconds = time.process_time() - began
    if row["test"]:
        assert data.test is not None
        told["top1"] = evaluate(made.program, data.test, data).value
    return {**told, "cpu_s": round(seconds, 1)}


class Steps:
    """The steps of recovery on a cut: each a network, and its metric on the validation split."""

    def __init__(self, cut: Cut, data: Data, words: argparse.Namespace) -> None:
        self.made, self.data, self.words = cut, data, words

    def baseline(self) -> tuple[Graph, dict[str, Any]]:
        return self._judged(self.made.full)

    def cut(self) -> tuple[Graph, dict[str, Any]]:
        return self._judged(self.made.small)

    def statistics(self, graph: Graph | None = None) -> tuple[Graph, dict[str, Any]]:
        graph = graph or self.made.small
        return self._judged(recompute_statistics(graph, self.data, self.words.samples))

    def reconstruction(self) -> tuple[Graph, dict[str, Any]]:
        """Refitted; then statistics, where the validation split likes that better, as in `fit`."""
        cut, effort = self.made, Effort(samples=self.words.samples)
        assert cut.positions is not None
        plain = self._judged(
            reconstruct(cut.full, cut.small, cut.positions, self.data, effort).graph
        )
        return max(plain, self.statistics(plain[0]), key=lambda x: x[1]["validation"])

    def trained(self, row: dict[str, Any]) -> tuple[Graph, dict[str, Any]]:
        """Trained from the best that needs no labels, with the full network as teacher."""
        start, _ = self.statistics() if self.made.positions is None else self.reconstruction()
        settings = dict(word.split("=") for word in self.words.set)
        recipe = Recipe(
            epochs=int(row["step"].split()[0]),
            seed=row["seed"],
            precision=self.words.precision,
            **{name: float(value) for name, value in settings.items()},
        )
        session = TrainingSession(self.checkpoint(row), progress=tell)
        full = self.made.full
        done = train(
            start,
            self.data,
            recipe,
            teacher=full.program,
            matches=matches(full, self.made.small, self.made.positions or {}),
            session=session,
        )
        curve = [round(e.metric.value, 2) for e in done.history]
        return done.graph, {"validation": done.metric.value, "curve": curve, "notes": done.notes}

    def checkpoint(self, row: dict[str, Any]) -> Path:
        """Where a training row is kept."""
        name = "-".join(str(row[k]) for k in ("case", "step", "recipe", "seed")).replace(" ", "-")
        path: Path = self.words.out / f"{name}.ckpt"
        return path

    def _judged(self, graph: Graph) -> tuple[Graph, dict[str, Any]]:
        data = self.data
        value = evaluate(graph.program, data.validation, data, most=JUDGED).value
        return graph, {"validation": value}


def add(out: Path, row: dict[str, Any], told: dict[str, Any]) -> None:
    with (out / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"row": row, "found": told}) + "\n")
    print(row, told, file=sys.stderr)


def tell(stage: str, done: int, total: int, note: str = "") -> None:
    if done % 50 == 0 or "top1" in note:
        print(f"{stage} {done}/{total} {note}", file=sys.stderr)


if __name__ == "__main__":
    main()
