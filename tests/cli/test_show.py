"""stdout carries the result and nothing else."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from edgeprune.cli import show


@dataclass(frozen=True)
class Inner:
    path: Path


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    table: MappingProxyType


def test_a_document_is_json_whatever_records_it_holds(capsys):
    show.document(Outer((Inner(Path("a/b.pte")),), MappingProxyType({"x": 1.5})))
    found = json.loads(capsys.readouterr().out)
    assert found == {"inner": [{"path": "a/b.pte"}], "table": {"x": 1.5}}


def test_a_document_is_never_something_only_python_reads():
    with pytest.raises(ValueError, match="Out of range"):
        show.document({"latency": float("nan")})


def test_what_others_print_does_not_reach_a_reserved_stdout(capfd):
    with show.reserved_stdout():
        sys.stdout.write("a model that prints\n")
        sys.stdout.flush()
        os.write(1, b"a library in C++ that prints\n")
        show.line("the result")
    os.write(1, b"afterwards\n")
    out, err = capfd.readouterr()
    assert out == "the result\nafterwards\n"
    assert "a model that prints" in err
    assert "a library in C++" in err


def test_tables_are_no_wider_than_80_columns_without_a_terminal(capsys, monkeypatch):
    from rich.table import Table

    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", "text")
    table.add_row("a", "long " * 40)
    show.rich(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80
