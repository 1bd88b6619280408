"""nn.Module → Graph: capture a model with `torch.export`, as a module that can be trained.

Three things are done to the exported program before anything reads it: in-place operations become
functional ones (see `functional.py`), fused projections are taken apart (see `unfuse.py`), and the
`training` flags that export froze to False read the module's own `training` attribute again, so
that `train()` and `eval()` mean what they always mean.
"""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from edgeprune.errors import CaptureError
from edgeprune.functional import functionalise
from edgeprune.quiet import quiet
from edgeprune.reasons import is_ours
from edgeprune.recompose import recompose
from edgeprune.records import Graph
from edgeprune.unfuse import unfuse
from edgeprune.weightnorm import write_out

aten = torch.ops.aten

TRAINING_ARGUMENT = {
    aten.batch_norm.default: 5,
    aten.dropout.default: 2,
    aten.feature_dropout.default: 2,
    aten.alpha_dropout.default: 2,
    aten.feature_alpha_dropout.default: 2,
}
"""Operators that do something else while training, and which argument tells them."""


_GUARDS = (aten._assert_async.msg, aten._assert_tensor_metadata.default)
"""What export adds to check shapes and types of inputs, beside its guards as modules."""


def capture(
    model: nn.Module | ExportedProgram, example_inputs: Sequence[Tensor], *, name: str = "model"
) -> Graph:
    """The ATen graph of `model` in eval mode, with its parameters copied and its names kept.

    `model` may also be a program that the user exported. The batch (dimension 0 of every input)
    is left open where the model allows it. The caller's model is never changed: neither its
    weights nor its train/eval mode. Raises CaptureError with export's reason and the user's line.
    Follows https://docs.pytorch.org/docs/stable/export.html.
    """
    inputs = tuple(example_inputs)
    if not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise CaptureError(
            "capture needs the example inputs as tensors: capture(model, (torch.randn(1, 3, 224,"
            " 224),))"
        )
    if isinstance(model, ExportedProgram):
        program, dynamic = copy.deepcopy(model), _batch_is_open(model)
        trains: tuple[bool, ...] = (False, True)  # whichever mode the user's model was in
    else:
        with _lent(model) as own:
            program, dynamic = _export(own, inputs)
        trains = (False,)  # in eval mode, what is True was asked for
    module = _as_module(program, trains)
    record_shapes(module, program)
    return Graph(module, tuple(x.detach().clone() for x in inputs), name, dynamic)


def fingerprint(graph: Graph) -> str:
    """A hash of the graph's structure (ops and parameter shapes, not weights): 16 hex digits."""
    digest = hashlib.sha256()
    for node in graph.program.graph.nodes:
        digest.update(f"{node.op} {node.name} {node.target} {node.meta.get('shape')}\n".encode())
    for key, value in graph.program.state_dict().items():
        digest.update(f"{key} {tuple(value.shape)}\n".encode())
    return digest.hexdigest()[:16]


def source_of(node: fx.Node) -> str:
    """Where in the user's code a node comes from: `file.py:12 in forward: x = self.conv(x)`."""
    frames = [
        line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip()
    ]
    user = [
        (frame, code)
        for frame, code in zip(frames[::2], frames[1::2], strict=False)
        if frame.startswith("File") and "/torch/nn/" not in frame and "/torch/_" not in frame
    ]
    if not user:
        return ""
    frame, code = user[-1]
    path, line, where = (part.strip() for part in frame.split(",", 2))
    file = path.removeprefix("File ").strip('"').rsplit("/", 1)[-1]
    return f"{file}:{line.removeprefix('line ')} {where}: {code}"


def module_path(node: fx.Node) -> str:
    """The dotted path of the user's module that a node belongs to ('' for the root)."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def parameters_of(graph: Graph) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in graph.program.parameters())


@contextmanager
def _lent(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode to look at: a copy, or itself given back as it was."""
    try:
        own = copy.deepcopy(model)
    except (RuntimeError, TypeError):
        # Modules with weight norm or open handles cannot be copied: export in place, then put
        # the modes back. The exported parameters are cloned by _as_module.
        modes = {m: m.training for m in model.modules()}
        try:
            yield model.eval()
        finally:
            for module, mode in modes.items():
                module.training = mode
        return
    yield own.eval()


def _export(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[ExportedProgram, bool]:
    """The program and whether its batch is open; where that is not to be had, as the inputs are."""
    tries: list[tuple[tuple[Tensor, ...], tuple[Any, ...] | None]] = [(inputs, None)]
    if all(x.dim() for x in inputs) and len({x.shape[0] for x in inputs}) == 1:
        # export treats a batch of one as a constant, so open batches are traced with two
        pair = tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)
        tries.insert(0, (pair, tuple({0: Dim.AUTO} for _ in pair)))
    refusals: list[Exception] = []
    for example, dynamic in tries:
        try:
            program = _quietly_export(model, example, dynamic)
        except Exception as error:  # export raises many kinds
            refusals.append(error)
            continue
        if dynamic is None or _batch_is_open(program):
            return program, dynamic is not None
    raise _refused(refusals[0]) from refusals[0]


def _quietly_export(
    model: nn.Module, inputs: tuple[Tensor, ...], dynamic: tuple[Any, ...] | None
) -> ExportedProgram:
    with quiet():
        return torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)


def _refused(error: BaseException) -> CaptureError:
    text = str(error).strip()
    reason = next((line.strip() for line in text.splitlines() if line.strip()), repr(error))
    line = ""
    tb = error.__traceback__
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if not is_ours(file) and not file.startswith("<"):
            line = f" (at {file}:{tb.tb_lineno})"
        tb = tb.tb_next
    return CaptureError(
        f"torch.export refused the model: {type(error).__name__}: {reason}{line}. "
        "Mend that line, or export the model yourself and pass the .pt2 file."
    )


def _batch_is_open(program: ExportedProgram) -> bool:
    inputs = set(program.graph_signature.user_inputs)
    shapes = [
        node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder"
        and node.name in inputs
        and isinstance(node.meta.get("val"), Tensor)
    ]
    return bool(shapes) and all(len(s) and _is_free(s[0]) for s in shapes)


def _is_free(size: Any) -> bool:
    """Whether a size is a symbol that the model did not fix (`len(x)` makes it a number)."""
    return isinstance(size, torch.SymInt) and bool(size.node.expr.free_symbols)


def _as_module(program: ExportedProgram, trains: tuple[bool, ...]) -> fx.GraphModule:
    """The program as a plain GraphModule: functional, trainable, with its own parameters.

    `trains` are the values of training flags that stand for the mode the model was in.
    """
    unlifted = program.module(check_guards=False)
    assert isinstance(unlifted, fx.GraphModule)
    graph = unlifted.graph
    for node in list(graph.nodes):
        if node.op == "call_module" or node.target in _GUARDS:
            graph.erase_node(node)
    functionalise(graph)
    recompose(graph)
    write_out(graph)
    unfuse(graph)
    _free_training_flags(graph, trains)
    graph.eliminate_dead_code()
    module = fx.GraphModule(unlifted, graph)
    own_tensors(module, unlifted, {})
    _name_once(module)
    module.eval()
    return module


def _name_once(module: fx.GraphModule) -> None:
    """Read a tensor of several names under the first of them, as `named_parameters` has it."""
    first = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            path = str(node.target)
            node.target = first.get(id(attribute(module, path)), path)
    module.recompile()


def _free_training_flags(graph: fx.Graph, trains: tuple[bool, ...]) -> None:
    frozen = [
        node
        for node in graph.nodes
        if node.target in TRAINING_ARGUMENT
        and any(node.args[TRAINING_ARGUMENT[node.target]] is flag for flag in trains)
    ]
    if not frozen:
        return
    with graph.inserting_before(next(iter(graph.nodes))):
        training = graph.create_node("get_attr", "training")
    for node in frozen:
        node.update_arg(TRAINING_ARGUMENT[node.target], training)


def own_tensors(
    module: nn.Module, source: nn.Module, positions: Mapping[tuple[str, int], NDArray[np.int64]]
) -> None:
    """Give `module` copies of all parameters and buffers of `source`, under the same names.

    Along (name, dim) in `positions`, only those positions are copied, in that order. A tensor that
    has several names (tied weights, a layer that is registered twice) stays one tensor.
    """
    owners = list(source.named_modules(remove_duplicate=False))
    names: dict[int, list[str]] = defaultdict(list)
    for prefix, owner in owners:
        for leaf, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            names[id(tensor)].append(f"{prefix}.{leaf}" if prefix else leaf)
    made: dict[int, Tensor] = {}
    for prefix, owner in owners:
        home = _container(module, prefix)
        for leaf, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            if tensor is None:
                continue
            if id(tensor) not in made:
                made[id(tensor)] = _copied(tensor, names[id(tensor)], positions)
            new = made[id(tensor)]
            if isinstance(new, nn.Parameter):
                home.register_parameter(leaf, new)
            else:
                home.register_buffer(leaf, new, leaf not in owner._non_persistent_buffers_set)


def _copied(
    tensor: Tensor, names: Sequence[str], positions: Mapping[tuple[str, int], NDArray[np.int64]]
) -> Tensor:
    """A copy of a tensor at its positions under any of its names."""
    new = tensor.detach()
    for dim in range(new.dim()):
        stays = next((positions[n, dim] for n in names if (n, dim) in positions), None)
        if stays is not None and not np.array_equal(stays, np.arange(new.size(dim))):
            new = new.index_select(dim, torch.from_numpy(stays).to(new.device))
    new = new.clone() if new.data_ptr() == tensor.data_ptr() else new
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _container(module: nn.Module, prefix: str) -> nn.Module:
    for part in prefix.split(".") if prefix else ():
        if part not in module._modules:
            module.add_module(part, nn.Module())
        child = module._modules[part]
        assert child is not None
        module = child
    return module


def record_shapes(module: fx.GraphModule, program: ExportedProgram) -> None:
    """Note every node's shape for a batch of one as `node.meta["shape"]`.

    A node with several outputs gets a tuple of shapes; a node that is no tensor gets None.
    `node.meta["open"]` holds the dimensions of a tensor whose size depends on the batch.
    """
    symbols: dict[Any, int] = {}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, Tensor):
            for size in value.shape:
                if isinstance(size, torch.SymInt) and _is_free(size):
                    symbols[size.node.expr] = 1
    for node in module.graph.nodes:
        if node.op == "get_attr":
            value = attribute(module, str(node.target))
        else:
            value = node.meta.get("val")
        node.meta["shape"] = _shape(value, symbols)
        if isinstance(value, Tensor):
            sizes = enumerate(value.shape)
            node.meta["open"] = frozenset(d for d, s in sizes if _is_free(s))


def open_dims(node: fx.Node) -> frozenset[int]:
    """The dimensions of a tensor-valued node whose size depends on the batch."""
    found: frozenset[int] = node.meta.get("open", frozenset())
    return found


def _shape(value: Any, symbols: dict[Any, int]) -> Any:
    if isinstance(value, Tensor):
        return tuple(
            int(s) if isinstance(s, int) else int(s.node.expr.xreplace(symbols))
            for s in value.shape
        )
    if isinstance(value, tuple | list):
        return tuple(_shape(v, symbols) for v in value)
    return None


def attribute(module: nn.Module, path: str) -> Any:
    """What a get_attr node reads."""
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value
