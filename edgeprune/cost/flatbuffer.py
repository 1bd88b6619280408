"""FlatBuffers by schema: nested dicts ⇄ bytes, with the `.fbs` files that the runtime itself ships.

Reading the schema from the installed wheel means that field numbers are never written down here:
a runtime that adds a field is followed without a change. Only what ExecuTorch's schemas use is
understood (tables, enums, unions, vectors, strings; no structs, no required or shared fields).
Format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import flatbuffers
from flatbuffers import number_types

_SCALARS = {
    "bool": "Bool",
    "byte": "Int8",
    "ubyte": "Uint8",
    "short": "Int16",
    "ushort": "Uint16",
    "int": "Int32",
    "uint": "Uint32",
    "uint32": "Uint32",
    "long": "Int64",
    "int64": "Int64",
    "ulong": "Uint64",
    "uint64": "Uint64",
    "float": "Float32",
    "double": "Float64",
}
_CODES = {
    name: getattr(number_types, f"{kind}Flags").packer_type.format[-1]
    for name, kind in _SCALARS.items()
}


@dataclass(frozen=True)
class Field:
    """One field of a table: its slot in the vtable, its type, and the value that is not written."""

    name: str
    slot: int
    type: str
    vector: bool
    default: Any


@dataclass(frozen=True)
class Schema:
    """What one `.fbs` file and the files it includes declare."""

    identifier: bytes
    tables: Mapping[str, Mapping[str, Field]]
    enums: Mapping[str, tuple[str, Mapping[str, int]]]
    unions: Mapping[str, tuple[tuple[str, str], ...]]

    def scalar(self, type_name: str) -> str | None:
        """The plain scalar a type is stored as (an enum by its base), None for tables etc."""
        base = self.enums[type_name][0] if type_name in self.enums else type_name
        return base if base in _SCALARS else None


@lru_cache(maxsize=8)
def read_schema(path: Path) -> Schema:
    """The declarations of `path`. Raises ValueError where it uses what is not understood."""
    text = re.sub(r"//[^\n]*", "", path.read_text())
    tables: dict[str, Mapping[str, Field]] = {}
    enums: dict[str, tuple[str, Mapping[str, int]]] = {}
    unions: dict[str, tuple[tuple[str, str], ...]] = {}
    for included in re.findall(r'include\s+"([^"]+)"', text):
        other = read_schema(path.parent / included)
        tables.update(other.tables)
        enums.update(other.enums)
        unions.update(other.unions)
    for name, base, body in re.findall(r"enum\s+(\w+)\s*:\s*(\w+)\s*\{([^}]*)\}", text):
        enums[name] = (base, _enum_values(body))
    for name, body in re.findall(r"union\s+(\w+)\s*\{([^}]*)\}", text):
        members = [part.partition(":") for part in body.replace("\n", " ").split(",")]
        unions[name] = tuple((m.strip(), (t or m).strip()) for m, _, t in members if m.strip())
    for name, body in re.findall(r"table\s+(\w+)\s*\{([^}]*)\}", text):
        tables[name] = _fields(body, enums, unions)
    if re.search(r"^\s*struct\s", text, re.MULTILINE):
        raise ValueError(f"{path} declares a struct, which this reader does not understand")
    found = re.search(r'file_identifier\s+"(\w{4})"', text)
    return Schema(found.group(1).encode() if found else b"", tables, enums, unions)


def _enum_values(body: str) -> dict[str, int]:
    values: dict[str, int] = {}
    following = 0
    for part in filter(None, (p.strip() for p in body.split(","))):
        name, _, value = (s.strip() for s in part.partition("="))
        values[name] = int(value) if value else following
        following = values[name] + 1
    return values


def _fields(
    body: str,
    enums: Mapping[str, tuple[str, Mapping[str, int]]],
    unions: Mapping[str, object],
) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    slot = 0
    for line in filter(None, (part.strip() for part in body.split(";"))):
        found = re.match(r"(\w+)\s*:\s*(\[?)\s*([\w.]+)\s*\]?\s*(?:=\s*(\S+))?", line)
        if found is None:
            raise ValueError(f"field {line!r} is not understood")
        name, vector, type_name, default = found.groups()
        type_name = type_name.rpartition(".")[2]  # namespaces do not matter to the encoding
        if type_name in enums and default is not None:
            default = enums[type_name][1].get(default, default)
        # A union takes two slots: its member's number, then its value.
        slot += 1 if type_name in unions else 0
        fields[name] = Field(name, slot, type_name, bool(vector), float(default or 0))
        slot += 1
    return fields


# --- writing ---------------------------------------------------------------------------------


def encode(schema: Schema, root: str, value: Mapping[str, Any]) -> bytes:
    """`value` (fields by name; a union is a pair of member name and dict) as a `root` table.

    Raises KeyError for a field that the schema does not have.
    """
    builder = flatbuffers.Builder(1024)
    offset = _write_table(builder, schema, root, value)
    builder.Finish(offset, file_identifier=schema.identifier or None)
    return bytes(builder.Output())


def _write_table(builder: Any, schema: Schema, table: str, value: Mapping[str, Any]) -> int:
    fields = schema.tables[table]
    # Children are written before their parent; scalars go into the table itself.
    children: dict[str, int] = {}
    members: dict[str, int] = {}
    for name, item in value.items():
        field = fields[name]
        if item is None:
            continue
        if field.type in schema.unions:
            names = [member for member, _ in schema.unions[field.type]]
            index = names.index(item[0])
            children[name] = _write_table(
                builder, schema, schema.unions[field.type][index][1], item[1]
            )
            members[name] = index + 1
        elif field.vector:
            children[name] = _write_vector(builder, schema, field.type, item)
        elif field.type == "string":
            children[name] = builder.CreateString(item)
        elif schema.scalar(field.type) is None:
            children[name] = _write_table(builder, schema, field.type, item)
    builder.StartObject(1 + max((f.slot for f in fields.values()), default=-1))
    for name, item in value.items():
        field = fields[name]
        if name in members:
            builder.PrependUint8Slot(field.slot - 1, members[name], 0)
        if name in children:
            builder.PrependUOffsetTRelativeSlot(field.slot, children[name], 0)
        elif item is not None:
            _prepend_scalar(builder, schema.scalar(field.type), field, item)
    return int(builder.EndObject())


def _prepend_scalar(builder: Any, scalar: str | None, field: Field, item: Any) -> None:
    assert scalar is not None
    convert = float if scalar in ("float", "double") else bool if scalar == "bool" else int
    prepend = getattr(builder, f"Prepend{_SCALARS[scalar]}Slot")
    prepend(field.slot, convert(item), convert(field.default))


def _write_vector(builder: Any, schema: Schema, type_name: str, items: Any) -> int:
    scalar = schema.scalar(type_name)
    if scalar is not None:
        size = struct.calcsize(_CODES[scalar])
        builder.StartVector(size, len(items), size)
        prepend = getattr(builder, f"Prepend{_SCALARS[scalar]}")
        for item in reversed(items):
            prepend(item)
        return int(builder.EndVector())
    if type_name == "string":
        offsets = [builder.CreateString(item) for item in items]
    else:
        offsets = [_write_table(builder, schema, type_name, item) for item in items]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


# --- reading ---------------------------------------------------------------------------------


def decode(schema: Schema, root: str, data: bytes) -> dict[str, Any]:
    """The `root` table in `data` as nested dicts, as `encode` takes them, without absent fields."""
    return _read_table(schema, root, data, _uint(data, 0))


def _read_table(schema: Schema, table: str, data: bytes, at: int) -> dict[str, Any]:
    vtable = at - struct.unpack_from("<i", data, at)[0]
    slots = (struct.unpack_from("<H", data, vtable)[0] - 4) // 2
    value: dict[str, Any] = {}
    for field in schema.tables[table].values():
        if field.slot >= slots:
            continue
        offset = struct.unpack_from("<H", data, vtable + 4 + 2 * field.slot)[0]
        if not offset:
            continue
        if field.type in schema.unions:
            # The member's number lies in the slot before.
            number = data[at + struct.unpack_from("<H", data, vtable + 2 + 2 * field.slot)[0]]
            member, held = schema.unions[field.type][number - 1]
            place = at + offset
            table_at = place + _uint(data, place)
            value[field.name] = (member, _read_table(schema, held, data, table_at))
        else:
            value[field.name] = _read_field(schema, field, data, at + offset)
    return value


def _read_field(schema: Schema, field: Field, data: bytes, at: int) -> Any:
    scalar = schema.scalar(field.type)
    if scalar is not None and not field.vector:
        return struct.unpack_from("<" + _CODES[scalar], data, at)[0]
    at += _uint(data, at)
    if not field.vector:
        return (
            _read_string(data, at)
            if field.type == "string"
            else _read_table(schema, field.type, data, at)
        )
    count = _uint(data, at)
    if scalar is not None:
        return struct.unpack_from(f"<{count}{_CODES[scalar]}", data, at + 4)
    items = [at + 4 + 4 * i for i in range(count)]
    places = [place + _uint(data, place) for place in items]
    if field.type == "string":
        return [_read_string(data, place) for place in places]
    return [_read_table(schema, field.type, data, place) for place in places]


def _read_string(data: bytes, at: int) -> str:
    return data[at + 4 : at + 4 + _uint(data, at)].decode(errors="replace")


def _uint(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
