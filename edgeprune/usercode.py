"""What the user wrote: functions named on the command line as `package.module:name` or
`path/file.py:name`, imported and called so that their failures read as theirs.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeprune.errors import EdgepruneError


@dataclass(frozen=True)
class UserFunction:
    """A callable of the user's; `folder` is importable while it runs, `error` is what it raises."""

    spec: str
    function: Callable[..., Any]
    folder: Path
    error: type[EdgepruneError]

    def accepts(self, parameter: str) -> bool:
        """Whether it names this parameter (`**kwargs` does not count)."""
        return parameter in _parameters(self.function)

    def call(self, **arguments: Any) -> Any:
        """Call it. Raises `error` naming the user's line if it fails or wants more arguments."""
        needed = [
            name
            for name, p in _parameters(self.function).items()
            if p.default is p.empty
            and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            and name not in arguments
        ]
        if needed:
            raise self.error(
                f"{self.spec} cannot be called without arguments: it needs {', '.join(needed)}; "
                "give them defaults, or name a function that fills them in"
            )
        with importable(self.folder):
            try:
                return self.function(**arguments)
            except EdgepruneError:
                raise
            except Exception as error:
                raise self.error(f"{self.spec} failed: {describe(error, self.folder)}") from error


def find_function(spec: str, error: type[EdgepruneError]) -> UserFunction:
    """The callable that `spec` names.

    `file.py:name` is loaded by its path, with its folder importable meanwhile;
    `package.module:name` is imported, with the current directory importable meanwhile.
    Raises `error` if the file, module or name does not exist or the import fails.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise error(f"{spec!r} names no function: write file.py:name or package.module:name")
    if place.endswith(".py"):
        path = Path(place).expanduser()
        if not path.is_file():
            raise error(f"{spec}: no such file: {path}")
        folder = path.resolve().parent
        module = _load_file(path.resolve(), spec, error)
    else:
        folder = Path.cwd()
        module = _load_module(place, spec, error)
    function = getattr(module, name, None)
    if function is None:
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise error(f"{spec}: {place} has no {name!r}{close_matches(name, known)}")
    if not callable(function):
        raise error(f"{spec}: {name!r} is a {type(function).__name__}, not a function or class")
    return UserFunction(spec, function, folder, error)


def close_matches(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?`, or nothing where nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(matches)}?" if matches else ""


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """`folder` first on the import path, for a while."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def describe(error: BaseException, folder: Path) -> str:
    """`Type: message (file.py:12: code)`, at the innermost line that lies in `folder`."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(str(folder))]
    last = own[-1] if own else frames[-1] if frames else None
    where = f" ({Path(last.filename).name}:{last.lineno}: {last.line})" if last else ""
    if isinstance(error, SyntaxError):
        where = f" ({Path(error.filename or '').name}:{error.lineno})"
        return f"SyntaxError: {error.msg}{where}"
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + text[0] if text else ''}{where}"


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in callables may have no signature
        return {}


def _load_file(path: Path, spec: str, error: type[EdgepruneError]) -> ModuleType:
    # A name of its own per path: two files called model.py must not replace one another.
    digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
    name = f"edgeprune_user_{path.stem}_{digest}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickling look the module up
    with importable(path.parent):
        try:
            found.loader.exec_module(module)
        except Exception as failure:
            del sys.modules[name]
            raise error(
                f"{spec}: importing {path.name} failed: {describe(failure, path.parent)}"
            ) from failure
    return module


def _load_module(place: str, spec: str, error: type[EdgepruneError]) -> ModuleType:
    here = Path.cwd()
    with importable(here):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as failure:
            if failure.name and place.startswith(failure.name):
                raise error(
                    f"{spec}: no module named {failure.name!r} here or among the installed "
                    "packages; for a file write path/to/file.py:name"
                ) from failure
            raise error(f"{spec}: importing failed: {describe(failure, here)}") from failure
        except Exception as failure:
            raise error(f"{spec}: importing failed: {describe(failure, here)}") from failure
