"""`make_kit`: programs, runner, script, inputs, manifests and a README in one folder or zip."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from edgeprune.errors import OutputError
from edgeprune.kit.kernels import kernel_programs
from edgeprune.kit.packing import check_place, pack
from edgeprune.kit.platforms import Contents, platform_of
from edgeprune.kit.programs import Program, expected_outputs, find_programs, shared_inputs
from edgeprune.kit.records import Kit, KitProgram, Wanted, kit_text
from edgeprune.measuring.bundle import digest_of
from edgeprune.records import Progress, silent
from edgeprune.shipping.manifest import manifest_text


def make_kit(wanted: Wanted, out: Path, progress: Progress = silent) -> Kit:
    """Writes a kit for `wanted.target` to `out` (a .zip, or a folder); what it holds.

    The same programs, target and versions give the same bytes. Raises TargetError for targets
    that no kit is made for and programs of another backend, OutputError where `out` cannot be
    written or there is nothing to pack, MeasureError for files that are no programs.
    """
    platform = platform_of(wanted.target)
    check_place(out)
    if not wanted.programs and not wanted.kernels:
        raise OutputError(
            "nothing to pack: name the directory of a fit or .pte files, or --profile MODEL"
        )
    programs = find_programs(wanted.programs, wanted.target)
    inputs = shared_inputs(programs) if programs else []
    files: dict[str, bytes] = {}
    for i, values in enumerate(inputs):
        files[f"inputs/x{i}.bin"] = values.tobytes()
    described = []
    for program in programs:
        progress("kit", 0, 0, program.name)
        files |= _files(program)
        described.append(
            KitProgram(
                f"programs/{program.name}",
                digest_of(program.path),
                program.manifest.dtype,
                expected_outputs(program, inputs),
            )
        )
    kernels, kernel_files = kernel_programs(wanted.kernels, progress)
    kit = Kit(
        target=wanted.target.name,
        platform=platform.name,
        backend=wanted.target.backend,
        dtype=wanted.target.dtype,
        threads=wanted.target.threads,
        runtime=f"executorch {version('executorch')}",
        edgeprune=version("edgeprune"),
        programs=tuple(described),
        kernels=kernels,
    )
    files |= kernel_files
    files |= platform.files(Contents(kit, wanted.target))
    files["kit.json"] = kit_text(kit).encode()
    pack(files, out)
    return kit


def _files(program: Program) -> dict[str, bytes]:
    """The program with its manifest, and its bundled program where it has one."""
    found = {
        f"programs/{program.name}": program.path.read_bytes(),
        f"programs/{program.name}.json": manifest_text(program.manifest).encode(),
    }
    bundle = program.manifest.bundle
    if bundle is not None and (beside := program.path.with_name(bundle.file)).is_file():
        found[f"programs/{bundle.file}"] = beside.read_bytes()
    return found
