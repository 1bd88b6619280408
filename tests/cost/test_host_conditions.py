"""What a measurement on this host says of itself."""

from __future__ import annotations

from datetime import datetime

from edgeprune.cost.conditions import host_conditions


def test_the_host_is_described_without_its_name():
    import socket

    here = host_conditions("xnnpack", "fp32", 2)
    assert (here.device, here.backend, here.dtype, here.threads) == ("host", "xnnpack", "fp32", 2)
    assert here.runtime.startswith("executorch 1.")
    assert here.cpu
    assert socket.gethostname() not in (here.device, here.cpu)
    assert here.load >= 0
    assert datetime.fromisoformat(here.date).utcoffset() is not None
