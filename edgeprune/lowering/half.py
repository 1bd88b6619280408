"""fp32 program → fp16 program for XNNPACK, with fp32 inputs and outputs as before.

XNNPACK computes in fp16 where tensors are fp16. Statistics of batch norm, which fp16 resolves
badly, go into their convolutions first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeprune.errors import LoweringError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_CONVOLUTION = "aten.convolution.default"


def in_half(exported: ExportedProgram) -> ExportedProgram:
    """`exported` computing in fp16 between its fp32 inputs and outputs; the given one stays.

    Raises LoweringError naming the weights that fp16 cannot hold.
    """
    import torch
    from torch.utils._pytree import tree_map
    from torchao.quantization.pt2e.utils import _fuse_conv_bn_

    module: Any = copy.deepcopy(exported.module(check_guards=False))
    with torch.no_grad():
        _fuse_conv_bn_(module)
    _check_range(module.state_dict())
    module = module.half()
    inputs, _ = exported.example_inputs

    def cast(x: Any, away: torch.dtype, to: torch.dtype) -> Any:
        return x.to(to) if isinstance(x, torch.Tensor) and x.dtype == away else x

    class Between(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = module

        def forward(self, *xs: Any) -> Any:
            ys = self.body(*(cast(x, torch.float32, torch.float16) for x in xs))
            return tree_map(lambda y: cast(y, torch.float16, torch.float32), ys)

    with torch.no_grad():
        return torch.export.export(Between(), inputs)


@contextmanager
def half_weights() -> Iterator[None]:
    """Within it, fp16 weights of convolutions are written as fp16.

    Upstream writes them as fp32 (executorch 1.5.1, operators/op_conv2d.py: `force_fp32=True`),
    which doubles their size for the same outputs: XNNPACK rounds them to fp16 when it packs them.
    Can go when upstream writes them as they are.
    """
    import torch
    from executorch.backends.xnnpack.operators import node_visitor

    table = node_visitor._node_visitor_dict
    upstream = table[_CONVOLUTION]

    class HalfConv2d(upstream):  # type: ignore[misc, valid-type]
        def define_tensor(self, tensor: Any, *args: Any, **kwargs: Any) -> None:
            if tensor.meta["val"].dtype == torch.float16:
                kwargs["force_fp32"] = False
            super().define_tensor(tensor, *args, **kwargs)

    table[_CONVOLUTION] = HalfConv2d
    try:
        yield
    finally:
        table[_CONVOLUTION] = upstream


def _check_range(tensors: Any) -> None:
    import torch

    largest = torch.finfo(torch.float16).max
    beyond = [
        name
        for name, x in tensors.items()
        if x.is_floating_point() and bool(((x.abs() > largest) & x.isfinite()).any())
    ]
    if beyond:
        raise LoweringError(
            f"fp16 holds values up to {largest:g}, and these weights go beyond: "
            f"{', '.join(beyond)}; lower in fp32"
        )
