"""What the runner on this machine says of a processor that slowed down."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.cost.conditions import host_conditions
from edgeprune.measuring.local import slowed_down

COOL = replace(host_conditions("xnnpack", "fp32", 1), frequency_mhz=3000.0, temperature_c=50.0)


def test_a_steady_processor_is_not_spoken_of() -> None:
    assert slowed_down(COOL, replace(COOL, frequency_mhz=2950.0)) == ()


def test_a_clock_that_fell_is_told() -> None:
    (said,) = slowed_down(COOL, replace(COOL, frequency_mhz=2400.0))
    assert "fell by 20%" in said


def test_a_hot_processor_is_told() -> None:
    (said,) = slowed_down(COOL, replace(COOL, temperature_c=95.0))
    assert "95 °C" in said


def test_what_cannot_be_read_is_not_guessed() -> None:
    unknown = replace(COOL, frequency_mhz=None, temperature_c=None)
    assert slowed_down(unknown, unknown) == ()
