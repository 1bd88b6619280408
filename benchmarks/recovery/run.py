"""What each step of recovery gives back on CIFAR-10: cut, statistics, reconstruction, epochs.

    python benchmarks/recovery/run.py OUT [--depths 56 20] [--speedups 2 1.5 3]
        [--criteria refit fisher taylor] [--epochs 1] [--seeds 0] [--samples 512] [--test N]

OUT holds the images as an image folder (OUT/cifar10-jpeg), a run of `edgeprune fit` for every plan
(OUT/plans; its speed-up is the measured one), and rows.jsonl, to which every finished row is added:
a second call goes on. The checkpoints are those of a folder named shared/ beside the repository.
Widths are chosen and training is judged on a validation split of the training images; the test set
(its first N images with --test) is looked at once for every row. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "architectures"))
SHARED = HERE.parents[3] / "shared" / "checkpoints"
RESNETS = HERE.parents[1] / "architectures" / "resnet_cifar.py"

from edgeprune import capture, prune  # noqa: E402
from edgeprune.data import Data, DataRequest, evaluate, load_data  # noqa: E402
from edgeprune.plans import Plan  # noqa: E402
from edgeprune.records import Graph, Recipe  # noqa: E402
from edgeprune.recovery.reconstruction import Effort, reconstruct  # noqa: E402
from edgeprune.recovery.session import TrainingSession  # noqa: E402
from edgeprune.recovery.statistics import recompute_statistics  # noqa: E402
from edgeprune.recovery.training import train  # noqa: E402
from edgeprune.surgery import kept_positions  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A network, how much faster it is to be, and what chose the channels."""

    depth: int
    speedup: float
    criterion: str

    @property
    def name(self) -> str:
        return f"resnet{self.depth}-{self.speedup:g}x-{self.criterion}"


def main() -> None:
    """Compute the rows that are missing, and print all."""
    words = arguments()
    torch.set_num_threads(words.threads)
    out = words.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "cifar10-jpeg").is_dir() or not SHARED.is_dir():
        sys.exit(f"the images ({out}/cifar10-jpeg) or the checkpoints ({SHARED}) are missing")
    spec = f"imagefolder:{out / 'cifar10-jpeg'}"
    data = cut_short(load_data(DataRequest(spec, (3, 32, 32))), words.test)
    for depth, speedup, criterion in itertools.product(
        words.depths, words.speedups, words.criteria
    ):
        case = Case(depth, speedup, criterion)
        plan = planned(out, case)
        if plan is not None:
            for row in missing(out, case, words):
                add(out, row, rows_of(case, plan, data, (words, row)))
    show(out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--depths", type=int, nargs="+", default=[56, 20])
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.0, 1.5, 3.0])
    parser.add_argument("--criteria", nargs="+", default=["refit", "fisher", "taylor"])
    parser.add_argument("--epochs", type=int, nargs="*", default=[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


# --- rows ----------------------------------------------------------------------------------------


def missing(out: Path, case: Case, words: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of a case that are not in rows.jsonl yet, without their results."""
    known = [{**row["row"]} for row in kept(out)]
    steps = ["baseline", "cut", "statistics", "reconstruction"]
    steps += [f"{n} epochs" for n in words.epochs]
    for step in steps:
        seeds = words.seeds if "epochs" in step else [0]
        for seed in seeds:
            row = {
                "case": case.name if step != "baseline" else f"resnet{case.depth}",
                "step": step, "seed": seed, "test": words.test,
                "samples": words.samples if step not in ("baseline", "cut") else 0,
            }  # fmt: skip
            if row not in known:
                yield row


def rows_of(
    case: Case, plan: Plan, data: Data, asked: tuple[argparse.Namespace, dict[str, Any]]
) -> dict[str, Any]:
    """One row's metric on the test set, and the seconds of CPU that the step took."""
    words, row = asked
    full = network(case.depth)
    small = prune(full, plan)
    step, seed = row["step"], row["seed"]
    effort = Effort(samples=words.samples, seed=seed)

    def refitted() -> Graph:
        return reconstruct(full, small, kept_positions(full, plan), data, effort).graph

    def trained(epochs: int) -> Graph:
        recipe = Recipe(epochs=epochs, seed=seed)
        path = words.out / f"{row['case']}-{epochs}-{seed}.ckpt"
        session = TrainingSession(path, progress=tell)
        return train(refitted(), data, recipe, teacher=full.module(), session=session).graph

    ways: dict[str, Callable[[], Graph]] = {
        "baseline": lambda: full,
        "cut": lambda: small,
        "statistics": lambda: recompute_statistics(small, data, words.samples),
        "reconstruction": refitted,
        **{f"{n} epochs": lambda n=n: trained(n) for n in words.epochs},
    }
    began = time.process_time()
    made = ways[step]()
    seconds = time.process_time() - began
    assert data.test is not None
    return {"top1": evaluate(made.program, data.test, data).value, "cpu_s": round(seconds, 1)}


def network(depth: int) -> Graph:
    import resnet_cifar

    model = getattr(resnet_cifar, f"resnet{depth}")()
    model.load_state_dict(load_file(SHARED / f"resnet{depth}_cifar10_jpeg.safetensors"))
    return capture(model.eval(), (torch.zeros(1, 3, 32, 32),), name=f"resnet{depth}")


def planned(out: Path, case: Case) -> Plan | None:
    """The plan of `edgeprune fit` for a case, whose program was measured."""
    folder = out / "plans" / case.name
    if not (folder / "report.json").exists():
        weights = SHARED / f"resnet{case.depth}_cifar10_jpeg.safetensors"
        command = [
            sys.executable, "-m", "edgeprune", "fit", "--model", f"{RESNETS}:resnet{case.depth}",
            "--weights", str(weights), "--data", f"imagefolder:{out / 'cifar10-jpeg'}",
            "--speedup", str(case.speedup), "--criterion", case.criterion, "--epochs", "0",
            "--no-statistics", "--no-reconstruct", "-o", str(folder),
        ]  # fmt: skip
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if not (folder / "report.json").exists():
        print(f"{case.name}: no plan, see {folder}", file=sys.stderr)
        return None
    return Plan.from_json((folder / "plan.json").read_text("utf-8"))


def cut_short(data: Data, test: int) -> Data:
    """The data with only the first `test` test images."""
    assert data.test is not None
    batches = list(itertools.islice(data.test, -(-test // (data.test.batch_size or 128))))
    inputs, targets = (torch.cat(parts)[:test] for parts in zip(*batches, strict=True))
    kept_images = torch.utils.data.TensorDataset(inputs, targets)
    return replace(data, test=DataLoader(kept_images, batch_size=128))


# --- the file and the table ----------------------------------------------------------------------


def kept(out: Path) -> list[dict[str, Any]]:
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(out: Path, row: dict[str, Any], found: dict[str, Any]) -> None:
    with (out / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"row": row, "found": found}) + "\n")
    print(row, found, file=sys.stderr)


def tell(stage: str, done: int, total: int, note: str = "") -> None:
    if done % 50 == 0:
        print(f"{stage} {done}/{total} {note}", file=sys.stderr)


def show(out: Path) -> None:
    """The table: a line per case and step, mean and spread over seeds."""
    rows = kept(out)
    print(
        f"CIFAR-10 (JPEG), {platform.processor() or platform.machine()}, {platform.system()}; "
        f"edgeprune {version('edgeprune')}, torch {torch.__version__}, one thread\n"
    )
    print("| case | measured speed-up (95 %) | step | top1 (test) | below baseline | n | CPU s |")
    print("|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str, int, int], list[dict[str, Any]]] = {}
    for line in rows:
        row = line["row"]
        key = (row["case"], row["step"], row["samples"], row["test"])
        groups.setdefault(key, []).append(line["found"])
    for (case, step, samples, test), found in groups.items():
        values = [f["top1"] for f in found]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        base = groups.get((case.split("-")[0], "baseline", 0, test))
        below = "" if base is None else f"{base[0]['top1'] - statistics.mean(values):.2f}"
        what = f"{step} ({samples} samples)" if samples else step
        cpu = statistics.mean(f["cpu_s"] for f in found)
        print(
            f"| {case} | {measured(out / 'plans' / case)} | {what} | {statistics.mean(values):.2f}"
            f"{spread} | {below} | {len(values)} of {test} | {cpu:.0f} |"
        )


def measured(folder: Path) -> str:
    path = folder / "report.json"
    if not path.exists():
        return ""
    report = json.loads(path.read_text())
    low, high = report["speedup_interval"]
    return f"{report['speedup']:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    main()
