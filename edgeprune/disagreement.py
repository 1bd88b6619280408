"""Where a module with smaller layers parts from the graph that it should equal: the user's line."""

from __future__ import annotations

import itertools
import linecache
import operator
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from edgeprune.reasons import is_ours
from edgeprune.records import Graph

Line = tuple[str, int]
Given = tuple[Tensor, ...]
Close = Callable[[Tensor, Tensor], bool]


@dataclass
class _Visits:
    """What each line of the user's code gave at last, each time that it was reached: tensors."""

    order: list[tuple[Line, int]] = field(default_factory=list)
    tensors: dict[Line, list[Given]] = field(default_factory=lambda: defaultdict(list))

    def add(self, line: Line | None, result: Any) -> None:
        given = tuple(t.detach() for t in pytree.tree_leaves(result) if isinstance(t, Tensor))
        if line is None or not given:
            return
        if self.order and self.order[-1][0] == line:
            self.tensors[line][-1] = given
        else:
            self.order.append((line, len(self.tensors[line])))
            self.tensors[line].append(given)


@dataclass(frozen=True)
class Disagreement:
    """What happens at which line of the user's code, after how many lines that were right."""

    line: str
    why: str
    after: int


def first_disagreement(
    module: nn.Module, inputs: tuple[Tensor, ...], cut: Graph, close: Close
) -> Disagreement:
    """Where `module` first gives another shape than the cut graph, or raises, or gives other
    values."""
    wanted, code = _run_graph(cut, inputs)
    found, error = _run_module(module, inputs)
    raised = _raised_at(error)
    pairs = [
        (i, line, found.tensors[line][visit], wanted.tensors[line][visit])
        for i, (line, visit) in enumerate(wanted.order)
        if visit < len(found.tensors[line])
        and not ((line, visit) == found.order[-1] and line == raised)  # what it broke off in
    ]
    for i, line, got, needed in pairs:
        if [t.shape for t in got] != [t.shape for t in needed]:
            why = f"gives {_sizes(got)}, and should give {_sizes(needed)}"
            return Disagreement(_show(line, code), why, i)
    if error is not None:
        said = next((text for text in str(error).splitlines() if text.strip()), "")
        where = _show(raised, code) if raised is not None else type(module).__name__
        return Disagreement(where, f"raises {type(error).__name__}: {said}", len(pairs))
    for i, line, got, needed in pairs:
        if not all(map(close, got, needed)):
            why = "gives other values: it holds a number that must follow"
            return Disagreement(_show(line, code), why, i)
    return Disagreement(type(module).__name__, "gives another output", len(pairs))


def _raised_at(error: Exception | None) -> Line | None:
    """The innermost line of the user's code that an error came through."""
    if error is None:
        return None
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else None


def _run_graph(cut: Graph, inputs: tuple[Tensor, ...]) -> tuple[_Visits, dict[Line, str]]:
    visits, code = _Visits(), {}

    class Watched(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and n.target is not operator.getitem:
                line, text = _line_of(n)
                visits.add(line, result)
                if line is not None:
                    code[line] = text
            return result

    with torch.no_grad():
        Watched(cut.program).run(*inputs)
    return visits, code


def _run_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[_Visits, Exception | None]:
    visits = _Visits()

    class Watched(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            visits.add(_line_above(sys._getframe(1)), result)
            return result

    try:
        with torch.no_grad(), Watched():
            module(*inputs)
    except Exception as error:  # whatever the user's code raises on sizes it was not made for
        return visits, error
    return visits, None


def _line_above(frame: FrameType | None) -> Line | None:
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def _line_of(node: fx.Node) -> tuple[Line | None, str]:
    """The innermost line of the user's code in a node's stack trace, with its text."""
    lines = (node.meta.get("stack_trace") or "").splitlines()
    for place, text in reversed([*itertools.pairwise(lines)]):
        place = place.strip()
        if not place.startswith('File "'):
            continue
        file, _, rest = place.removeprefix('File "').partition('", line ')
        if _is_users(file):
            number, _, function = rest.partition(", in ")
            return (file, int(number)), f"in {function}: {text.strip()}"
    return None, ""


def _is_users(file: str) -> bool:
    return not is_ours(file) and not file.startswith("<")


def _show(line: Line, code: dict[Line, str]) -> str:
    text = code.get(line) or linecache.getline(*line).strip()
    return f"{Path(line[0]).name}:{line[1]}" + (f" {text}" if text else "")


def _sizes(given: Given) -> str:
    return " and ".join("x".join(map(str, t.shape)) or "a number" for t in given)
