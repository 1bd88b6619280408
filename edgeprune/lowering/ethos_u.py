"""Arm's Ethos-U NPUs, through Vela, Arm's compiler for them.

Ethos-U computes in int8, so it takes graphs that `quantise` made.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.errors import TargetError
from edgeprune.lowering.backends import Lowered, Needs, backend
from edgeprune.lowering.finish import finish
from edgeprune.records import Target
from edgeprune.vela_reports import SUFFIX, read_reports

if TYPE_CHECKING:
    from torch.export import ExportedProgram

APART = "in an environment of its own (Arm's tools hold numpy back)"


def quantizer(target: Target) -> Any:
    """Static int8: weights symmetric per channel, activations per tensor."""
    from executorch.backends.arm.quantizer import EthosUQuantizer, get_symmetric_quantization_config

    return EthosUQuantizer(_spec(target)).set_global(get_symmetric_quantization_config())


@backend("ethos-u", dtypes=("int8",), quantizer=quantizer, needs=Needs("ethosu", "ethos-u", APART))
def lower_ethos_u(exported: ExportedProgram, target: Target) -> Lowered:
    """The program, and beside it what Vela says it takes (see `vela_reports`).

    Raises TargetError where the profile does not say for which accelerator to compile.
    """
    from executorch.backends.arm.ethosu import EthosUPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        spec = _spec(target).dump_intermediate_artifacts_to(folder)
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[EthosUPartitioner(spec)],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        lowered = finish(edge)
        estimate = read_reports(Path(folder))
    text = json.dumps(
        {"sha256": hashlib.sha256(lowered.program).hexdigest(), **asdict(estimate)}, indent=1
    )
    return replace(lowered, beside={SUFFIX: text})


def _spec(target: Target) -> Any:
    from executorch.backends.arm.ethosu import EthosUCompileSpec

    if target.vela is None:
        raise TargetError(f"target {target.name!r} names no accelerator: set vela.accelerator")
    return EthosUCompileSpec(
        target.vela.accelerator,
        system_config=target.vela.system_config,
        memory_mode=target.vela.memory_mode,
        config_ini=target.vela.config,
        extra_flags=["--verbose-performance"],
    )
