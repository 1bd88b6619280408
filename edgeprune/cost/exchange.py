"""A cost table as one JSON file, so that what was measured on one device can be used for another.

    {"edgeprune_costs": 1, "batches": [
        {"conditions": {...}, "kernels": [["conv", shapes, attributes, [microseconds, ...]], ...]}]}

`conditions` are the fields of `records.Conditions`, the kernel those of `records.KernelKey`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgeprune.cost.keys import key_from_json, key_to_json
from edgeprune.cost.table import Batch, CostTable
from edgeprune.errors import DataError, OutputError
from edgeprune.output import write_whole
from edgeprune.records import Conditions, KernelKey

VERSION = 1
_MARK = "edgeprune_costs"
_MOST_TOLD = 5
_CONDITIONS = TypeAdapter(Conditions)
_SAMPLES = TypeAdapter(list[float])


def write_table(table: CostTable, path: Path) -> int:
    """Writes all of `table` to `path`; how many kernels that is. OutputError if it cannot."""
    batches = table.everything()
    document = {
        _MARK: VERSION,
        "batches": [
            {
                "conditions": asdict(batch.conditions),
                "kernels": [[*json.loads(key_to_json(key)), us] for key, us in batch.kernels],
            }
            for batch in batches
        ],
    }
    write_whole(path, json.dumps(document))
    return sum(len(batch.kernels) for batch in batches)


def read_table(path: Path, table: CostTable) -> int:
    """Adds what `path` holds to `table`; how many kernels it holds. What is there twice is kept
    once. Raises DataError with what is wrong in the file, before anything is added.
    """
    batches = _batches(path)
    for batch in batches:
        table.add(batch.kernels, batch.conditions)
    return sum(len(batch.kernels) for batch in batches)


def _batches(path: Path) -> list[Batch]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or _MARK not in document:
        raise DataError(f"{path} is no cost table; `edgeprune table export` writes one")
    if document[_MARK] != VERSION:
        raise DataError(
            f"{path} is a cost table of version {document[_MARK]} and this edgeprune reads version "
            f"{VERSION}: export it again with this edgeprune, or use the one that wrote it"
        )
    problems: list[str] = []
    listed = document.get("batches")
    found = [
        _batch(item, f"batches[{i}]", problems)
        for i, item in enumerate(listed if isinstance(listed, list) else [])
    ]
    if problems:
        more = len(problems) - _MOST_TOLD
        rest = f"; and {more} more" if more > 0 else ""
        raise DataError(f"{path} cannot be used: {'; '.join(problems[:_MOST_TOLD])}{rest}")
    return [batch for batch in found if batch is not None]


def _batch(item: Any, where: str, problems: list[str]) -> Batch | None:
    if not isinstance(item, dict):
        problems.append(f"{where} is no object")
        return None
    conditions = None
    try:
        conditions = _CONDITIONS.validate_python(item.get("conditions"))
    except ValidationError as error:
        problems.extend(
            f"{where}.conditions: {'.'.join(map(str, problem['loc']))} {problem['msg']}".lower()
            for problem in error.errors()[:1]
        )
    kernels = tuple(_kernels(item.get("kernels"), where, problems))
    return Batch(conditions, kernels) if conditions is not None else None


def _kernels(
    listed: Any, where: str, problems: list[str]
) -> Iterator[tuple[KernelKey, tuple[float, ...]]]:
    for i, row in enumerate(listed if isinstance(listed, list) else []):
        found = _kernel(row)
        if isinstance(found, str):
            problems.append(f"{where}.kernels[{i}]: {found}")
        else:
            yield found


def _kernel(row: Any) -> tuple[KernelKey, tuple[float, ...]] | str:
    """A kernel with its samples, or what is wrong with it."""
    try:
        op, shapes, attrs, samples = row
        us = tuple(_SAMPLES.validate_python(samples))
        key = key_from_json(json.dumps([op, shapes, attrs]))
    except (TypeError, ValueError) as error:
        return str(error).splitlines()[0]
    return (key, us) if us and min(us) > 0 else "no samples, or some that are not above zero"
