"""Kernel keys as JSON: what names a row of the cost table and what a worker is asked for."""

from __future__ import annotations

import json
from typing import Any

from edgeprune.records import KernelKey


def key_to_json(key: KernelKey) -> str:
    """One line of JSON; equal keys give equal lines."""
    attrs = [[name, value] for name, value in key.attrs]
    return json.dumps([key.op, key.shapes, attrs], separators=(",", ":"))


def key_from_json(text: str) -> KernelKey:
    """The key that `key_to_json` wrote."""
    op, shapes, attrs = json.loads(text)
    return KernelKey(
        op, tuple(tuple(s) for s in shapes), tuple((name, _frozen(value)) for name, value in attrs)
    )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
