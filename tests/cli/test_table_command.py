"""`edgeprune table`: out to a file and in again."""

from __future__ import annotations

import json

from edgeprune.cost.conditions import host_conditions
from edgeprune.cost.table import CostTable
from edgeprune.records import KernelKey


def test_a_table_is_shown_exported_and_imported(edgeprune, tmp_path):
    table, other = (str(tmp_path / f"{name}.sqlite") for name in ("mine", "other"))
    here = host_conditions("xnnpack", "fp32", 1)
    CostTable(tmp_path / "mine.sqlite").add([(KernelKey("add", ((4,), (4,))), (1.0, 2.0))], here)
    file = str(tmp_path / "table.json")
    assert "1 kernels" in edgeprune("table", "export", file, "--table", table).out
    assert "1 kernels" in edgeprune("table", "import", file, "--table", other).out
    (row,) = json.loads(edgeprune("table", "--table", other, "--json").out)["conditions"]
    assert (row["kernels"], row["samples"], row["cpu"]) == (1, 2, here.cpu)
    assert here.runtime in edgeprune("table", "--table", other).out


def test_a_file_that_is_no_table_ends_with_code_2(edgeprune, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    ended = edgeprune("table", "import", str(tmp_path / "x.json"), "--table", str(tmp_path / "t"))
    assert ended.code == 2
    assert "no cost table" in ended.err
