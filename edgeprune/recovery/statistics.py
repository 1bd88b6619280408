"""Batch-norm statistics for the network as it is now: no labels, no gradients, one pass."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgeprune import ranks
from edgeprune.data import Data
from edgeprune.data.evaluate import device_of
from edgeprune.graph import attribute
from edgeprune.records import Graph
from edgeprune.recovery.norms import norms
from edgeprune.recovery.samples import SAMPLES, plain_inputs

CHUNK = 128


def recompute_statistics(graph: Graph, data: Data, samples: int = SAMPLES) -> Graph:
    """A copy of `graph` whose batch norms have the mean and variance of `samples` training inputs.

    While they are taken, every batch norm normalises with its batch's own statistics, so that later
    ones see what they will get (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3).
    Sums are in fp64, the variance is the unbiased one over all samples. A graph without batch norms
    comes back as a plain copy. Where there are several processes, all call this together, and each
    looks at its share of the pieces. Raises DataError if the data have no training samples.
    """
    module = copy.deepcopy(graph.program)
    taking = _Taking(module)
    training = module.training
    module.eval()
    with torch.no_grad():
        pieces = plain_inputs(data, samples, CHUNK) if taking.norms else iter(())
        for piece, inputs in enumerate(pieces):
            # one sample may have no variance of its own: it stands alone only if it is alone
            if piece % ranks.count() == ranks.rank() and (len(inputs) > 1 or piece == 0):
                taking.run(inputs.to(device_of(module)))
        taking.write()
    module.train(training)
    return replace(graph, program=module)


@dataclass
class _Sums:
    """How many values a batch norm saw of each channel, their sum and the sum of their squares."""

    count: int
    first: Tensor
    second: Tensor


class _Taking(fx.Interpreter):
    """Runs the network with every batch norm on its batch's statistics, and adds these up."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.norms = {norm.node: norm for norm in norms(module)}
        self.sums: dict[str, _Sums] = {}
        self.variances = {norm.mean: norm.variance for norm in self.norms.values()}

    def run_node(self, n: fx.Node) -> Any:
        """One node; a batch norm's input is counted, and normalised by itself."""
        norm = self.norms.get(n)
        if norm is None:
            return super().run_node(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        x: Tensor = args[0]
        dims = [d for d in range(x.dim()) if d != 1]
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.double(), dims, correction=0)
        found = _Sums(count, mean * count, (variance + mean.square()) * count)
        before = self.sums.get(norm.mean)
        if before is not None:
            found = _Sums(
                before.count + count, before.first + found.first, before.second + found.second
            )
        self.sums[norm.mean] = found
        return F.batch_norm(
            x, mean.to(x.dtype), variance.to(x.dtype), args[1], args[2], eps=norm.epsilon
        )

    def _over_all(self) -> dict[str, _Sums]:
        if ranks.count() == 1:
            return self.sums
        found = {}
        for name in self.variances:
            none = torch.zeros_like(attribute(self.module, name), dtype=torch.float64)
            own = self.sums.get(name, _Sums(0, none, none.clone()))
            ranks.add_up([own.first, own.second])
            found[name] = _Sums(int(ranks.added([own.count])[0]), own.first, own.second)
        return found

    def write(self) -> None:
        """Put the statistics of everything that any process saw into the network."""
        for name, sums in self._over_all().items():
            mean = sums.first / sums.count
            variance = (sums.second / sums.count - mean.square()).clamp_min(0)
            variance *= sums.count / max(sums.count - 1, 1)
            attribute(self.module, name).copy_(mean)
            attribute(self.module, self.variances[name]).copy_(variance)
