"""Programs made by rewriting sizes, beside the same networks truly lowered."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeprune.channels import channel_groups
from edgeprune.cost.kernels import kernels
from edgeprune.cost.model import kernel_bytes
from edgeprune.cost.pte_parts import graph_bytes, put_together, take_apart
from edgeprune.cost.resizing import CannotResize, differences, learn, program_bytes
from edgeprune.graph import capture
from edgeprune.lowering import lower
from edgeprune.measuring import execute
from edgeprune.planning import plan
from edgeprune.surgery import prune
from edgeprune.targets import load_target


class Net(nn.Module):
    """Two delegate calls with a split between them, a padded shortcut, a layer norm at the end."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.left = nn.Conv2d(6, 10, 3, padding=1)
        self.down = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        first, second = F.relu(self.stem(x)).chunk(2, 1)
        x = torch.cat([self.left(first), second], 1)
        x = self.down(x) + F.pad(F.max_pool2d(x, 2), (0, 0, 0, 0, 4, 4))
        return self.head(self.norm(x.flatten(2).mean(2)))


FULL, TELLING, OTHER = 1.0, 0.5, 0.75


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The network's dimensions, and (widths, path) of three truly lowered programs."""
    folder = tmp_path_factory.mktemp("programs")
    torch.manual_seed(0)
    graph = capture(Net().eval(), (torch.randn(1, 3, 8, 8),))
    groups = channel_groups(graph)
    lowered = {}
    for share in (FULL, TELLING, OTHER):
        chosen = plan(graph, groups, keep=share)
        path = folder / f"{share}.pte"
        lower(prune(graph, chosen), load_target("host"), path)
        lowered[share] = (chosen.widths(), path)
    return [extent for dims in groups.extents.values() for extent in dims], lowered, graph, groups


@pytest.fixture(scope="module")
def template(made):
    extents, lowered, *_ = made
    known = [lowered[share] for share in (FULL, TELLING)]
    return learn([(widths, path.read_bytes()) for widths, path in known], extents)


@pytest.mark.parametrize("share", [FULL, TELLING, OTHER])
def test_a_rewritten_program_has_the_sizes_of_a_lowered_one(made, template, share):
    widths, path = made[1][share]
    assert differences(template.resized(widths), take_apart(path.read_bytes())) == []


def test_a_rewritten_program_runs(made, template, tmp_path):
    path = tmp_path / "resized.pte"
    path.write_bytes(program_bytes(template.resized(made[1][OTHER][0])))
    (output,) = execute(path, [torch.randn(2, 3, 8, 8).numpy()])
    assert output.shape == (2, 5)


def test_what_was_taken_apart_can_be_put_together(made, tmp_path):
    parts = take_apart(made[1][FULL][1].read_bytes())
    segments = [graph_bytes(graph) for graph in parts.graphs]
    again = take_apart(
        put_together(parts.program | {"named_data": []}, [parts.constants, *segments])
    )
    assert again.program["execution_plan"] == parts.program["execution_plan"]


def test_programs_of_two_networks_are_refused(made, tmp_path):
    extents, lowered, *_ = made
    graph = capture(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), (torch.randn(1, 3, 8, 8),))
    other = lower(graph, load_target("host"), tmp_path / "other.pte").path.read_bytes()
    widths, path = lowered[FULL]
    with pytest.raises(CannotResize, match="more than sizes"):
        learn([(widths, path.read_bytes()), (widths, other)], extents)


def test_sizes_that_nothing_explains_are_refused(made):
    known = [made[1][share] for share in (FULL, TELLING)]
    with pytest.raises(CannotResize, match="nothing explains"):
        learn([(widths, path.read_bytes()) for widths, path in known], [])


@pytest.mark.parametrize("share", [TELLING, OTHER])
def test_files_differ_by_what_the_kernels_weigh(made, share):
    _, lowered, graph, groups = made
    found = kernels(graph, groups.extents)

    def size(widths):
        return sum(kernel_bytes(kernel.at(widths)) for kernel in found)

    (full, whole), (widths, path) = lowered[FULL], lowered[share]
    truly = whole.stat().st_size - path.stat().st_size
    # what lies outside the delegate, a layer norm's weights here, is not aligned
    assert abs(size(full) - size(widths) - truly) <= 512
