"""The front of a network as a picture: importance kept against predicted latency, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 44, 52
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #566370 }
.title { font-size: 14px; font-weight: 600; fill: #17212b }
.label { fill: #17212b; font-weight: 600 }
.rule { stroke: #e1e6eb } .line { stroke: #24709b; stroke-width: 2; fill: none }
.dot { fill: #24709b } .paper { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #9eabb8 } .title, .label { fill: #e6ebf0 } .rule { stroke: #2c353f }
  .line { stroke: #66afd6 } .dot { fill: #66afd6 } .paper { fill: #11161b }
}
"""


@dataclass(frozen=True)
class Dot:
    """One plan: predicted latency (ms), share of the importance kept, and its label."""

    latency_ms: float
    importance: float
    label: str


def front_svg(dots: Sequence[Dot], title: str) -> str:
    """The plans as a line over latency; the axis of importance ends at 100 %.

    Raises ValueError for no plans at all.
    """
    if not dots:
        raise ValueError("a front without plans cannot be drawn")
    ordered = sorted(dots, key=lambda dot: dot.latency_ms)
    most_ms = max(dot.latency_ms for dot in ordered) * 1.08
    lowest = max(0.0, min(dot.importance for dot in ordered) - 0.04)

    def x(ms: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ms / most_ms

    def y(share: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share) / max(1 - lowest, 1e-9)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>',
    ]
    for i in range(5):
        share, ms = lowest + (1 - lowest) * i / 4, most_ms * i / 4
        parts += [
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(share):.1f}" '
            f'y2="{y(share):.1f}"/>',
            f'<text x="{_LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>',
            f'<text x="{x(ms):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
            f"{ms:.3g}</text>",
        ]
    line = " ".join(f"{x(d.latency_ms):.1f},{y(d.importance):.1f}" for d in ordered)
    parts.append(f'<polyline class="line" points="{line}"/>')
    for dot in ordered:
        cx, cy = x(dot.latency_ms), y(dot.importance)
        tip = f"{dot.label}: {dot.latency_ms:.4g} ms, {dot.importance:.1%} of the importance"
        parts += [
            f'<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="4"><title>{escape(tip)}</title>'
            "</circle>",
            f'<text class="label" x="{cx + 8:.1f}" y="{cy + 14:.1f}">{escape(dot.label)}</text>',
        ]
    parts += [
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">'
        "predicted latency, ms</text>",
        f'<text x="{_LEFT}" y="{_TOP - 8}">importance kept</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
