"""Kits: everything that a device needs to time programs, for whoever has the device at hand."""

from __future__ import annotations

from edgeprune.kit.making import make_kit as make_kit
from edgeprune.kit.records import Kit as Kit
from edgeprune.kit.records import Wanted as Wanted

__all__ = ["Kit", "Wanted", "make_kit"]
