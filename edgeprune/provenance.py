"""Upstream's record of what each node was made from, without a copy of all of it at every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shared_provenance() -> Iterator[None]:
    """Within it, nodes share the records (`meta["from_node"]`) of what they were made from.

    Upstream copies a record, with all that it holds, whenever a pass makes a node anew (torch 2.14,
    fx/traceback.py: `NodeSource.__init__`), and lowering is dozens of passes: a quarter of the time
    that swin_t took. Records are not changed once they are made, so sharing them is the same.
    """
    from torch.fx.traceback import NodeSource

    if "__deepcopy__" in vars(NodeSource):  # within another one, or upstream's own by now
        yield
        return
    NodeSource.__deepcopy__ = lambda record, _: record  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del NodeSource.__deepcopy__  # type: ignore[attr-defined]
