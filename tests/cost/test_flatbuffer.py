"""Nested dicts ⇄ FlatBuffers, against flatc's own reading where it matters (the runtime's)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cost.flatbuffer import decode, encode, read_schema
from edgeprune.cost.pte_parts import runtime_package

SCHEMA = """
namespace a.b;
file_identifier "TEST";
enum Kind : short { none = 0, some = 5, more, }
union Any { Leaf, Other: Leaf, }
table Leaf { value: int; name: string; }  // a comment; with a semicolon
table Root {
  flag: bool;
  kind: a.b.Kind = some;
  unused: uint (deprecated);
  big: uint64;
  real: double;
  numbers: [long];
  names: [string];
  any: Any;
  leaves: [Leaf];
}
root_type Root;
"""


@pytest.fixture(scope="module")
def schema_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "test.fbs"
    path.write_text(SCHEMA)
    return path


def test_slots_count_deprecated_fields_and_both_halves_of_a_union(schema_file):
    root = read_schema(schema_file).tables["Root"]
    slots = {name: field.slot for name, field in root.items()}
    assert slots == {
        "flag": 0,
        "kind": 1,
        "unused": 2,
        "big": 3,
        "real": 4,
        "numbers": 5,
        "names": 6,
        "any": 8,  # 7 holds which member it is
        "leaves": 9,
    }
    assert root["kind"].default == 5
    assert read_schema(schema_file).enums["Kind"][1] == {"none": 0, "some": 5, "more": 6}


@given(
    big=st.integers(1, 2**64 - 1),
    real=st.floats(allow_nan=False).filter(bool),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1)),
    names=st.lists(st.text()),
    values=st.lists(st.integers(1, 2**31 - 1)),
)
def test_what_is_written_is_read(schema_file, big, real, numbers, names, values):
    schema = read_schema(schema_file)
    leaves = [{"value": value, "name": str(value)} for value in values]
    value = {"big": big, "real": real, "numbers": numbers, "names": names, "leaves": leaves}
    value["any"] = ("Other", {"name": "told by the slot before"})
    data = encode(schema, "Root", value)
    assert data[4:8] == b"TEST"
    assert decode(schema, "Root", data) == {**value, "numbers": tuple(numbers)}


def test_an_unknown_field_is_an_error(schema_file):
    with pytest.raises(KeyError, match="colour"):
        encode(read_schema(schema_file), "Root", {"colour": 1})


def test_structs_are_refused_rather_than_misread(tmp_path):
    path = tmp_path / "struct.fbs"
    path.write_text("struct P { x: int; }\ntable T { p: P; }\n")
    with pytest.raises(ValueError, match="struct"):
        read_schema(path)


@pytest.mark.parametrize(
    ("path", "identifier", "table"),
    [
        ("schema/program.fbs", b"ET12", "ExecutionPlan"),
        ("backends/xnnpack/serialization/schema.fbs", b"XN01", "XNNGraph"),
        ("devtools/etdump/etdump_schema_flatcc.fbs", b"ED00", "ProfileEvent"),
    ],
)
def test_the_installed_runtime_s_schemas_are_understood(path, identifier, table):
    schema = read_schema(runtime_package() / Path(path))
    assert schema.identifier == identifier
    assert table in schema.tables
