"""One run's directory: which stages are finished, and what they found.

`run.json` is written anew, atomically, after every stage. A second run with the same request skips
what is finished; a different request in the same directory is refused, not mixed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgeprune import ranks
from edgeprune.errors import OutputError
from edgeprune.output import write_whole

SCHEMA = "edgeprune-run/1"
Result = TypeVar("Result")


@dataclass
class Run:
    """The stages of one run in a directory. `request` is everything that decides the result."""

    directory: Path
    request: dict[str, Any]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path, request: dict[str, Any], *, force: bool) -> Run:
        """The run that lives in `directory`, or a new one (always a new one with `force`).

        Raises OutputError where another request's run lives there. Where there are several
        processes, all must see the same directory, and all get what the first one read.
        """
        return ranks.one_for_all(lambda: cls._read(directory, request, force))

    @classmethod
    def _read(cls, directory: Path, request: dict[str, Any], force: bool) -> Run:
        request = json.loads(json.dumps(request, default=str))
        path = directory / "run.json"
        if force or not path.exists():
            return cls(directory, request)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            found, stages = data["request"], data["stages"]
            known = data["schema"] == SCHEMA and isinstance(stages, dict)
        except (OSError, ValueError, KeyError, TypeError):
            raise OutputError(
                f"{path} is damaged: start over with --force, or choose another directory with -o"
            ) from None
        if not known or found != request:
            changed = _differences(found, request) if isinstance(found, dict) else ["its format"]
            raise OutputError(
                f"{directory} holds another run (it differs in {', '.join(changed)}): choose "
                "another directory with -o, or start over with --force"
            )
        return cls(directory, request, stages)

    def stage(
        self,
        name: str,
        kind: type[Result],
        compute: Callable[[], Result],
        *,
        together: bool = False,
    ) -> Result:
        """What the stage found: read back if it is finished, else computed and kept.

        `kind` is what `compute` returns: a record, a tuple of records, or plain JSON types. Where
        there are several processes, the first one computes for all, unless they do it `together`;
        the first one writes.
        """
        adapter: TypeAdapter[Result] = TypeAdapter(kind)
        kept = self.stages.get(name)
        if kept is not None:
            try:
                return adapter.validate_python(kept["found"])
            except (ValidationError, KeyError, TypeError):
                del self.stages[name]  # written by another version: find it out again
        started = time.perf_counter()
        found = compute() if together else ranks.one_for_all(compute)
        self.stages[name] = {
            "seconds": round(time.perf_counter() - started, 3),
            "found": adapter.dump_python(found, mode="json"),
        }
        self._write()
        if together:
            ranks.wait_for_all()  # what the first one wrote is there now
        return found

    def finished(self, name: str) -> bool:
        """Whether a stage need not be computed any more."""
        return name in self.stages

    def seconds(self, name: str) -> float:
        """How long a stage took, when it was computed."""
        return float(self.stages[name]["seconds"])

    def file(self, name: str) -> Path:
        """A file of the run."""
        return self.directory / name

    def _write(self) -> None:
        if not ranks.is_first():
            return
        text = json.dumps(
            {"schema": SCHEMA, "request": self.request, "stages": self.stages}, indent=1
        )
        write_whole(self.directory / "run.json", text)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
