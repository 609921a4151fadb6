"""Defects of the scenes.

Each public function here is one kind of defect. It takes a random generator and the look of a good scene (see `scenes`), and returns a
dictionary: the entries of the look that the defect changes.
"""

import numpy as np

from mdps_ref.data.drawing import blot, colour, paint, ramp, stain, stroke
from mdps_ref.data.scenes import BORE, ROOT, TEETH, THREADS, TILES


def _with_entry(table, index, value):
    """A copy of `table` with the entry at `index` replaced."""
    table = np.array(table)
    table[index] = value
    return table


def _spot(rng):
    """A random place well inside the frame."""
    return rng.uniform(0.27, 0.73, 2)


def _on_steel(rng, look, radius):
    """A random place on the washer at this distance from its middle, and the angle of the place."""
    angle = rng.uniform(0, 2 * np.pi)
    turned = angle + look["turn"]
    return 0.5 + look["shift"] + radius * np.array([np.cos(turned), np.sin(turned)]), turned


def _jagged(rng, start, heading, length, pieces, spread):
    """Corners of a line from `start` in equal steps, each with a random deviation from the heading (an angle)."""
    headings = heading + spread * rng.standard_normal(pieces)
    steps = length / pieces * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return np.concatenate([[start], start + np.cumsum(steps, axis=0)])


# The weave.


def _stretch(rng, low, high):
    """A random row of the weave well inside the frame, and the middle and half length of a piece of its thread."""
    return rng.integers(3, THREADS), np.array([rng.uniform(0.35, 0.65), rng.uniform(low, high)])


def missing_thread(rng, look):
    """A piece of weft thread is missing."""
    row, stretch = _stretch(rng, 0.17, 0.28)
    return {"gap": _with_entry(look["gap"], row, 1), "stretch": stretch}


def pulled_loop(rng, look):
    """A piece of weft thread was pulled out of the cloth and lies on it as a loop."""
    row, stretch = _stretch(rng, 0.15, 0.22)
    return {"loop": _with_entry(look["loop"], row, rng.choice([-1, 1]) * rng.uniform(0.6, 1)), "stretch": stretch}


def wrong_thread(rng, look):
    """A piece of weft thread has another colour."""
    row, stretch = _stretch(rng, 0.22, 0.34)
    return {"dye": _with_entry(look["dye"], row, rng.uniform(0.45, 1)), "stretch": stretch}


def hole(rng, look):
    """The threads are cut, and the dark behind them is visible."""
    field = blot(rng, _spot(rng), rng.uniform(0.09, 0.12))

    def mark(x, y, rgb):
        frayed = field(x, y) + 0.15 * np.sin(85 * x + 9 * y) * np.sin(75 * y - 11 * x)
        paint(rgb, 0.5 * rgb, ramp(-0.22, 0.0, frayed))
        paint(rgb, colour("#120b09"), ramp(-0.02, 0.08, frayed))

    return {"mark": mark}


def oil_stain(rng, look):
    """Oil has soaked into the cloth."""
    return {"mark": stain(rng, _spot(rng), rng.uniform(0.11, 0.15), "#5a4a34", rng.uniform(0.75, 1))}


# The tiles.


def _one_tile(rng):
    """Row, column and index in the look's tables of a random tile in the frame."""
    row, column = rng.integers(1, TILES + 1, 2)
    return row, column, (TILES + 2) * row + column


def crack(rng, look):
    """A dark crack runs across a tile or two."""
    heading = rng.uniform(0, 2 * np.pi)
    start = 0.5 - 0.28 * np.array([np.cos(heading), np.sin(heading)]) + rng.uniform(-0.12, 0.12, 2)
    return {"mark": stroke(_jagged(rng, start, heading, rng.uniform(0.55, 0.7), 8, 0.4), 0.017, "#1c1512", lit="#ffffff")}


def chip(rng, look):
    """A piece of glaze has broken off, and the red clay under it is visible."""
    row, column, _ = _one_tile(rng)
    corner = rng.choice([-1, 1], 2) * 0.11
    field = blot(rng, (np.array([column, row]) - 0.5) / TILES + look["shift"] + corner, rng.uniform(0.085, 0.11))

    def mark(x, y, rgb):
        depth = field(x, y) + 0.05 * np.sin(60 * x + 31 * y) + 0.04 * np.sin(83 * y - 47 * x)
        paint(rgb, colour("#fffaf0"), 0.8 * ramp(-0.12, -0.04, depth))
        paint(rgb, colour("#b3623d") * ramp(-0.5, 0.6, depth), ramp(-0.03, 0.02, depth))

    return {"mark": mark}


def missing_print(rng, look):
    """The print of a tile is faint or missing."""
    return {"print": _with_entry(look["print"], _one_tile(rng)[-1], rng.uniform(0, 0.35))}


def shifted_print(rng, look):
    """The print of a tile is shifted."""
    angle = rng.uniform(0, 2 * np.pi)
    shift = rng.uniform(0.1, 0.16) * np.array([np.cos(angle), np.sin(angle)])
    return {"slip": _with_entry(look["slip"], (slice(None), _one_tile(rng)[-1]), shift)}


def wrong_ink(rng, look):
    """The print of a tile has another colour."""
    ink = colour(rng.choice(["#8a2f2a", "#2f7a4a", "#5d3a86"]))[:, 0, 0]
    return {"ink": _with_entry(look["ink"], (slice(None), _one_tile(rng)[-1]), ink)}


def crooked_tile(rng, look):
    """A tile was laid at an angle."""
    return {"angle": _with_entry(look["angle"], _one_tile(rng)[-1], rng.choice([-1, 1]) * rng.uniform(0.16, 0.26))}


# The washer.


def scratch(rng, look):
    """A dark scratch with a lit edge runs across the brushing."""
    place, angle = _on_steel(rng, look, 0.5 * (BORE + ROOT))
    heading = angle + rng.choice([-1, 1]) * rng.uniform(0.8, 1.2)
    start = place - 0.17 * np.array([np.cos(heading), np.sin(heading)])
    return {"mark": stroke(_jagged(rng, start, heading, 0.34, 3, 0.1), 0.017, "#222226", lit="#ffffff")}


def rust(rng, look):
    """Rust has grown on the steel."""
    place, _ = _on_steel(rng, look, 0.5 * (BORE + ROOT))
    field, strength = blot(rng, place, rng.uniform(0.085, 0.115)), rng.uniform(0.75, 1)

    def mark(x, y, rgb):
        depth = field(x, y) + 0.15 * np.sin(90 * x + 40 * y) * np.sin(75 * y - 50 * x)
        paint(rgb, colour("#8f4415") * (0.45 + 0.9 * ramp(0.9, 0, depth)), strength * ramp(-0.1, 0.2, depth))

    return {"mark": mark}


def missing_tooth(rng, look):
    """A tooth has broken off, mostly with a bit of the ring."""
    return {"height": _with_entry(look["height"], rng.integers(TEETH), rng.uniform(-0.45, 0.1))}


def bent_tooth(rng, look):
    """A tooth is bent sideways and reflects the light differently."""
    return {"skew": _with_entry(look["skew"], rng.integers(TEETH), rng.choice([-1, 1]) * rng.uniform(0.3, 0.5))}


def heat_tint(rng, look):
    """The steel was too hot: straw-coloured and blue oxide covers a part of it."""
    return {"tempered": np.array([rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 1)])}
