"""The frozen records that cross a layer. Nothing here computes, and nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgeprune.choices import Strategy
from edgeprune.rules import Rules

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Verdict = Literal["met", "missed", "undecidable"]
Optimiser = Literal["sgd", "adamw"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Widths = Mapping[str, int]
"""Channels kept, by group name; a dropped block is 0 under its `Block.key`."""


class Progress(Protocol):
    """How a long stage tells the outside how far it is. The library itself never prints."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that says nothing."""


# --- the graph -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """A captured model: `torch.export`'s ATen program as a trainable module.

    `program` keeps the user's parameter names; `example_inputs` are the caller's own tensors
    (batch as given); `dynamic_batch` says whether dimension 0 may vary. `masks` (boolean, by
    parameter, True where a weight may be other than zero) are what `sparsify` left: training holds
    the rest at zero.
    """

    program: torch.fx.GraphModule
    example_inputs: tuple[torch.Tensor, ...]
    name: str = "model"
    dynamic_batch: bool = True
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def module(self) -> torch.nn.Module:
        """The network as an ordinary `nn.Module`: trainable, `train()` and `eval()` work.

        It is the graph's own module, not a copy: training it trains the graph.
        """
        return self.program


# --- channels --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParameterSlice:
    """What each channel of a group owns of one parameter or buffer.

    `positions` is (channels, k): channel i owns the k indices `positions[i]` along `dim`.
    `role` is "out" where the channel is produced by this parameter, "in" where it is consumed,
    and "own" for per-channel parameters (batch norm, position tables).
    """

    parameter: str
    dim: int
    positions: NDArray[np.int64]
    role: Literal["out", "in", "own"]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that may be kept or removed one by one, each with everything tied to it.

    Channel i of the group lives in part `part_of[i]`; a plan keeps the same number in every part
    (grouped convolutions, attention heads); most groups have a single part.

    A group of attention heads, whose members go whole, names in `holds` the groups of the channels
    inside of them: a channel is there while it is kept and its head is. Either may be pruned, or
    both.
    """

    name: str
    size: int
    slices: tuple[ParameterSlice, ...]
    part_of: NDArray[np.int64]
    holds: tuple[str, ...] = ()

    @property
    def parts(self) -> int:
        """How many parts must keep equal counts."""
        return int(self.part_of.max()) + 1 if self.size else 0


@dataclass(frozen=True)
class Pinned:
    """Channels that may not be removed, with the op that pins them and the user's line."""

    name: str
    size: int
    op: str
    reason: str
    source: str


@dataclass(frozen=True)
class EqualCounts:
    """The kept channels of every part, weighted by multiplicity, must add up to the same number."""

    parts: tuple[tuple[tuple[str, int | Fraction], ...], ...]


@dataclass(frozen=True)
class Extent:
    """A tensor dimension as a function of widths: fixed + sum of multiplicity * kept channels.

    A multiplicity is a fraction where the dimension holds one part of a group's channels.
    `products` are (channels, heads, multiplicity): so many for each kept channel of each kept head.
    """

    fixed: int
    terms: tuple[tuple[str, int | Fraction], ...] = ()
    products: tuple[tuple[str, str, int | Fraction], ...] = ()

    def at(self, widths: Widths) -> int:
        """The dimension's size under `widths` (channels kept by group)."""
        linear = sum(mult * widths[group] for group, mult in self.terms)
        inside = sum(mult * widths[group] * widths[heads] for group, heads, mult in self.products)
        return self.fixed + int(linear + inside)

    @property
    def groups(self) -> frozenset[str]:
        """The groups whose widths the size depends on."""
        inside = (name for group, heads, _ in self.products for name in (group, heads))
        return frozenset([*(name for name, _ in self.terms), *inside])


@dataclass(frozen=True)
class ChannelGroups:
    """Everything about a graph's channels: what can go, what cannot and why, and all sizes.

    `extents` maps each tensor-valued node's name to its dimensions (batch 1) as `Extent`s.
    """

    groups: tuple[ChannelGroup, ...]
    pinned: tuple[Pinned, ...]
    equal_counts: tuple[EqualCounts, ...]
    extents: Mapping[str, tuple[Extent, ...]]
    fingerprint: str

    def __getitem__(self, name: str) -> ChannelGroup:
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def full_widths(self) -> dict[str, int]:
        """Every group's full size."""
        return {group.name: group.size for group in self.groups}


def block_key(name: str) -> str:
    """A block's name among widths, apart from groups' names."""
    return f"block:{name}"


@dataclass(frozen=True)
class Block:
    """A residual branch that can be dropped whole: `add` becomes the operand that is not `branch`.

    `add` and `branch` are node names; `nodes` are the nodes that are computed for the branch only,
    in the graph's order, and `parameters` the parameters and buffers that nothing else reads.
    """

    name: str
    add: str
    branch: str
    nodes: tuple[str, ...]
    parameters: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name among widths, where 0 says that the block is dropped (see `Widths`)."""
        return block_key(self.name)


@dataclass(frozen=True)
class Scores:
    """Importance of each channel: one float array of length `group.size` per group name."""

    criterion: str
    values: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Sparsity:
    """Single weights to set to zero. `pattern` is a word of choices.PATTERNS, or N:M as in "2:4".

    `share` is the share of the weights that go (the most that may go, for "lsh"; None: as many as
    the pattern says, for "lsh" and N:M), counted over all layers or in every layer by itself.
    """

    pattern: str = "magnitude"
    share: float | None = None
    scope: Literal["global", "layer"] = "layer"
    seed: int = 0


# --- target, cost ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reach:
    """How to get at a device that is not this machine, and what to mind there.

    `hosts` are what ssh or `adb -s` call the devices: several alike share the work. `runner` is a
    folder with a built `edgeprune_runner` and its libraries. `cpus` are the processors to run on
    (empty: any); measuring waits until they are below `cool_below_c` degrees Celsius. A connection
    that is lost is tried again for `reconnect_s`. Paths are as the user wrote them, `folder` is on
    the device.
    """

    hosts: tuple[str, ...] = ()
    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    folder: str | None = None
    runner: str | None = None
    python: str = "python3"
    cpus: tuple[int, ...] = ()
    cool_below_c: float | None = None
    reconnect_s: float = 120.0


@dataclass(frozen=True)
class Rates:
    """What the vendor says a device can do at most, for estimates, and where the vendor says so.

    `gmacs_per_s` are 1e9 multiply-accumulates per second of one processor core (or of the whole
    accelerator) by dtype; `memory_gb_per_s` is 1e9 bytes per second of the whole device.
    """

    gmacs_per_s: Mapping[str, float]
    memory_gb_per_s: float
    source: str


@dataclass(frozen=True)
class Vela:
    """What Arm's compiler for Ethos-U is to compile for: names of its configuration file.

    Where only the accelerator is given, the rest is ExecuTorch's default for it.
    """

    accelerator: str
    system_config: str | None = None
    memory_mode: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class Target:
    """One device profile, as read from a TOML file by `targets.load_target`.

    `channel_multiple` is how many channels the device computes at a time; `requires` what it must
    run at least, in words; `has_run` whether this project has run programs on such a device.
    """

    name: str
    description: str
    backend: str
    runner: str
    dtype: str
    threads: int
    costs: Literal["measured", "estimated"]
    max_size_bytes: int | None = None
    max_memory_bytes: int | None = None
    source: str = ""
    reach: Reach = field(default_factory=Reach)
    rates: Rates | None = None
    vela: Vela | None = None
    channel_multiple: int | None = None
    requires: str = ""
    has_run: bool = False
    rewrite: bool = False
    """Whether operators that the delegate does not take are rewritten to ones that it does."""


@dataclass(frozen=True, order=True)
class KernelKey:
    """One kernel as the runtime executes it, after its own fusion.

    `shapes` are the input tensors' (N C H W, or ..., C for linear), batch 1; `attrs` are sorted
    (name, value) pairs such as ("kernel", (3, 3)), ("stride", (1, 1)), ("out_channels", 64),
    ("activation", "relu").
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    attrs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Kernel:
    """A kernel whose sizes depend on widths: a `KernelKey` with `Extent`s for sizes.

    `nodes` names the graph nodes it executes; `shapes` and the values of `attrs` may hold
    `Extent`s. `blocks` are the keys of the blocks without which it is not executed.
    """

    op: str
    nodes: tuple[str, ...]
    shapes: tuple[tuple[Extent, ...], ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    blocks: tuple[str, ...] = ()

    @property
    def groups(self) -> frozenset[str]:
        """The groups whose widths this kernel's cost depends on."""
        extents = [e for shape in self.shapes for e in shape]
        extents += [v for _, v in self.attrs if isinstance(v, Extent)]
        return frozenset(name for e in extents for name in e.groups)

    def at(self, widths: Widths) -> KernelKey:
        """The concrete kernel under `widths`; one without shapes where a block of it is dropped."""
        if any(widths.get(block, 1) == 0 for block in self.blocks):
            return KernelKey(self.op, ())
        return KernelKey(
            self.op,
            tuple(tuple(e.at(widths) for e in shape) for shape in self.shapes),
            tuple((k, v.at(widths) if isinstance(v, Extent) else v) for k, v in self.attrs),
        )


class CostModel(Protocol):
    """Predicted cost of a network at any widths on one target."""

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The network's kernels, in execution order."""
        ...

    def kernel_us(self, key: KernelKey) -> float:
        """Predicted time of one kernel, microseconds."""
        ...

    def kernel_bytes(self, key: KernelKey) -> int:
        """What one kernel adds to the .pte, bytes."""
        ...

    def latency_ms(self, widths: Widths) -> float:
        """Predicted latency of the whole network, milliseconds, corrections included."""
        ...

    def size_bytes(self, widths: Widths) -> int:
        """Predicted .pte size."""
        ...

    def steps(self, group: str) -> tuple[int, ...]:
        """The widths of a group worth choosing from: where the measured staircase steps."""
        ...

    def corrected(self, widths: Widths, measured_ms: float) -> CostModel:
        """A model that agrees with a measured whole program at `widths`."""
        ...

    def size_corrected(self, widths: Widths, measured_bytes: int) -> CostModel:
        """A model whose size agrees with a lowered program at `widths`."""
        ...

    def with_blocks(self, blocks: Sequence[Block]) -> CostModel:
        """The same model, whose kernels know which of `blocks` they vanish with."""
        ...


# --- plan ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """What the final program may cost. Any may be None; all that are set must hold.

    `speedup` is relative to the measured baseline; `max_drop` is in points of the metric.
    `memory_bytes` limits the activations that live at one time and `macs` the multiply-accumulates:
    both follow from the widths and are held to while planning, not measured.
    """

    latency_ms: float | None = None
    speedup: float | None = None
    size_bytes: int | None = None
    max_drop: float | None = None
    memory_bytes: int | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Artifact:
    """A lowered program on disk with what the host knows of it."""

    path: Path
    target: str
    size_bytes: int
    sha256: str
    delegated_nodes: int
    other_ops: Mapping[str, int] = field(default_factory=dict)
    planned_bytes: int = 0
    seconds: float = 0.0
    rewrites: Mapping[str, int] = field(default_factory=dict)
    """Operators that were rewritten for the delegate, by the rewrite's name."""
    compressed_bytes: int | None = None
    """The file after zlib at level 9, where somebody asked: what a download takes."""


@dataclass(frozen=True)
class Conditions:
    """What a measurement was taken under. Samples from different conditions never mix."""

    device: str
    cpu: str
    runtime: str
    backend: str
    dtype: str
    threads: int
    governor: str | None
    frequency_mhz: float | None
    temperature_c: float | None
    load: float
    date: str


@dataclass(frozen=True)
class Measurement:
    """Latency samples of one program: milliseconds of one execution each, several processes.

    `cpu_ms` holds the CPU time of the same samples where one thread runs, else is empty. Both hold
    all of one process's samples, then the next one's. `clock` says which of the two the median, the
    percentiles and the interval were computed from. `peak_rss_bytes` is 0 where it is not known.
    """

    path: Path
    samples_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    median_ms: float
    p10_ms: float
    p90_ms: float
    interval_ms: tuple[float, float]
    peak_rss_bytes: int
    processes: int
    conditions: Conditions
    warnings: tuple[str, ...] = ()
    estimated: bool = False
    clock: Literal["wall", "cpu"] = "wall"


# --- recovery --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """A value of the task's metric; `higher_is_better` for accuracy, False for a loss."""

    name: str
    value: float
    higher_is_better: bool = True


@dataclass(frozen=True)
class Recipe:
    """How to train. None leaves a choice to the network (`recovery.recipes` says which).

    Rates are for the batch size given; `distill` is the teacher's share of the loss. The gradients
    of `accumulate` batches make one update. `ema` is the decay of the averaged weights that are
    judged and kept in place of the last ones, 0 for none. `patience` is after how many epochs
    without a better validation metric training stops, 0 for never. `precision` is that of the
    forward pass: "fp32", "bf16", "fp16", or "auto": bf16 where the hardware has it, else fp32.
    """

    epochs: int = 3
    lr: float | None = None
    optimiser: Optimiser | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    warmup: float = 0.1
    distill: float = 0.5
    temperature: float = 4.0
    label_smoothing: float = 0.0
    clip: float = 5.0
    accumulate: int = 1
    ema: float = 0.0
    patience: int = 0
    precision: Precision = "fp32"
    seed: int = 0


@dataclass(frozen=True)
class FitOptions:
    """Everything `fit` needs beside the model and the data."""

    target: Target
    budget: Budget
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    baseline_epochs: int = 10
    criterion: str | None = None
    """None means Taylor where there is data, L2 where there is none (and the report says which)."""
    sparsity: Sparsity | None = None
    strategy: Strategy = "budget"
    rounds: int = 1
    """In how many cuts the channels go, with training between them (iterative pruning)."""
    statistics: bool = True
    """Whether batch norms get statistics of the cut network."""
    reconstruction: bool = True
    """Whether layers are refitted by least squares after a cut."""
    samples: int = 512
    """How many training samples these two look at, and int8 is calibrated on."""
    quantize: Literal["int8"] | None = None
    """Whether the final program is quantised; the baseline stays fp32."""
    seed: int = 0
    force: bool = False
    drop_blocks: bool = False
    """Whether residual blocks may be dropped whole."""
    rules: Rules = field(default_factory=Rules)
    floor: float = 0.1
    """The least share of every group that stays."""
    time_limit: float = 10.0
    """Seconds that the search for one plan may take."""


# --- report ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One program in the report: the baseline or the final one."""

    latency: Measurement
    size_bytes: int
    params: int
    macs: int
    planned_bytes: int
    metric: Metric | None
    compressed_bytes: int | None = None
    """The .pte after zlib at level 9."""
    zeros: float | None = None
    """The share of the parameters that are exactly zero."""


@dataclass(frozen=True)
class Stage:
    """One step of a run: what it was, how long it took, and the metric on the validation split."""

    name: str
    seconds: float
    metric: Metric | None = None
    note: str = ""


@dataclass(frozen=True)
class Layer:
    """One weight-carrying layer before and after: its width (in, out) and its cost."""

    name: str
    op: str
    before: tuple[int, int]
    after: tuple[int, int]
    before_us: float | None
    after_us: float | None


@dataclass(frozen=True)
class Round:
    """One turn of the closed loop: what was predicted, what was measured.

    `importance` is the share of the network's importance that the plan keeps, `gap` by how much of
    it the best plan for the same prediction may be better.
    """

    budget_ms: float | None
    predicted_ms: float | None
    measured_ms: float | None
    size_bytes: int
    verdict: Verdict
    importance: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class Parity:
    """Eager against .pte on real inputs: max |difference|, and that over max |eager|."""

    max_abs: float
    max_rel: float
    samples: int
    top1_agreement: float | None = None


@dataclass(frozen=True)
class Report:
    """The whole of one `fit`. `report.json` is this, through `report.to_json`."""

    model: str
    target: Target
    verdict: Verdict
    reasons: tuple[str, ...]
    budget: Budget
    baseline: Side
    final: Side
    speedup: float
    speedup_interval: tuple[float, float]
    parity: Parity
    stages: tuple[Stage, ...]
    rounds: tuple[Round, ...]
    layers: tuple[Layer, ...]
    pinned: tuple[Pinned, ...]
    artifacts: Mapping[str, str]
    versions: Mapping[str, str]
    notes: Sequence[str] = ()
    sparsity: Sparsity | None = None
