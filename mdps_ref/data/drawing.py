"""Small tools to draw with: colours in linear light, soft edges, grain, and marks that lie on a surface.

Coordinates x (to the right) and y (down) run over the frame from 0 to 1, as arrays that broadcast against each other.
Colour is kept in linear light until the image is finished, so that shading multiplies and anti-aliasing averages photons.
While drawing, rgb is three planes (3, H, W): a shade (H, W) then multiplies it as it is, and NumPy's inner loop runs along a row.
"""

import numpy as np


def colour(code):
    """A "#rrggbb" colour in linear light (IEC 61966-2-1).  Shapes: (3, 1, 1) float32.  Range: [0, 1]."""
    value = np.array([int(code[k : k + 2], 16) for k in (1, 3, 5)]).reshape(3, 1, 1) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encoded(linear):
    """Linear light as the sRGB values of a file, the inverse of `colour`'s curve.  Range: clipped to [0, 1]."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def ramp(low, high, value):
    """0 where value <= low, 1 where value >= high, a smooth cubic between; falling if low > high."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def paint(rgb, paint_colour, alpha):
    """Lay a colour over `rgb`, in place, where alpha is above 0.

    Shapes: rgb (3, H, W), paint_colour (3, 1, 1) or as rgb, alpha (H, W).
    """
    rgb += alpha * (paint_colour - rgb)


def grain(table, x, y, cells):
    """Noise that is smooth between the points of a grid of `cells` a frame, read from a square random table that repeats.

    Shapes: table (K, K); x, y broadcast -> (H, W).
    """
    column, row = np.floor(x * cells), np.floor(y * cells)
    across, down = x * cells - column, y * cells - row

    def at(r, c):
        return table[r.astype(int) % len(table), c.astype(int) % len(table)]

    upper = at(row, column) * (1 - across) + at(row, column + 1) * across
    lower = at(row + 1, column) * (1 - across) + at(row + 1, column + 1) * across
    return upper * (1 - down) + lower * down


def blot(rng, middle, radius):
    """A random rounded outline, as a function (x, y) -> field that is above 0 inside, about 1 deep inside and below 0 outside.

    The field is a sum of Gaussian bumps: one at `middle`, and five smaller ones around it that make the outline uneven.
    """
    turns = rng.uniform(0, 2 * np.pi, 5)
    reach = radius * rng.uniform(0.55, 0.95, 5)
    spots = [(*middle, 0.85 * radius)]
    spots += [(middle[0] + r * np.cos(t), middle[1] + r * np.sin(t), 0.42 * radius) for r, t in zip(reach, turns, strict=True)]
    return lambda x, y: sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / s**2) for a, b, s in np.float32(spots)) - 0.4


def stain(rng, middle, radius, code, strength):
    """A mark on the surface that dries darkest at its rim: a function (x, y, rgb) that tints rgb, in place."""
    field, tint = blot(rng, middle, radius), colour(code)

    def mark(x, y, rgb):
        depth = field(x, y)
        density = ramp(-0.12, 0.14, depth) * (0.85 + 0.15 * ramp(0.5, 0.1, depth))
        paint(rgb, rgb * tint, strength * density)

    return mark


def stroke(points, width, code, strength=1.0, lit=None):
    """A line through `points` that tapers towards its ends: a function (x, y, rgb) that draws it on rgb, in place.

    lit: the colour of a thin edge on its lower right, as of a furrow that catches the light; None for no such edge.
    """
    points = np.asarray(points, np.float32)

    def distance(x, y):
        along = np.linspace(0, 1, len(points))
        nearest = np.float32(9)
        for (a, b), (c, d), start in zip(points, points[1:], along, strict=False):
            share = np.clip(((x - a) * (c - a) + (y - b) * (d - b)) / ((c - a) ** 2 + (d - b) ** 2), 0, 1)
            taper = 1.0 - 0.6 * abs(2 * (start + share / (len(points) - 1)) - 1) ** 3
            nearest = np.minimum(nearest, np.hypot(x - a - share * (c - a), y - b - share * (d - b)) / taper)
        return nearest

    def mark(x, y, rgb):
        if lit is not None:
            paint(rgb, colour(lit), 0.7 * strength * ramp(width, 0.6 * width, distance(x - 0.7 * width, y - 0.7 * width)))
        paint(rgb, colour(code), strength * ramp(width, 0.6 * width, distance(x, y)))

    return mark
