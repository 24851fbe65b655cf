"""Plots as SVG, by hand: one line for each searcher, the regret on a logarithmic scale."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

# Okabe and Ito's colours, told apart by most eyes; a library has the colour of the sampler it is compared with, dashed.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#7F7F7F", "#882255")
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 250, 40, 48

Points = Sequence[tuple[float, float]]


def svg(title: str, across: str, up: str, lines: Mapping[str, Points], like: Mapping[str, str]) -> str:
    """
    Args:
        lines: by name; x from 0 to 1, y above 0 (what is not is drawn at the lower edge).
        like: names of lines that take another's colour.
    """
    heights = [y for points in lines.values() for _, y in points if y > 0]
    top, low = _decades(max(heights)), max(_decades(min(heights), down=True), 1e-4)
    names = sorted(lines, key=lambda name: -lines[name][-1][1])
    own = [name for name in lines if name not in like]
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(own)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_axes(across, up, low, top),
    ]
    for place, name in enumerate(names):
        colour = colours.get(name) or colours.get(like[name], "#7F7F7F")
        dash = ' stroke-dasharray="5 3"' if name in like else ""
        path = " ".join(f"{_x(x):.1f},{_y(y, low, top):.1f}" for x, y in lines[name])
        style = f'stroke="{colour}" stroke-width="2" fill="none"{dash}'
        y = TOP + 8 + 17 * place
        parts += [
            f'<polyline points="{path}" {style}/>',
            f'<line x1="{WIDTH - RIGHT + 14}" x2="{WIDTH - RIGHT + 38}" y1="{y}" y2="{y}" {style}/>',
            f'<text x="{WIDTH - RIGHT + 44}" y="{y + 4}">{escape(name)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(value: float, down: bool = False) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    steps = [power * each for each in (1, 2, 5, 10)]
    if down:
        return max(step for step in steps if step <= value * (1 + 1e-9))
    return min(step for step in steps if step >= value * (1 - 1e-9))


def _axes(across: str, up: str, low: float, top: float) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    power = math.floor(math.log10(low))
    while 10.0**power <= top:
        for step in (1, 2, 5):
            value = step * 10.0**power
            if low * 0.999 <= value <= top * 1.001:
                y = _y(value, low, top)
                parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
                parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        power += 1
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<text x="{_x(part):.1f}" y="{bottom + 18}" text-anchor="middle">{part:.0%}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<path d="M{LEFT},{TOP} V{bottom} H{right}" stroke="black" fill="none"/>')
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>')
    at = (TOP + bottom) / 2
    parts.append(f'<text transform="translate(16,{at}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    return parts


def _x(part: float) -> float:
    return LEFT + part * (WIDTH - RIGHT - LEFT)


def _y(value: float, low: float, top: float) -> float:
    part = (math.log(max(value, low)) - math.log(low)) / (math.log(top) - math.log(low))
    return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
