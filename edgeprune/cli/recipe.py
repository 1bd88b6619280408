"""`--recipe FILE`: the options of a command, written down in a TOML file.

Every option of the command can stand there under its own name (`drop-blocks` or `drop_blocks`).
What is given on the command line wins. Patterns with values may be tables:

    model = "torchvision:resnet50"
    speedup = 2
    drop-blocks = true
    keep = ["layer4.*"]

    [max-cut]
    "layer1.*" = 0.2
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import typer

from edgeprune.errors import EdgepruneError
from edgeprune.usercode import close_matches

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NOT_THERE = ("recipe", "return")


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a recipe's options the defaults of this call; every problem is told at once."""
    if path is not None:
        context.default_map = {**(context.default_map or {}), **options_in(path, context)}
    return path


RecipeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Options written down in a TOML file; those given here win over it.",
        callback=_read,
        is_eager=True,
    ),
]


def options_in(path: Path, context: typer.Context) -> dict[str, Any]:
    """The options that the file at `path` sets for a command, by parameter name.

    Raises EdgepruneError with every problem of the file, each with its key.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgepruneError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgepruneError(f"{path} is not TOML: {error}") from None
    kinds = get_type_hints(inspect.unwrap(cast("Callable[..., Any]", context.command.callback)))
    names = {name.replace("_", "-"): name for name in kinds if name not in _NOT_THERE}
    found: dict[str, Any] = {}
    problems = []
    for key, value in data.items():
        name = names.get(key.replace("_", "-"))
        if name is None:
            problems.append(f"{key}: no such option{close_matches(key, names)}")
            continue
        try:
            found[name] = _converted(kinds[name], value)
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise EdgepruneError(f"{path} has {len(problems)} problem(s): " + "; ".join(problems))
    return found


def _converted(hint: Any, value: Any) -> Any:
    """A value of the file as an option of type `hint` takes it; raises ValueError.

    Numbers stand as numbers and words in quotes, so that "2" is not taken for 2. Ranges are checked
    by the option itself.
    """
    kinds = {hint, *get_args(hint)}
    if (bool in kinds) != isinstance(value, bool):
        raise ValueError("must be true or false" if bool in kinds else "must not be true or false")
    if any(get_origin(kind) is list for kind in kinds):
        return _words(value)
    if isinstance(value, (dict, list)):
        raise ValueError("takes one value, not several")
    if int in kinds and not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {value!r}")
    if float in kinds and not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {value!r}")
    if kinds & {str, Path} and not isinstance(value, str):
        raise ValueError(f"must be a word in quotes, not {value!r}")
    return value


def _words(value: Any) -> list[str]:
    """The values of an option that may be given several times; a table is NAME=VALUE each."""
    if isinstance(value, dict):
        wrong = [name for name, number in value.items() if not _is_plain(number)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: must be numbers or words")
        return [f"{name}={number}" for name, number in value.items()]
    listed = value if isinstance(value, list) else [value]
    if not all(_is_plain(item) for item in listed):
        raise ValueError("must be a list of words or numbers, or a table")
    return [str(item) for item in listed]


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)
