"""One file that a training run can be continued from, whenever the process was killed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgeprune.errors import OutputError
from edgeprune.output import serialised, write_whole

_FORMAT = 2


def write_checkpoint(path: Path, fingerprint: str, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path` by `state` (tensors and plain values), all or nothing.

    Raises OutputError if the file cannot be written.
    """
    content = {"format": _FORMAT, "fingerprint": fingerprint, "state": dict(state)}
    data = serialised(torch.save, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    # always the same draft: however often a run is killed, one is left
    write_whole(path, data, draft=path.with_name(path.name + ".tmp"))


def read_checkpoint(path: Path, fingerprint: str) -> tuple[dict[str, Any] | None, str]:
    """(state, "") of the checkpoint at `path`, or (None, why there is none to go on from).

    The reason is "" where there is no file. A file of another run is left alone; a damaged one is
    set aside as `NAME.damaged`, so that nothing is lost and nothing trips over it again.
    """
    if not path.exists():
        return None, ""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT:
            return None, f"{path.name} was written by another version of edgeprune: starting over"
        found, state = content["fingerprint"], dict(content["state"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError,
            TypeError) as error:  # fmt: skip
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"{path.name} is damaged ({reason}): set aside as {aside.name}, starting over"
    if found != fingerprint:
        return None, f"{path.name} belongs to another recipe, data set or model: starting over"
    return state, ""
