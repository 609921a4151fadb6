"""Three scenes drawn from a few numbers: a woven cloth, glazed tiles and a toothed washer.

A scene is drawn from its *look*, a dictionary of numbers and of tables, which have one entry for each thread, tile or tooth. A defect
changes a few entries of the look, so the clean twin is the same look without the change. The entry "mark" is a function (x, y, rgb)
that draws a stain, a scratch or a hole on the surface; without a defect it draws nothing.
"""

import numpy as np

from mdps_ref.data.drawing import colour, grain, paint, ramp

THREADS, TILES, TEETH = 7, 3, 9
WARP, WEFT, DYE = colour("#b8482a"), colour("#e9d3a6"), colour("#274b8f")
BORE, ROOT, TIP = 0.165, 0.3, 0.4  # the washer's radii, in frames


def unmarked(x, y, rgb):
    """Draw no mark: the surface of good goods.

    Parameters
    ----------
    x, y : array, (1, W) and (H, 1)
    rgb : array, (3, H, W)
    """


def common_look(rng):
    """Draw the entries that all looks share.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    dict
        The lamp's gain, slope and direction (radians, y down), the shift and turn of the goods, the grain, and "mark".
    """
    return {
        "gain": rng.uniform(0.82, 1.02),
        "slope": rng.uniform(0.12, 0.3),
        "lamp": np.deg2rad(225 + rng.uniform(-20, 20)),
        "shift": rng.uniform(-0.02, 0.02, 2),
        "turn": np.deg2rad(rng.uniform(-1, 1)),
        "grain": rng.standard_normal((64, 64)).astype(np.float32),
        "mark": unmarked,
    }


def _placed(x, y, look):
    """Coordinates relative to the middle of the goods, which are shifted and turned in the frame."""
    x, y = x - 0.5 - look["shift"][0], y - 0.5 - look["shift"][1]
    c, s = np.cos(look["turn"]), np.sin(look["turn"])
    return c * x + s * y, c * y - s * x


# The weave: warp threads run down, weft threads run across, over and under the warp in turn.


def weave_look(rng):
    """Draw the look of a cloth whose threads vary a little in colour and course. Tables have one entry for each thread.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    dict
    """
    count = THREADS + 3
    return common_look(rng) | {
        "tint": 1 + 0.06 * rng.standard_normal((2, count)),
        "wander": rng.uniform(0, 1, (2, count)),
        "stretch": (0.5, 0.2),  # middle and half length of the piece of weft thread with the defect
        "gap": np.zeros(count),
        "dye": np.zeros(count),
        "loop": np.zeros(count),
    }


def weave(x, y, look):
    """Draw the cloth in linear light.

    Parameters
    ----------
    x : array, (1, W)
    y : array, (H, 1)
    look : dict

    Returns
    -------
    array, (3, H, W)
    """
    u, v = (THREADS * p + THREADS / 2 + 1.5 for p in _placed(x, y, look))
    a, b = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    i, j = u.astype(int), v.astype(int)
    over = np.where((i + j) % 2 == 0, np.float32(1), np.float32(-1))
    lamp = np.cos(look["lamp"]), np.sin(look["lamp"])
    middle, reach = look["stretch"]
    inside = ramp(reach + 0.01, reach - 0.01, abs(x - middle))

    warp_across = a + 0.05 * np.sin(2 * np.pi * (1.3 * y + look["wander"][0][i]))
    weft_across = b + 0.05 * np.sin(2 * np.pi * (1.1 * x + look["wander"][1][j]))
    warp_height, warp_shade = _yarn(warp_across, v, over * np.cos(np.pi * b), over * np.sin(np.pi * b), lamp)
    weft_height, weft_shade = _yarn(weft_across, u, -over * np.cos(np.pi * a), -over * np.sin(np.pi * a), lamp[::-1])
    weft_height = weft_height - 9 * (inside * np.maximum(look["gap"], look["loop"] != 0)[j] > 0.5)

    rgb = np.tile(colour("#1d100b"), warp_height.shape)
    weft_colour = WEFT + inside * look["dye"][j] * (DYE - WEFT)
    paint(rgb, WARP * (warp_shade * look["tint"][0][i]), ramp(-1, -0.9, warp_height))
    paint(rgb, weft_colour * (weft_shade * look["tint"][1][j]), np.float32(weft_height > np.maximum(warp_height, -1)))
    for row in np.flatnonzero(look["loop"]):
        bow = look["loop"][row] * np.exp(-(((x - middle) / (0.5 * reach)) ** 2))
        _lay_loop(rgb, v - row - 0.5 - bow, u, inside, lamp[::-1])
    look["mark"](x, y, rgb)
    return rgb


def _lay_loop(rgb, across, along, inside, lamp):
    """Draw a piece of weft thread and its shadow on top of the cloth, in place. `inside` is 1 along the piece and 0 elsewhere."""
    height, shade = _yarn(across, along, inside, 0 * inside, lamp)
    paint(rgb, 0.3 * rgb, inside * ramp(0.85, 0.3, abs(across - 0.2)))
    paint(rgb, WEFT * shade, np.float32((height > -1) * (inside > 0.5)))


def _yarn(across, along, lift, fall, lamp):
    """Height (below -1 beside the thread) and brightness of a round, twisted thread. All arrays are (H, W).

    `across` and `along` are positions in thread spacings, `lift` is the rise over the crossing threads, `fall` the slope along the
    thread, and `lamp` the lamp's direction across and along the thread.
    """
    section = across / (0.39 + 0.06 * lift)
    height = 0.55 * np.sqrt(np.clip(1 - section**2, 0, 1)) + 0.4 * lift - 9 * (abs(section) > 1)
    facing = 0.8 * section * abs(section) * lamp[0] + 0.6 * fall * abs(fall) * lamp[1]
    strands = abs(np.sin(np.pi * (3.5 * along + 0.9 * section)))
    sheen = 0.3 * np.exp(-4 * ((section - 0.35 * lamp[0]) ** 2 + (fall - 0.3 * lamp[1]) ** 2))
    return height, (0.1 + 0.75 * ramp(-0.4, 0.85, height)) * (1 + 0.55 * facing) * (0.72 + 0.4 * strands) + sheen * strands


# The tiles: ivory glaze with a cobalt print, laid in grey grout.


def tiles_look(rng):
    """Draw the look of tiles laid by hand.

    The last axis of a table has one entry for each tile, row by row, with one row or column more on each side of the frame.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    dict
    """
    count = (TILES + 2) ** 2
    return common_look(rng) | {
        "tint": 1 + 0.025 * rng.standard_normal(count),
        "lie": 0.008 * rng.standard_normal((2, count)),
        "angle": 0.008 * rng.standard_normal(count),
        "print": np.ones(count),
        "ink": np.tile(colour("#173f9a")[:, :, 0], count),
        "slip": np.zeros((2, count)),
    }


def tiles(x, y, look):
    """Draw the tiles in linear light.

    Parameters
    ----------
    x : array, (1, W)
    y : array, (H, 1)
    look : dict

    Returns
    -------
    array, (3, H, W)
    """
    u, v = (TILES * p + TILES / 2 + 1 for p in _placed(x, y, look))
    number = (TILES + 2) * v.astype(int) + u.astype(int)

    def tile(name):
        return np.take(look[name], number, axis=-1)

    angle, (lie_a, lie_b), (slip_a, slip_b) = tile("angle"), tile("lie"), tile("slip")
    a, b = u - np.floor(u) - 0.5 - lie_a, v - np.floor(v) - 0.5 - lie_b
    a, b = np.cos(angle) * a + np.sin(angle) * b, np.cos(angle) * b - np.sin(angle) * a

    grout = colour("#7d776e") * (1 + 0.1 * grain(look["grain"], x, y, 96))
    edge = _from_edge(a, b)
    tilt = ramp(-0.05, 0, edge) * (np.cos(look["lamp"]) * _steep(a / 0.45) + np.sin(look["lamp"]) * _steep(b / 0.45))
    glaze = np.tile(colour("#efe6d2"), edge.shape)
    _ornament(glaze, a - slip_a, b - slip_b, tile("print"), tile("ink"))
    glaze *= tile("tint") * (1 + 0.5 * tilt)
    gloss = np.exp(-((a + 0.2) ** 2 + (b + 0.24) ** 2) / 0.02) + 0.6 * np.clip(tilt, 0, 1)
    paint(glaze, np.float32(1), 0.2 * gloss)

    rgb = grout * (1 - 0.6 * ramp(0.06, -0.01, _from_edge(a - 0.03, b - 0.03)))
    paint(rgb, glaze, ramp(0.006, -0.006, edge))
    look["mark"](x, y, rgb)
    return rgb


def _from_edge(a, b):
    """Distance to the edge of a tile with round corners, in tiles; negative inside, down to -0.065."""
    return np.hypot(np.maximum(abs(a) - 0.4, 0), np.maximum(abs(b) - 0.4, 0)) - 0.065


def _steep(value):
    """value ** 5, clipped to [-1, 1]. Products are faster than a general power."""
    value = np.clip(value, -1, 1)
    return value * (value**2) ** 2


def _ornament(rgb, a, b, strength, ink):
    """Print a rosette and four quarter rings on a tile, in place. `rgb` and `ink` are (3, H, W), the other arrays (H, W)."""
    high, low = np.maximum(abs(a), abs(b)), np.minimum(abs(a), abs(b))
    diagonal, off = 0.7071 * (abs(a) + abs(b)), 0.7071 * (abs(a) - abs(b))
    petal = ((high - 0.21) / 0.155) ** 2 + (low / 0.085) ** 2
    leaf = ((diagonal - 0.2) / 0.13) ** 2 + (off / 0.055) ** 2
    corner = np.hypot(abs(a) - 0.465, abs(b) - 0.465)
    light = 0.45 * ink + 0.55 * colour("#7fc0e8")
    paint(rgb, light, strength * ramp(1.1, 0.9, leaf))
    paint(rgb, ink * (0.8 + 0.35 * petal), strength * ramp(1.06, 0.94, petal))
    paint(rgb, ink, strength * ramp(0.235, 0.225, corner))
    paint(rgb, light, strength * ramp(0.15, 0.14, corner))
    paint(rgb, colour("#e0982a"), strength * ramp(0.085, 0.075, np.hypot(a, b)))


# The washer: brushed steel on a matte board.


def washer_look(rng):
    """Draw the look of a washer, turned a little. Tables have one entry for each tooth; "groove" is the brushing from the middle outwards.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    dict
    """
    return common_look(rng) | {
        "turn": np.deg2rad(rng.uniform(-8, 8)),
        "groove": rng.standard_normal(160),
        "height": np.ones(TEETH),
        "skew": np.zeros(TEETH),  # sideways bend of the tip, in tooth spacings
        "tempered": (0.0, 0.0),  # angle and strength of a heat tint
    }


def washer(x, y, look):
    """Draw the washer in linear light.

    Parameters
    ----------
    x : array, (1, W)
    y : array, (H, 1)
    look : dict

    Returns
    -------
    array, (3, H, W)
    """
    a, b = _placed(x, y, look)
    away = 0.028 * np.cos(look["lamp"] - look["turn"]), 0.028 * np.sin(look["lamp"] - look["turn"])
    board = colour("#1d5a5c") * (1 + 0.07 * grain(look["grain"], x, y, 110))
    shadow = ramp(0.022, -0.022, _outline(a + away[0], b + away[1], look)[0])
    rgb = board * (1 - 0.78 * shadow)

    edge, radius, angle, bent = _outline(a, b, look)
    toward = angle + look["turn"] - look["lamp"]
    rim = ramp(-0.022, -0.004, edge) * np.where(radius > 0.5 * (BORE + ROOT), 1, -1)
    brushed = 1 + 0.1 * np.interp(radius, np.linspace(0, 0.45, 160), look["groove"]).astype(np.float32)
    sheen = 0.14 + 0.62 * abs(np.sin(toward)) ** 6 + 0.2 * abs(np.cos(toward - 0.25)) ** 3
    bare = colour("#e6e8ea") * (brushed * sheen * (1 + 0.35 * bent) * (1 + 0.75 * rim * np.cos(toward)))
    tint_angle, strength = look["tempered"]
    heat = strength * np.exp(-6 * (1 - np.cos(angle - tint_angle)))
    steel = bare.copy()
    paint(steel, bare * (1.4 * colour("#dda24a")), ramp(0.1, 0.4, heat))
    paint(steel, bare * (1.8 * colour("#9a5f96")), ramp(0.4, 0.6, heat))
    paint(steel, bare * (1.6 * colour("#5a82d8")), ramp(0.6, 0.8, heat))
    look["mark"](x, y, steel)
    paint(rgb, steel, ramp(0.0025, -0.0025, edge))
    return rgb


def _outline(a, b, look):
    """Approximate distance to the washer's outline (negative inside), radius, angle, and 1 on a bent tooth. All arrays are (H, W)."""
    radius, angle = np.hypot(a, b), np.arctan2(b, a)
    place = angle * (TEETH / (2 * np.pi)) + TEETH
    tooth = np.floor(place).astype(int) % TEETH
    tall = np.take(look["height"] * (look["skew"] == 0), tooth) * _tooth(place - np.floor(place) - 0.5)
    bent = np.zeros_like(tall)
    for k in np.flatnonzero(look["skew"]):
        offset = (place - k - 0.5 + TEETH / 2) % TEETH - TEETH / 2
        bent = _tooth(offset - look["skew"][k] * np.clip((radius - ROOT) / (TIP - ROOT), 0, 1))
    outer = ROOT + (TIP - ROOT) * np.where(bent > 0, bent, tall)
    return np.maximum(radius - outer, BORE - radius), radius, angle, bent * (radius > ROOT)


def _tooth(offset):
    """Height of a tooth, from 0 to 1, at an offset from its middle in tooth spacings."""
    return ramp(0.31, 0.19, abs(offset))
