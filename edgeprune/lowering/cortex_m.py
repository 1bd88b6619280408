"""Arm Cortex-M: no delegate, but int8 operators that call CMSIS-NN, Arm's kernels for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeprune.errors import TargetError
from edgeprune.lowering.backends import Lowered, Needs, Programs, backend
from edgeprune.lowering.ethos_u import APART
from edgeprune.lowering.finish import finish
from edgeprune.lowering.layout import in_channels_last
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_OWN = "cortex_m."
_NO_KERNEL = ("alloc",)


def quantizer(target: Target) -> Any:
    """Static int8 as CMSIS-NN computes it."""
    from executorch.backends.cortex_m.quantizer.quantizer import CortexMQuantizer

    return CortexMQuantizer()


@backend(
    "cortex-m",
    dtypes=("int8",),
    quantizer=quantizer,
    # what upstream's passes for it import of Arm's TOSA tools
    needs=Needs("tosa_serializer", "ethos-u", APART),
    programs=Programs(channels_last=True),
)
def lower_cortex_m(exported: ExportedProgram, target: Target) -> Lowered:
    """For the core that the profile names. CMSIS-NN's operators count as delegated.

    Raises TargetError where the profile names no core, or one that upstream does not know.
    """
    from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config
    from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
    from executorch.exir import to_edge

    core = _core(target)
    edge = to_edge(_channels_last(exported), compile_config=cortex_m_edge_compile_config())
    passes = CortexMPassManager(edge.exported_program(), target_config=core)
    # as upstream's own script for Arm does it (backends/arm/scripts/aot_arm_compiler.py)
    edge._edge_programs["forward"] = passes.transform()
    lowered = finish(edge)
    own = {name: n for name, n in lowered.other_ops.items() if name.startswith(_OWN)}
    others = {
        name: n
        for name, n in lowered.other_ops.items()
        if name not in own and name not in _NO_KERNEL
    }
    return replace(lowered, delegated_nodes=sum(own.values()), other_ops=others)


def _core(target: Target) -> Any:
    from executorch.backends.cortex_m.target_config import CortexMTargetConfig

    if target.core is None:
        raise TargetError(f'target {target.name!r} names no core: set core = "cortex-m55", say')
    try:
        return CortexMTargetConfig.from_target_string(target.core)
    except ValueError as error:
        raise TargetError(f"target {target.name!r}: core: {error}") from None


def _channels_last(exported: ExportedProgram) -> ExportedProgram:
    """The program for images that lie as N H W C, as CMSIS-NN reads them."""
    import torch

    inputs, _ = exported.example_inputs
    module = exported.module(check_guards=False).to(memory_format=torch.channels_last)
    return torch.export.export(module, in_channels_last(inputs))
