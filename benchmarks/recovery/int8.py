"""What int8 costs after pruning and training, and what it gains: the .pte itself, on the test set.

    python benchmarks/recovery/int8.py OUT [--depth 20] [--speedup 2] [--criterion refit]
        [--epochs 10] [--seed 0] [--precision auto] [--trained N]

OUT is the folder of run.py, which must have trained this case (its checkpoint is read). The pruned
network is lowered in fp32 and, calibrated on 512 training samples, in int8; both programs are run
by ExecuTorch on the whole test set, and timed in turns. With --trained, also after N epochs of
training in simulated int8 at a tenth of the rate. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from cases import TARGET, Case, cut_of, images
from run import Steps

from edgeprune import lower
from edgeprune.int8 import evaluate_program
from edgeprune.lowering import quantise
from edgeprune.lowering.rounding import fake_quantised, int8_of
from edgeprune.measuring import Effort, compare, speedup
from edgeprune.records import Graph, Recipe
from edgeprune.recovery.recipes import careful
from edgeprune.recovery.samples import plain_inputs
from edgeprune.recovery.training import train

INT8 = replace(TARGET, dtype="int8")


def main() -> None:
    words = arguments()
    torch.set_num_threads(1)
    out = words.out.resolve()
    words.out, words.set, words.samples = out, [], 512
    data = images(out)
    case = Case(words.depth, words.speedup, words.criterion)
    steps = Steps(cut_of(out, case, data), data, words)
    row = {
        "case": case.name, "step": f"{words.epochs} epochs", "seed": words.seed,
        "recipe": words.precision,
    }  # fmt: skip
    pruned, done = trained_by(steps, row)
    samples = [x for x in plain_inputs(data, 512, 32) if len(x) == 32]
    made: dict[str, Graph] = {"fp32": pruned, "int8, calibrated": quantise(pruned, INT8, samples)}
    if words.trained:
        name = f"int8, trained {words.trained} epochs"
        made[name] = trained(pruned, steps, words.trained, samples)
    folder = out / "plans" / case.name
    programs = [folder / "baseline.pte"]
    found = []
    for number, graph in enumerate(made.values()):
        target = TARGET if graph is pruned else INT8
        program = lower(graph, target, folder / f"trained-{number}.pte")
        programs.append(program.path)
        assert data.test is not None
        found.append((program, evaluate_program(program, data.test, data).value))
    times = compare(programs, TARGET, Effort(processes=3))
    print(
        f"{case.name} after {done} of {words.epochs} epochs, seed {words.seed}; top-1 of the .pte "
        f"on all 10,000 test images; latency with one thread, programs in turns "
        f"({times[0].clock} time, 3 processes x 20 samples); torch {torch.__version__}, executorch "
        f"{version('executorch')}.\n\n| program | top-1, test | against fp32 | MB | ms "
        "| times as fast as fp32 (95 %) | as the baseline |\n|---|---|---|---|---|---|---|"
    )
    for name, (program, top1), time in zip(made, found, times[1:], strict=True):
        ratio, (low, high) = speedup(times[1], time)
        print(
            f"| {name} | {top1:.2f} | {top1 - found[0][1]:+.2f} | {program.size_bytes / 1e6:.3f} "
            f"| {time.median_ms:.3f} | {ratio:.2f} ({low:.2f}–{high:.2f}) "
            f"| {speedup(times[0], time)[0]:.2f} |"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--criterion", default="refit")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--trained", type=int, default=0)
    return parser.parse_args()


def trained_by(steps: Steps, row: dict[str, Any]) -> tuple[Graph, int]:
    """The best network of a training by run.py so far, and the epochs it had."""
    path = steps.checkpoint(row)
    if not path.exists():
        sys.exit(f"{path} is missing: train this case with run.py first")
    state = torch.load(path, map_location="cpu", weights_only=True)["state"]
    pruned = steps.made.small
    pruned.program.load_state_dict(state["best"])
    return pruned, len(state["history"]) - 1


def trained(pruned: Graph, steps: Steps, epochs: int, samples: list[torch.Tensor]) -> Graph:
    """Trained in simulated int8, as `fit --quantize qat` does it."""
    rounded = fake_quantised(pruned, INT8, samples)
    recipe = replace(careful(Recipe(), pruned), epochs=epochs, precision="fp32")
    teacher = steps.made.full.program
    return int8_of(train(rounded, steps.data, recipe, teacher=teacher).graph)


if __name__ == "__main__":
    main()
