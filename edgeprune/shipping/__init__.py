"""What travels with a program: its manifest, and cases that it can be checked on."""

from __future__ import annotations

from edgeprune.shipping.describing import Told as Told
from edgeprune.shipping.describing import describe as describe
from edgeprune.shipping.describing import in_memory as in_memory
from edgeprune.shipping.describing import ports_of as ports_of
from edgeprune.shipping.manifest import manifest_path as manifest_path
from edgeprune.shipping.manifest import read_manifest as read_manifest
from edgeprune.shipping.manifest import write_manifest as write_manifest

__all__ = [
    "Told",
    "describe",
    "in_memory",
    "manifest_path",
    "ports_of",
    "read_manifest",
    "write_manifest",
]
