"""A program with cases to check it on: ExecuTorch's bundled program (`.bpte`).

https://docs.pytorch.org/executorch/stable/bundled-io.html: inputs and the outputs expected for them
are kept in one file with the program, and upstream's runners check a device's outputs by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.output import write_whole

Case = tuple[Sequence[Any], Sequence[Any]]
"""Inputs and the outputs expected for them: contiguous tensors of the program's shapes and
dtypes, with their bytes as the program has them in memory."""


def bundle(program: Path, cases: Sequence[Case], path: Path) -> bytes:
    """Writes `program` with `cases` to `path`; what was written.

    The same program and cases give the same bytes. Raises OutputError where it cannot be written.
    """
    from executorch.devtools import BundledProgram
    from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
    from executorch.devtools.bundled_program.serialize import (
        serialize_from_bundled_program_to_flatbuffer,
    )

    suite = MethodTestSuite(
        "forward", [MethodTestCase(list(inputs), list(outputs)) for inputs, outputs in cases]
    )
    made = BundledProgram(None, [suite], pte_file_path=str(program))
    data = bytes(serialize_from_bundled_program_to_flatbuffer(made))
    write_whole(path, data)
    return data
