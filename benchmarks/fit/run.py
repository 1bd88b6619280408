"""Whole fits on the host, as a table: verdict, speed-up, size, parity, metric before and after.

    python benchmarks/fit/run.py OUT [NAME ...]

OUT holds one run directory per fit, so that a second call continues. The CIFAR fits need the
images as an image folder at OUT/cifar10-jpeg and the checkpoints in a folder named shared/ beside
the repository; they are skipped, saying so, where these are missing. Prints Markdown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
SHARED = HERE.parents[3] / "shared" / "checkpoints"
RESNETS = HERE.parents[1] / "architectures" / "resnet_cifar.py"


def fits(out: Path) -> dict[str, list[str]]:
    """The command line of every fit, by name."""

    def cifar(depth: int, weights: str, *budget: str) -> list[str]:
        return [
            "--model", f"{RESNETS}:resnet{depth}", "--weights", str(SHARED / weights),
            "--data", f"imagefolder:{out / 'cifar10-jpeg'}", *budget,
        ]  # fmt: skip

    return {
        "digits-resnet18": [
            "--model", "torchvision:resnet18", "--data", "digits", "--speedup", "2",
        ],
        "resnet20-2x": cifar(20, "resnet20_cifar10_jpeg.safetensors", "--speedup", "2"),
        "resnet20-40percent": cifar(20, "resnet20-12fca82f.th", "--budget-ms", "40%"),
        "resnet56-2x": cifar(56, "resnet56_cifar10_jpeg.safetensors", "--speedup", "2"),
        "mobilenet_v2-1.5x": [
            "--model", "torchvision:mobilenet_v2", "--epochs", "0", "--speedup", "1.5",
        ],
        "resnet50-1.5x": [
            "--model", "torchvision:resnet50", "--epochs", "0", "--speedup", "1.5",
        ],
    }  # fmt: skip


def main(out: Path, names: list[str]) -> None:
    """Run the fits that are named (all by default) and print the table."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, words in fits(out).items():
        if names and name not in names:
            continue
        if "--weights" in words and not ((out / "cifar10-jpeg").is_dir() and SHARED.is_dir()):
            print(f"{name}: skipped, the images or the checkpoints are missing", file=sys.stderr)
            continue
        if "40%" in words:
            first = out / "resnet20-2x" / "report.json"
            if not first.exists():
                print(f"{name}: skipped, needs resnet20-2x first", file=sys.stderr)
                continue
            baseline = json.loads(first.read_text())["baseline"]["latency_ms"]["median"]
            words = [w if w != "40%" else f"{0.4 * baseline:.4f}" for w in words]
        command = [sys.executable, "-m", "edgeprune", "fit", *words, "-o", str(out / name)]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        rows.append(row(name, code, out / name / "report.json"))
    print("| fit | verdict | ms before | ms after | speed-up (95 %) | MB | parity | metric |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


def row(name: str, code: int, path: Path) -> str:
    """One line of the table."""
    if not path.exists():
        return f"| {name} | ended with {code} | | | | | | |"
    r = json.loads(path.read_text())
    before, after = r["baseline"], r["final"]
    low, high = r["speedup_interval"]
    metric = "–"
    if before["metric"] and after["metric"]:
        cut = next(s["metric"]["value"] for s in r["stages"] if s["name"] == "prune")
        metric = (
            f"{before['metric']['value']:.2f} → {after['metric']['value']:.2f} "
            f"(cut alone, validation: {cut:.2f})"
        )
    return (
        f"| {name} | {r['verdict']} | {before['latency_ms']['median']:.3g} | "
        f"{after['latency_ms']['median']:.3g} | {r['speedup']:.2f} ({low:.2f}–{high:.2f}) | "
        f"{before['size_bytes'] / 1e6:.2f} → {after['size_bytes'] / 1e6:.2f} | "
        f"{r['parity']['max_rel']:.1e} | {metric} |"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
