"""The cost model by itself, over times that are known."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cost.grid import Tiles, grids
from edgeprune.cost.model import MeasuredCost, assemble, weight_bytes
from edgeprune.records import Extent, Kernel, KernelKey

TILES = Tiles(16, 16)
SIZES = {"a": 64, "b": 128, "tiny": 6, "huge": 1000}
PARTS = {"a": 1, "b": 4, "tiny": 1, "huge": 1}


def kernel(op, c_in, out=None, **attrs):
    if out is not None:
        attrs = {
            "dilation": (1, 1),
            "groups": 1,
            "kernel": (1, 1),
            "out_channels": out,
            "padding": (0, 0, 0, 0),
            "stride": (1, 1),
            **attrs,
        }
    shape = (Extent(1), c_in, Extent(4), Extent(4))
    return Kernel(op, (op,), (shape,), tuple(sorted(attrs.items())))


def width(name):
    return Extent(0, ((name, 1),))


KERNELS = (
    kernel("conv", Extent(3), width("a")),
    kernel("conv", width("a"), width("b")),
    kernel("max_pool", width("b"), kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0)),
    kernel("conv", width("b"), width("tiny")),
    kernel("conv", width("tiny"), width("huge")),
    kernel("portable:aten.chunk.default", width("huge"), call="[]"),
)


def true_us(key):
    """A machine that computes output channels sixteen at a time."""
    out = dict(key.attrs).get("out_channels", 0)
    return 1.0 + 0.01 * key.shapes[0][1] * (ceil(out / 16) * 16 if out else 1)


@pytest.fixture(scope="module")
def model():
    wanted = grids(KERNELS, SIZES, TILES)
    times = {key: true_us(key) for grid in wanted for key in grid.keys.values()}
    return MeasuredCost(KERNELS, SIZES, PARTS, assemble(wanted, times), TILES)


widths = st.fixed_dictionaries({name: st.integers(1, size) for name, size in SIZES.items()})


def test_full_widths_are_the_sum_of_what_was_measured(model):
    expected = sum(true_us(k.at(SIZES)) for k in KERNELS)
    assert model.latency_ms(SIZES) == pytest.approx(expected / 1000)


@given(widths=widths)
def test_convolutions_are_told_at_any_widths(model, widths):
    """The machine is bilinear over tiles, which is what the model assumes."""
    for one in KERNELS[:2]:
        key = one.at(widths)
        if widths["a"] >= 8:  # below the grid, lines are continued
            assert model.kernel_us(key) == pytest.approx(true_us(key), rel=1e-6)


@given(widths=widths, ms=st.floats(0.01, 100))
def test_corrected_agrees_with_what_was_measured(model, widths, ms):
    corrected = model.corrected(widths, ms)
    assert corrected.latency_ms(widths) == pytest.approx(ms)
    again = corrected.corrected(SIZES, 7.0)
    assert again.latency_ms(SIZES) == pytest.approx(7.0)
    assert model.factor == 1.0


@given(widths=widths, measured=st.integers(10_000, 10**8))
def test_size_corrected_agrees_with_what_was_measured(model, widths, measured):
    corrected = model.size_corrected(widths, measured)
    assert corrected.size_bytes(widths) == measured
    difference = model.size_bytes(SIZES) - model.size_bytes(widths)
    assert corrected.size_bytes(SIZES) - measured == difference


def test_weights_and_biases_are_counted():
    key = KERNELS[1].at({"a": 10, "b": 20})
    assert weight_bytes(key) == (10 * 20 + 20) * 4
    linear = KernelKey("linear", ((1, 50),), (("out_channels", 7),))
    assert weight_bytes(linear) == (50 * 7 + 7) * 4
    depthwise = kernel("dwconv", width("a"), width("a"), groups=width("a"), kernel=(3, 3))
    assert weight_bytes(depthwise.at({"a": 8})) == (9 * 8 + 8) * 4
    assert weight_bytes(KERNELS[2].at({"b": 20})) == 0


def test_steps_are_whole_tiles_and_enough_of_them(model):
    assert model.steps("a") == (8, 16, 24, 32, 40, 48, 56, 64)  # four tiles are too few
    assert model.steps("b") == tuple(range(16, 129, 16))
    assert model.steps("tiny") == (1, 2, 3, 4, 5, 6)
    huge = model.steps("huge")
    assert len(huge) == 16
    assert huge[-1] == 1000
    assert all(step % 16 == 0 for step in huge[:-1])


@given(size=st.integers(1, 300), parts=st.integers(1, 8), times=st.integers(1, 6))
def test_steps_can_be_shared_by_the_parts(size, parts, times):
    size *= parts
    one = kernel("conv", Extent(3), Extent(0, (("g", times),)))
    model = MeasuredCost((one,), {"g": size}, {"g": parts}, {}, TILES)
    steps = model.steps("g")
    assert steps[-1] == size
    assert list(steps) == sorted(set(steps))
    assert all(step > 0 and step % parts == 0 for step in steps)


def test_a_kernel_of_another_network_is_an_error(model):
    with pytest.raises(KeyError, match="no kernel of this network"):
        model.kernel_us(KernelKey("gelu", ((1, 2, 3),)))


def test_an_op_that_could_not_be_measured_counts_nothing(model):
    assert model.kernel_us(KernelKey("portable:aten.roll.default", ((4,),), (("call", ""),))) == 0


def test_a_kernel_whose_block_is_dropped_takes_nothing(model):
    one = replace(KERNELS[1], blocks=("block:x",))
    widths = {"a": 8, "b": 16}
    assert model.kernel_us(one.at({**widths, "block:x": 0})) == 0
    assert model.kernel_us(one.at({**widths, "block:x": 1})) > 0


def test_calibrated_fits_whole_programs(model):
    some = [{**SIZES, "a": a, "b": b} for a, b in ((8, 16), (32, 64), (64, 128), (16, 96))]
    taught, found = model.calibrated([(w, 1.1 * model.latency_ms(w) + 0.002) for w in some])
    for widths in some:
        assert taught.latency_ms(widths) == pytest.approx(1.1 * model.latency_ms(widths) + 0.002)
    assert found.margin == pytest.approx(0.0, abs=1e-6)
    assert taught.corrected(SIZES, 3.0).latency_ms(SIZES) == pytest.approx(3.0)
