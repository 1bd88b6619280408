"""Every torchvision model that torch.export accepts: cut in half, exactly, and of use afterwards.

The checks are those of the coverage benchmark, which prints what they cost. Each model has a
process of its own, since the largest of them need most of a machine's memory.
"""

from __future__ import annotations

from typing import Any

import pytest
from isolated import Isolated, Limits
from zoo_checks import check_lowering, check_pruning, failures
from zoo_models import zoo

_SMALL = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1")


@pytest.fixture(scope="module")
def isolated() -> Isolated:
    return Isolated(["zoo_checks"])


def _pruned(isolated: Isolated, name: str) -> dict[str, Any]:
    found = isolated.run(check_pruning, name, Limits())
    assert failures(found) == []
    return found


@pytest.mark.parametrize("name", _SMALL)
def test_small_models_are_halved_exactly(isolated: Isolated, name: str) -> None:
    found = _pruned(isolated, name)
    assert found["parameters_left"] < 0.6
    assert found["batches"] == [1, 3]


def _names() -> list[str]:
    """All but the whole detection models, whose post-processing has data-dependent shapes."""
    return [e.name for e in zoo().values() if e.set != "detection" or "/" in e.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in _names() if name not in _SMALL])
def test_models_are_halved_exactly(isolated: Isolated, name: str) -> None:
    _pruned(isolated, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _names())
def test_pruned_models_are_lowered(isolated: Isolated, name: str) -> None:
    assert failures(isolated.run(check_lowering, name, Limits(cpu_s=1800, wall_s=7200))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo() if name not in _names()])
def test_whole_detection_models_are_refused_with_a_line(isolated: Isolated, name: str) -> None:
    found = isolated.run(check_pruning, name, Limits())
    assert found["failed"].startswith("CaptureError: torch.export refused the model")
    assert "torchvision" in found["failed"]
