"""The kernels of a graph against the events of the truly lowered program."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeprune.cost.flatbuffer import decode, read_schema
from edgeprune.cost.kernels import kernels
from edgeprune.cost.pte_parts import runtime_package
from edgeprune.cost.walk import rule
from edgeprune.graph import capture
from edgeprune.records import Extent

aten = torch.ops.aten

# What XNNPACK calls the operators that our kernels become.
_EVENTS = {
    "conv": "Convolution",
    "linear": "Convolution",  # pointwise convolutions and linears are both matrix products to it
    "dwconv": "Depthwise",
    "add": "Add",
    "mul": "Multiply",
    "div": "Divide",
    "cat": "Copy",
    "max_pool": "Max Pooling",
    "avg_pool": "Average Pooling",
    "global_avg_pool": "Mean",
    "clamp": "Clamp",
    "hardswish": "HardSwish",
    "sigmoid": "Sigmoid",
    "transpose": "Transpose",
    "pad": "Constant Pad",
    "delegate_call": "call",
}


def fixed_extents(graph):
    """Every tensor's shape as constants."""

    def is_shape(shape):
        return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)

    return {
        node.name: tuple(Extent(size) for size in node.meta["shape"])
        for node in graph.program.graph.nodes
        if is_shape(node.meta.get("shape"))
    }


def kernels_of(model, *shape):
    graph = capture(model.eval(), (torch.randn(*shape),))
    return kernels(graph, fixed_extents(graph))


def predicted(found):
    """Kernels as XNNPACK's event names."""
    counts = Counter()
    for kernel in found:
        counts["outside" if kernel.op.startswith("portable:") else _EVENTS[kernel.op]] += 1
        if kernel.op in ("add", "mul") and dict(kernel.attrs).get("activation"):
            counts["Clamp"] += 1  # elementwise ops clamp in a step of their own
    return counts


def executed(model, shape, folder):
    """What the runtime's event tracer saw of the lowered program."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import _C as runtime

    x = torch.randn(*shape)
    exported = torch.export.export(model.eval(), (x,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    program = lowered.to_executorch().buffer
    runtime._unsafe_reset_threadpool(1)
    module = runtime._load_for_executorch_from_buffer(program, enable_etdump=True)
    module.forward([x])
    module.write_etdump_result_to_file(str(folder / "events.etdp"))
    schema = read_schema(runtime_package() / "devtools" / "etdump" / "etdump_schema_flatcc.fbs")
    dump = decode(schema, "ETDump", (folder / "events.etdp").read_bytes()[4:])
    (run,) = [run for run in dump["run_data"] if run["name"] == "Execute"]
    counts = Counter()
    for event in (event["profile_event"] for event in run["events"]):
        name = event.get("delegate_debug_id_str")
        if name is None:
            counts["call"] += event["name"] == "DELEGATE_CALL"
            counts["outside"] += event["name"] == "OPERATOR_CALL"
        elif "Static Reshape" not in name:  # views are free to us
            dense = "Fully Connected" in name or "IGEMM" in name
            plain = "Convolution" if dense else "Depthwise" if "DWConv" in name else name
            counts[re.sub(r" \(.*", "", plain)] += 1
    return +counts


class Mixed(nn.Module):
    """One of most things, in 16 pixels: images, a side branch, an op that falls out."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.alone = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        y = F.relu6(self.depthwise(x))
        x = F.relu(x + y)
        x = F.relu(self.alone(x))
        x = F.max_pool2d(x, 2)
        x = self.left(x) * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        x = F.hardswish(x)
        first, second = x.chunk(2, 1)
        x = torch.cat([F.silu(second), first, first, second], 1)
        x = F.avg_pool2d(x, 2)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return F.relu(self.head(x))


class Shortcut(nn.Module):
    """The parameter-free shortcut of CIFAR residual networks."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, x):
        x = F.relu(x * 2)
        return F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


# to_edge hands the numbers in hardsigmoid to the runtime as tensors, once converted each.
@pytest.mark.parametrize(
    ("model", "shape", "conversions"),
    [(Mixed(), (1, 3, 16, 16), 2), (Shortcut(), (1, 4, 8, 8), 1)],
    ids=["mixed", "shortcut"],
)
def test_small_networks_run_the_kernels_we_say(model, shape, conversions, tmp_path):
    seen = executed(model, shape, tmp_path)
    seen["outside"] -= conversions
    assert predicted(kernels_of(model, *shape)) == +seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121"])
def test_zoo_runs_the_kernels_we_say(name, tmp_path):
    import torchvision

    model = getattr(torchvision.models, name)(weights=None)
    shape = (1, 3, 64, 64)
    assert predicted(kernels_of(model, *shape)) == executed(model, shape, tmp_path)


def test_what_is_fused_is_named():
    found = kernels_of(Mixed(), 1, 3, 16, 16)
    stem = next(kernel for kernel in found if kernel.op == "conv")
    assert stem.nodes == ("conv2d", "batch_norm", "relu")
    assert dict(stem.attrs)["activation"] == "relu"
    assert [k.op for k in found if "batch_norm_1" in k.nodes] == ["dwconv"]


def test_sizes_follow_widths():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    graph = capture(model.eval(), (torch.randn(1, 3, 8, 8),))
    extents = dict(fixed_extents(graph))
    hidden = Extent(0, (("hidden", 1),))
    for node in graph.program.graph.nodes:
        if node.target in (aten.relu.default,) or node.name == "conv2d":
            extents[node.name] = (Extent(1), hidden, Extent(8), Extent(8))
    found = [k for k in kernels(graph, extents) if k.op == "conv"]
    first, second = (kernel.at({"hidden": 5}) for kernel in found)
    assert dict(first.attrs)["out_channels"] == 5
    assert second.shapes == ((1, 5, 8, 8),)
    assert all(kernel.groups == {"hidden"} for kernel in found)


def test_whole_groups_go_where_the_weight_keeps_its_inputs():
    graph = capture(nn.Conv2d(12, 12, 3, groups=3).eval(), (torch.randn(1, 12, 8, 8),))
    extents = dict(fixed_extents(graph))
    per_group = Extent(0, (("g", 4),))
    for node in graph.program.graph.nodes:
        if node.op == "placeholder":
            extents[node.name] = (Extent(1), per_group, Extent(8), Extent(8))
        if node.target == aten.conv2d.default:
            extents[node.name] = (Extent(1), per_group, Extent(6), Extent(6))
    (conv,) = [k for k in kernels(graph, extents) if k.op == "conv"]
    key = conv.at({"g": 2})
    assert key.shapes == ((1, 8, 8, 8),)
    assert (dict(key.attrs)["groups"], dict(key.attrs)["out_channels"]) == (2, 8)


def test_ops_outside_the_delegate_carry_their_call():
    found = kernels_of(Mixed(), 1, 3, 16, 16)
    (chunk,) = [kernel for kernel in found if kernel.op.startswith("portable:")]
    assert chunk.op == "portable:aten.split_with_sizes.default"
    assert dict(chunk.attrs)["call"] == '[[{"tensor": 0}, {"sizes": 1}, 1], {}]'
    assert chunk.at({}).shapes[1] == (4, 4)


def test_a_second_rule_raises():
    with pytest.raises(ValueError, match="two rules"):
        rule(aten.conv2d.default)(lambda walk, node: None)


class Token(nn.Module):
    """A learnt token in front of the others: a tensor that no input flows into."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))


def test_what_is_made_of_parameters_only_is_an_operand_like_others():
    found = kernels_of(Token(), 2, 5, 8)
    (joined,) = (kernel for kernel in found if kernel.op == "cat")
    assert [kernel.op for kernel in found if kernel.op.startswith("portable:")] == []
    assert [[size.at({}) for size in shape[1:]] for shape in joined.shapes] == [[1, 8], [5, 8]]
