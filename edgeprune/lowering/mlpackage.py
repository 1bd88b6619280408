"""The same Core ML package for the same network: its random names replaced by ones of its content.

A package's manifest calls its items by random UUIDs (and sorts them by these), and upstream calls
the whole of it "executorch_" and another one, by which a device knows a model that it has compiled
before. Only these differ between two packages of one network.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from uuid import UUID, uuid5

_UUID = rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_NAME = re.compile(rb"(?<=executorch_)" + _UUID)
_MANIFEST = re.compile(
    rb'\{\s+"fileFormatVersion".{1,4000}?"rootModelIdentifier": "' + _UUID + rb'"\s+\}', re.DOTALL
)
_UNNAMED = b"0" * 36


def settled(package: bytes) -> bytes:
    """`package` (flattened by upstream into one block of bytes) with names of its content.

    It keeps its length and all its offsets. One whose manifest is written in another way than
    coremltools 9 does stays as it is.
    """
    found = _MANIFEST.search(package)
    if found is None:
        return package
    manifest = json.loads(found.group())
    content = _NAME.sub(_UNNAMED, package[: found.start()] + package[found.end() :])
    told = json.dumps(sorted(_items(manifest).values(), key=_path), sort_keys=True)
    space = UUID(bytes=hashlib.sha256(content + told.encode()).digest()[:16])
    renamed = json.dumps(_renamed(manifest, space), indent=4, sort_keys=True).encode()
    if len(renamed) != len(found.group()):
        return package
    whole = package[: found.start()] + renamed + package[found.end() :]
    return _NAME.sub(str(uuid5(space, "package")).encode(), whole)


def _renamed(manifest: dict[str, Any], space: UUID) -> dict[str, Any]:
    items = _items(manifest)
    names = {old: str(uuid5(space, _path(item))) for old, item in items.items()}
    return {
        **manifest,
        "itemInfoEntries": {names[old]: item for old, item in items.items()},
        "rootModelIdentifier": names[manifest["rootModelIdentifier"]],
    }


def _items(manifest: dict[str, Any]) -> dict[str, dict[str, str]]:
    items: dict[str, dict[str, str]] = manifest["itemInfoEntries"]
    return items


def _path(item: dict[str, str]) -> str:
    return item["path"]
