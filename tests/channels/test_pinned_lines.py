"""Channels that cannot go are listed with the op and the line of the code that holds them."""

from __future__ import annotations

import pytest
import torch
from exactness import captured
from torch import Tensor, nn

from edgeprune.records import Pinned

Line = type[nn.Module]


class Net(nn.Module):
    """A stem, a line of code, a head."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.then = nn.Conv2d(12, 12, 1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.line(torch.relu(self.stem(x)))
        return self.head(torch.relu(self.then(x)))


class Rolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.roll(3, dims=1)


class Picked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x.select(1, 5).unsqueeze(1)


class Ranked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x, dim=1).values


class LookedUp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, torch.arange(11, -1, -1)]


class Transformed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).abs()


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.prod(dim=1, keepdim=True)


class Windows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unfold(1, 4, 1).mean(-1).repeat(1, 2, 1, 1)[:, :12]


LINES: dict[Line, tuple[str, str]] = {
    Rolled: ("aten.roll", "channels are rolled by a fixed distance"),
    Picked: ("aten.select.int", "a single channel is selected"),
    Ranked: ("aten.sort", "is sorted"),
    LookedUp: ("aten.index.Tensor", "positions are looked up by number"),
    Transformed: ("aten.fft_fft2", "aten.fft_fft2 has no rule"),
    Product: ("aten.prod.dim_int", "needs every channel, by its number or its value"),
    Windows: ("aten.unfold", "channels are taken in sliding windows"),
}


def pins(line: Line) -> dict[str, Pinned]:
    return {pin.name: pin for pin in captured(Net(line), torch.randn(1, 3, 8, 8)).groups.pinned}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.__name__)
def test_the_op_and_the_line(line: Line) -> None:
    op, reason = LINES[line]
    pin = pins(line)["stem"]
    assert (pin.op, pin.reason) == (op, reason)
    number = line.forward.__code__.co_firstlineno + 1
    assert pin.source.startswith(f"test_pinned_lines.py:{number} in forward: return ")
    assert pin.size == (1 if line is Picked else 12)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.__name__)
def test_what_comes_after_is_free(line: Line) -> None:
    checked = captured(Net(line), torch.randn(1, 3, 8, 8))
    assert checked.groups["then"].size == 12
    assert set(pins(line)) == {"stem", "head"}


def test_outputs_are_pinned_as_such() -> None:
    pin = pins(Rolled)["head"]
    assert (pin.op, pin.reason, pin.size) == ("output", "reaches the model's output", 2)


def test_channels_that_could_only_go_all_together_are_listed() -> None:
    class Tied(nn.Module):
        """Parts may only go whole, and what reads them ties the same positions of every part."""

        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Conv2d(12, 12, 1, groups=3)

        def forward(self, x: Tensor) -> Tensor:
            parts = x.reshape(-1, 3, 4, 8, 8)
            size = parts.std((2, 3, 4), keepdim=True).expand(-1, 3, 4, 8, 8)
            return self.own(x / size.reshape(x.shape))

    pin = pins(Tied)["stem"]
    assert (pin.op, pin.reason) == ("aten.reshape", "they could only go all together")
    assert pin.source.endswith("parts = x.reshape(-1, 3, 4, 8, 8)")


def test_what_is_added_to_the_input_stays_with_it() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.two(torch.relu(self.one(x))))

    checked = captured(Shortcut(), torch.randn(1, 3, 8, 8))
    assert checked.names == {"one"}
    pin = next(pin for pin in checked.groups.pinned if pin.name == "two")
    assert pin.op == "aten.add.Tensor"
    assert "return self.head(x + self.two(torch.relu(self.one(x))))" in pin.source
