"""The chart: throughput and connections as a part of what the bare kernel does, as SVG written here.

Owns the drawing. Must never compute a figure: medians come in.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bench.book import REFERENCE

if TYPE_CHECKING:
    from bench.book import Book

_FIGURES = (
    ("up 8", "up, 8 streams", "#31688e"),
    ("down 8", "down, 8 streams", "#35b779"),
    ("conn/s", "connections/s", "#d9a400"),
)
_WIDTH, _LEFT, _BAR, _GAP, _TOP = 760, 170, 11, 12, 64


def chart(book: Book) -> str:
    """The whole file; subjects from the fastest upload down."""
    ratios = {
        name: [_ratio(book, figure, name) for figure, _, _ in _FIGURES]
        for name in book.subjects(figure for figure, _, _ in _FIGURES)
        if name not in {REFERENCE, "mvm, unrecorded"}
    }
    ordered = sorted(ratios.items(), key=lambda each: -(each[1][0] or 0))
    row = len(_FIGURES) * _BAR + _GAP
    height = _TOP + len(ordered) * row + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        '<g font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<text x="10" y="20" font-size="14">Part of what the bare kernel does alone (1 = all)</text>',
    ]
    for at, (_, label, colour) in enumerate(_FIGURES):
        left = _LEFT + at * 170
        lines.append(f'<rect x="{left}" y="34" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{left + 18}" y="44">{escape(label)}</text>')
    for at, (name, values) in enumerate(ordered):
        lines += _row(name, values, _TOP + at * row)
    return "\n".join([*lines, "</g></svg>", ""])


def _row(name: str, values: list[float | None], top: int) -> list[str]:
    weight = ' font-weight="bold"' if name == "mvm" else ""
    middle = top + len(_FIGURES) * _BAR // 2 + 4
    lines = [f'<text x="{_LEFT - 10}" y="{middle}" text-anchor="end"{weight}>{escape(name)}</text>']
    for at, (value, (_, _, colour)) in enumerate(zip(values, _FIGURES, strict=True)):
        if value is not None:
            width, y = max(1.0, value * (_WIDTH - _LEFT - 60)), top + at * _BAR
            lines.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}" fill="{colour}"/>'
            )
            lines.append(f'<text x="{_LEFT + width + 5:.1f}" y="{y + 9}" font-size="9">{value:.2f}</text>')
    return lines


def _ratio(book: Book, figure: str, name: str) -> float | None:
    value, whole = book.median(figure, name), book.median(figure, REFERENCE)
    return None if value is None or not whole else value / whole
