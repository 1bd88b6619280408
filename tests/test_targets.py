"""Profiles: read strictly, inherited, and every problem of a file told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import TargetError
from edgeprune.targets import (
    check_target,
    list_targets,
    load_target,
    parse_settings,
    shipped_directory,
)

SHIPPED = {
    *("host", "linux-arm64", "raspberry-pi-5", "raspberry-pi-5-estimate", "openvino-cpu"),
    *("android-arm64-xnnpack", "android-vulkan", "android-qnn", "ios-coreml", "ios-xnnpack"),
    *("ethos-u55-128", "ethos-u65-256", "ethos-u85-256", "cortex-m55"),
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path) -> dict[str, str]:
    """What `check_target` says is wrong, by key path."""
    with pytest.raises(TargetError) as caught:
        check_target(path)
    lines = str(caught.value).splitlines()
    rows = [line.strip() for line in lines[1:]] or [lines[0].removeprefix(f"{path}: ")]
    return dict(row.split(": ", 1) for row in rows)


def test_the_host_profile():
    target = load_target("host")
    assert (target.name, target.backend, target.runner) == ("host", "xnnpack", "local")
    assert (target.dtype, target.threads, target.costs) == ("fp32", 1, "measured")
    assert target.max_size_bytes is None
    assert target.source.endswith("host.toml")


def test_every_shipped_profile_is_valid():
    found = list_targets()
    assert set(found) == SHIPPED
    assert {path.parent for path in found.values()} == {shipped_directory()}
    for name, path in found.items():
        assert check_target(path).name == name


def test_overrides_win_and_are_checked():
    assert load_target("host", threads=4).threads == 4
    with pytest.raises(TargetError, match="threads: is 0, must be at least 1"):
        load_target("host", threads=0)
    with pytest.raises(TargetError, match="did you mean 'threads'"):
        load_target("host", thread=2)


def test_a_users_directory_is_searched_first(tmp_path):
    write(tmp_path, "board", 'extends = "host"\nthreads = 2')
    assert load_target("board", directory=tmp_path).threads == 2
    assert set(list_targets(tmp_path)) >= {"board", "host"}
    with pytest.raises(TargetError, match="unknown target 'board'"):
        load_target("board")


def test_an_unknown_target_names_the_closest():
    with pytest.raises(TargetError, match=r"unknown target 'hots' \(did you mean 'host'\?\)"):
        load_target("hots")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TargetError, match="no target file"):
        load_target(tmp_path / "nowhere.toml")


def test_extends_keeps_what_the_file_leaves_out(tmp_path):
    write(tmp_path, "base", 'extends = "host"\n[limits]\nmax_size_mb = 1.5\nmax_memory_mb = 8')
    path = write(tmp_path, "mine", 'extends = "./base.toml"\n[limits]\nmax_size_mb = 2')
    target = check_target(path)
    assert (target.max_size_bytes, target.max_memory_bytes) == (2_000_000, 8_000_000)
    assert target.backend == "xnnpack"


def test_extends_in_a_circle(tmp_path):
    first = write(tmp_path, "one", 'extends = "two"')
    write(tmp_path, "two", 'extends = "three"')
    write(tmp_path, "three", 'extends = "two"')
    with pytest.raises(TargetError, match="circle: two -> three -> two"):
        check_target(first)
    alone = write(tmp_path, "alone", 'extends = "alone"')
    with pytest.raises(TargetError, match="circle: alone -> alone"):
        check_target(alone)


def test_all_problems_of_a_file_come_at_once(tmp_path):
    path = write(
        tmp_path,
        "wrong",
        """
        thread = 2
        backend = "xnnpak"
        runner = "local"
        dtype = 32
        threads = "4"
        max_size_mb = 3
        [limits]
        max_size_mb = 0
        max_mem_mb = 4
        """,
    )
    found = problems(path)
    assert set(found) == {
        "thread",
        "backend",
        "dtype",
        "threads",
        "costs",
        "max_size_mb",
        "limits.max_size_mb",
        "limits.max_mem_mb",
    }
    assert "did you mean 'threads'" in found["thread"]
    assert "did you mean 'xnnpack'" in found["backend"]
    assert "'4', must be a whole number" in found["threads"]
    assert "missing" in found["costs"]
    assert "did you mean 'limits.max_size_mb'" in found["max_size_mb"]
    assert "must be above 0" in found["limits.max_size_mb"]
    assert "did you mean 'limits.max_memory_mb'" in found["limits.max_mem_mb"]


def test_problems_of_an_extended_file_name_that_file(tmp_path):
    base = write(tmp_path, "base", 'extends = "host"\nthreads = true')
    path = write(tmp_path, "mine", 'extends = "base"\ncosts = "guessed"')
    found = problems(path)
    assert set(found) == {"threads", "costs"}
    assert found["threads"].endswith(f"(from {base})")
    assert "from" not in found["costs"]


def test_an_unknown_parent_does_not_hide_the_other_problems(tmp_path):
    found = problems(write(tmp_path, "mine", 'extends = "hots"\nthreads = 0'))
    assert set(found) == {"extends", "threads"}
    assert "did you mean 'host'" in found["extends"]


def test_a_table_where_a_number_belongs_and_the_reverse(tmp_path):
    found = problems(write(tmp_path, "mine", 'extends = "host"\nlimits = 3\n[threads]\nbig = 4'))
    assert set(found) == {"limits", "threads"}
    assert found["limits"] == "is 3, must be a table"


def test_not_toml(tmp_path):
    with pytest.raises(TargetError, match=r"not valid TOML.*line 1"):
        check_target(write(tmp_path, "mine", "threads == 2"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not valid TOML"):
        check_target(tmp_path / "bytes.toml")
    with pytest.raises(TargetError, match=r"ends in \.toml"):
        check_target(tmp_path / "host.json")


@given(st.integers(min_value=1, max_value=512), st.floats(min_value=0.001, max_value=1e6))
def test_valid_values_come_back_as_written(tmp_path_factory, threads, megabytes):
    folder = tmp_path_factory.mktemp("targets")
    text = f'extends = "host"\nthreads = {threads}\n[limits]\nmax_memory_mb = {megabytes!r}'
    target = check_target(write(folder, "mine", text))
    assert target.threads == threads
    assert target.max_memory_bytes == round(megabytes * 1_000_000)


def test_shipped_estimates_have_a_source():
    for name in SHIPPED:
        target = load_target(name)
        assert target.description
        assert (target.runner in ("vela", "roofline")) == (target.costs == "estimated")
        if target.rates is not None:
            assert target.rates.source


def test_how_to_reach_a_board(tmp_path):
    path = write(
        tmp_path,
        "pi",
        """
        extends = "raspberry-pi-5"
        [reach]
        hosts = ["pi@one", "pi@two"]
        port = 2222
        cpus = [2, 3]
        """,
    )
    reach = check_target(path).reach
    assert (reach.hosts, reach.port, reach.cpus) == (("pi@one", "pi@two"), 2222, (2, 3))
    assert reach.cool_below_c == 65.0  # the rest of the table is the parent's


def test_tables_inside_tables_are_inherited_key_by_key(tmp_path):
    path = write(tmp_path, "pi", 'extends = "raspberry-pi-5"\n[rates.gmacs_per_s]\nint8 = 50.0')
    rates = check_target(path).rates
    assert rates is not None
    assert rates.gmacs_per_s == {"fp32": 19.2, "int8": 50.0}


def test_keys_that_contradict_each_other_are_told_with_the_rest(tmp_path):
    path = write(
        tmp_path,
        "odd",
        """
        backend = "xnnpack"
        runner = "roofline"
        dtype = "fp32"
        threads = 0
        costs = "measured"
        [reach]
        hosts = ["pi@one"]
        ports = 22
        [rates.gmacs_per_s]
        fp64 = 1.0
        """,
    )
    found = problems(path)
    assert set(found) == {
        *("threads", "costs", "reach.hosts", "reach.ports"),
        *("rates.gmacs_per_s", "rates.gmacs_per_s.fp64", "rates.memory_gb_per_s", "rates.source"),
    }
    assert "did you mean 'reach.port'" in found["reach.ports"]
    assert "must be 'estimated'" in found["costs"] or "'estimated'" in found["costs"]
    assert "'ssh' or 'adb'" in found["reach.hosts"]


def test_settings_of_the_command_line():
    settings = ['reach.hosts=["pi@one"]', "reach.folder = /data/run", "threads=4", "reach.port=22"]
    target = load_target("linux-arm64", **parse_settings(settings))
    assert target.threads == 4
    assert (target.reach.hosts, target.reach.folder) == (("pi@one",), "/data/run")
    assert target.reach.port == 22
    with pytest.raises(TargetError, match=r"'threads'.*'=3'"):
        parse_settings(["threads", "=3", "threads=1"])
    with pytest.raises(TargetError, match=r"reach\.port: is 'ssh', must be a whole number"):
        load_target("linux-arm64", **parse_settings(["reach.port=ssh"]))
