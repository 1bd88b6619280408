"""Vulkan, the delegate for the GPUs of Android phones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeprune.lowering.backends import Lowered, backend
from edgeprune.lowering.finish import finish
from edgeprune.lowering.xnnpack import quantizer as static_int8
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram


def quantizer(target: Target) -> Any:
    """Linear layers: int8 weights, symmetric per channel; all else: as XNNPACK has it.

    Vulkan's own quantizer marks nothing but linear layers, and its shaders for statically quantised
    convolutions and sums take what XNNPACK's quantizer marks. Linear layers that read int8 would be
    lowered too, and fail at the first inference (pytorch/executorch issue 22775).
    """
    import torch
    from executorch.backends.vulkan.quantizer.vulkan_quantizer import (
        VulkanQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantizer import ComposableQuantizer

    class Mixed(ComposableQuantizer):  # type: ignore[misc]  # torchao has no types
        def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
            """All marks of both, less those that would have a linear layer read int8."""
            super().annotate(model)
            for node in model.graph.nodes:
                if node.target is torch.ops.aten.linear.default:
                    _release(node.args[0])
            return model

    linear = VulkanQuantizer().set_global(get_symmetric_quantization_config())
    return Mixed([linear, static_int8(target)])


def _release(node: fx.Node) -> None:
    """Take away the mark that a node's output is int8, and the whole mark of one that only passes
    on what it reads."""
    from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

    mark = node.meta.get("quantization_annotation")
    if mark is None:
        return
    if isinstance(mark.output_qspec, SharedQuantizationSpec):
        mark.input_qspec_map.clear()
    mark.output_qspec = None


@backend("vulkan", dtypes=("fp16", "fp32", "int8"), quantizer=quantizer)
def lower_vulkan(exported: ExportedProgram, target: Target) -> Lowered:
    """In fp16 the GPU computes in half precision; the program's inputs and outputs stay fp32."""
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    from executorch.exir import to_edge_transform_and_lower

    options = {"force_fp16": True} if target.dtype == "fp16" else {}
    return finish(to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner(options)]))
