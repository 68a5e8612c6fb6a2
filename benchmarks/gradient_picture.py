"""Gradient against distance as an SVG picture, both axes logarithmic. Used by long_range.py."""

from __future__ import annotations

import math

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 900, 520, 80, 50, 200, 60
FLOOR, CEILING = 1e-12, 1e2
COLOURS = ("#1b6ca8", "#c8553d", "#2d936c", "#8e44ad", "#b8860b", "#444444", "#d81b60", "#00838f")
DASHES = ("", "7 4", "2 3")


def x_of(distance: float) -> float:
    """Distances 1 to 1,000 across the plot."""
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(max(1.0, distance)) / 3


def y_of(share: float) -> float:
    """Shares from CEILING down to FLOOR; what is less lies on the floor."""
    place = math.log10(CEILING / min(CEILING, max(FLOOR, share))) / math.log10(CEILING / FLOOR)
    return TOP + (HEIGHT - TOP - BOTTOM) * place


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def grid() -> list[str]:
    parts = []
    for power in range(4):
        x = x_of(10**power)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(text(x, HEIGHT - BOTTOM + 20, f"{10**power:,}", anchor="middle"))
    for power in range(-12, 3, 2):
        y = y_of(10.0**power)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        words = "1" if power == 0 else f'10<tspan dy="-5" font-size="10">{power}</tspan>'
        parts.append(text(LEFT - 8, y + 4, words, anchor="end"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 15, "steps between input and output", anchor="middle"))
    parts.append(text(LEFT - 50, 28, "What is left of the gradient after so many steps (1: all of it)", size=16))
    return parts


def labels(ends: dict[str, float]) -> dict[str, float]:
    """Where each name stands beside its curve's end: in the curves' order, none upon another."""
    placed, last = {}, TOP - 16.0
    for name in sorted(ends, key=lambda each: ends[each]):
        last = max(last + 16.0, ends[name])
        placed[name] = last
    overflow = max(0.0, last - (HEIGHT - BOTTOM))
    return {name: max(TOP + 16.0 * index, y - overflow) for index, (name, y) in enumerate(placed.items())}


def draw(shares: dict[str, dict[str, float]]) -> str:
    """A curve for each cell, named at its end."""
    parts = grid()
    ends = {name: y_of(list(curve.values())[-1]) for name, curve in shares.items()}
    places = labels(ends)
    for index, (name, curve) in enumerate(shares.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        points = " ".join(f"{x_of(float(d)):.1f},{y_of(share):.1f}" for d, share in curve.items() if float(d) >= 1)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{points}" {style}/>')
        x, y = WIDTH - RIGHT, places[name]
        parts.append(f'<line x1="{x}" y1="{ends[name]:.1f}" x2="{x + 22}" y2="{y:.1f}" stroke="{colour}"/>')
        parts.append(f'<g fill="{colour}">{text(x + 26, y + 4, name)}</g>')
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return f'{head}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
