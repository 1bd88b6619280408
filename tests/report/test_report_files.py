"""`write_report` and `read_report`: whole files or none, and clear words about damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import OutputError
from edgeprune.records import Report
from edgeprune.report import read_report, to_html, to_json, to_markdown, write_report
from edgeprune.report.files import dump


def test_what_was_written_is_read(report: Report, tmp_path: Path) -> None:
    written = write_report(report, tmp_path)
    data = read_report(tmp_path)
    assert data == written == to_json(report)
    assert (tmp_path / "report.md").read_text("utf-8") == to_markdown(data)
    assert (tmp_path / "report.html").read_text("utf-8") == to_html(data)


def test_leaves_nothing_else_behind_and_overwrites(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    write_report(report, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_lists_of_numbers_take_one_line(report: Report) -> None:
    text = dump(to_json(report))
    assert '"before": [3, 64],' in text
    assert max(len(line) for line in text.splitlines()) < 200
    assert text.endswith("}\n")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _json))
def test_dump_is_json(data: dict[str, object]) -> None:
    assert json.loads(dump(data)) == data


def test_a_directory_that_is_not_there_is_named(report: Report, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_report(report, tmp_path / "missing")


def test_a_failed_write_keeps_the_old_file(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.md").write_text("old", encoding="utf-8")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        write_report(report, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text("utf-8") == "old"


def test_missing_report_says_how_to_get_one(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(OutputError, match=r"report\.json is missing.*edgeprune fit"):
            read_report(directory)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"schema": "edgeprune-report/1", "speedup": NaN}'],
    ids=["empty", "cut off", "not UTF-8", "NaN"],
)
def test_corrupt_report_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(OutputError, match="is not valid JSON"):
        read_report(tmp_path)


@pytest.mark.parametrize("document", [[], 3, {}, {"schema": None}, {"schema": "other/1"}])
def test_another_file_is_not_a_report(tmp_path: Path, document: object) -> None:
    (tmp_path / "report.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(OutputError, match="is not a report of edgeprune"):
        read_report(tmp_path)


def test_a_newer_report_asks_for_an_upgrade(report: Report, tmp_path: Path) -> None:
    data = to_json(report) | {"schema": "edgeprune-report/2"}
    (tmp_path / "report.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(OutputError, match=r"newer edgeprune.*Upgrade"):
        read_report(tmp_path)


def test_every_problem_is_listed_at_once(report: Report, tmp_path: Path) -> None:
    data = to_json(report)
    del data["verdict"]
    data["final"]["size_bytes"] = "many"
    (tmp_path / "report.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        read_report(tmp_path)
    assert "verdict: " in str(caught.value)
    assert "final.size_bytes: " in str(caught.value)


def test_many_problems_are_counted_not_poured_out(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": "edgeprune-report/1"}', encoding="utf-8")
    with pytest.raises(OutputError, match="and 8 more"):
        read_report(tmp_path)
