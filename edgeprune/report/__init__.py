"""The report of a run: `Report` → JSON (the record), Markdown and HTML (drawn from the JSON)."""

from __future__ import annotations

from edgeprune.report.convert import to_json
from edgeprune.report.files import add_device, read_report, write_report
from edgeprune.report.page import to_html, to_markdown
from edgeprune.report.schema import SCHEMA

__all__ = [
    "SCHEMA",
    "add_device",
    "read_report",
    "to_html",
    "to_json",
    "to_markdown",
    "write_report",
]
