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


def visible(curve: dict[str, float]) -> list[tuple[float, float]]:
    """The points of a curve up to where it meets the floor."""
    points = []
    for distance, share in curve.items():
        if float(distance) >= 1:
            points.append((x_of(float(distance)), y_of(share)))
            if share <= FLOOR:
                break
    return points


def draw(shares: dict[str, dict[str, float]]) -> str:
    """A curve for each cell, and their names beside, those that remember longest first."""
    parts = grid()
    for index, name in enumerate(sorted(shares, key=lambda each: sum(map(y_of, shares[each].values())))):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in visible(shares[name]))
        parts.append(f'<polyline points="{points}" {style}/>')
        x, y = WIDTH - RIGHT + 20, TOP + 22 * index + 8
        parts.append(f'<line x1="{x}" y1="{y}" x2="{x + 34}" y2="{y}" {style}/>')
        parts.append(text(x + 42, y + 4, name))
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return f'{head}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
