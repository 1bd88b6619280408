"""The keys of a target profile: their names, types and ranges, and what must hold among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Dtype = Literal["fp32", "fp16", "int8"]
Backend = Literal[
    "xnnpack",
    "coreml",
    "vulkan",
    "openvino",
    "ethos-u",
    "cortex-m",
    "qnn",
    "mediatek",
    "samsung",
    "nxp",
]
Runner = Literal["local", "ssh", "adb", "vela", "roofline", "kit", "none"]

ESTIMATING = ("vela", "roofline")
"""Runners that compute what programs may take, on no device at all."""

_REACHING = ("ssh", "adb")


class Limits(BaseModel):
    """What the device can hold; a program above a limit is refused."""

    model_config = ConfigDict(strict=True, extra="forbid")

    max_size_mb: float | None = Field(default=None, gt=0)
    max_memory_mb: float | None = Field(default=None, gt=0)


class ReachKeys(BaseModel):
    """How to get at the device; see `records.Reach`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    hosts: list[str] = []
    port: int | None = Field(default=None, ge=1)
    identity: str | None = None
    known_hosts: str | None = None
    folder: str | None = None
    runner: str | None = None
    python: str = "python3"
    cpus: list[Annotated[int, Field(ge=0)]] = []
    cool_below_c: float | None = Field(default=None, gt=0)
    reconnect_s: float = Field(default=120.0, gt=0)


class RatesKeys(BaseModel):
    """What the vendor says the device can do; see `records.Rates`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    gmacs_per_s: dict[Dtype, Annotated[float, Field(gt=0)]]
    memory_gb_per_s: float = Field(gt=0)
    source: str


class VelaKeys(BaseModel):
    """What Vela compiles for: names of its own configuration file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    accelerator: str
    system_config: str | None = None
    memory_mode: str | None = None
    config: str | None = None


class Profile(BaseModel):
    """The keys of a profile. Those without a default must be set by the file or what it extends."""

    model_config = ConfigDict(strict=True, extra="forbid")

    extends: str | None = None
    description: str = ""
    backend: Backend
    runner: Runner
    dtype: Dtype
    threads: int = Field(ge=1)
    costs: Literal["measured", "estimated"]
    channel_multiple: int | None = Field(default=None, ge=1)
    requires: str = ""
    has_run: bool = False
    rewrite: bool = True
    limits: Limits = Limits()
    reach: ReachKeys = ReachKeys()
    rates: RatesKeys | None = None
    vela: VelaKeys | None = None
    core: str | None = None


def disagreements(keys: Mapping[str, Any]) -> list[str]:
    """What is wrong among the keys of a profile, each of which may be wrong by itself as well."""
    runner, rates = keys.get("runner"), keys.get("rates")
    found = []
    if runner in ESTIMATING and keys.get("costs") == "measured":
        found.append(f"costs: is 'measured', and runner {runner!r} measures nothing: 'estimated'")
    peaks = rates.get("gmacs_per_s") if isinstance(rates, dict) else None
    if runner == "roofline" and keys.get("dtype") not in (peaks if isinstance(peaks, dict) else ()):
        found.append(
            f"rates.gmacs_per_s: has nothing for dtype {keys.get('dtype')!r}, and runner "
            "'roofline' computes from it"
        )
    if runner == "vela" and not isinstance(keys.get("vela"), dict):
        found.append("vela: missing, and runner 'vela' needs vela.accelerator")
    if keys.get("backend") == "cortex-m" and not isinstance(keys.get("core"), str):
        found.append("core: missing, and backend 'cortex-m' needs it: \"cortex-m55\", say")
    reach = keys.get("reach")
    if runner not in _REACHING and isinstance(reach, dict) and reach.get("hosts"):
        found.append(f"reach.hosts: runner {runner!r} goes to no other device; 'ssh' or 'adb' do")
    return found


def known_keys() -> list[str]:
    """Every key, tables' keys with a dot."""
    tables: Mapping[str, type[BaseModel]] = {
        "limits": Limits,
        "reach": ReachKeys,
        "rates": RatesKeys,
        "vela": VelaKeys,
    }
    inner = [f"{name}.{key}" for name, model in tables.items() for key in model.model_fields]
    return [*Profile.model_fields, *inner]
