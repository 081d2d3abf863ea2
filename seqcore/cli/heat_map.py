"""A heat map in SVG: steps across, units down.

Each cell says its value three ways, so that it can be read without colour: the number, a bar, and
a tint. The bar of a value that may be negative starts in the middle of its cell.
"""

from __future__ import annotations

from html import escape
from typing import Any

from numpy.typing import NDArray

_LEFT, _TOP, _WIDTH, _HEIGHT, _BOTTOM = 46, 22, 66, 38, 24
_BAR, _INSET = 5, 5
_PALEST, _DEEPEST = 0.06, 0.8
"""The tint's opacity at 0 and at the end of the scale; text stays legible on both."""


def draw_map(
    identifier: str,
    title: str,
    values: NDArray[Any],
    *,
    signed: bool,
    scale: float,
    backwards: bool,
) -> str:
    """Return a map of values (time, units).

    Args:
        identifier: Unique on the page.
        title: What it shows, for a reader who does not see it.
        values: The values.
        signed: Whether they may be negative.
        scale: The largest size that is drawn.
        backwards: Whether the steps are read from the last to the first.
    """
    steps, units = values.shape
    width, height = _LEFT + steps * _WIDTH + 1, _TOP + units * _HEIGHT + _BOTTOM
    names = f"{identifier}-title {identifier}-text"
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{names}">',
        f'<title id="{identifier}-title">{escape(title)}</title>',
        f'<desc id="{identifier}-text">{escape(_in_words(values))}</desc>',
    ]
    for step in range(steps):
        middle = _LEFT + (step + 0.5) * _WIDTH
        parts.append(f'<text class="axis" x="{middle:g}" y="15">step {step}</text>')
    for unit in range(units):
        middle = _TOP + (unit + 0.5) * _HEIGHT + 4
        parts.append(f'<text class="axis start" x="0" y="{middle:g}">unit {unit}</text>')
        parts += [
            _cell(
                _LEFT + step * _WIDTH, _TOP + unit * _HEIGHT, float(values[step, unit]), scale,
                signed=signed,
            )
            for step in range(steps)
        ]  # fmt: skip
    parts += [_arrow(_LEFT, width - 1, height - 10, backwards=backwards), "</svg>"]
    return "\n".join(parts)


def draw_legend() -> str:
    """Return a row of cells that shows how values are drawn."""
    shown = (-1.0, -0.5, 0.0, 0.5, 1.0)
    width, height = len(shown) * _WIDTH + 1, _HEIGHT + 22
    title = (
        "Legend: each cell holds its value as a number, a bar and a tint; the bar of a negative "
        "value goes left from the middle"
    )
    parts = [
        f'<svg class="legend" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">',
        *(_cell(index * _WIDTH, 0, value, 1.0, signed=True) for index, value in enumerate(shown)),
        f'<text class="axis start" x="0" y="{height - 6}">negative: the bar goes left</text>',
        f'<text class="axis end" x="{width - 1}" y="{height - 6}">positive: it goes right</text>',
        "</svg>",
    ]
    return "\n".join(parts)


def _cell(x: float, y: float, value: float, scale: float, *, signed: bool) -> str:
    size = min(1.0, abs(value) / scale)
    sign = "negative" if value < 0 else "positive"
    tint = _PALEST + (_DEEPEST - _PALEST) * size
    # The outline and the page's own colour are below the tint.
    box = f'x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}"'
    return (
        f'<rect class="cell" {box}/>'
        f'<rect class="{sign}" {box} fill-opacity="{tint:.3f}"/>'
        f'<text x="{x + _WIDTH / 2:g}" y="{y + 20:g}">{_number(value)}</text>'
        f"{_bar(x, y + _HEIGHT - _BAR - 4, value, size, signed=signed)}"
    )


def _bar(x: float, y: float, value: float, size: float, *, signed: bool) -> str:
    room = _WIDTH - 2 * _INSET
    if not signed:
        return _rectangle(x + _INSET, y, room * size)
    middle, length = x + _WIDTH / 2, room / 2 * size
    start = middle - length if value < 0 else middle
    line = f'<path class="middle" d="M{middle:g} {y - 2:g}v{_BAR + 4}"/>'
    return _rectangle(start, y, length) + line


def _rectangle(x: float, y: float, width: float) -> str:
    return f'<rect class="bar" x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{_BAR}"/>'


def _arrow(left: float, right: float, y: float, *, backwards: bool) -> str:
    start, end, back = (right, left, 7) if backwards else (left, right, -7)
    return (
        f'<path d="M{start:g} {y:g}H{end:g}m{back} -4L{end:g} {y:g}l{back} 4" fill="none" '
        'class="middle"/>'
    )


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def _in_words(values: NDArray[Any]) -> str:
    steps = (
        f"step {step}: {', '.join(_number(float(value)) for value in row)}"
        for step, row in enumerate(values)
    )
    return "; ".join(steps)
