"""Least squares from streams: normal equations that are summed piece by piece, then solved.

Only sums over samples are kept, so memory depends on the number of unknowns and not on the number
of samples. They are kept for two halves of the samples apart: that costs nothing, and lets the
strength of the ridge be chosen by how well either half predicts the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties to choose from, in units of the mean square of an input."""


@dataclass(frozen=True)
class Change:
    """What to add to a layer: weights (groups, outputs, inputs) and a constant (groups, outputs).

    `before` and `after` are the sums of squared errors over all samples without it and with it;
    `ridge` is the penalty that was chosen, None where it is best to leave the layer alone.
    """

    weight: Tensor
    constant: Tensor
    before: float
    after: float
    ridge: float | None


class Equations:
    """The normal equations of `error ≈ inputs · weight + constant`, for several groups at once."""

    def __init__(self, groups: int, inputs: int, outputs: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        # the last input is the constant 1
        self.gram = zeros(2, groups, inputs + 1, inputs + 1)
        self.moment = zeros(2, groups, inputs + 1, outputs)
        self.squares, self.rows = zeros(2), zeros(2)

    def add(self, half: int, inputs: Tensor, error: Tensor) -> None:
        """Rows (groups, rows, inputs) with what is missing in their outputs (groups, rows,
        outputs); `half` is 0 or 1."""
        x, e = inputs.double(), error.double()
        k = x.shape[2]
        gram, moment = self.gram[half], self.moment[half]
        gram[:, :k, :k] += x.mT @ x
        sums = x.sum(1)
        gram[:, :k, k] += sums
        gram[:, k, :k] += sums
        gram[:, k, k] += x.shape[1]
        moment[:, :k] += x.mT @ e
        moment[:, k] += e.sum(1)
        self.squares[half] += e.square().sum()
        self.rows[half] += x.shape[1]

    def sums(self) -> tuple[Tensor, ...]:
        """Everything that is summed over samples, to be added up where several processes share
        them; changing these tensors in place changes the equations."""
        return self.gram, self.moment, self.squares, self.rows

    def solve(self, *, constant: bool) -> Change:
        """The change that makes the squared error smallest, with a ridge that keeps it small.

        The ridge pulls towards no change (Hoerl and Kennard 1970, with the old weights as origin),
        so the error on the samples never grows. Its strength is the one with which each half of the
        samples predicts the other half best; where no strength predicts better than no change,
        nothing changes. Without `constant` only weights are fitted.
        """
        size = self.gram.shape[2] if constant else self.gram.shape[2] - 1
        gram, moment = self.gram[:, :, :size, :size], self.moment[:, :, :size]
        before = float(self.squares.sum())
        ridge = self._ridge(gram, moment, constant) if before > 0 else None
        found = torch.zeros_like(self.moment[0])
        after = before
        if ridge is not None:
            both = gram[0] + gram[1], moment[0] + moment[1]
            found[:, :size] = _solution(*both, ridge, constant)
            after = before + _gain(*both, found[:, :size])
        if not after < before:
            found, after, ridge = torch.zeros_like(found), before, None
        return Change(found[:, :-1].mT, found[:, -1], before, after, ridge)

    def _ridge(self, gram: Tensor, moment: Tensor, constant: bool) -> float | None:
        """The penalty whose solutions of one half lower the error of the other the most."""
        if not bool((self.rows > 0).all()):
            return RIDGES[-1] if bool((self.rows > 0).any()) else None
        best, chosen = 0.0, None
        for ridge in RIDGES:
            gained = sum(
                _gain(gram[1 - i], moment[1 - i], _solution(gram[i], moment[i], ridge, constant))
                for i in (0, 1)
            )
            if gained < best:
                best, chosen = gained, ridge
        return chosen


def _solution(gram: Tensor, moment: Tensor, ridge: float, constant: bool) -> Tensor:
    """(gram + ridge) x = moment, by Cholesky; the constant is not penalised."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    weights = diagonal[:, :-1] if constant else diagonal
    scale = weights.mean(1, keepdim=True)
    # a group whose inputs are all zero has nothing to fit: any penalty keeps it at no change
    penalty = torch.where(scale > 0, ridge * scale, torch.ones_like(scale)).expand_as(weights)
    if constant:
        penalty = torch.cat([penalty, torch.zeros_like(penalty[:, :1])], 1)
    lower, failed = torch.linalg.cholesky_ex(gram + torch.diag_embed(penalty))
    found = torch.cholesky_solve(moment, lower)
    return torch.where((failed == 0)[:, None, None], found, torch.zeros_like(found))


def _gain(gram: Tensor, moment: Tensor, x: Tensor) -> float:
    """What `x` adds to the sum of squared errors of these equations (below zero: it helps)."""
    return float((x * (gram @ x)).sum() - 2 * (x * moment).sum())
