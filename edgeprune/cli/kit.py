"""`edgeprune kit`: everything that a device needs to time programs, in one folder or zip."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.options import (
    InputOption,
    JsonOption,
    SettingsOption,
    TargetOption,
    ThreadsOption,
    target_from,
)
from edgeprune.cli.progress import progress
from edgeprune.errors import EdgepruneError
from edgeprune.records import Progress, Target

if TYPE_CHECKING:
    from edgeprune.cost.wanted import Sweep


def kit(
    out: Annotated[
        Path, typer.Argument(metavar="DIR|FILE.zip", help="The kit: a folder, or a zip.")
    ],
    programs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|FILE.pte]...", exists=True, help="Runs of fit, or programs of any make."
        ),
    ] = None,
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Put in the kernels that `profile` would time for this model."
        ),
    ] = None,
    input: InputOption = None,
    json: JsonOption = False,
) -> None:
    """Pack what a device needs to time programs, for whoever has it at hand.

    The kit holds the programs with their manifests, a runner, inputs, a script that
    works as it is, and a README. What the script writes, result.json, is read by
    `edgeprune report RUN --import result.json`.

    \b
    Examples:
      edgeprune kit pixel.zip runs/resnet18 --target android-arm64-xnnpack
      edgeprune kit board old.pte new.pte --target raspberry-pi-5
      edgeprune kit pixel.zip --profile torchvision:mobilenet_v2 \\
          --target android-arm64-xnnpack
    """
    if input is not None and profile is None:
        raise EdgepruneError("--input is the shape of --profile MODEL: give both, or neither")
    chosen = target_from(target, threads, settings)
    with progress() as report_progress:
        from edgeprune.kit import Wanted, make_kit
        from edgeprune.kit.packing import check_place
        from edgeprune.kit.platforms import platform_of

        platform_of(chosen)
        check_place(out)
        sweeps = () if profile is None else _sweeps(profile, input, chosen, report_progress)
        made = make_kit(Wanted(tuple(programs or ()), chosen, sweeps), out, report_progress)
    if json:
        show.document({"path": out, **asdict(made)})
        return
    names = ", ".join(program.file.removeprefix("programs/") for program in made.programs)
    show.line(f"{out}: a kit for {made.target} ({made.platform})")
    if names:
        show.line(f"  programs: {names}")
    if made.kernels:
        count = sum(len(kernels.keys) for kernels in made.kernels)
        show.line(f"  kernels: {count} in {len(made.kernels)} programs")
    show.line("  on the device: ./run.sh, which writes result.json (see README.md there)")
    run = "RUN " if made.programs else ""
    table = " --as-table" if made.kernels else ""
    show.line(f"  then here: edgeprune report {run}--import result.json{table}")


def _sweeps(
    model: str, shape: str | None, target: Target, report_progress: Progress
) -> tuple[Sweep, ...]:
    """All kernels that a model may ask of the device."""
    from edgeprune.channels import channel_groups
    from edgeprune.cli.loading import DataChoice, ModelChoice, load_graph
    from edgeprune.cost.profiling import KERNEL_DTYPES
    from edgeprune.cost.wanted import everything
    from edgeprune.lowering.in_int8 import as_priced

    if target.backend != "xnnpack" or target.dtype not in KERNEL_DTYPES:
        raise EdgepruneError(
            f"kernels are measured with XNNPACK in fp32 and int8, and target {target.name!r} is "
            f"{target.backend} in {target.dtype}: leave --profile out"
        )
    graph, _ = load_graph(ModelChoice(model, None, shape), DataChoice(), report_progress)
    report_progress("channels", 0, 0, graph.name)
    return everything(*as_priced(graph, channel_groups(graph), target), target.dtype)
