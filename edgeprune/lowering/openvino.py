"""OpenVINO, Intel's delegate for its CPUs; executorch's wheel for Linux runs its programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

from edgeprune.errors import LoweringError
from edgeprune.lowering.backends import Lowered, Needs, Programs, backend
from edgeprune.lowering.finish import finish
from edgeprune.records import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_PACKAGE = "executorch.backends.openvino"


@backend(
    "openvino",
    dtypes=("fp32",),
    needs=Needs("openvino", "openvino"),
    programs=Programs(run_here=True),
)
def lower_openvino(exported: ExportedProgram, target: Target) -> Lowered:
    """Compiled for the CPU by the OpenVINO that is installed, whose runtime must then run it."""
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.backend.backend_details import CompileSpec

    with _without_its_quantizer():
        from executorch.backends.openvino.partitioner import OpenvinoPartitioner

        partitioner = OpenvinoPartitioner([CompileSpec("device", b"CPU")])
        return finish(to_edge_transform_and_lower(exported, partitioner=[partitioner]))


@contextmanager
def _without_its_quantizer() -> Iterator[None]:
    """Upstream's package for OpenVINO, with its files but without what it imports by itself.

    That is a quantizer, which wants nncf, and no nncf imports beside torch 2.14 and openvino 2025
    (executorch 1.5.1). Not needed where upstream imports it only for those who quantise.
    """
    spec = find_spec(_PACKAGE)
    if spec is None:
        raise LoweringError(f"this executorch has no {_PACKAGE}: install its wheel for Linux")
    held = sys.modules.get(_PACKAGE)
    if held is None:
        sys.modules[_PACKAGE] = module_from_spec(spec)
    try:
        yield
    finally:
        if held is None:
            del sys.modules[_PACKAGE]
