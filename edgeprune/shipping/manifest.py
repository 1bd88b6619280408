"""The manifest beside a program, `model.pte.json`: written, read, and checked on reading."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edgeprune.errors import OutputError
from edgeprune.output import write_whole
from edgeprune.records import Manifest
from edgeprune.records.shipping import MANIFEST_FORMAT

SUFFIX = ".json"
_MOST_TOLD = 8
_MANIFEST = TypeAdapter(Manifest)


def manifest_path(program: Path) -> Path:
    """Where the manifest of a program lies: model.pte.json beside model.pte."""
    return program.with_name(program.name + SUFFIX)


def write_manifest(manifest: Manifest, program: Path) -> Path:
    """Writes `manifest` beside `program`; where to. The same manifest gives the same bytes."""
    path = manifest_path(program)
    write_whole(path, manifest_text(manifest))
    return path


def manifest_text(manifest: Manifest) -> str:
    """The manifest as indented JSON."""
    return json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n"


def read_manifest(program: Path) -> Manifest | None:
    """The manifest beside `program`, None where there is none.

    Raises OutputError where it is no manifest (with all that is wrong in it), was written by a
    newer edgeprune, or is of another program than the one it lies beside.
    """
    path = manifest_path(program)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read as JSON: {error}; lower again") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != MANIFEST_FORMAT:
        raise OutputError(
            f"{path} is no manifest that this edgeprune reads: its format is {found!r}, not "
            f"{MANIFEST_FORMAT!r}; lower the program again, or remove the file"
        )
    try:
        manifest = _MANIFEST.validate_json(json.dumps(document))
    except ValidationError as error:
        told = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        raise OutputError(
            f"{path} cannot be used: {'; '.join(told[:_MOST_TOLD])}{more}; lower the program again"
        ) from error
    if manifest.sha256 != hashlib.sha256(program.read_bytes()).hexdigest():
        raise OutputError(
            f"{path} is the manifest of another program than {program.name}: lower it again, or "
            "remove the manifest"
        )
    return manifest
