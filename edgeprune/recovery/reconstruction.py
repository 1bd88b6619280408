"""Reconstruction: refit every layer whose input changed to what it put out before the cut.

No labels and no gradients: linear least squares on a few hundred training samples, layer by layer,
each on the inputs that the layers before it, refitted already, really give it (He, Zhang and Sun
2017, "Channel pruning for accelerating very deep neural networks", section 3). Where a layer's
output is added to a shortcut, it also makes up for what the shortcut lost (their section 3.3).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from edgeprune import ranks
from edgeprune.data import Data
from edgeprune.data.evaluate import device_of
from edgeprune.forms import Form
from edgeprune.graph import attribute
from edgeprune.randomness import mix
from edgeprune.records import Graph, Progress, silent
from edgeprune.recovery.equations import Change, Equations
from edgeprune.recovery.norms import Norm
from edgeprune.recovery.samples import SAMPLES, plain_inputs
from edgeprune.recovery.shelf import Shelf
from edgeprune.recovery.twins import Layer, Positions, Step, changed_layers, in_steps

CHUNK = 64
_CHUNK_VALUES = 2**21
_WORK = 20e9
"""Rows x inputs² that one layer's equations may take: more rows than that tell little more."""
_LEAST_ROWS, _MOST_ROWS = 8, 64
"""Rows per unknown that are always taken, if the samples have them, and that are enough."""
_FAINT = 1e-3
"""A batch norm that scales a channel by less than this share of its largest scale hides it."""


@dataclass(frozen=True)
class Effort:
    """How much reconstruction looks at, and how much memory it may hold activations in."""

    samples: int = SAMPLES
    memory_bytes: int = 1_500_000_000
    seed: int = 0


@dataclass(frozen=True)
class Refit:
    """One layer: the root mean square error of its output over that of its target, before and after
    (each on the inputs it then had), and the ridge chosen (None: left as it was)."""

    weight: str
    before: float
    after: float
    ridge: float | None


@dataclass(frozen=True)
class Reconstructed:
    """The refitted network and what became of each layer."""

    graph: Graph
    layers: tuple[Refit, ...]


def reconstruct(
    full: Graph,
    small: Graph,
    positions: Positions,
    data: Data,
    effort: Effort | None = None,
    *,
    progress: Progress = silent,
) -> Reconstructed:
    """A copy of `small` whose layers reproduce what they put out in `full`, as far as they can.

    `small` is what a cut left of `full`, with its batch-norm statistics as they were; `positions`
    say what stayed of each parameter (`surgery.kept_positions`). Where nothing was removed, nothing
    changes; what was removed and is a linear combination of what stays is restored exactly; on the
    samples, no layer's squared error grows. Where there are several processes, all call this
    together, each with its share of the samples. Raises DataError if there are no training samples.
    """
    effort = effort or Effort()
    module = copy.deepcopy(small.program)
    copied = replace(small, program=module)
    steps = in_steps(changed_layers(full, copied, positions))
    training = full.program.training, module.training
    full.program.eval()
    module.eval()
    done = []
    try:
        with torch.no_grad(), Shelf(effort.memory_bytes) as shelf:
            twins = _Twins(full, copied, positions, (data, effort, shelf))
            for number, step in enumerate(steps):
                progress("reconstruct", number, len(steps), step.layer.weight)
                done.append(twins.refit(number, step))
            if steps:
                progress("reconstruct", len(steps), len(steps))
    finally:
        full.program.train(training[0])
        module.train(training[1])
    return Reconstructed(copied, tuple(done))


class _Twins:
    """Both networks over all pieces of the samples, as far as they have been run."""

    def __init__(
        self,
        full: Graph,
        small: Graph,
        positions: Positions,
        means: tuple[Data, Effort, Shelf],
    ) -> None:
        self.data, self.effort, self.shelf = means
        self.modules = {g.program.graph: g.program for g in (full, small)}
        self.small, self.positions = small.program, positions
        self.device = device_of(small.program)
        self.chunk = max(1, min(CHUNK, _CHUNK_VALUES // math.prod(self.data.sample_shape)))
        self.chunk = max(1, min(self.chunk, -(-self.effort.samples // 2)))

    def refit(self, number: int, step: Step) -> Refit:
        """Run one step over all pieces, and refit its layer."""
        layer = step.layer
        equations: Equations | None = None
        energy = 0.0
        for piece, env in self._pieces(number == 0):
            self._advance(step, env)
            args, _ = self._arguments(layer.node, env)
            target = self._target(layer, env)
            form = layer.ports.form(args, args[layer.ports.inputs], target)
            chosen = self._chosen(form, (number, piece))
            rows, wanted = form.rows(args[layer.ports.inputs], target, chosen)
            if equations is None:
                equations = Equations(form.groups, form.inputs, form.outputs, self.device)
            if piece % ranks.count() == ranks.rank():  # one that has none of its own adds nothing
                equations.add(piece % 2, rows, wanted - self._output(layer, form, rows))
                energy += float(wanted.double().square().sum())
            for node in step.over:
                env.pop(node, None)
            self.shelf.put(piece, env)
        assert equations is not None
        ranks.add_up(equations.sums())
        (energy,) = ranks.added([energy], self.device)
        change = equations.solve(constant=layer.bias is not None or layer.norm is not None)
        self._write(layer, form, change)
        share = math.sqrt(1 / energy) if energy > 0 else 0.0
        before, after = (math.sqrt(max(e, 0.0)) * share for e in (change.before, change.after))
        return Refit(layer.weight, before, after, change.ridge)

    def _pieces(self, first: bool) -> Iterator[tuple[int, dict[Any, Any]]]:
        """What is known of each piece of the samples: at first their inputs."""
        if not first:
            held = self.shelf.pieces()
            own = [piece for piece in held if piece % ranks.count() == ranks.rank()]
            for piece in own or held:
                yield piece, self.shelf.take(piece)
            return
        inputs = plain_inputs(self.data, self.effort.samples, self.chunk)
        for piece, batch in enumerate(inputs):
            yield (
                piece,
                {
                    node: batch.to(self.device)
                    for graph in self.modules
                    for node in graph.nodes
                    if node.op == "placeholder"
                },
            )

    def _advance(self, step: Step, env: dict[Any, Any]) -> None:
        for node, dead in zip(step.nodes, step.dead, strict=True):
            if node.op == "call_function":
                assert callable(node.target)
                args, kwargs = self._arguments(node, env)
                env[node] = node.target(*args, **kwargs)
            for gone in dead:
                env.pop(gone, None)

    def _arguments(self, node: fx.Node, env: Mapping[Any, Any]) -> tuple[Any, Any]:
        module = self.modules[node.graph]

        def value(n: fx.Node) -> Any:
            return attribute(module, str(n.target)) if n.op == "get_attr" else env[n]

        found: tuple[Any, Any] = fx.node.map_arg((node.args, node.kwargs), value)
        return found

    def _chosen(self, form: Form, draw: tuple[int, int]) -> Tensor:
        """Which rows of every sample are taken, at random: as many as the work allows."""
        most = min(_MOST_ROWS * form.inputs, _WORK / form.inputs**2 / form.groups)
        rows = max(_LEAST_ROWS * form.inputs, most)
        count = min(form.positions, math.ceil(rows / self.effort.samples))
        if count == form.positions:
            return torch.arange(count, device=self.device)
        generator = torch.Generator().manual_seed(mix(self.effort.seed, *draw))
        order = torch.randperm(form.positions, generator=generator)
        return order[:count].sort().values.to(self.device)

    def _target(self, layer: Layer, env: Mapping[Any, Any]) -> Tensor:
        """What the layer should put out: its old output where channels stay, and what the tensor
        that it is added to now lacks."""
        old: Tensor = env[layer.twin]
        dim = layer.ports.channel_dim % old.dim()
        stays = self.positions.get((layer.weight, layer.ports.output_dim))
        index = None if stays is None else torch.from_numpy(stays).to(old.device)

        def kept(tensor: Tensor) -> Tensor:
            return tensor if index is None else tensor.index_select(dim, index)

        target: Tensor = kept(old)
        if layer.sum is None or env[layer.sum.twin].shape != old.shape:
            return target
        lost: Tensor = kept(env[layer.sum.twin]) - env[layer.sum.other]
        for norm in reversed(layer.sum.norms):
            lost = lost * self._inverse_scale(norm).view(-1, *[1] * (lost.dim() - 2))
        return target + lost

    def _inverse_scale(self, norm: Norm) -> Tensor:
        """One over what a batch norm multiplies each channel by; 0 where it hides the channel."""
        scale = norm.scale(self.small)
        faint = scale.abs() <= _FAINT * scale.abs().max()
        inverse: Tensor = torch.where(faint, torch.zeros_like(scale), 1 / scale)
        return inverse

    def _output(self, layer: Layer, form: Form, rows: Tensor) -> Tensor:
        """What the layer, as it is, makes of rows (groups, rows, inputs)."""
        made: Tensor = rows @ form.matrix(self._tensor(layer.weight)).mT
        if layer.bias is None:
            return made
        return made + self._tensor(layer.bias).view(form.groups, 1, form.outputs)

    def _write(self, layer: Layer, form: Form, change: Change) -> None:
        """Add a change to the layer; its constant to the bias, or to the batch norm after it."""
        weight = self._tensor(layer.weight)
        weight += form.weight(change.weight).to(weight.dtype)
        if layer.bias is not None:
            bias = self._tensor(layer.bias)
            bias += change.constant.flatten().to(bias.dtype)
        elif layer.norm is not None:
            mean = self._tensor(layer.norm.mean)
            mean -= change.constant.flatten().to(mean.dtype)

    def _tensor(self, name: str) -> Tensor:
        found: Tensor = attribute(self.small, name).detach()
        return found
