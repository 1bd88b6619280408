"""XNNPACK, the delegate for Arm and x86 processors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeprune.lowering.backends import Lowered, Programs, backend
from edgeprune.lowering.finish import finish
from edgeprune.lowering.half import half_weights, in_half
from edgeprune.records import Target
from edgeprune.rewrites import applies, rewritten

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def quantizer(target: Target) -> Any:
    """Static int8: weights symmetric per channel, activations per tensor."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    return XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))


@backend(
    "xnnpack",
    dtypes=("fp32", "fp16", "int8"),
    quantizer=quantizer,
    programs=Programs(run_here=True),
)
def lower_xnnpack(exported: ExportedProgram, target: Target) -> Lowered:
    """Everything XNNPACK can run goes to it; what is left runs in ExecuTorch's own kernels."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    applied: Mapping[str, int] = {}
    if target.dtype == "fp16":
        exported = in_half(exported)
    if applies(target):
        exported, applied = rewritten(exported)
    with half_weights():
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    return replace(finish(edge), rewrites=applied)
