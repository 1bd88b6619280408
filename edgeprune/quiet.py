"""The one place that silences upstream's compilers: torch.export and executorch."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that upstream logs, prints or warns of gets out of this block.

    Why: on the command line stdout is the result and may be parsed, and upstream's remarks
    (deprecations of its own interfaces, notes on dynamic dimensions, prints in its passes) are
    about code that edgeprune's users neither wrote nor can change. What matters to them comes
    back in the Artifact or as a LoweringError. Output is redirected for the whole process, so
    another thread that prints meanwhile is not heard either.
    """
    disabled = logging.root.manager.disable
    # Handlers keep the stream they were made with, so redirecting alone would not reach them.
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
