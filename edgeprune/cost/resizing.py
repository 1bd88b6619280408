"""A network's program at other widths, without lowering it again.

Programs of one network at different widths differ in sizes only. Where two or more of them were
lowered (the whole network, a first plan), each number that differs between them is explained by the
network's own dimensions as functions of widths (`ChannelGroups.extents`), and a program at any
widths is the first one with its numbers replaced. Weights are dummies: they do not change the time.

What cannot be explained, or could be explained in two ways that differ, is refused: `CannotResize`.
The length of the file that lowering would make, and the memory it would plan, follow from the same
sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np

from edgeprune.cost.program_sizes import file_bytes
from edgeprune.cost.pte_parts import (
    NotUnderstood,
    Parts,
    Tree,
    graph_bytes,
    put_together,
    take_apart,
)
from edgeprune.records import Extent, Widths

Path = tuple[str | int, ...]
Numbers = tuple[int, ...]
# What follows from other numbers, or from the contents of weights.
_NOT_SIZES = frozenset(
    (
        *("segments", "named_data", "constant_data", "backend_delegate_data", "debug_handle"),
        *("memory_offset_low", "memory_offset_high", "non_const_buffer_sizes", "delegates"),
        *("version", "data_buffer_idx", "constant_segment"),
        # How many zeros go in front depends on which channels stay, not only on how many.
        *("pre_paddings", "post_paddings"),
    )
)
_FLOAT_BYTES = 4
_SLACK = 256


class CannotResize(ValueError):
    """Programs that differ in more than sizes, or sizes that nothing explains."""


class Ambiguous(CannotResize):
    """Sizes with more than one explanation; another program to learn from may tell them apart."""


@dataclass(frozen=True)
class Term:
    """A way to explain a number: a multiple of one dimension, or two dimensions together."""

    times: Fraction
    extent: Extent
    other: Extent | None = None
    sign: int = 1

    def at(self, widths: Widths) -> int | None:
        """The number at `widths`; None where it is no whole number."""
        value = self.times * self.extent.at(widths)
        if self.other is not None:
            value += self.sign * self.other.at(widths)
        return int(value) if value.denominator == 1 else None


@dataclass(frozen=True)
class Template:
    """A program whose sizes are known as functions of widths.

    `places` are where its numbers stand, by what they are in the programs that it was learnt from;
    `terms` the explanations of each. `fixed` are the groups that had one width in all of them, so
    that nothing is known of another. `more_bytes` is by how much the first of those programs is
    longer than `file_bytes` makes it.
    """

    parts: Parts
    places: Mapping[Numbers, tuple[Path, ...]]
    terms: Mapping[Numbers, tuple[Term, ...]]
    fixed: Mapping[str, int] = field(default_factory=dict)
    more_bytes: int = 0

    def file_bytes(self, resized: Parts) -> int:
        """What lowering would make of a resized program: the .pte's length, bytes."""
        return file_bytes(resized) + self.more_bytes

    def numbers(self, widths: Widths) -> dict[Numbers, int]:
        """What each number is at `widths`. Raises Ambiguous where explanations differ, or where
        none could be learnt."""
        never = [name for name, width in self.fixed.items() if widths.get(name, width) != width]
        if never:
            raise Ambiguous(f"never cut in a program that sizes were learnt from: {never[0]}")
        found: dict[Numbers, int] = {}
        for numbers, terms in self.terms.items():
            values = {value for term in terms if (value := term.at(widths)) is not None}
            if len(values) != 1:
                raise Ambiguous(
                    f"a size that was {numbers} could now be any of {sorted(values)}: "
                    f"{self.places[numbers][0]}"
                )
            found[numbers] = values.pop()
        return found

    def resized(self, widths: Widths) -> Parts:
        """The program's parts at `widths`. Weights that were stored once because they were equal
        still are where their sizes are equal."""
        numbers = self.numbers(widths)
        new = {path: numbers[n] for n, paths in self.places.items() for path in paths}
        parts = self.parts
        program = _replaced(parts.program, ("program",), new)
        graphs = [_replaced(g, ("graphs", i), new) for i, g in enumerate(parts.graphs)]
        for graph in graphs:
            _pad(graph)
        named: dict[str, int] = {}
        for graph in graphs:
            sizes = _constant_bytes(graph)
            listed = []
            for i, item in enumerate(graph.get("constant_data", [])):
                if i in sizes:
                    name = _name(item["named_key"], sizes[i])
                    named[name] = sizes[i]
                    item = {**item, "size": sizes[i], "named_key": name}
                listed.append(item)
            graph["constant_data"] = listed
        return Parts(program, tuple(graphs), parts.constants, named)


def learn(programs: Sequence[tuple[Widths, bytes]], extents: Iterable[Extent]) -> Template:
    """What the numbers of a network's program are, from `programs` at two widths or more.

    The first is the one that others are made of, and no group of it may be narrower than in
    those that are asked for: its memory plan is kept. Raises CannotResize (see there).
    """
    try:
        parts = [take_apart(data) for _, data in programs]
    except NotUnderstood as error:
        raise CannotResize(str(error)) from error
    trees = [{"program": p.program, "graphs": p.graphs} for p in parts]
    places: dict[Numbers, list[Path]] = {}
    for path, numbers in _differences(trees, ()):
        places.setdefault(numbers, []).append(path)
    known = _Known(extents, [widths for widths, _ in programs])
    terms = {numbers: known.explain(numbers) for numbers in places}
    for numbers, found in terms.items():
        if not found:
            raise CannotResize(f"nothing explains a size that was {numbers}: {places[numbers][0]}")
    more = len(programs[0][1]) - file_bytes(parts[0])
    first, *others = (widths for widths, _ in programs)
    fixed = {g: n for g, n in first.items() if all(widths[g] == n for widths in others)}
    return Template(parts[0], {n: tuple(p) for n, p in places.items()}, terms, fixed, more)


def program_bytes(parts: Parts) -> bytes:
    """A .pte of resized parts that runs: all weights are read from one block of random numbers."""
    longest = max([*parts.named_bytes.values(), 0]) + _SLACK
    segments = [_random(longest)[:longest], *(graph_bytes(graph) for graph in parts.graphs)]
    program = dict(parts.program)
    program["named_data"] = [{"key": key, "segment_index": 0} for key in parts.named_bytes]
    (plan,) = program["execution_plan"]
    delegates = [
        {**delegate, "processed": {"location": 1, "index": 1 + i}}
        for i, delegate in enumerate(plan.get("delegates", []))
    ]
    program["execution_plan"] = [{**plan, "delegates": delegates}]
    if parts.constants:
        held = program["constant_segment"]
        program["constant_segment"] = {**held, "segment_index": len(segments)}
        segments.append(parts.constants)
    return put_together(program, segments)


def differences(first: Parts, second: Parts) -> list[tuple[Path, Numbers]]:
    """Where two programs of one network have different sizes, and which.

    Raises CannotResize where they differ in more than sizes.
    """
    trees = [{"program": p.program, "graphs": p.graphs} for p in (first, second)]
    return list(_differences(trees, ()))


def _name(key: str, size: int) -> str:
    """A name for weights of another size, as long as the old one, which is a hash of them."""
    return sha256(f"{key} {size}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _random(most: int) -> bytes:
    some = np.random.default_rng(0).uniform(-1, 1, 1 << 18).astype(np.float32)
    return bytes(np.resize(some, most // _FLOAT_BYTES + 1).tobytes())


def _pad(graph: Tree) -> None:
    """Gives every padding in an XNNPACK graph what its tensors differ by, in the old proportion."""
    dims = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"][1]
        dims[tensor.get("id_out", 0)] = tensor.get("dims", ())
    for node in graph["xnodes"]:
        kind, fields = node["xnode_union"]
        if kind != "XNNStaticConstantPad":
            continue
        inner, outer = (dims[fields.get(name, 0)] for name in ("input_id", "output_id"))
        before, after = fields["pre_paddings"], fields["post_paddings"]
        added = [o - i for i, o in zip(inner, outer, strict=True)]
        front = [
            n * b // (b + a) if b + a else 0 for n, b, a in zip(added, before, after, strict=True)
        ]
        fields["pre_paddings"] = front
        fields["post_paddings"] = [n - f for n, f in zip(added, front, strict=True)]


def _constant_bytes(graph: Tree) -> dict[int, int]:
    """Bytes of each entry of an XNNPACK graph's constants that a tensor reads, fp32."""
    found: dict[int, int] = {}
    for value in graph["xvalues"]:
        kind, tensor = value["xvalue_union"]
        if kind != "XNNTensorValue" or tensor.get("datatype", 1) != 1:
            raise CannotResize("a delegate with other than fp32 tensors")
        index = tensor.get("constant_buffer_idx", 0)
        if index:
            found[index] = prod(tensor.get("dims", ())) * _FLOAT_BYTES
    return found


def _differences(values: Sequence[Any], path: Path) -> Iterator[tuple[Path, Numbers]]:
    """Where whole numbers differ between trees of one shape, and what they are in each."""
    first = values[0]
    if any(type(value) is not type(first) for value in values):
        raise CannotResize(f"programs differ in more than sizes: {path}")
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in values for key in value)
        for key in keys:
            if key in _NOT_SIZES:
                continue
            # An absent number is its default, which for sizes is zero.
            inner = [value.get(key, 0) for value in values]
            yield from _differences(inner, (*path, key))
    elif isinstance(first, list | tuple):
        if any(len(value) != len(first) for value in values):
            raise CannotResize(f"programs differ in more than sizes: {path}")
        for i, items in enumerate(zip(*values, strict=True)):
            yield from _differences(items, (*path, i))
    elif any(value != first for value in values):
        if not isinstance(first, int) or isinstance(first, bool):
            raise CannotResize(f"programs differ in more than sizes: {path}")
        yield path, tuple(values)


def _replaced(value: Any, path: Path, new: Mapping[Path, int]) -> Any:
    if isinstance(value, dict):
        changed = {key: _replaced(item, (*path, key), new) for key, item in value.items()}
        return changed
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, (*path, i), new) for i, item in enumerate(value))
    return new.get(path, value)


class _Known:
    """The dimensions of a network, evaluated at the widths of the programs that are compared."""

    def __init__(self, extents: Iterable[Extent], widths: Sequence[Widths]) -> None:
        self._extents = list(dict.fromkeys(e for e in extents if e.groups))
        values = [[e.at(w) for w in widths] for e in self._extents]
        self._values = np.array(values, dtype=np.int64).reshape(len(values), len(widths))

    def explain(self, numbers: Numbers) -> tuple[Term, ...]:
        """All explanations of the plainest kind that has one: a dimension, a multiple, a sum."""
        return self._equal(numbers) or self._multiple(numbers) or self._together(numbers)

    def _equal(self, numbers: Numbers) -> tuple[Term, ...]:
        found = np.flatnonzero((self._values == np.array(numbers)).all(axis=1))
        return tuple(Term(Fraction(1), self._extents[i]) for i in found)

    def _multiple(self, numbers: Numbers) -> tuple[Term, ...]:
        wanted = np.array(numbers, dtype=np.int64)
        same = self._values * wanted[0] == self._values[:, :1] * wanted
        found = np.flatnonzero(same.all(axis=1) & (self._values[:, 0] != 0))
        return tuple(
            Term(Fraction(numbers[0], int(self._values[i, 0])), self._extents[i]) for i in found
        )

    def _together(self, numbers: Numbers) -> tuple[Term, ...]:
        terms = []
        wanted = np.array(numbers, dtype=np.int64)
        for i, values in enumerate(self._values):
            for sign in (1, -1):
                rest = sign * (wanted - values)
                terms += [
                    Term(Fraction(1), self._extents[i], self._extents[j], sign)
                    for j in np.flatnonzero((self._values == rest).all(axis=1))
                ]
        return tuple(terms)
