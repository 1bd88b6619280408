"""The networks, images and cuts that recovery is tried on: what each is, and where it is kept.

A cut is planned and measured once, in a folder of its own: by edgeprune's closed loop, or by the
peer (peer.py), its ratio raised until the measured speed-up is reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "architectures"))
SHARED = HERE.parents[3] / "shared" / "checkpoints"

import peer  # noqa: E402
import resnet_cifar  # noqa: E402

from edgeprune import (  # noqa: E402
    capture,
    channel_groups,
    fit,
    load_target,
    lower,
    prune,
    score,
)
from edgeprune.blocks import blocks  # noqa: E402
from edgeprune.candidates import Baseline, Programs  # noqa: E402
from edgeprune.choices import AUTO  # noqa: E402
from edgeprune.closed_loop import Wanted, close_the_loop  # noqa: E402
from edgeprune.cost import profile  # noqa: E402
from edgeprune.data import Data, DataRequest, load_data  # noqa: E402
from edgeprune.data.images import Loading, Look, kept_loader  # noqa: E402
from edgeprune.measuring import Effort, compare, speedup  # noqa: E402
from edgeprune.models import LoadedModel  # noqa: E402
from edgeprune.planning import Blocks, Known  # noqa: E402
from edgeprune.plans import Plan  # noqa: E402
from edgeprune.records import Budget, FitOptions, Graph, Recipe  # noqa: E402
from edgeprune.recovery.twins import Positions  # noqa: E402
from edgeprune.scoring import score_blocks  # noqa: E402
from edgeprune.surgery import kept_positions  # noqa: E402

SHAPE = (3, 32, 32)
LOOK = Look(SHAPE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TARGET = load_target("host")


@dataclass(frozen=True)
class Case:
    """A network, how much faster it is to be, and what chose the channels: a criterion of
    edgeprune ("l2+blocks": which may drop blocks, too; "auto": what `fit` finds by trying), or one
    of the peer ("tp-l2-global")."""

    depth: int
    speedup: float
    criterion: str

    @property
    def name(self) -> str:
        return f"resnet{self.depth}-{self.speedup:g}x-{self.criterion}"


class OutOfReach(Exception):
    """The peer has no network that is as fast."""


@dataclass(frozen=True)
class Cut:
    """The full network, what is left of it, and which positions of its parameters these are (None
    where the peer made it: it does not say)."""

    full: Graph
    small: Graph
    positions: Positions | None


def network(depth: int) -> nn.Module:
    """A trained network in eval mode."""
    model: nn.Module = getattr(resnet_cifar, f"resnet{depth}")()
    model.load_state_dict(load_file(SHARED / f"resnet{depth}_cifar10_jpeg.safetensors"))
    return model.eval()


def captured(model: nn.Module, name: str) -> Graph:
    return capture(model, (torch.zeros(1, *SHAPE),), name=name)


def images(out: Path) -> Data:
    """CIFAR-10 from the image folder OUT/cifar10-jpeg; what was decoded is kept in OUT."""
    kept = out / "pixels.pt"
    if not kept.exists():
        if not (out / "cifar10-jpeg").is_dir():
            sys.exit(f"no images: unpack shared/data/cifar10-jpeg.tar.gz into {out}")
        found = load_data(DataRequest(f"imagefolder:{out / 'cifar10-jpeg'}", SHAPE))
        assert found.test is not None
        sets: list[Any] = [x.dataset for x in (found.train, found.validation, found.test)]
        torch.save([(x.pixels, x.labels) for x in sets], kept)
    train, validation, test = torch.load(kept)
    how = Loading(LOOK, 128, 0)
    return Data(
        "cifar10-jpeg",
        kept_loader(*train, True, how),
        kept_loader(*train, False, how),
        kept_loader(*validation, False, how),
        kept_loader(*test, False, how),
        10,
        SHAPE,
    )


def cut_of(out: Path, case: Case, data: Data) -> Cut:
    """The cut of a case, planned and measured now if it was not before. Raises OutOfReach."""
    full = captured(network(case.depth), f"resnet{case.depth}")
    folder = out / "plans" / case.name
    if not (folder / "measured.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (_peer_cut if case.criterion in peer.CHOICES else _own_cut)(folder, case, full, data)
    if case.criterion in peer.CHOICES:
        small = torch.load(folder / "model.pt", weights_only=False)
        return Cut(full, captured(small.eval(), case.name), None)
    plan = Plan.from_json((folder / "plan.json").read_text("utf-8"))
    return Cut(full, prune(full, plan), kept_positions(full, plan))


def told_of(folder: Path) -> dict[str, Any]:
    """How fast a cut was measured to be; nothing where there is none."""
    path = folder / "measured.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _own_cut(folder: Path, case: Case, full: Graph, data: Data) -> None:
    """plan.json by the closed loop, as `edgeprune fit` makes it."""
    base = _baseline(folder, full)
    auto = case.criterion == AUTO
    plan = _fitted(folder, case, data) if auto else _looped(case, full, data, base)
    (folder / "plan.json").write_text(plan.to_json(), "utf-8")
    _measure(folder, base, prune(full, plan))


def _looped(case: Case, full: Graph, data: Data, base: Baseline) -> Plan:
    """The plan of the closed loop by one criterion."""
    groups = channel_groups(full)
    cost = profile(full, TARGET, groups)
    criterion, _, too = case.criterion.partition("+")
    scores = score(full, groups, criterion, data)
    own = blocks(full)
    importance = score_blocks(full, own, data, criterion) if too else {}
    known = Known(full, groups, scores, blocks=Blocks(own, importance))
    programs = Programs(full, TARGET, base)
    return close_the_loop(known, cost, programs, Wanted(Budget(speedup=case.speedup))).plan


def _fitted(folder: Path, case: Case, data: Data) -> Plan:
    """The plan of a whole `fit` without training."""
    model = LoadedModel(network(case.depth), (1, *SHAPE), f"resnet{case.depth}", has_weights=True)
    run = folder / "run"
    options = FitOptions(
        TARGET, Budget(speedup=case.speedup), run, Recipe(epochs=0), criterion=AUTO
    )
    fit(model, replace(data, test=None), options)
    return Plan.from_json((run / "plan.json").read_text("utf-8"))


def _peer_cut(folder: Path, case: Case, full: Graph, data: Data) -> None:
    """model.pt by the peer: the least ratio whose measured speed-up is enough."""
    base = _baseline(folder, full)

    def make(ratio: float) -> nn.Module:
        return peer.pruned(network(case.depth), case.criterion, ratio, data)

    def faster(model: nn.Module) -> float:
        program = lower(captured(model, case.name), TARGET, folder / "model.pte")
        return speedup(*compare([base.path, program], TARGET, Effort(processes=2, rounds=15)))[0]

    model = _bisected(make, faster, case.speedup)
    torch.save(model, folder / "model.pt")
    _measure(folder, base, captured(model, case.name))


def _bisected(
    make: Callable[[float], nn.Module], faster: Callable[[nn.Module], float], wanted: float
) -> nn.Module:
    """The model of the least ratio that is fast enough (to 4 % too fast, or eight trials)."""
    low, high = 0.0, 1.0
    best: nn.Module | None = None
    for _ in range(8):
        ratio = (low + high) / 2
        model = make(ratio)
        found = faster(model)
        print(f"ratio {ratio:.3f}: {found:.2f}x", file=sys.stderr)
        if found >= wanted * 1.01:
            best, high = model, ratio
            if found <= wanted * 1.04:
                break
        else:
            low = ratio
    if best is None:
        raise OutOfReach(f"no ratio makes it {wanted:g} times as fast")
    return best


def _baseline(folder: Path, full: Graph) -> Baseline:
    artifact = lower(full, TARGET, folder / "baseline.pte")
    (found,) = compare([artifact], TARGET, Effort(processes=2))
    return Baseline(artifact.path, found.median_ms, artifact.size_bytes)


def _measure(folder: Path, base: Baseline, small: Graph) -> None:
    """measured.json: both programs in turns."""
    program = lower(small, TARGET, folder / "model.pte")
    before, after = compare([base.path, program], TARGET, Effort(processes=3))
    ratio, (low, high) = speedup(before, after)
    told = {
        "speedup": ratio, "low": low, "high": high, "before_ms": before.median_ms,
        "after_ms": after.median_ms, "clock": before.clock,
    }  # fmt: skip
    (folder / "measured.json").write_text(json.dumps(told))
