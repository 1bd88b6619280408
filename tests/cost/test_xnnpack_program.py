"""Programs written directly compute what torch computes, on the real runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgeprune.cost.curves import canonical
from edgeprune.cost.shapes import output_shape
from edgeprune.cost.xnnpack_graph import Graph, limits
from edgeprune.cost.xnnpack_nodes import delegated, emitter
from edgeprune.cost.xnnpack_program import build_program, schedule
from edgeprune.records import KernelKey

DATA = np.random.default_rng(1).uniform(-1, 1, 60_000).astype(np.float32)


def key(op, *shapes, **attrs):
    return KernelKey(op, shapes, tuple(sorted(attrs.items())))


def conv(op, shape, out, kernel=3, stride=1, pad=1, groups=1, dilation=1, **more):
    return key(
        op,
        shape,
        out_channels=out,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(pad,) * 4,
        dilation=(dilation, dilation),
        groups=groups,
        **more,
    )


def run(keys):
    """Each kernel's output as the runtime computes it from DATA."""
    from executorch.extension.pybindings import _C as runtime

    runtime._unsafe_reset_threadpool(1)
    program = build_program(keys, DATA, outputs=True)
    module = runtime._load_for_executorch_from_buffer(program)
    return [out.clone() for out in module.forward([])]


def take(*shape, at=0):
    size = int(np.prod(shape))
    return torch.from_numpy(DATA[at : at + size].copy()).reshape(shape)


def image(n, c, h, w, at=0):
    return take(n, h, w, c, at=at).permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


def second(*shape):
    """Where the second input begins: the first one's size, up to 64 bytes."""
    return -(-int(np.prod(shape)) // 16) * 16


CASES = {
    "conv": (
        conv("conv", (1, 8, 10, 12), 20, stride=2, activation="relu"),
        lambda: last(
            F.relu(F.conv2d(image(1, 8, 10, 12), image(20, 8, 3, 3), take(20), stride=2, padding=1))
        ),
    ),
    "pointwise, clamped": (
        conv("conv", (1, 16, 7, 7), 33, kernel=1, pad=0, activation="clamp(-0.5,0.25)"),
        lambda: last(
            F.hardtanh(F.conv2d(image(1, 16, 7, 7), image(33, 16, 1, 1), take(33)), -0.5, 0.25)
        ),
    ),
    "dilated": (
        conv("conv", (1, 4, 12, 12), 8, dilation=2, pad=2),
        lambda: last(
            F.conv2d(image(1, 4, 12, 12), image(8, 4, 3, 3), take(8), padding=2, dilation=2)
        ),
    ),
    "grouped": (
        conv("conv", (1, 12, 9, 9), 24, groups=3),
        lambda: last(
            F.conv2d(image(1, 12, 9, 9), image(24, 4, 3, 3), take(24), padding=1, groups=3)
        ),
    ),
    "depthwise": (
        conv("dwconv", (1, 24, 9, 9), 24, groups=24, stride=2, activation="relu6"),
        lambda: last(
            F.relu6(
                F.conv2d(
                    image(1, 24, 9, 9),
                    # 1 H W C → C 1 H W
                    take(3, 3, 24).permute(2, 0, 1)[:, None],
                    take(24),
                    stride=2,
                    padding=1,
                    groups=24,
                )
            )
        ),
    ),
    "linear": (
        key("linear", (3, 50), out_channels=17, activation="relu"),
        lambda: F.relu(F.linear(take(3, 50), take(17, 50), take(17))),
    ),
    "add": (
        key("add", (1, 6, 5, 5), (1, 6, 5, 5), layout="nhwc", activation="relu"),
        lambda: last(F.relu(image(1, 6, 5, 5) + image(1, 6, 5, 5, at=second(1, 6, 5, 5)))),
    ),
    "broadcast mul": (
        key("mul", (1, 6, 1, 1), (1, 6, 5, 5), layout="nhwc"),
        lambda: last(image(1, 6, 1, 1) * image(1, 6, 5, 5, at=second(1, 6, 1, 1))),
    ),
    "max pool": (
        key("max_pool", (1, 6, 9, 9), kernel=(3, 3), stride=(2, 2), padding=(1,) * 4),
        lambda: last(F.max_pool2d(image(1, 6, 9, 9), 3, 2, 1)),
    ),
    "average pool": (
        key("avg_pool", (1, 6, 8, 8), kernel=(2, 2), stride=(2, 2), padding=(0,) * 4),
        lambda: last(F.avg_pool2d(image(1, 6, 8, 8), 2)),
    ),
    "global average pool": (
        key("global_avg_pool", (1, 6, 8, 8)),
        lambda: last(image(1, 6, 8, 8).mean((2, 3), keepdim=True)),
    ),
    "hardswish": (
        key("hardswish", (1, 6, 4, 4), layout="nhwc"),
        lambda: last(F.hardswish(image(1, 6, 4, 4))),
    ),
    "softmax": (key("softmax", (5, 9)), lambda: F.softmax(take(5, 9), -1)),
    "cat": (
        key("cat", (1, 6, 4, 4), (1, 3, 4, 4), axis=1, layout="nhwc"),
        lambda: last(torch.cat([image(1, 6, 4, 4), image(1, 3, 4, 4, at=second(1, 6, 4, 4))], 1)),
    ),
    "transpose": (
        key("transpose", (1, 6, 4, 5), perm=(0, 2, 3, 1)),
        lambda: take(1, 6, 4, 5).permute(0, 2, 3, 1),
    ),
    "pad": (
        key("pad", (1, 6, 4, 4), (1, 10, 4, 4), before=(0, 2, 0, 0), layout="nhwc"),
        lambda: last(F.pad(image(1, 6, 4, 4), (0, 0, 0, 0, 2, 2))),
    ),
    "slice": (
        key("slice", (1, 6, 4, 4), (1, 3, 4, 4), axis=1, start=2, layout="nhwc"),
        lambda: last(image(1, 6, 4, 4)[:, 2:5]),
    ),
    "bmm": (
        key("bmm", (2, 4, 5), (2, 5, 3)),
        lambda: take(2, 4, 5) @ take(2, 5, 3, at=second(2, 4, 5)),
    ),
}


@pytest.fixture(scope="module")
def outputs():
    """All cases in one program, which also shows that shared weights are not mixed up."""
    return dict(zip(CASES, run([kernel for kernel, _ in CASES.values()]), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_runtime_computes_what_torch_computes(outputs, case):
    expected = CASES[case][1]()
    assert outputs[case].shape == expected.shape
    torch.testing.assert_close(outputs[case], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_measured_in_its_place_does_as_much(case):
    kernel = CASES[case][0]
    stand_in = canonical(kernel)
    assert np.prod(output_shape(stand_in)) == np.prod(output_shape(kernel))
    run([stand_in])


def test_kernels_without_weights_are_called_twice():
    weighted, light = CASES["conv"][0], CASES["add"][0]
    assert schedule([weighted, light, weighted]) == [0, 1, 1, 2]


def test_activation_names():
    assert limits("relu") == (0.0, float("inf"))
    assert limits("clamp(-2.0,1e3)") == (-2.0, 1000.0)


def test_a_second_emitter_raises():
    with pytest.raises(ValueError, match="conv has two emitters"):
        emitter("conv")(lambda graph, key, attrs: None)
    assert delegated("conv")
    assert not delegated("portable:aten.chunk.default")


def test_a_graph_is_read_back_by_its_header():
    graph = Graph("k")
    graph.node("XNNAbs", input_id=graph.input((4,)), output_id=graph.result((4,)))
    blob = graph.to_bytes()
    assert blob[4:8] == b"XH00"
    assert blob[36:40] == b"XN01"
