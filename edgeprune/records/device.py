"""Where a program runs, and what was measured there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


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

    `core` is what upstream calls a microcontroller's processor; `channel_multiple` is how many
    channels the device computes at a time; `requires` what it must run at least, in words;
    `has_run` whether this project has run programs on such a device.
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
    core: str | None = None
    channel_multiple: int | None = None
    requires: str = ""
    has_run: bool = False
    rewrite: bool = True
    """Whether operators that the delegate does not take are rewritten to ones that it does, where
    there are rewrites for it: in XNNPACK in fp32."""


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
