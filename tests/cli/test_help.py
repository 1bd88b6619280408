"""Help: quick, complete, and readable in 80 columns."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgeprune as package

COMMANDS = (
    *("fit", "inspect", "plan", "lower", "profile", "measure", "kit", "targets", "report", "table"),
    "doctor",
)
# What takes long to import. Recent versions of Typer import pydantic to read numbers.
SLOW = ("torch", "torchvision", "executorch", "numpy", "scipy", "sklearn", "rich.console")


@pytest.mark.parametrize("words", [("--help",), ("fit", "--help"), ("--version",)])
def test_help_imports_nothing_slow(words):
    program = (
        "import sys; from edgeprune.cli import main; code = main(sys.argv[1:])\n"
        f"loaded = [name for name in {SLOW!r} if name in sys.modules]\n"
        "sys.exit(f'imported: {loaded}' if loaded else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    assert ended.stderr == ""


def test_help_lists_every_command(edgeprune):
    ended = edgeprune("--help")
    assert ended.code == 0
    listed = [line.split()[0] for line in ended.out.partition("Commands:")[2].splitlines() if line]
    assert sorted(listed) == sorted(COMMANDS)


def test_no_words_at_all_show_the_help(edgeprune):
    ended = edgeprune()
    assert ended.code == 0
    assert ended.out.startswith("Usage: edgeprune")


@pytest.mark.parametrize("command", [*COMMANDS, "targets check"])
def test_help_of_a_command(edgeprune, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ended = edgeprune(*command.split(), "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert f"  edgeprune {command} " in ended.out.partition("Example")[2].replace("\n", " \n")
    assert "--json" in ended.out
    assert max(len(line) for line in ended.out.splitlines()) <= 80


def test_commands_are_not_cut_off_in_the_list(edgeprune, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in edgeprune("--help").out.partition("Commands:")[2]


def test_version(edgeprune):
    ended = edgeprune("--version")
    assert (ended.code, ended.out) == (0, f"edgeprune {package.__version__}\n")


def test_python_m_edgeprune():
    ended = subprocess.run(
        [sys.executable, "-m", "edgeprune", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, f"edgeprune {package.__version__}\n")
