"""The ssh runner against a real sshd on the loopback: also one that is killed in the middle."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loopback_sshd
import pytest
import torch
from loopback_sshd import LoopbackSshd
from torch import nn

from edgeprune import capture, channel_groups, profile
from edgeprune.errors import MeasureError, TargetError
from edgeprune.measuring import Effort, compare, engines, measure, speedup
from edgeprune.measuring.board import BoardLost
from edgeprune.measuring.bundle import CannotBuild
from edgeprune.measuring.onboard import OnBoard, Step
from edgeprune.measuring.ssh import SshBoard
from edgeprune.records import Reach, Target

pytestmark = pytest.mark.skipif(
    loopback_sshd.why_not() is not None, reason=str(loopback_sshd.why_not())
)

LITTLE = Effort(processes=2, rounds=3, min_block_ms=0.3, timeout_s=120)
LONGER = Effort(processes=2, rounds=150, min_block_ms=20.0, timeout_s=120)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    server = LoopbackSshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def board(sshd: LoopbackSshd, native: Path) -> Target:
    return board_on(sshd.reach(runner=str(native)))


def board_on(reach: Reach) -> Target:
    return Target("board", "", "xnnpack", "ssh", "fp32", 1, "measured", reach=reach)


def test_samples_from_a_board(narrow, wide, board: Target, sshd: LoopbackSshd) -> None:
    told: list[str] = []
    slow, fast = compare(
        [wide.artifact, narrow.artifact], board, LITTLE, lambda *said: told.append(str(said[3:]))
    )
    ratio, (low, high) = speedup(slow, fast)
    assert ratio > 1  # 36 times the work
    assert low <= ratio <= high
    for measured in (slow, fast):
        assert (len(measured.samples_ms), len(measured.cpu_ms), measured.processes) == (6, 6, 2)
        assert measured.peak_rss_bytes > 0
        assert measured.conditions.device == f"{sshd.host}:{sshd.port}"
        assert measured.conditions.runtime.startswith("executorch 1.5")
        assert measured.conditions.threads == 1
        assert not measured.estimated
    assert any("process 2 of 2" in note for note in told)
    assert list((sshd.folder / "board" / "runs").iterdir()) == []  # nothing of the session is left


def test_nothing_is_pushed_twice(narrow, board: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(narrow.artifact, board, replace(LITTLE, processes=1))
    pushed: list[Path] = []
    monkeypatch.setattr(SshBoard, "push", lambda self, path, remote: pushed.append(path))
    measure(narrow.artifact, board, replace(LITTLE, processes=1))
    assert pushed == []


def test_a_connection_that_breaks_in_the_middle(
    wide, board: Target, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sshd is killed while the first process runs; its samples are fetched, not taken again."""
    places: list[str] = []
    answer = OnBoard._answer

    def noted(self: OnBoard, step: Step, place: str, code: int) -> dict[str, Any]:
        places.append(place.rpartition("/")[2])
        return answer(self, step, place, code)

    def outage() -> None:
        sshd.kill()
        sshd.start()

    monkeypatch.setattr(OnBoard, "_answer", noted)
    timers: list[threading.Timer] = []

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if "process 1" in note:
            timers.append(threading.Timer(1.5, outage))
            timers[0].start()

    measured = measure(wide.artifact, board, LONGER, progress)
    timers[0].join()
    assert len(measured.samples_ms) == 2 * LONGER.rounds
    assert places == ["0-0", "1-0"]  # each at its first attempt
    log = (sshd.folder / "log").read_text()
    assert log.count("Server listening") >= 2
    assert not any("lost a running process" in warning for warning in measured.warnings)


def test_a_process_that_gets_lost_is_run_again(wide, board: Target, sshd: LoopbackSshd) -> None:
    """As after a restart of the board: the process is gone and left no exit code."""
    runs = sshd.folder / "board" / "runs"
    timers: list[threading.Timer] = []

    def end() -> None:
        import psutil

        (pid_file,) = runs.glob("*/0-0/pid")
        holder = psutil.Process(int(pid_file.read_text()))
        for process in [holder, *holder.children(recursive=True)]:
            process.kill()

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if "process 1" in note:
            timers.append(threading.Timer(1.5, end))
            timers[0].start()

    measured = measure(wide.artifact, board, LONGER, progress)
    timers[0].join()
    assert len(measured.samples_ms) == 2 * LONGER.rounds
    assert any("lost a running process" in warning for warning in measured.warnings)


def test_two_boards_share_the_work(
    narrow, wide, sshd: LoopbackSshd, native: Path, tmp_path: Path
) -> None:
    """Two names of one machine: each gets processes, and samples stay paired within a process."""
    hosts = (sshd.host, sshd.host.replace("127.0.0.1", "localhost"))
    known = tmp_path / "known_hosts"
    line = (sshd.folder / "known_hosts").read_text()
    known.write_text(line + line.replace("127.0.0.1", "localhost"))
    target = board_on(sshd.reach(hosts=hosts, known_hosts=str(known), runner=str(native)))
    effort = Effort(processes=4, rounds=20, min_block_ms=5.0, timeout_s=120)
    slow, fast = compare([wide.artifact, narrow.artifact], target, effort)
    assert (slow.processes, fast.processes) == (4, 4)
    assert slow.conditions.device == f"{hosts[0]}:{sshd.port} and {hosts[1]}:{sshd.port}"
    assert speedup(slow, fast)[0] > 1


def test_a_board_that_stays_away_leaves_its_share(
    narrow, sshd: LoopbackSshd, native: Path, tmp_path: Path
) -> None:
    nobody = sshd.host.replace("127.0.0.1", "127.0.0.2")  # sshd listens on 127.0.0.1 only
    target = board_on(sshd.reach(hosts=(nobody, sshd.host), runner=str(native), reconnect_s=1.0))
    measured = measure(narrow.artifact, target, LITTLE)
    assert len(measured.samples_ms) == 6
    assert any("cannot be reached" in warning for warning in measured.warnings)
    assert measured.conditions.device == f"{sshd.host}:{sshd.port}"
    with pytest.raises(BoardLost, match=r"127\.0\.0\.2.*cannot be reached"):
        measure(narrow.artifact, board_on(replace(target.reach, hosts=(nobody,))), LITTLE)


def test_an_unknown_host_key_is_refused(narrow, board: Target, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    empty.touch()
    target = board_on(replace(board.reach, known_hosts=str(empty)))
    with pytest.raises(MeasureError, match="not in known_hosts"):
        measure(narrow.artifact, target, LITTLE)
    assert empty.read_text() == ""  # and nothing is learnt by itself


def test_a_key_that_the_board_does_not_take(
    narrow, board: Target, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    shutil.copy(sshd.folder / "host", tmp_path / "other")
    (tmp_path / "other").chmod(0o600)
    target = board_on(replace(board.reach, identity=str(tmp_path / "other")))
    with pytest.raises(MeasureError, match=r"ssh-copy-id.*reach\.identity"):
        measure(narrow.artifact, target, LITTLE)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", "a b", "a;b", "", "$(id)", "a\nb"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(TargetError, match=re.escape(repr(host))):
        SshBoard(host, Reach())


def test_what_the_shell_there_reads_is_quoted(sshd: LoopbackSshd, tmp_path: Path) -> None:
    board = SshBoard(sshd.host, sshd.reach())
    words = ["$(id)", "a b", "'", '"', ";", "*", "~", "\\", "-n"]
    try:
        assert (
            json.loads(
                board.call(
                    [
                        sys.executable,
                        "-c",
                        "import json, sys; print(json.dumps(sys.argv[1:]))",
                        *words,
                    ]
                ).text
            )
            == words
        )
        (tmp_path / "data").write_bytes(bytes(range(256)) * 1000)
        board.push(tmp_path / "data", f"{tmp_path}/it's; there")
        assert board.pull(f"{tmp_path}/it's; there") == bytes(range(256)) * 1000
        with pytest.raises(MeasureError, match="cannot be written there"):
            board.push(tmp_path / "data", f"{tmp_path}/no/such/folder")
        with pytest.raises(MeasureError, match="No such file"):
            board.pull(f"{tmp_path}/missing")
    finally:
        board.close()


def test_a_program_that_the_board_cannot_run(narrow, board: Target, tmp_path: Path) -> None:
    short = tmp_path / "short.pte"
    short.write_bytes(narrow.artifact.path.read_bytes()[:1500])
    with pytest.raises(MeasureError, match=r"cannot load .*short\.pte"):
        measure(short, board, LITTLE)


def test_too_long_is_stopped(wide, board: Target) -> None:
    with pytest.raises(MeasureError, match="was stopped"):
        measure(wide.artifact, board, replace(LONGER, rounds=100_000, timeout_s=2.0))


def test_python_measures_where_the_runner_cannot(
    narrow, wide, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(architecture: str) -> None:
        raise CannotBuild(f"no runner for {architecture}")

    monkeypatch.setattr(engines, "runner_bundle", none)
    target = board_on(sshd.reach(python=sys.executable))
    slow, fast = compare([wide.artifact, narrow.artifact], target, replace(LITTLE, processes=1))
    assert speedup(slow, fast)[0] > 1
    assert slow.conditions.runtime.startswith("executorch 1.5")
    assert any("measured by Python" in warning for warning in slow.warnings)
    without = board_on(sshd.reach(python="no-such-python"))
    with pytest.raises(
        MeasureError, match=r"no runner for .*no-such-python.*pip install executorch"
    ):
        measure(narrow.artifact, without, LITTLE)


def test_a_runner_that_does_not_run_there(narrow, sshd: LoopbackSshd, tmp_path: Path) -> None:
    """As one that was built for another architecture."""
    (tmp_path / "edgeprune_runner").write_bytes(b"\x7fELF of another kind")
    target = board_on(sshd.reach(runner=str(tmp_path), python="no-such-python"))
    with pytest.raises(MeasureError, match="the C\\+\\+ runner does not run there"):
        measure(narrow.artifact, target, LITTLE)


def test_a_profile_without_a_host(narrow) -> None:
    with pytest.raises(TargetError, match=r"reach\.hosts"):
        measure(narrow.artifact, board_on(Reach()), LITTLE)


def test_kernels_are_measured_on_the_board(board: Target, tmp_path: Path) -> None:
    """A cost model of a small network whose every kernel ran over there, and the table knows it."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.Flatten())
    graph = capture(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 16, 16),))
    groups = channel_groups(graph)
    table = tmp_path / "costs.sqlite"
    cost = profile(graph, board, groups, table=table)
    full = groups.full_widths()
    narrow = {name: max(1, width // 4) for name, width in full.items()}
    assert 0 < cost.latency_ms(narrow) < cost.latency_ms(full)
    assert cost.taken.executed > 0
    again = profile(graph, board, groups, table=table)
    assert again.taken.executed == 0
    assert again.latency_ms(full) == cost.latency_ms(full)
    here = profile(graph, replace(board, runner="local", reach=Reach()), groups, table=table)
    assert here.taken.executed > 0  # what the board measured is not this host's
