"""The runner for Android devices, through the system's own `adb`.

The same contract as over ssh: the runner's own process lives on while the cable is pulled, and its
answer is fetched when the device is back. Android has no Python of its own and another C library
than Linux boards, so the profile must name a runner that was built with the NDK.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgeprune.errors import MeasureError, TargetError
from edgeprune.measuring.board import Answer, Dropped, persistently
from edgeprune.measuring.boards import measure_on
from edgeprune.measuring.runners import runner
from edgeprune.measuring.session import Session, SessionSamples
from edgeprune.records import Progress, Reach, Target

FOLDER = "/data/local/tmp/edgeprune"
"""Where the shell user may write and execute, unless the profile says otherwise."""

_SERIAL = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]*")
# adb's own exit code cannot be told from the command's, and old devices send none: so the command
# itself says how it ended.
_END = "edgeprune-ended"
_TRANSFER_S = 600.0
_COOL_S = 300.0
_PAUSE_S = 5.0
_RECONNECT_S = 10.0
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@runner("adb")
def run_adb(session: Session, progress: Progress) -> SessionSamples:
    """Time the session's programs on the devices of `reach.hosts`, or on the only one there is."""
    boards = adb_boards(session.target)
    notes = [note for board in boards for note in board.settle(progress)]
    answer = measure_on(boards, session, progress)
    return replace(answer, warnings=(*notes, *answer.warnings))


def adb_boards(target: Target) -> list[AdbBoard]:
    """The devices of a target, or the only one that adb sees; raises where there is none."""
    return [AdbBoard(serial, target.reach) for serial in target.reach.hosts or (_only_device(),)]


@dataclass(frozen=True)
class AdbBoard:
    """A device by its serial number, as `adb devices` lists it."""

    serial: str
    reach: Reach

    def __post_init__(self) -> None:
        if not _SERIAL.fullmatch(self.serial):
            raise TargetError(f"reach.hosts: {self.serial!r} is no serial as `adb devices` lists")

    @property
    def name(self) -> str:
        return self.serial

    @property
    def folder(self) -> str:
        return self.reach.folder or FOLDER

    def close(self) -> None:
        """Nothing is kept: adb's own server holds the connection."""

    def call(self, argv: Sequence[str], timeout_s: float = 60.0) -> Answer:
        # The device's shell reads this line: our words, quoted one by one, and a constant.
        line = f'{shlex.join(argv)}; echo "{_END} $?"'
        done = self._adb(["shell", "-T", "-n", line], timeout_s)
        body, mark, code = done.stdout.rpartition(_END.encode())
        if not mark:
            raise self._dropped(done)
        return Answer(int(code), body, done.stderr.decode(errors="replace"))

    def push(self, path: Path, remote: str) -> None:
        done = self._adb(["push", str(path), remote], _TRANSFER_S)
        if done.returncode != 0:
            raise self._failure(done, f"{path.name} cannot be written there")

    def pull(self, remote: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            local = Path(folder) / "pulled"
            done = self._adb(["pull", remote, str(local)], _TRANSFER_S)
            if done.returncode != 0:
                raise self._failure(done, f"{remote} cannot be read")
            return local.read_bytes()

    def settle(self, progress: Progress) -> list[str]:
        """Wait while the device says it is hot; what else the reader of the numbers should know."""

        def said(argv: Sequence[str]) -> str:
            return persistently(self, self.reach.reconnect_s, lambda: self.call(argv).text)

        waited = 0.0
        while (status := _thermal(said)) not in (None, 0) and waited < _COOL_S:
            progress("measure", 0, 0, f"{self.name}: hot ({_thermal_word(status)}), waiting")
            time.sleep(_PAUSE_S)
            waited += _PAUSE_S
        notes = []
        if status:
            notes.append(
                f"{self.name} was still hot after {waited:.0f} s of waiting (thermal status "
                f"{_thermal_word(status)}): these times are those of a throttled device"
            )
        battery = said(["dumpsys", "battery"])
        level = re.search(r"^\s*level: (\d+)", battery, re.MULTILINE)
        if level and int(level[1]) < 20:
            notes.append(
                f"{self.name}: the battery is at {level[1]} %, where some devices slow down"
            )
        if said(["settings", "get", "global", "low_power"]) == "1":
            notes.append(f"{self.name}: battery saver is on, which lowers the clock")
        if "mWakefulness=Awake" not in (power := said(["dumpsys", "power"])) and power:
            notes.append(f"{self.name}: the screen is off, where many devices use small cores only")
        return notes

    def _adb(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        try:
            return _adb(["-s", self.serial, *words], timeout_s)
        except subprocess.TimeoutExpired:
            raise Dropped(f"no answer for {timeout_s:g} s") from None

    def _failure(self, done: subprocess.CompletedProcess[bytes], what: str) -> Exception:
        """A transfer that failed: for good where the device itself said why, else to be retried."""
        said = _reason(done)
        if "remote" in said:  # "remote object ... does not exist", "remote couldn't create file"
            return MeasureError(f"{self.name}: {what}: {said}")
        return self._dropped(done)

    def _dropped(self, done: subprocess.CompletedProcess[bytes]) -> Dropped:
        if ":" in self.serial:  # over the network: adb's server is slow to try again by itself
            for word in ("disconnect", "connect"):
                with suppress(subprocess.TimeoutExpired):
                    _adb([word, self.serial], _RECONNECT_S)
        return Dropped(_reason(done) or "the connection was closed")


def _adb(words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    adb = shutil.which("adb")
    if adb is None:
        raise MeasureError(
            "measuring on Android needs adb, which is not installed here (Android's platform-tools)"
        )
    return subprocess.run(
        [adb, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
    )


def _only_device() -> str:
    listed = _adb(["devices"], _TRANSFER_S).stdout.decode(errors="replace")
    rows = [line.split("\t") for line in listed.splitlines()[1:] if "\t" in line]
    ready = [serial for serial, state in rows if state.strip() == "device"]
    if len(ready) == 1:
        return ready[0]
    if ready:
        raise TargetError(
            f"several devices are there ({', '.join(ready)}); name those to use: "
            f"--set 'reach.hosts=[\"{ready[0]}\"]'"
        )
    waiting = [f"{serial} is {state.strip()}" for serial, state in rows]
    raise MeasureError(
        f"adb sees no device that is ready ({'; '.join(waiting) or 'none is connected'}); "
        "`adb devices` must list it as 'device'"
    )


def _thermal(said: Callable[[Sequence[str]], str]) -> int | None:
    """Android's own thermal status (0 none to 6 shutdown); None where it has none to tell."""
    found = re.search(r"Thermal Status: (\d)", said(["dumpsys", "thermalservice"]))
    return int(found[1]) if found else None


def _thermal_word(status: int | None) -> str:
    return _THERMAL[status] if status is not None and status < len(_THERMAL) else str(status)


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """What adb said was wrong; it says it on stdout or on stderr, and not always last."""
    lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "")
