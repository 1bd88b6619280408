"""Backends whose programs only the vendor's own SDK makes: known by name, not driven by edgeprune.

Their SDKs are had from the vendors alone, under licences of their own, so nothing here could be
tried with them. What edgeprune does up to there (pruning, recovery) needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class VendorSdk:
    """An SDK: whose it is, what upstream's part in executorch wants of it, and where that is."""

    devices: str
    sdk: str
    wants: str
    package: str

    def refusal(self, backend: str) -> str:
        """Why there is no program, and the way to one."""
        return (
            f"programs for {self.devices} (backend {backend!r}) are made with {self.sdk} "
            f"({self.wants}), which edgeprune does not drive. Prune for the CPU of the same device "
            "(fit --target android-arm64-xnnpack, say), then give model.pt2 of that run "
            f"to {self.package}"
        )


VENDORS: Mapping[str, VendorSdk] = {
    "qnn": VendorSdk(
        "Qualcomm's NPUs",
        "Qualcomm AI Engine Direct SDK",
        "its folder in QNN_SDK_ROOT, its libraries in LD_LIBRARY_PATH",
        "executorch.backends.qualcomm",
    ),
    "mediatek": VendorSdk(
        "MediaTek's NPUs",
        "MediaTek NeuroPilot Express SDK",
        "its wheels mtk_converter and mtk_neuron installed, NEURON_BUFFER_ALLOCATOR_LIB set",
        "executorch.backends.mediatek",
    ),
    "samsung": VendorSdk(
        "Samsung's Exynos NPUs",
        "Samsung Exynos AI LiteCore SDK",
        "its folder in EXYNOS_AI_LITECORE_ROOT, an executorch built from source with it",
        "executorch.backends.samsung",
    ),
    "nxp": VendorSdk(
        "NXP's eIQ Neutron NPUs",
        "NXP eIQ Neutron SDK",
        "its wheel eiq_neutron_sdk installed, from NXP's own package index",
        "executorch.backends.nxp",
    ),
}
