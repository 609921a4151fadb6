"""Tools to draw with: colours, soft edges, grain, and marks on a surface.

The coordinates x (to the right) and y (down) run from 0 to 1 over the frame, as arrays (1, W) and (H, 1). Colours stay in linear light
until the image is finished: shading is then a product, and antialiasing a mean. While drawing, an image is `rgb`, three planes
(3, H, W), so a shade (H, W) multiplies it by broadcasting, and NumPy's inner loop runs along a row.
"""

import numpy as np


def colour(code):
    """Return a colour in linear light.

    Parameters
    ----------
    code : str
        "#rrggbb", in sRGB.

    Returns
    -------
    array, (3, 1, 1) float32 in [0, 1]

    References
    ----------
    IEC 61966-2-1, the sRGB standard.
    """
    value = np.array([int(code[k : k + 2], 16) for k in (1, 3, 5)]).reshape(3, 1, 1) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encoded(linear):
    """Return the sRGB values of linear light, as files store them.

    Parameters
    ----------
    linear : array
        Clipped to [0, 1].

    Returns
    -------
    array
        In [0, 1].
    """
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def ramp(low, high, value):
    """Return 0 where value <= low, 1 where value >= high, and a smooth cubic between. It falls if low > high.

    Parameters
    ----------
    low, high : float
    value : array

    Returns
    -------
    array
    """
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def paint(rgb, paint_colour, alpha):
    """Blend a colour into `rgb`, in place.

    Parameters
    ----------
    rgb : array, (3, H, W)
    paint_colour : array, (3, 1, 1) or (3, H, W), or number
    alpha : array, (H, W) in [0, 1]
        Opacity of the colour.
    """
    rgb += alpha * (paint_colour - rgb)


def grain(table, x, y, cells):
    """Return smooth noise: a random table, repeated over a grid and interpolated linearly between the grid's points.

    Parameters
    ----------
    table : array, (K, K)
    x : array, (1, W)
    y : array, (H, 1)
    cells : int
        Cells of the grid along each side of the frame.

    Returns
    -------
    array, (H, W)
    """
    column, row = np.floor(x * cells), np.floor(y * cells)
    across, down = x * cells - column, y * cells - row

    def at(r, c):
        return table[r.astype(int) % len(table), c.astype(int) % len(table)]

    upper = at(row, column) * (1 - across) + at(row, column + 1) * across
    lower = at(row + 1, column) * (1 - across) + at(row + 1, column + 1) * across
    return upper * (1 - down) + lower * down


def blot(rng, middle, radius):
    """Draw a random rounded shape.

    The shape is where a sum of Gaussian bumps is high: one bump at the middle, and five smaller ones around it for an uneven outline.

    Parameters
    ----------
    rng : numpy.random.Generator
    middle : tuple of float
        (x, y).
    radius : float

    Returns
    -------
    callable
        A function (x, y) -> field, positive inside the shape, about 1 deep inside, and negative outside.
    """
    turns = rng.uniform(0, 2 * np.pi, 5)
    reach = radius * rng.uniform(0.55, 0.95, 5)
    spots = [(*middle, 0.85 * radius)]
    spots += [(middle[0] + r * np.cos(t), middle[1] + r * np.sin(t), 0.42 * radius) for r, t in zip(reach, turns, strict=True)]
    return lambda x, y: sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / s**2) for a, b, s in np.float32(spots)) - 0.4


def stain(rng, middle, radius, code, strength):
    """Return a mark: a stain of random shape that is darkest at its rim.

    Parameters
    ----------
    rng : numpy.random.Generator
    middle : tuple of float
        (x, y).
    radius : float
    code : str
        Colour, "#rrggbb".
    strength : float in [0, 1]

    Returns
    -------
    callable
        A function (x, y, rgb) that draws on rgb, in place.
    """
    field, tint = blot(rng, middle, radius), colour(code)

    def mark(x, y, rgb):
        depth = field(x, y)
        density = ramp(-0.12, 0.14, depth) * (0.85 + 0.15 * ramp(0.5, 0.1, depth))
        paint(rgb, rgb * tint, strength * density)

    return mark


def stroke(points, width, code, lit=None):
    """Return a mark: a line that tapers towards its ends.

    Parameters
    ----------
    points : array, (K, 2)
        The corners of the line, (x, y) each.
    width : float
    code : str
        Colour, "#rrggbb".
    lit : str or None
        Colour of a thin lit edge on the lower right, as a furrow has it.

    Returns
    -------
    callable
        A function (x, y, rgb) that draws on rgb, in place.
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
            paint(rgb, colour(lit), 0.7 * ramp(width, 0.6 * width, distance(x - 0.7 * width, y - 0.7 * width)))
        paint(rgb, colour(code), ramp(width, 0.6 * width, distance(x, y)))

    return mark
