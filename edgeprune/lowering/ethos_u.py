"""Arm's Ethos-U NPUs, through Vela, Arm's compiler for them.

Ethos-U computes in int8, so the graph is quantized here. The ranges of its activations are taken
from the graph's example inputs alone: right for cycles and sizes, to be checked before shipping.
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
from edgeprune.records import Target, Vela
from edgeprune.vela_reports import SUFFIX, read_reports

if TYPE_CHECKING:
    from torch.export import ExportedProgram

APART = "in an environment of its own (Arm's tools hold numpy back)"


@backend("ethos-u", dtypes=("int8",), needs=Needs("ethosu", "ethos-u", APART))
def lower_ethos_u(exported: ExportedProgram, target: Target) -> Lowered:
    """The program, and beside it what Vela says it takes (see `vela_reports`).

    Raises TargetError where the profile does not say
    for which accelerator to compile.
    """
    if target.vela is None:
        raise TargetError(f"target {target.name!r} names no accelerator: set vela.accelerator")
    from executorch.backends.arm.ethosu import EthosUPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        spec = _spec(target.vela).dump_intermediate_artifacts_to(folder)
        edge = to_edge_transform_and_lower(
            _quantized(exported, spec),
            partitioner=[EthosUPartitioner(spec)],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        lowered = finish(edge)
        estimate = read_reports(Path(folder))
    text = json.dumps(
        {"sha256": hashlib.sha256(lowered.program).hexdigest(), **asdict(estimate)}, indent=1
    )
    return replace(lowered, beside={SUFFIX: text})


def _spec(vela: Vela) -> Any:
    from executorch.backends.arm.ethosu import EthosUCompileSpec

    return EthosUCompileSpec(
        vela.accelerator,
        system_config=vela.system_config,
        memory_mode=vela.memory_mode,
        config_ini=vela.config,
        extra_flags=["--verbose-performance"],
    )


def _quantized(exported: ExportedProgram, spec: Any) -> ExportedProgram:
    import torch
    from executorch.backends.arm.quantizer import EthosUQuantizer, get_symmetric_quantization_config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = EthosUQuantizer(spec)
    quantizer.set_global(get_symmetric_quantization_config())
    inputs, _ = exported.example_inputs
    # The quantizer refuses the node that guards shapes (pytorch/executorch#16248).
    prepared = prepare_pt2e(exported.module(check_guards=False), quantizer)
    with torch.no_grad():
        prepared(*inputs)
        converted = convert_pt2e(prepared)
        return torch.export.export(converted, inputs)
