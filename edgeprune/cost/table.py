"""Measured kernels on disk: one SQLite file per user, with every sample and its conditions.

Samples are only ever read back under the same device, processor, runtime, backend, dtype, number of
threads and frequency governor; clock, temperature, load and date are kept with them for whoever
wants to know. A kernel that is measured again keeps its earlier samples beside the new ones.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgeprune.cost.keys import key_from_json, key_to_json
from edgeprune.errors import OutputError
from edgeprune.records import Conditions, KernelKey

SCHEMA = 2
IDENTITY = ("device", "cpu", "runtime", "backend", "dtype", "threads", "governor")
"""The conditions that must be equal for samples to be used together."""
_BUSY_SECONDS = 30.0
_TABLE = """
CREATE TABLE IF NOT EXISTS kernels (
    conditions TEXT NOT NULL,
    key TEXT NOT NULL,
    samples_us TEXT NOT NULL,
    taken TEXT NOT NULL,
    PRIMARY KEY (conditions, key, taken, samples_us)
)
"""


@dataclass(frozen=True)
class Batch:
    """Kernels that were measured together: under which conditions, with their samples in µs."""

    conditions: Conditions
    kernels: tuple[tuple[KernelKey, tuple[float, ...]], ...]


def default_path() -> Path:
    """Where the table lies unless the caller says otherwise: in the user's data directory.

    The version is in the name: another edgeprune on this machine may write another.
    """
    return Path.home() / ".local" / "share" / "edgeprune" / f"costs-v{SCHEMA}.sqlite"


class CostTable:
    """The table at `path`. Several processes may use it at once.

    A file that is no such table is renamed aside, with a warning, and a new one begun. Raises
    OutputError where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            self._set_aside(str(error))
            self._prepare()
        except OSError as error:
            raise self._unusable(error) from error

    def read(
        self, keys: Iterable[KernelKey], conditions: Conditions
    ) -> dict[KernelKey, tuple[float, ...]]:
        """The samples (µs) of those of `keys` that were measured under `conditions`."""
        wanted = {key_to_json(key) for key in keys}
        with self._open() as database:
            rows = database.execute(
                "SELECT key, samples_us FROM kernels WHERE conditions = ? ORDER BY rowid",
                (_identity(conditions),),
            ).fetchall()
        found: dict[str, tuple[float, ...]] = {}
        for key, samples in rows:
            if key in wanted:
                found[key] = found.get(key, ()) + tuple(json.loads(samples))
        return {key_from_json(key): samples for key, samples in found.items()}

    def everything(self) -> list[Batch]:
        """All that the table holds, by the conditions that it was measured under."""
        with self._open() as database:
            rows = database.execute(
                "SELECT taken, key, samples_us FROM kernels ORDER BY rowid"
            ).fetchall()
        batches: dict[str, list[tuple[KernelKey, tuple[float, ...]]]] = {}
        for taken, key, samples in rows:
            batches.setdefault(taken, []).append((key_from_json(key), tuple(json.loads(samples))))
        return [
            Batch(Conditions(**json.loads(taken)), tuple(kernels))
            for taken, kernels in batches.items()
        ]

    def estimates(
        self, keys: Iterable[KernelKey], conditions: Conditions
    ) -> dict[KernelKey, float]:
        """The lower quartile of each key's samples (µs); those not measured are left out.

        Not the median, because all that disturbs a measurement makes it longer: where one of two
        turns of measuring was disturbed, the quartile is still of the other.
        """
        found = self.read(keys, conditions)
        return {key: lower_quartile(samples) for key, samples in found.items()}

    def add(
        self, samples: Iterable[tuple[KernelKey, Sequence[float]]], conditions: Conditions
    ) -> None:
        """Keeps samples (µs) by key, beside those that it has; the same ones are kept once."""
        taken = json.dumps(asdict(conditions))
        identity = _identity(conditions)
        rows = [(identity, key_to_json(key), json.dumps(list(us)), taken) for key, us in samples]
        try:
            with self._open() as database:
                database.executemany("INSERT OR IGNORE INTO kernels VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error

    def _prepare(self) -> None:
        with self._open() as database:
            found = int(database.execute("PRAGMA user_version").fetchone()[0])
            if found == 0:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_TABLE)
                database.execute(f"PRAGMA user_version = {SCHEMA}")
            elif found == SCHEMA:
                database.execute("SELECT conditions, key, samples_us, taken FROM kernels LIMIT 1")
        if found not in (0, SCHEMA):
            self._set_aside(f"it has version {found} and this edgeprune writes version {SCHEMA}")
            self._prepare()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        try:
            with database:  # commits, or rolls back
                yield database
        finally:
            database.close()

    def _set_aside(self, why: str) -> None:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        aside = self.path.with_name(f"{self.path.name}.unreadable-{stamp}")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        warnings.warn(
            f"the cost table {self.path} cannot be read ({why}); it is kept as {aside.name},"
            f" and kernels are measured anew",
            stacklevel=3,
        )

    def _unusable(self, error: Exception) -> OutputError:
        return OutputError(
            f"the cost table {self.path} cannot be used: {error}."
            f" Choose another place for it, or make this one writable"
        )


def lower_quartile(samples: Sequence[float]) -> float:
    """What a quarter of the samples lie below."""
    return statistics.quantiles(samples, n=4)[0] if len(samples) > 1 else samples[0]


def _identity(conditions: Conditions) -> str:
    """What must be equal for two measurements to be compared."""
    values = asdict(conditions)
    return json.dumps({name: values[name] for name in IDENTITY}, sort_keys=True)
