"""The table on disk: provenance, two processes, and files that are not what they should be."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cost.conditions import host_conditions
from edgeprune.cost.exchange import read_table, write_table
from edgeprune.cost.keys import key_from_json, key_to_json
from edgeprune.cost.table import CostTable
from edgeprune.errors import DataError, OutputError
from edgeprune.records import KernelKey

KEY = KernelKey("conv", ((1, 3, 8, 8),), (("kernel", (3, 3)), ("out_channels", 16)))
OTHER = KernelKey("add", ((64,), (64,)))


@pytest.fixture
def here():
    return host_conditions("xnnpack", "fp32", 1)


names = st.text(min_size=1, max_size=6)
values = st.one_of(st.integers(0, 99), names, st.tuples(st.integers(), st.integers()))


@given(names, st.lists(st.lists(st.integers(1, 999)), max_size=3), st.dictionaries(names, values))
def test_keys_survive_json(op, shapes, attrs):
    key = KernelKey(op, tuple(tuple(s) for s in shapes), tuple(sorted(attrs.items())))
    assert key_from_json(key_to_json(key)) == key


def test_samples_come_back_with_their_lower_quartile(tmp_path, here):
    table = CostTable(tmp_path / "deep" / "costs.sqlite")
    table.add([(KEY, (3.0, 1.0, 2.0))], here)
    assert CostTable(table.path).read([KEY, OTHER], here) == {KEY: (3.0, 1.0, 2.0)}
    assert table.estimates([KEY, OTHER], here) == {KEY: 1.0}


def test_a_disturbed_turn_of_measuring_does_not_count(tmp_path, here):
    table = CostTable(tmp_path / "costs.sqlite")
    table.add([(KEY, (1.0, 1.01, 1.02, 1.03))], here)
    table.add([(KEY, (1.6, 1.7, 1.8, 1.9))], here)
    assert table.estimates([KEY], here)[KEY] < 1.03


def test_measuring_again_adds_samples(tmp_path, here):
    table = CostTable(tmp_path / "costs.sqlite")
    table.add([(KEY, (1.0,))], here)
    table.add([(KEY, (5.0, 7.0))], replace(here, load=3.0))
    assert table.read([KEY], here) == {KEY: (1.0, 5.0, 7.0)}


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 2},
        {"cpu": "another"},
        {"runtime": "executorch 9"},
        {"dtype": "int8"},
        {"governor": "x"},
    ],
)
def test_rows_of_other_conditions_never_come_back(tmp_path, here, change):
    table = CostTable(tmp_path / "costs.sqlite")
    table.add([(KEY, (1.0,))], here)
    assert table.read([KEY], replace(here, **change)) == {}


def test_load_clock_and_date_do_not_separate_rows(tmp_path, here):
    table = CostTable(tmp_path / "costs.sqlite")
    table.add([(KEY, (1.0,))], here)
    later = replace(here, load=9.0, date="2030-01-01T00:00:00+00:00", temperature_c=80.0)
    assert table.read([KEY], later) == {KEY: (1.0,)}


def test_a_corrupt_file_is_kept_aside_and_rebuilt(tmp_path, here):
    path = tmp_path / "costs.sqlite"
    path.write_bytes(b"this is no database at all, whatever its name says" * 40)
    with pytest.warns(UserWarning, match="cannot be read"):
        table = CostTable(path)
    table.add([(KEY, (1.0,))], here)
    assert table.read([KEY], here) == {KEY: (1.0,)}
    (aside,) = tmp_path.glob("costs.sqlite.unreadable-*")
    assert aside.read_bytes().startswith(b"this is no database")


def test_another_version_is_kept_aside(tmp_path):
    path = tmp_path / "costs.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE kernels (whatever TEXT)")
        database.execute("PRAGMA user_version = 99")
    with pytest.warns(UserWarning, match="version 99"):
        CostTable(path)
    assert list(tmp_path.glob("costs.sqlite.unreadable-*"))


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cost table"):
        CostTable(tmp_path / "file" / "costs.sqlite")


WRITER = """
import sys
from pathlib import Path
from edgeprune.cost.conditions import host_conditions
from edgeprune.cost.table import CostTable
from edgeprune.records import KernelKey
here = host_conditions("xnnpack", "fp32", 1)
for i in range(40):
    CostTable(Path(sys.argv[1])).add([(KernelKey(sys.argv[2], ((i,),)), (float(i),))], here)
"""


def test_two_processes_write_at_once(tmp_path, here):
    path = tmp_path / "costs.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("a", "b")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    keys = [KernelKey(name, ((i,),)) for name in ("a", "b") for i in range(40)]
    assert len(CostTable(path).read(keys, here)) == 80


def test_a_table_goes_to_another_machine_and_back_as_json(tmp_path, here):
    table = CostTable(tmp_path / "costs.sqlite")
    board = replace(here, device="board", cpu="part 0xd0b", temperature_c=61.5)
    table.add([(KEY, (1.0, 2.0)), (OTHER, (0.5,))], here)
    table.add([(KEY, (9.0,))], board)
    write_table(table, tmp_path / "table.json")
    other = CostTable(tmp_path / "other.sqlite")
    assert read_table(tmp_path / "table.json", other) == 3
    assert read_table(tmp_path / "table.json", other) == 3  # nothing is counted twice
    assert other.everything() == table.everything()
    assert other.read([KEY], board) == {KEY: (9.0,)}
    assert other.read([KEY], here) == {KEY: (1.0, 2.0)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "line 1"),
        ("[]", "no cost table"),
        ('{"edgeprune_costs": 99, "batches": []}', "version 99"),
        ('{"edgeprune_costs": 1, "batches": [{"kernels": []}]}', r"batches\[0\]"),
        (
            '{"edgeprune_costs": 1, "batches": [{"conditions": {"cpu": 3}, "kernels": [[1]]}]}',
            r"conditions.*kernels\[0\]",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_problems(tmp_path, text, said):
    (tmp_path / "table.json").write_text(text)
    table = CostTable(tmp_path / "costs.sqlite")
    with pytest.raises(DataError, match=said):
        read_table(tmp_path / "table.json", table)
    assert table.everything() == []
