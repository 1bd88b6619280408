"""`lower`: a Graph to a .pte on disk."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.errors import EdgepruneError, LoweringError
from edgeprune.lowering.backends import ready_backend
from edgeprune.lowering.quantising import is_quantised, quantise, quantised_before
from edgeprune.output import write_whole
from edgeprune.provenance import shared_provenance
from edgeprune.quiet import quiet
from edgeprune.reasons import reason_of, source_of
from edgeprune.records import Artifact, Graph, Target
from edgeprune.static import static_program

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def lower(graph: Graph, target: Target, path: Path | str | None = None) -> Artifact:
    """Lower `graph` for `target` and write the program to `path`; returns what is known of it.

    The program has the static shapes of `graph.example_inputs`, batch included, and evaluates
    (batch norm uses its statistics, dropout does nothing) whatever mode the graph is in; the
    graph is not changed. The same graph gives the same bytes every time, except where the vendor's
    compiler does not (Ethos-U, OpenVINO). The file appears under its name only when it is complete.
    Without a `path` it is `model.pte` in a new directory of the system's temporary ones, which is
    the caller's to remove (`artifact.path.parent`).

    Where the backend has a quantizer, an int8 target takes graphs that `quantise` made. Raises
    LoweringError where the target's backend or dtype does not exist, the graph is not in that
    dtype, or upstream refuses it, OutputError where the file cannot be written.
    """
    started = time.perf_counter()
    chosen = ready_backend(target)
    if quantised_before(target) != is_quantised(graph):
        raise LoweringError(
            f"target {target.name!r} runs {target.dtype}, and {graph.name!r} is "
            f"{'int8' if is_quantised(graph) else 'not quantised'}: quantise the graph on samples "
            "for an int8 target (fit --quantize int8), and for no other"
        )
    with quiet(), shared_provenance():
        exported = _export(graph)
        try:
            lowered = chosen.lower(exported, target)
        except EdgepruneError:
            raise
        except Exception as error:
            raise _refused(graph, f"{chosen.name} could not lower", error) from error
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="edgeprune-")) / "model.pte"
    path = Path(path)
    # First what belongs to the program, so that whoever sees the program has it all.
    for suffix, text in lowered.beside.items():
        write_whole(path.with_name(path.name + suffix), text)
    write_whole(path, lowered.program)
    return Artifact(
        path=path,
        target=target.name,
        size_bytes=len(lowered.program),
        sha256=hashlib.sha256(lowered.program).hexdigest(),
        delegated_nodes=lowered.delegated_nodes,
        other_ops=lowered.other_ops,
        planned_bytes=lowered.planned_bytes,
        rewrites=lowered.rewrites,
        seconds=time.perf_counter() - started,
    )


def lower_for_latency(graph: Graph, target: Target, path: Path) -> Artifact:
    """`lower` for programs that are only timed: where the target runs int8, the graph is quantised
    on noise, since latency does not depend on values."""
    return lower(on_noise(graph, target), target, path)


def on_noise(graph: Graph, target: Target) -> Graph:
    """`graph` as `lower` takes it for `target`: quantised on noise where it must be quantised,
    which is right for speed and size and says nothing of accuracy."""
    if not quantised_before(target):
        return graph
    import torch

    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(x.shape, generator=generator) for x in graph.example_inputs[:1]]
    return quantise(graph, target, noise)


def _export(graph: Graph) -> ExportedProgram:
    """The graph in eval mode with static shapes, as upstream's compilers want it."""
    try:
        return static_program(graph)
    except Exception as error:
        raise _refused(graph, "torch.export refused", error) from error


def _refused(graph: Graph, what: str, error: Exception) -> LoweringError:
    source = source_of(error)
    where = f" (at {source})" if source else ""
    return LoweringError(f"{what} {graph.name!r}{where}: {reason_of(error)}")
