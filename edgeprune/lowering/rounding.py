"""fp32 graph → one that is trained in simulated int8 → int8 graph (torchao's PT2E flow for QAT).

https://docs.pytorch.org/ao/stable/tutorials_source/pt2e_quant_qat.html: fake quantisers are put
where the backend's quantizer wants them and round what passes; gradients pass them unchanged
(Jacob et al. 2018, arXiv 1712.05877), so that weights learn to live with the rounding. Batch norms
are folded into the rounded weights by their running statistics, and still trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from edgeprune.errors import LoweringError
from edgeprune.graph import TRAINING_ARGUMENT
from edgeprune.lowering.backends import backend_for
from edgeprune.lowering.quantising import exported_again, plain
from edgeprune.quiet import quiet
from edgeprune.reasons import reason_of
from edgeprune.records import Graph, Target

if TYPE_CHECKING:
    from torch import Tensor


def _xnnpack() -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    config = get_symmetric_quantization_config(is_per_channel=True, is_qat=True)
    return XNNPACKQuantizer().set_global(config)


_QUANTIZERS: Mapping[str, Callable[[], Any]] = {"xnnpack": _xnnpack}
"""What marks where fake quantisers go, by backend."""


class FakeQuantised(fx.GraphModule):
    """A graph with fake quantisers, trainable under the names its parameters had.

    `train` and `eval` mean what they do elsewhere: only while it trains do batch norms take
    statistics of batches, is anything dropped out, and do the quantisers' ranges follow the values.
    """

    def train(self, mode: bool = True) -> FakeQuantised:
        """Switch everything that differs in training; returns the module."""
        super().train(mode)
        for node, place in _flags(self):
            node.update_arg(place, mode)
        self.recompile()
        _follow(self, mode)
        return self


def _flags(module: fx.GraphModule) -> list[tuple[fx.Node, int]]:
    """The nodes that do something else while training, and which argument tells them."""
    places = ((node, TRAINING_ARGUMENT.get(node.target)) for node in module.graph.nodes)
    return [(node, place) for node, place in places if place is not None]


def _follow(module: fx.GraphModule, values: bool) -> None:
    """Whether the ranges of a module's fake quantisers follow the values that pass."""
    from torchao.quantization.pt2e.fake_quantize import FakeQuantizeBase

    for part in module.modules():
        if isinstance(part, FakeQuantizeBase):
            part.enable_observer(values)


def check_trains_int8(target: Target) -> None:
    """Raise LoweringError where nothing can be trained in the int8 that `target` runs."""
    if target.backend not in _QUANTIZERS:
        raise LoweringError(
            f"backend {target.backend!r} has no quantizer to train with; those that have: "
            f"{', '.join(sorted(_QUANTIZERS))}. Try --quantize int8"
        )


def fake_quantised(graph: Graph, target: Target, samples: Iterable[Tensor]) -> Graph:
    """`graph` in simulated int8, to be trained; its ranges begin with those of `samples`.

    It is in eval mode, computes in fp32 with rounded values, and takes batches as the graph does;
    `int8_of` makes of it what can be lowered. The graph is not changed. Raises LoweringError where
    the backend has no quantizer for it, there is no sample, or upstream refuses.
    """
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    check_trains_int8(target)
    seen = 0
    with quiet(), torch.no_grad():
        try:
            exported = exported_again(graph, backend_for(target))
            if any(node.args[place] is True for node, place in _flags(exported)):
                raise ValueError("it normalises by the batch, or drops out, in eval mode too")
            prepared = prepare_qat_pt2e(exported, _QUANTIZERS[target.backend]())
            made = FakeQuantised(prepared, prepared.graph)
            made.meta.update(prepared.meta)  # by which upstream knows it again
            made.eval()
            _follow(made, True)
            for batch in samples:
                made(batch)
                seen += 1
        except Exception as error:
            raise LoweringError(
                f"{graph.name!r} could not be prepared for training in int8 for "
                f"{target.backend}: {reason_of(error)}"
            ) from error
    if not seen:
        raise LoweringError(f"{graph.name!r}: int8 needs samples to find ranges on, got none")
    return replace(graph, program=cast(fx.GraphModule, made.eval()))


def int8_of(graph: Graph) -> Graph:
    """What `fake_quantised` made, after training, as `quantise` would have it: only good for
    evaluation and `lower`. The graph is not changed. Raises LoweringError if upstream refuses."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with quiet(), torch.no_grad():
        try:
            converted = convert_pt2e(copy.deepcopy(graph.program).eval())
        except Exception as error:
            raise LoweringError(
                f"{graph.name!r} could not be made int8 after training: {reason_of(error)}"
            ) from error
    return replace(graph, program=plain(converted), masks={})
