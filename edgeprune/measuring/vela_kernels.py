"""Kernels for Arm's Ethos-U "executed": each compiled by itself by Vela, whose estimate it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from edgeprune.cost.rules_outside import PREFIX
from edgeprune.cost.sampler import Effort
from edgeprune.cost.tosa_kernels import can_build, times, tosa_of
from edgeprune.errors import TargetError
from edgeprune.quiet import quiet
from edgeprune.records import Conditions, KernelKey, Progress, Target
from edgeprune.vela_reports import read_reports

_FREE = "delegate_call"
_DEFAULT_CONFIG = "Arm/vela.ini"


class VelaRuns:
    """The compiler in the place of a device. Its estimate of a kernel never changes, so every
    kernel has one sample."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._known: dict[KernelKey, float] = {}

    def conditions(self) -> Conditions:
        """The compiler's version, accelerator and system, in the place of a device's."""
        vela = self._target.vela
        assert vela is not None
        system = f"{vela.system_config}, {vela.memory_mode}"
        return Conditions(
            device=vela.accelerator,
            cpu=vela.accelerator,
            runtime=f"estimated by Vela {version('ethos-u-vela')}, {system}",
            backend=self._target.backend,
            dtype=self._target.dtype,
            threads=self._target.threads,
            governor=None,
            frequency_mhz=None,
            temperature_c=None,
            load=0.0,
            date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def sample(
        self, keys: Sequence[KernelKey], effort: Effort, progress: Progress
    ) -> Iterator[tuple[KernelKey, tuple[float, ...]]]:
        """(key, its one estimate in µs) of each kernel.

        Raises TargetError naming the kernels that cannot be compiled by themselves, before any is.
        """
        unknown = sorted({k.op.removeprefix(PREFIX) for k in keys if not _is_free(k)})
        unknown = [op for op in unknown if not can_build(KernelKey(op, ()))]
        if unknown:
            raise TargetError(
                f"target {self._target.name!r}: Vela prices no kernel {', '.join(unknown)} for "
                "edgeprune, and this network has them; plan by another target, by --mmacs or --size"
            )
        for i, key in enumerate(keys):
            progress("estimating kernels", i, len(keys), "by Vela")
            if key not in self._known:
                self._known[key] = 0.0 if _is_free(key) else times(key) * self._us(key)
            yield key, (self._known[key],)
        progress("estimating kernels", len(keys), len(keys))

    def _us(self, key: KernelKey) -> float:
        from ethosu.vela import vela as compiler

        vela = self._target.vela
        assert vela is not None
        flags = {
            "accelerator-config": vela.accelerator,
            "system-config": vela.system_config,
            "memory-mode": vela.memory_mode,
            "config": vela.config or _DEFAULT_CONFIG,
        }
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder, quiet():
            path = Path(folder) / "kernel.tosa"
            path.write_bytes(tosa_of(key))
            compiler.main(
                [
                    *(f"--{name}={value}" for name, value in flags.items() if value is not None),
                    *("--verbose-performance", f"--output-dir={folder}/out", str(path)),
                ]
            )
            return 1000 * read_reports(Path(folder)).ms


def _is_free(key: KernelKey) -> bool:
    """Entering the delegate, and a kernel of a block that is not there, take no cycles."""
    return key.op == _FREE or not key.shapes
