"""Ops outside the delegate, compiled together and told apart."""

from __future__ import annotations

import json

import torch

from edgeprune.cost.portable_program import portable_program, tensors_of
from edgeprune.cost.sampler import Effort, sample
from edgeprune.records import KernelKey


def key(op, call, *shapes):
    return KernelKey(f"portable:aten.{op}", shapes, (("call", json.dumps(call)),))


X = {"tensor": 0}
SPLIT = key("split_with_sizes.default", [[X, {"sizes": 1}, 1], {}], (1, 8, 4), (3, 5))
NORM = key(
    "layer_norm.default",
    [[X, {"sizes": 1}, {"tensor": 2}, {"tensor": 3}], {}],
    *((1, 4, 6), (6,), (6,), (6,)),
)
CAT = key("cat.default", [[[X, {"tensor": 1}], 1], {}], (1, 2, 4), (1, 3, 4))
BROKEN = key("layer_norm.default", [[X, [7]], {}], (1, 4, 6))


def test_sizes_are_arguments_and_not_inputs():
    assert tensors_of(SPLIT) == (0,)
    assert tensors_of(NORM) == (0, 2, 3)
    assert tensors_of(CAT) == (0, 1)


def test_every_instruction_has_its_owner():
    made = portable_program([SPLIT, NORM, CAT, NORM])
    assert set(made.owners) == {0, 1, 2, 3}
    assert [tuple(x.shape) for x in made.inputs[:2]] == [(1, 8, 4), (1, 4, 6)]
    assert len(made.inputs) == 1 + 3 + 2 + 3


def test_one_that_the_compiler_refuses_leaves_the_others(recwarn):
    measured = dict(sample([SPLIT, BROKEN, CAT], 1, Effort(seconds=1, rounds=6)))
    assert set(measured) == {SPLIT, CAT}
    assert any("cannot be measured by itself" in str(w.message) for w in recwarn)
    assert torch.tensor([min(us) for us in measured.values()]).min() > 0
