"""Vulkan, the delegate for the GPUs of Android phones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeprune.lowering.backends import Lowered, backend
from edgeprune.lowering.finish import finish
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def quantizer(target: Target) -> Any:
    """Static int8: weights symmetric per channel, activations per tensor."""
    from executorch.backends.vulkan.quantizer.vulkan_quantizer import (
        VulkanQuantizer,
        get_symmetric_quantization_config,
    )

    return VulkanQuantizer().set_global(get_symmetric_quantization_config())


@backend("vulkan", dtypes=("fp16", "fp32", "int8"), quantizer=quantizer)
def lower_vulkan(exported: ExportedProgram, target: Target) -> Lowered:
    """In fp16 the GPU computes in half precision; the program's inputs and outputs stay fp32."""
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    from executorch.exir import to_edge_transform_and_lower

    options = {"force_fp16": True} if target.dtype == "fp16" else {}
    return finish(to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner(options)]))
