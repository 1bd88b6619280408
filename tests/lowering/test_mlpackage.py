"""Core ML packages get names of their content: equal content, equal bytes."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

from edgeprune.lowering.mlpackage import settled


def package(weights: bytes = b"\x00\xffweights") -> bytes:
    """As upstream flattens one: its name, a manifest sorted by random names, binary content."""
    ids = [str(uuid4()), str(uuid4())]
    items = {
        ids[0]: {"author": "com.apple.CoreML", "path": "com.apple.CoreML/weights"},
        ids[1]: {"author": "com.apple.CoreML", "path": "com.apple.CoreML/model.mlmodel"},
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": ids[1],
    }
    name = json.dumps({"inputNames": ["x"], "identifier": f"executorch_{uuid4()}"})
    told = json.dumps(manifest, indent=4, sort_keys=True)
    return name.encode() + told.encode() + b"\n\x00" + weights


def parts(made: bytes) -> tuple[dict, dict]:
    text = made[: made.index(b"\n\x00")].decode()
    name, end = json.JSONDecoder().raw_decode(text)
    return name, json.loads(text[end:])


def test_equal_content_gives_equal_bytes_whatever_the_order_of_names() -> None:
    given = [package() for _ in range(8)]
    made = {settled(one) for one in given}
    assert len(set(given)) == 8
    assert len(made) == 1
    assert len(made.pop()) == len(given[0])


def test_other_content_has_other_names() -> None:
    first, second = (parts(settled(package(w))) for w in (b"one", b"two"))
    assert first[0]["identifier"] != second[0]["identifier"]
    assert not set(first[1]["itemInfoEntries"]) & set(second[1]["itemInfoEntries"])


def test_names_still_point_at_what_they_pointed_at() -> None:
    given = package()
    (_, before), (name, after) = parts(given), parts(settled(given))
    root = after["itemInfoEntries"][after["rootModelIdentifier"]]
    assert root["path"] == "com.apple.CoreML/model.mlmodel"
    assert sorted(x["path"] for x in after["itemInfoEntries"].values()) == sorted(
        x["path"] for x in before["itemInfoEntries"].values()
    )
    assert UUID(name["identifier"].removeprefix("executorch_"))
    assert given.endswith(b"weights")
    assert settled(given).endswith(b"\x00\xffweights")


def test_what_is_no_package_of_this_kind_stays() -> None:
    assert settled(b"anything") == b"anything"
