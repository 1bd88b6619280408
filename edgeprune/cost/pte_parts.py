"""A .pte taken apart and put together: the program's tables, its segments, its delegates' graphs.

Everything is nested dicts, as `flatbuffer.decode` gives them, so that sizes in it can be replaced.
Weights are found by name and only their sizes are kept. Formats: the wheel's own
`schema/program.fbs`, `extended_header.h` and `backends/xnnpack/serialization/schema.fbs`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeprune.cost.flatbuffer import Schema, decode, encode, read_schema
from edgeprune.errors import EnvironmentProblem

Tree = dict[str, Any]
ALIGNMENT = 16
_PROGRAM_HEADER = 32
_DELEGATE = "XnnpackBackend"
_GRAPH_HEADER = struct.Struct("<4x4sHIIIQ")


class NotUnderstood(ValueError):
    """A program that holds something that this file does not take apart."""


@dataclass(frozen=True)
class Parts:
    """One program: its tables, the XNNPACK graph of every delegate, and how long weights are.

    `constants` is what the program's own tensors (not those of delegates) are read from, and
    `named_bytes` how many bytes each name's data has; the order is the file's.
    """

    program: Tree
    graphs: tuple[Tree, ...]
    constants: bytes
    named_bytes: Mapping[str, int]
    alignment: int = ALIGNMENT


def take_apart(data: bytes) -> Parts:
    """The parts of a .pte. Raises NotUnderstood for other delegates than XNNPACK and the like."""
    # Without segments there is no extended header to say where they begin.
    base = struct.unpack_from("<Q", data, 24)[0] if data[8:12] == b"eh00" else len(data)
    program = decode(program_schema(), "Program", data)
    spans = [(base + s.get("offset", 0), s.get("size", 0)) for s in program.get("segments", [])]
    segments = [data[start : start + size] for start, size in spans]
    (plan,) = program["execution_plan"]
    graphs = []
    for delegate in plan.get("delegates", []):
        if delegate["id"] != _DELEGATE or delegate["processed"].get("location") != 1:
            raise NotUnderstood(f"a delegate {delegate['id']}, or one that is not in a segment")
        graphs.append(_graph(segments[delegate["processed"].get("index", 0)]))
    held = program.get("constant_segment", {}).get("segment_index")
    constants = segments[held or 0] if program.get("constant_segment", {}).get("offsets") else b""
    named = {
        item["key"]: spans[item.get("segment_index", 0)][1]
        for item in program.get("named_data", [])
    }
    return Parts(program, tuple(graphs), constants, named)


def _graph(blob: bytes) -> Tree:
    magic, _, start, size, _, extra = _GRAPH_HEADER.unpack_from(blob)
    if magic != b"XH00" or extra:
        raise NotUnderstood("a delegate that carries its weights itself")
    return decode(graph_schema(), "XNNGraph", blob[start : start + size])


def graph_bytes(graph: Tree) -> bytes:
    """An XNNPACK graph as the delegate reads it, behind its header."""
    header = 32
    payload = encode(graph_schema(), "XNNGraph", graph)
    end = aligned(header + len(payload), 16)
    # The runtime's struct: zeros, magic, header length, flatbuffer offset and size, offset and
    # size of the constants (weights are found by name, so none follow).
    head = _GRAPH_HEADER.pack(b"XH00", 30, header, len(payload), end, 0)
    return head.ljust(header, b"\0") + payload.ljust(end - header, b"\0")


def put_together(program: Tree, segments: list[bytes], alignment: int = ALIGNMENT) -> bytes:
    """Program tables, extended header and segments as one file; the tables name the segments."""
    head, starts = _head(program, [len(segment) for segment in segments], alignment)
    out, end = [head], 0
    for start, segment in zip(starts, segments, strict=True):
        out += [bytes(start - end), segment]
        end = start + len(segment)
    return b"".join(out)


def size_together(program: Tree, sizes: Sequence[int], alignment: int = ALIGNMENT) -> int:
    """How long `put_together` makes a file whose segments have these sizes, bytes."""
    head, starts = _head(program, sizes, alignment)
    return len(head) + (starts[-1] + sizes[-1] if sizes else 0)


def _head(program: Tree, sizes: Sequence[int], alignment: int) -> tuple[bytes, list[int]]:
    """All before the first segment, and where each begins, counted from the first one."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end = aligned(end + size, alignment)
    listed = [{"offset": start, "size": size} for start, size in zip(starts, sizes, strict=True)]
    tables = encode(program_schema(), "Program", {**program, "segments": listed})
    size = len(tables) + _PROGRAM_HEADER
    base = aligned(size, alignment)
    total = starts[-1] + sizes[-1] if sizes else 0
    header = struct.pack("<4sIQQQ", b"eh00", _PROGRAM_HEADER, size, base, total)
    root = int.from_bytes(tables[:4], "little") + _PROGRAM_HEADER
    out = [root.to_bytes(4, "little"), tables[4:8], header, tables[8:], bytes(base - size)]
    return b"".join(out), starts


@lru_cache(maxsize=1)
def program_schema() -> Schema:
    """The tables of a .pte."""
    return read_schema(runtime_package() / "schema" / "program.fbs")


@lru_cache(maxsize=1)
def graph_schema() -> Schema:
    """The tables of an XNNPACK delegate."""
    return read_schema(runtime_package() / "backends" / "xnnpack" / "serialization" / "schema.fbs")


def aligned(size: int, to: int) -> int:
    """`size` rounded up to a multiple of `to`."""
    return -(-size // to) * to


@lru_cache(maxsize=1)
def runtime_package() -> Path:
    """Where the installed ExecuTorch lies. Raises EnvironmentProblem where there is none."""
    found = find_spec("executorch")
    if found is None or not found.submodule_search_locations:
        raise EnvironmentProblem(
            "executorch is not installed, so nothing can be measured on this host:"
            " pip install 'executorch>=1.5.1,<1.6'"
        )
    return Path(next(iter(found.submodule_search_locations)))
