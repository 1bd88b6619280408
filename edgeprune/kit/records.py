"""What a kit says of itself: kit.json, which its scripts put into the result they write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgeprune.cost.wanted import Sweep
from edgeprune.errors import DataError
from edgeprune.records import Target

FORMAT = "edgeprune-kit/1"


@dataclass(frozen=True)
class Wanted:
    """What is asked for: programs (.pte files or directories of runs), and kernels to trace."""

    programs: tuple[Path, ...]
    target: Target
    kernels: tuple[Sweep, ...] = ()


@dataclass(frozen=True)
class KitProgram:
    """A program of a kit. `expected` are its outputs for the kit's inputs, as computed where the
    kit was made: raw bytes, gzip, base64; empty where it was not run there."""

    file: str
    sha256: str
    dtype: str
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class KitKernels:
    """A program of kernels: the keys in it (as `cost.keys` writes them); whether the delegate runs
    them, or ExecuTorch's own kernels."""

    file: str
    sha256: str
    delegated: bool
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Kit:
    """kit.json."""

    target: str
    platform: str
    backend: str
    dtype: str
    threads: int
    runtime: str
    edgeprune: str
    programs: tuple[KitProgram, ...] = ()
    kernels: tuple[KitKernels, ...] = ()
    format: str = FORMAT


_KIT = TypeAdapter(Kit)


def kit_text(kit: Kit) -> str:
    """kit.json's text; the same kit gives the same text."""
    return json.dumps(asdict(kit), indent=1) + "\n"


def kit_of(document: Mapping[str, Any]) -> Kit:
    """The kit that a result came from. Raises DataError where that is no kit.json."""
    if document.get("format") != FORMAT:
        raise DataError(
            f"the result comes from a kit of format {document.get('format')!r}, and this edgeprune "
            f"reads {FORMAT!r}: make the kit anew with this edgeprune"
        )
    try:
        return _KIT.validate_json(json.dumps(document))
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise DataError(f"the result's `kit` cannot be used: {told}") from error
