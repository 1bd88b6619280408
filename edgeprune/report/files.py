"""report.json, report.md and report.html on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from edgeprune.errors import OutputError
from edgeprune.output import write_whole
from edgeprune.records import OnDevice, Report
from edgeprune.report.convert import device_json, to_json
from edgeprune.report.page import to_html, to_markdown
from edgeprune.report.schema import FAMILY, SCHEMA, VERSION, problems

_SHOWN_PROBLEMS = 10


def write_report(report: Report, directory: Path) -> dict[str, Any]:
    """Write report.md, report.html and report.json into `directory`; returns the JSON document.

    Each file appears whole or not at all; report.json comes last, so where it is, the others are.
    Raises OutputError where the directory cannot be written.
    """
    data = to_json(report)
    write_document(data, directory)
    return data


def add_device(directory: Path, found: OnDevice) -> dict[str, Any]:
    """Fold what was measured elsewhere into the report of a run; the new document.

    What the same device told before under the same target is replaced. Raises OutputError as
    `read_report` and `write_report` do.
    """
    data = read_report(directory)
    device = device_json(found)
    mine = (device["name"], device["device"])
    others = [d for d in data.get("devices", []) if (d["name"], d["device"]) != mine]
    data["devices"] = [*others, device]
    write_document(data, directory)
    return data


def write_document(data: dict[str, Any], directory: Path) -> None:
    """The three files of a report that is JSON already; see `write_report`."""
    texts = {
        "report.md": to_markdown(data),
        "report.html": to_html(data),
        "report.json": dump(data),
    }
    for name, text in texts.items():
        write_whole(directory / name, text)


def read_report(directory: Path) -> dict[str, Any]:
    """The report.json of a run's output directory, checked against the schema.

    Raises OutputError where there is none, where it is not a report, or where a newer edgeprune
    wrote it; every problem of a damaged file is listed, each with its path.
    """
    path = directory / "report.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(
            f"no report in {directory}: {path.name} is missing. It is written at the end of "
            f"`edgeprune fit -o {directory}`; run that (again: it continues where it stopped)."
        ) from None
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # not UTF-8, not JSON, or NaN
        raise OutputError(
            f"{path} is not valid JSON ({error}). Run `edgeprune fit` on the directory again to "
            "rewrite it."
        ) from error
    _check_version(path, data)
    found = problems(data)
    if found:
        more = len(found) - _SHOWN_PROBLEMS
        lines = [*found[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        raise OutputError(
            f"{path} says it is {SCHEMA} but does not hold what that promises:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nRun `edgeprune fit` on the directory again to rewrite it."
        )
    document: dict[str, Any] = data
    return document


def dump(data: dict[str, Any]) -> str:
    """`data` as indented JSON in which a list of numbers or names takes one line, not hundreds."""
    return _dump(data, "") + "\n"


def _dump(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{_scalar(key)}: {_dump(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(inner + _dump(item, inner) for item in value) + f"\n{indent}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_version(path: Path, data: Any) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    family, _, number = schema.partition("/") if isinstance(schema, str) else ("", "", "")
    if family != FAMILY or not (number.isascii() and number.isdigit()):
        raise OutputError(
            f"{path} is not a report of edgeprune: its `schema` is {schema!r}, expected {SCHEMA!r}."
        )
    if int(number) > VERSION:
        raise OutputError(
            f"{path} is {schema}, written by a newer edgeprune; this one reads up to {SCHEMA}. "
            "Upgrade with `pip install --upgrade edgeprune`."
        )
    if int(number) < 1:
        raise OutputError(f"{path}: there is no {schema}; this edgeprune reads {SCHEMA}.")
