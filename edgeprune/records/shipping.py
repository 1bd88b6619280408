"""What travels with a program: everything an app developer must know to call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MANIFEST_FORMAT = "edgeprune-program/1"


@dataclass(frozen=True)
class Normalisation:
    """What was done to raw inputs before the network saw them.

    `text` says it to people. Where it is images in channels, `mean` and `std` are per channel (one
    for all where there is one), of pixels scaled to 0..1: (pixel / 255 - mean) / std.
    """

    text: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Port:
    """One input or output of a program, as the runtime sees it.

    `shape` is in the order of the tensor's dimensions (N C H W for images), `layout` how they lie
    in memory: NCHW, NHWC, row-major, or the order of the dimensions. `normalisation` is None where
    it does not apply, or where nobody told.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundled program beside the program: cases of inputs with expected outputs.

    `checked` is whether the program was run on them where it was made, within the tolerances.
    """

    file: str
    sha256: str
    cases: int
    rtol: float
    atol: float
    checked: bool


@dataclass(frozen=True)
class Manifest:
    """What lies beside a program as `PROGRAM.pte.json`.

    `runtime` made it and `oldest_runtime` is the oldest known to read it. `labels` are the classes
    in the order of the first output's last dimension, empty where they are not known.
    """

    file: str
    sha256: str
    size_bytes: int
    model: str
    target: str
    backend: str
    dtype: str
    threads: int
    runtime: str
    oldest_runtime: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    labels: tuple[str, ...] = ()
    outside: Mapping[str, int] = field(default_factory=dict)
    """Operators that run in ExecuTorch's own kernels, which the app's runtime must hold."""
    requires: str = ""
    made_with: Mapping[str, str] = field(default_factory=dict)
    bundle: Bundle | None = None
    format: str = MANIFEST_FORMAT
