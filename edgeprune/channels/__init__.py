"""Which channels of a graph must live or die together (see core.py for how it is found out)."""

from __future__ import annotations

from edgeprune.channels import contraction as contraction
from edgeprune.channels import cutting as cutting
from edgeprune.channels import elementwise as elementwise
from edgeprune.channels import movement as movement
from edgeprune.channels import products as products
from edgeprune.channels import recurrent as recurrent
from edgeprune.channels import reduction as reduction
from edgeprune.channels import windows as windows
from edgeprune.channels.grouping import channel_groups

__all__ = ["channel_groups"]
