"""The command `edgeprune`: its commands, and how each way of failing ends."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

import edgeprune
from edgeprune.cli import show
from edgeprune.cli.doctor import doctor
from edgeprune.cli.fit import fit
from edgeprune.cli.inspect import inspect
from edgeprune.cli.kit import kit
from edgeprune.cli.lower import lower
from edgeprune.cli.measure import measure
from edgeprune.cli.plan import plan
from edgeprune.cli.profile import profile
from edgeprune.cli.progress import say
from edgeprune.cli.report import report
from edgeprune.cli.table import app as table
from edgeprune.cli.targets import app as targets
from edgeprune.errors import EdgepruneError
from edgeprune.output import FULL

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE
BUG = 1

# Plain help: rich's boxes take a third of 80 columns, and importing them half of the start.
app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _version(asked: bool) -> None:
    if asked:
        show.line(f"edgeprune {edgeprune.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def edgeprune_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Prune a PyTorch model to a latency or size budget, measured on its device.

    `fit` does it all: a model and a budget in, a .pte that meets the budget and a
    report out. The other commands are its stages, one by one.

    \b
    Try:
      edgeprune fit --model torchvision:resnet18 --data digits --speedup 2
      edgeprune inspect --model torchvision:mobilenet_v2
      edgeprune doctor

    \b
    Exit codes: 0 done; 2 bad input; 3 the budget was missed, cannot be met or
    cannot be decided; 1 a bug of ours. Results go to stdout, progress to stderr.
    """
    if context.invoked_subcommand is None:
        show.line(context.get_help())


# One line each in the list of commands; the first sentence of the help would be cut off there.
for command, gist in (
    (fit, "Prune a model to a budget and prove it."),
    (inspect, "Show what can be pruned, what cannot, and the cost."),
    (plan, "Choose the channels to keep, as JSON."),
    (lower, "Make a .pte of a model, pruned or whole."),
    (profile, "Measure a model's kernels on a target."),
    (measure, "Time programs on a target."),
    (kit, "Pack what a device needs to time programs."),
    (report, "Show the report of a finished run."),
    (doctor, "Check this installation and say how to mend it."),
):
    app.command(short_help=gist)(show.results_only(command))
app.add_typer(targets, name="targets", short_help="List the targets, or check one of your own.")
app.add_typer(table, name="table", short_help="Show, export or import measured kernels.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Nothing but the result goes to stdout."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(app).main(words, prog_name="edgeprune", standalone_mode=False)
    except _UsageError as error:
        return _fail(_usage(error), EdgepruneError.exit_code)
    except EdgepruneError as error:
        return _fail(str(error), error.exit_code)
    except show.ReaderLeft:
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            return _fail(_no_room(error), EdgepruneError.exit_code)
        traceback.print_exc()
        return _fail("this is a bug of ours; please report it with the lines above", BUG)
    if code == INTERRUPTED:  # Typer may have turned Ctrl-C into its exit code by itself
        again = "; the same command continues where this one stopped" if "fit" in words[:1] else ""
        say(f"interrupted{again}")
    return code if isinstance(code, int) else 0


# Typer brings its own copy of Click's exceptions in some versions and Click's own in others; the
# parent of BadParameter is UsageError in both.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


def _usage(error: Any) -> str:
    """What Typer says of a wrong command line, on one line, and where the right one is shown."""
    message = " ".join(error.format_message().split()).rstrip(".")
    where = error.ctx.command_path if error.ctx is not None else "edgeprune"
    return f"{message} (see `{where} --help`)"


def _no_room(error: OSError) -> str:
    """A disk is full, and it is not the output's: that is told where it is written."""
    return (
        f"{error.strerror}: {error.filename or 'a temporary file'}; free some space, or name a "
        f"folder on another disk in TMPDIR (now {tempfile.gettempdir()})"
    )


def _fail(message: str, code: int) -> int:
    say(f"error: {message}")
    return code
