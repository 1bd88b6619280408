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

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.errors import EdgepruneError
from edgeprune.usercode import close_matches

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NOT_THERE = ("recipe", "help")


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
    known = {
        option.removeprefix("--"): parameter
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("--") and parameter.name not in _NOT_THERE
    }
    found: dict[str, Any] = {}
    problems = []
    for key, value in data.items():
        parameter = known.get(key.replace("_", "-"))
        if parameter is None:
            problems.append(f"{key}: no such option{close_matches(key, known)}")
            continue
        try:
            found[str(parameter.name)] = _converted(parameter, value, context)
        except (typer.BadParameter, ValueError) as error:
            told = error.message if isinstance(error, typer.BadParameter) else str(error)
            problems.append(f"{key}: {told.rstrip('.')}")
    if problems:
        raise EdgepruneError(f"{path} has {len(problems)} problem(s): " + "; ".join(problems))
    return found


def _converted(parameter: Any, value: Any, context: typer.Context) -> Any:
    """A value of the file as the option takes it; raises ValueError or UsageError."""
    is_flag = bool(getattr(parameter, "is_flag", False))
    if is_flag != isinstance(value, bool):
        raise ValueError("must be true or false" if is_flag else "must not be true or false")
    if parameter.multiple:
        words = _words(value)
        parameter.type_cast_value(context, words)
        return words
    if isinstance(value, (dict, list)):
        raise ValueError("takes one value, not several")
    if not is_flag:
        _check_kind(parameter, value)
        parameter.type_cast_value(context, value)
    return value


def _check_kind(parameter: Any, value: Any) -> None:
    """Numbers stand as numbers and words in quotes, so that "2" is not taken for 2."""
    numeric = str(parameter.type.name).split()[0] in ("integer", "float")
    if numeric and not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {value!r}")
    if not numeric and not isinstance(value, str):
        raise ValueError(f"must be a word in quotes, not {value!r}")


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
