"""Which learning rate trains a cut network best, judged by images that no network here has seen.

    python benchmarks/recovery/rates.py OUT [--rates 0.03 0.1 0.2 0.4] [--epochs 5] [--cuts heavy]

The published checkpoints that run.py cuts have seen its validation images: there, whoever stays
close to their weights looks better than it is on new images. So here a ResNet-20 is trained first,
without the validation split, on CIFAR-10 at 16 pixels (a quarter of the work), then cut, refitted
and trained again with each rate. The test set is not touched. `heavy` is about the cut that run.py
finds for 2x: four blocks dropped, half of one layer's channels; `light` keeps 85 % of all channels.
OUT is run.py's; the network and finished rows are kept there (rates.pt, rates.jsonl).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from cases import LOOK, images, resnet_cifar
from torch.nn.functional import avg_pool2d

from edgeprune import capture, channel_groups, finetune, plan, prune, score
from edgeprune.data import Data, evaluate
from edgeprune.data.images import Loading, Look, kept_loader
from edgeprune.plans import Plan
from edgeprune.records import Graph, Recipe
from edgeprune.recovery.features import matches
from edgeprune.recovery.reconstruction import Effort, reconstruct
from edgeprune.recovery.session import TrainingSession
from edgeprune.recovery.training import train
from edgeprune.surgery import kept_positions

SHAPE = (3, 16, 16)
DROPPED = ("layer1.0", "layer1.1", "layer1.2", "layer2.2")
WIDTHS = {"layer2.1.conv1": 16, "layer3.1.conv1": 56}
LIGHT = 0.85
BASELINE = Recipe(epochs=20, lr=0.2, weight_decay=5e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.03, 0.1, 0.2, 0.4])
    parser.add_argument("--epochs", type=int, nargs="+", default=[5])
    parser.add_argument("--cuts", nargs="+", choices=("heavy", "light"), default=["heavy"])
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    data = halved(images(words.out))
    full = baseline(words.out, data)
    for cut in words.cuts:
        known = [line["row"] for line in kept(words.out)]
        rows = [
            {"cut": cut, "epochs": epochs, "rate": rate}
            for epochs in words.epochs
            for rate in words.rates
        ]
        add_rows(words.out, [row for row in rows if row not in known], full, data)
    show(words.out)


def halved(data: Data) -> Data:
    """The images at half their height and width, and no test set."""
    look = Look(SHAPE, LOOK.mean, LOOK.std, pad=2)
    sets: list[Any] = [data.train.dataset, data.train_plain.dataset, data.validation.dataset]
    small = [avg_pool2d(x.pixels.float(), 2).round().to(torch.uint8) for x in sets]
    train_, plain, validation = (
        kept_loader(pixels, x.labels, x.augment, Loading(look, 128, 0))
        for pixels, x in zip(small, sets, strict=True)
    )
    return Data("cifar10-16px", train_, plain, validation, None, 10, SHAPE)


def baseline(out: Path, data: Data) -> Graph:
    """A ResNet-20 trained from scratch on the training split alone."""
    path = out / "rates.pt"
    torch.manual_seed(0)
    network = resnet_cifar.resnet20()
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return captured(network)
    session = TrainingSession(out / "rates.ckpt", progress=tell)
    trained = finetune(captured(network), data, BASELINE, session=session)
    torch.save(trained.program.state_dict(), path)
    return trained


def captured(network: torch.nn.Module) -> Graph:
    return capture(network.eval(), (torch.zeros(1, *SHAPE),), name="resnet20")


def add_rows(out: Path, rows: list[dict[str, Any]], full: Graph, data: Data) -> None:
    """Compute these rows of one cut, and keep each: the metric on validation images of the full
    network, and before and after each training."""
    if not rows:
        return
    chosen = chosen_for(rows[0]["cut"], full)
    positions = kept_positions(full, chosen)
    small = prune(full, chosen)
    start = reconstruct(full, small, positions, data, Effort(samples=512)).graph
    compared = matches(full, start, positions)
    before = {
        name: evaluate(graph.program, data.validation, data).value
        for name, graph in (("full", full), ("start", start))
    }
    for row in rows:
        recipe, session = Recipe(row["epochs"], row["rate"]), TrainingSession(progress=tell)
        done = train(start, data, recipe, teacher=full.program, matches=compared, session=session)
        add(out, row, {**before, "trained": done.metric.value})


def chosen_for(cut: str, full: Graph) -> Plan:
    groups = channel_groups(full)
    scores = score(full, groups, "l2")
    if cut == "light":
        return plan(full, groups, scores, keep=LIGHT)
    return plan(full, groups, scores, keep=WIDTHS, drop=DROPPED)


def kept(out: Path) -> list[dict[str, Any]]:
    path = out / "rates.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(out: Path, row: dict[str, Any], told: dict[str, float]) -> None:
    with (out / "rates.jsonl").open("a") as file:
        file.write(json.dumps({"row": row, "found": told}) + "\n")
    print(row, told, file=sys.stderr)


def show(out: Path) -> None:
    """Print the rows as Markdown."""
    print("| cut | epochs | rate | full network | refitted | trained |\n|---|---|---|---|---|---|")
    order = sorted(kept(out), key=lambda line: tuple(line["row"].values()))
    for row, told in ((line["row"], line["found"]) for line in order):
        print(
            f"| {row['cut']} | {row['epochs']} | {row['rate']:g} | {told['full']:.2f} "
            f"| {told['start']:.2f} | {told['trained']:.2f} |"
        )


def tell(stage: str, done: int, total: int, note: str = "") -> None:
    if "top1" in note:
        print(f"{stage} {done}/{total} {note}", file=sys.stderr)


if __name__ == "__main__":
    main()
