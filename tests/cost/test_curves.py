"""Between measured points, and which points are measured."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cost.curves import Curve, canonical, homes, place
from edgeprune.cost.grid import Tiles, grids
from edgeprune.cost.model import MeasuredCost, assemble
from edgeprune.cost.tiles import probes, tile_of
from edgeprune.records import Extent, Kernel, KernelKey

TILES = Tiles(16, 8)


def key(op, *shapes, **attrs):
    return KernelKey(op, shapes, tuple(sorted(attrs.items())))


def conv_kernel(c_in, c_out, groups=1):
    attrs = {
        "activation": "relu",
        "dilation": (1, 1),
        "groups": groups,
        "kernel": (3, 3),
        "out_channels": Extent(0, (("out", 1),)),
        "padding": (1, 1, 1, 1),
        "stride": (1, 1),
    }
    shape = (Extent(1), c_in, Extent(8), Extent(8))
    return Kernel("conv", ("conv2d",), (shape,), tuple(sorted(attrs.items())))


@given(
    axes=st.tuples(*(st.sets(st.integers(1, 200), min_size=1, max_size=5) for _ in range(2))),
    data=st.data(),
)
def test_measured_points_are_hit_exactly(axes, data):
    axes = tuple(tuple(sorted(axis)) for axis in axes)
    points = [(x, y) for x in axes[0] for y in axes[1]]
    values = {p: data.draw(st.floats(0.1, 1e4)) for p in points}
    curve = Curve(axes, values, (1, 16))
    assert all(curve.at(p) == values[p] for p in points)


@given(st.integers(1, 128), st.integers(1, 128))
def test_between_points_a_plane_is_a_plane(x, y):
    axes = (8, 64, 128), (16, 32, 128)
    values = {(a, b): 3.0 + 2 * a + 5 * b for a in axes[0] for b in axes[1]}
    assert Curve(axes, values, (1, 1)).at((x, y)) == pytest.approx(3 + 2 * x + 5 * y)


@given(st.integers(1, 96))
def test_a_started_tile_costs_the_whole_tile(x):
    axis = (16, 48, 96)
    curve = Curve((axis,), {(c,): 10.0 * c for c in axis}, (16,))
    assert curve.at((x,)) == pytest.approx(10 * ceil(x / 16) * 16)


def test_a_full_width_that_ends_inside_a_tile_is_not_passed():
    curve = Curve(((16, 24),), {(16,): 16.0, (24,): 20.0}, (16,))
    assert curve.at((17,)) == curve.at((24,)) == 20.0


def test_one_point_means_in_proportion():
    assert Curve(((100,),), {(100,): 5.0}, (1,)).at((50,)) == 2.5


@given(st.integers(1, 64), st.integers(1, 32), st.sampled_from(["add", "mul"]))
def test_elementwise_kernels_share_one_family(c, h, op):
    image = (1, c, h, h)
    kernel = canonical(key(op, image, image, layout="nhwc"))
    flat = canonical(key(op, (1, c * h * h), (1, c * h * h)))
    assert kernel == flat
    assert place(kernel)[1] == (2 * prod(image),)


def test_concatenations_keep_rows_and_row_lengths():
    image = canonical(key("cat", (1, 6, 4, 4), (1, 3, 4, 4), axis=1, layout="nhwc"))
    assert image.shapes == ((16, 6), (16, 3))
    tokens = canonical(key("cat", (1, 6, 4), (1, 2, 4), axis=1))
    assert tokens.shapes == ((1, 24), (1, 8))


def test_a_convolution_is_measured_on_a_grid_with_its_full_size():
    kernel = conv_kernel(Extent(0, (("in", 1),)), 0)
    (grid,) = grids([kernel], {"in": 64, "out": 128}, TILES)
    inputs, outputs = grid.axes
    assert inputs == (8, 16, 32, 48, 64)
    assert outputs == (16, 32, 48, 64, 80, 96, 112, 128)
    assert kernel.at({"in": 64, "out": 128}) in grid.keys.values()
    assert grid.tiles == (1, 16)


def test_pinned_channels_are_measured_at_one_size():
    (grid,) = grids([conv_kernel(Extent(3), 0)], {"out": 20}, TILES)
    assert grid.axes[0] == (3,)
    assert grid.axes[1][-1] == 20


@given(st.integers(2, 8), st.integers(1, 6), st.integers(1, 6))
def test_grids_of_grouped_convolutions_divide(groups, a, b):
    kernel = conv_kernel(Extent(0, (("in", 1),)), 0, groups)
    full = {"in": groups * a, "out": groups * b}
    (grid,) = grids([kernel], full, TILES)
    for measured in grid.keys.values():
        assert measured.shapes[0][1] % groups == 0
        assert dict(measured.attrs)["out_channels"] % groups == 0


def test_equal_kernels_are_measured_once():
    kernels = [conv_kernel(Extent(3), 0), conv_kernel(Extent(3), 0)]
    assert len(grids(kernels, {"out": 32}, TILES)) == 1


def test_an_op_outside_the_delegate_is_measured_at_a_few_widths():
    half = Extent(0, (("in", Fraction(1, 2)),))
    shapes = (Extent(1), Extent(0, (("in", 1),)), Extent(8)), (half, half)
    call = '[[{"tensor": 0}, {"sizes": 1}, 1], {}]'
    kernel = Kernel("portable:aten.split_with_sizes.default", ("s",), shapes, (("call", call),))
    (grid,) = grids([kernel], {"in": 10}, TILES)
    assert sorted(grid.keys) == [(16,), (48,), (80,)]
    assert all(sum(key.shapes[1]) == key.shapes[0][1] for key in grid.keys.values())


@pytest.mark.parametrize("tile", [1, 4, 8, 16, 32])
@given(noise=st.lists(st.floats(-0.02, 0.02), min_size=40, max_size=40))
def test_the_tile_is_found_in_a_noisy_staircase(tile, noise):
    sweep = probes()[0]
    channels = [dict(k.attrs)["out_channels"] for k in sweep]
    times = {
        k: (5 + 0.7 * ceil(c / tile) * tile) * (1 + n)
        for k, c, n in zip(sweep, channels, noise, strict=False)
    }
    found = tile_of(sweep, times)
    # With noise a tile of 4 may look like a line; what matters is never to see a coarser one.
    assert found == tile if tile >= 8 else found <= 4


@given(heads=st.integers(1, 12), each=st.integers(8, 32))
def test_heads_and_their_channels_are_told_apart(heads, each):
    """Products of tensors cost what their sizes say, whichever of the two was cut."""
    width, several = Extent(0, (("channels", Fraction(1, 12)),)), Extent(0, (("heads", 1),))
    q = (Extent(1), several, Extent(49), width)
    k = (Extent(1), several, width, Extent(49))
    full = {"heads": 12, "channels": 12 * 32}
    kernels = (
        Kernel("bmm", ("scores",), (q, k)),
        Kernel("bmm", ("values",), ((*k[:2], Extent(49), Extent(49)), q)),
    )

    def us(key):
        (b, m, inner), (_, _, n) = key.shapes
        return 2.0 + b * m * inner * n * 1e-4

    wanted = grids(kernels, full, Tiles(1, 1))
    times = {key: us(key) for grid in wanted for key in grid.keys.values()}
    cost = MeasuredCost(
        kernels,
        full,
        {"heads": 1, "channels": 12},
        assemble(wanted, times),
        Tiles(1, 1),
    )
    for kernel in kernels:
        key = kernel.at({"heads": heads, "channels": 12 * each})
        assert cost.kernel_us(key) == pytest.approx(us(canonical(key)), rel=1e-6)


def test_a_width_that_is_a_product_of_two_groups_is_a_coordinate():
    """A linear that reads all heads: fewer heads or narrower ones, both make it smaller."""
    inside = Extent(0, (), (("channels", "heads", Fraction(1, 4)),))
    attrs = (("out_channels", Extent(64)),)
    kernel = Kernel("linear", ("linear",), ((Extent(1), inside),), attrs)
    (grid,) = grids([kernel], {"channels": 64, "heads": 4}, TILES)
    assert len(grid.axes[0]) > 1


@given(st.integers(1, 96))
def test_depthwise_channels_that_leave_lines_half_full_are_told_by_their_own_points(channels):
    attrs = {
        "dilation": (1, 1),
        "groups": Extent(0, (("c", 1),)),
        "kernel": (3, 3),
        "out_channels": Extent(0, (("c", 1),)),
        "padding": (1, 1, 1, 1),
        "stride": (1, 1),
    }
    shape = (Extent(1), Extent(0, (("c", 1),)), Extent(8), Extent(8))
    kernel = Kernel("dwconv", ("conv",), (shape,), tuple(sorted(attrs.items())))

    def us(key):
        out = key.shapes[0][1]
        return ceil(out / 16) * 16 * (1.0 if out % 16 == 0 else 1.3)

    tiles = Tiles(16, 16)
    wanted = grids([kernel], {"c": 96}, tiles)
    times = {key: us(key) for grid in wanted for key in grid.keys.values()}
    cost = MeasuredCost((kernel,), {"c": 96}, {"c": 1}, assemble(wanted, times), tiles)
    key = kernel.at({"c": channels})
    assert cost.kernel_us(key) == pytest.approx(us(key))


@given(
    heads=st.integers(1, 4),
    each=st.integers(1, 8),
    perm=st.sampled_from([(0, 2, 1, 3), (0, 1, 3, 2)]),
)
def test_a_head_of_one_channel_is_moved_like_any_other(heads, each, perm):
    full = place(canonical(key("transpose", (1, 49, 4, 8), perm=perm)))
    small = place(canonical(key("transpose", (1, 49, heads, each), perm=perm)))
    assert small[0] == full[0]
    assert small[1] == (49 * heads * each,)


def test_a_linear_with_a_row_for_each_channel_is_priced_at_every_width() -> None:
    """A mean over positions, as a product with ones: its rows are the channels that are left."""
    rows = Extent(0, (("stem", 1),))
    kernel = Kernel("linear", ("mean",), ((rows, Extent(16)),), (("out_channels", 1),))
    (grid,) = grids([kernel], {"stem": 10}, Tiles(16, 16))
    curve = grid.curve({key: float(key.shapes[0][0]) for key in grid.keys.values()})
    assert curve is not None
    for width in range(1, 11):
        places = dict(homes(canonical(kernel.at({"stem": width}))))
        assert curve.at(places[grid.family]) == pytest.approx(width)
