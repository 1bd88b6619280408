"""Core ML, the delegate for Apple's processors, GPUs and Neural Engines; builds on Linux too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.lowering.backends import Lowered, Needs, backend
from edgeprune.lowering.finish import finish
from edgeprune.lowering.mlpackage import settled
from edgeprune.lowering.xnnpack import quantizer
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# Activations in int8 are read from here on (coremltools: "Quantization Overview").
_INT8_FROM = "iOS17"


# The quantizer is XNNPACK's: its scheme (weights symmetric per channel, activations per tensor) is
# one that Core ML's own operators express. Core ML's quantizer traces all its patterns anew for
# every network: 56 s of CPU for one of three layers, where this takes 2.
@backend(
    "coreml",
    dtypes=("fp16", "fp32", "int8"),
    quantizer=quantizer,
    needs=Needs("coremltools", "coreml"),
)
def lower_coreml(exported: ExportedProgram, target: Target) -> Lowered:
    """As an ML program for all of the device's units; what is not int8 in an int8 program is fp16.

    Inputs and outputs stay fp32 in every dtype.
    """
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.lowered_backend_module import LoweredBackendModule

    fp32, int8 = target.dtype == "fp32", target.dtype == "int8"
    precision = coremltools.precision.FLOAT32 if fp32 else coremltools.precision.FLOAT16
    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=precision,
        minimum_deployment_target=getattr(coremltools.target, _INT8_FROM) if int8 else None,
    )
    edge = to_edge_transform_and_lower(
        exported, partitioner=[CoreMLPartitioner(compile_specs=specs)]
    )
    for module in edge.exported_program().graph_module.modules():
        if isinstance(module, LoweredBackendModule):
            module._processed_bytes = settled(module.processed_bytes)
    return finish(edge)
