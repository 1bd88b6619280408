"""Device profiles: TOML files read into a `Target`, with every problem of a file told at once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeprune.errors import TargetError
from edgeprune.profile_keys import Profile, disagreements, known_keys
from edgeprune.records import Rates, Reach, Target, Vela
from edgeprune.units import MEGABYTE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KeyPath = tuple[str, ...]
_KEY = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


def load_target(
    name_or_path: str | Path, *, directory: Path | None = None, **overrides: object
) -> Target:
    """The target called `name_or_path`, or the one in that file if it ends in `.toml`.

    A name is looked up in `directory` (the user's own profiles) and then among those shipped
    with edgeprune. `overrides` are keys of the profile that win over the file: `threads=2`.
    Raises `TargetError` if there is no such target, or with all that is wrong in its file.
    """
    path = _find(str(name_or_path), directory)
    draft = _merged(path, ())
    _lay_over(draft, overrides, "an override")
    profile = _checked(path, draft)
    return Target(
        name=path.stem,
        description=profile.description,
        backend=profile.backend,
        runner=profile.runner,
        dtype=profile.dtype,
        threads=profile.threads,
        costs=profile.costs,
        max_size_bytes=_to_bytes(profile.limits.max_size_mb),
        max_memory_bytes=_to_bytes(profile.limits.max_memory_mb),
        source=str(path),
        reach=_reach(profile),
        rates=None if profile.rates is None else Rates(**profile.rates.model_dump()),
        vela=None if profile.vela is None else Vela(**profile.vela.model_dump()),
        core=profile.core,
        channel_multiple=profile.channel_multiple,
        requires=profile.requires,
        has_run=profile.has_run,
        rewrite=profile.rewrite,
    )


def _reach(profile: Profile) -> Reach:
    keys = profile.reach.model_dump()
    keys |= {"hosts": tuple(profile.reach.hosts), "cpus": tuple(profile.reach.cpus)}
    return Reach(**keys)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Overrides for `load_target` from texts KEY=VALUE, with dots between tables and keys.

    A value is written as in a profile; what is no TOML value is taken as the text it is, so that
    `reach.folder=/data/run` needs no quotes. Raises TargetError naming every text that is wrong.
    """
    draft, problems = _Draft({}, {}), []
    for setting in settings:
        key, mark, value = (part.strip() for part in setting.partition("="))
        if not mark or not _KEY.fullmatch(key):
            problems.append(f"--set {setting!r} is not KEY=VALUE, as in threads=2")
            continue
        try:
            own = tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            own = tomllib.loads(f"{key} = {json.dumps(value)}")
        _lay_over(draft, own, "--set")
    if problems:
        raise TargetError("; ".join(problems))
    return draft.keys


def check_target(path: Path) -> Target:
    """Read one profile file and give back its `Target`; `TargetError` lists all its problems."""
    if path.suffix != ".toml":
        raise TargetError(f"{path}: a target file's name ends in .toml")
    return load_target(path)


def list_targets(directory: Path | None = None) -> dict[str, Path]:
    """Every known target's file by name; those in `directory` hide shipped ones of that name."""
    found: dict[str, Path] = {}
    for folder in (directory, shipped_directory()):
        if folder is not None:
            for path in sorted(folder.glob("*.toml")):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def shipped_directory() -> Path:
    """Where edgeprune's own profiles lie: in the package (a wheel) or beside it (a checkout)."""
    package = Path(__file__).resolve().parent
    packed = package / "_targets"
    return packed if packed.is_dir() else package.parent / "targets"


def _find(name: str, directory: Path | None) -> Path:
    """The file of a target's name or path; raises `TargetError` naming the closest known ones."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise TargetError(f"no target file {name}")
        return path
    known = list_targets(directory)
    if name in known:
        return known[name]
    raise TargetError(
        f"unknown target {name!r}{_did_you_mean(name, list(known))}; known: {', '.join(known)}. "
        "A profile of your own is given as a path that ends in .toml"
    )


@dataclass(frozen=True)
class _Draft:
    """A profile's keys, the file each came from, and what of `extends` could not be followed."""

    keys: dict[str, Any]
    origins: dict[KeyPath, str]
    broken: tuple[str, ...] = ()


def _merged(path: Path, below: tuple[Path, ...]) -> _Draft:
    """The keys of a profile over those it extends. `below` is the chain of files that led here."""
    here = path.resolve()
    if here in below:
        chain = " -> ".join(p.stem for p in (*below[below.index(here) :], here))
        raise TargetError(f"{below[0]}: extends goes round in a circle: {chain}")
    own = _read(path)
    draft = _Draft({}, {})
    if isinstance(own.get("extends"), str):  # any other type is one of the problems told later
        parent = own.pop("extends")
        try:
            found = _parent(path, parent)
        except TargetError as error:
            note = f" (from {path})" if below else ""
            draft = _Draft({}, {}, (f"extends: {error}{note}",))
        else:
            draft = _merged(found, (*below, here))
    _lay_over(draft, own, str(path))
    return draft


def _parent(path: Path, parent: str) -> Path:
    """The file that `path` extends: a path is relative to it, a name is looked up beside it too."""
    return _find(str(path.parent / parent) if parent.endswith(".toml") else parent, path.parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        keys: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"{path} is not valid TOML: {error}") from None
    return keys


def _lay_over(draft: _Draft, own: Mapping[str, Any], source: str) -> None:
    """Put `own` over the draft's keys, tables key by key, and note where each came from."""
    for key, value in own.items():
        draft.keys[key] = _over(draft.keys.get(key), value)
        for key_path in _paths(key, value):
            draft.origins[key_path] = source


def _over(under: object, value: object) -> object:
    if not (isinstance(under, dict) and isinstance(value, dict)):
        return value
    return {**under, **{key: _over(under.get(key), inner) for key, inner in value.items()}}


def _paths(key: str, value: object) -> Iterator[KeyPath]:
    yield (key,)
    if isinstance(value, dict):
        for inner, below in value.items():
            for rest in _paths(inner, below):
                yield (key, *rest)


# --- what is wrong, in words -----------------------------------------------------------------


def _checked(path: Path, draft: _Draft) -> Profile:
    """The draft as a `Profile`; raises `TargetError` with every problem on a line of its own."""
    lines = list(draft.broken)
    try:
        profile = Profile.model_validate(draft.keys)
    except ValidationError as error:
        for problem in error.errors():
            where = tuple(str(part) for part in problem["loc"] if part != "[key]")
            unfollowed = draft.broken or "extends" in draft.keys
            if unfollowed and problem["type"] == "missing":
                continue  # the target that was to be extended may well set it
            source = draft.origins.get(where, str(path))
            note = "" if source == str(path) else f" (from {source})"
            lines.append(f"{'.'.join(where)}: {_in_words(where, problem)}{note}")
    lines += disagreements(draft.keys)
    if len(lines) == 1:
        raise TargetError(f"{path}: {lines[0]}")
    if lines:
        raise TargetError("\n  ".join([f"{path} has {len(lines)} problems:", *lines]))
    return profile


_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "model_type": "a table",
}


def _in_words(where: KeyPath, problem: Mapping[str, Any]) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "missing":
        return 'missing; set it, or take it from another target with extends = "host"'
    if kind == "extra_forbidden":
        return f"unknown key{_did_you_mean('.'.join(where), known_keys())}"
    if kind == "literal_error":
        choices = [
            choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")
        ]
        hint = _did_you_mean(value, choices) if isinstance(value, str) else ""
        return f"{value!r} is not one of {', '.join(choices)}{hint}"
    if kind in ("greater_than", "greater_than_equal"):
        bound = f"above {context['gt']:g}" if "gt" in context else f"at least {context['ge']}"
        return f"is {value!r}, must be {bound}"
    return f"is {value!r}, must be {_WANTED.get(kind, problem['msg'].lower())}"


def _did_you_mean(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _to_bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else round(megabytes * MEGABYTE)
