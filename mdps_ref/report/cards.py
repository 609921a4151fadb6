"""Pictures of single images that stand beside each other where there is room, and below each other on a phone."""

import math

import numpy as np

from mdps_ref.data.folders import GOOD
from mdps_ref.report.html import X_0, data_uri, escaped
from mdps_ref.report.overlay import blended, heat_colours, pixels_as_png

DECISIONS = {  # (defective, flagged)
    (True, True): "flagged",
    (True, False): "missed",
    (False, True): "false alarm",
    (False, False): "passed",
}


def heat_limit(result):
    """Return the top of the anomaly maps' colour scale: the 99.5th percentile of MDPS's maps of all test images, or 1 if that is 0."""
    return result.chains["mdps"].pixels.quantile(0.995) or 1.0


def where_it_looks(result):
    """Write a card for each shown image, and the colour scale below them.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        HTML.
    """
    anomaly = result.chains["mdps"].shown.anomaly
    return f"{_cards(result, result.shown, result.images, result.truths, anomaly)}\n{scale(heat_limit(result))}"


def where_it_was_wrong(result):
    """Write a card for each wrong decision that is shown; "" where there is none."""
    wrong = result.mistakes
    notes = [_times_the_threshold(float(result.chains["mdps"].score[index]), result.threshold) for index in wrong.indices]
    return _cards(result, wrong.indices, wrong.images, wrong.truths, wrong.anomaly, notes) if wrong.indices else ""


def _times_the_threshold(score, threshold):
    """Say how far a score is from the threshold; "" where a share of the threshold says nothing."""
    if not 0 < threshold < math.inf or score < 0:
        return ""
    share = score / threshold
    if share < 0.01:
        return "The score is less than 0.01 times the threshold."
    texts = (f"{share:.{digits}f}" for digits in (0 if share >= 10 else 1 if share >= 1 else 2, 2, 3, 6))
    text = next((text for text in texts if float(text) != 1), "1")
    return f"The score is {text} times the threshold."


def good_reconstructions(result):
    """Write a card for each shown good image: the image and its reconstruction. "" where none is shown."""
    cards = ""
    for row, index in enumerate(result.shown):
        if result.defects[index] == GOOD:
            both = picture(unit(result.images[row]), "good image")
            both += picture(unit(result.chains["reconstruction"].shown.x_0[row]), "its reconstruction")
            error = result.chains["reconstruction"].difference[index]
            name = f"<b>{GOOD}</b> <small>{short_name(result, index)}</small>"
            cards += f'<li class="card"><div class="pair">{both}</div><p>{name}<br>mean |{X_0} − <i>y</i>| = {error:.3f}</p></li>\n'
    return f'<ul class="cards">\n{cards}</ul>' if cards else ""


def _cards(result, indices, images, truths, anomaly, notes=()):
    """Write a card for each image: the image, its map with the outline of the true defect, and a note if there are notes."""
    top, cards = heat_limit(result), ""
    for index, y, truth, heat, note in zip(indices, images, truths, anomaly, notes or [""] * len(indices), strict=True):
        pictures = picture(unit(y), "test image") + picture(heat_over(y, heat, top), "anomaly map", outline(truth))
        cards += f'<li class="card"><div class="pair">{pictures}</div><p>{label(result, index, truth)}{note and f"<br>{note}"}</p></li>\n'
    return f'<ul class="cards">\n{cards}</ul>'


def unit(image):
    """Return an image in [-1, 1] with values from 0 to 1."""
    return np.clip((image + 1) / 2, 0, 1)


def heat_over(y, heat, top):
    """Lay a map over its grey image; see `overlay.blended`."""
    return blended(np.repeat(unit(y).mean(axis=-1, keepdims=True), 3, axis=-1), heat, top)


def picture(pixels, name, over="", longest=None):
    """Write a picture, (H, W, 3) with values from 0 to 1, and what lies over it; smaller if a side has more than `longest` pixels."""
    return f'<div class="picture"><img alt="{name}" src="{data_uri(pixels_as_png(pixels, longest))}">{over}</div>'


def label(result, index, truth):
    """Write the kind of an image, the decision, its name and its score."""
    kind, flagged = result.defects[index], bool(result.flagged[index])
    right = "right" if flagged == (kind != GOOD) else "wrong"
    without = ", no mask given" if truth is None else ""
    return (
        f'<b>{escaped(kind)}</b> <span class="{right}">{DECISIONS[kind != GOOD, flagged]}</span><br>'
        f"<small>{short_name(result, index)}, score {result.chains['mdps'].score[index]:.3f}{without}</small>"
    )


def short_name(result, index):
    """Return the name of an image without its folder, as HTML."""
    return escaped(result.names[index].rpartition("/")[2])


def outline(truth):
    """Draw the outline of a true mask along the edges of its pixels, sharp at every size; "" without a mask or a defect."""
    if truth is None or not truth.any():
        return ""
    path = "".join(f"M{start} {line}H{end}" for line, start, end in _edges(truth))
    path += "".join(f"M{line} {start}V{end}" for line, start, end in _edges(truth.T))
    height, width = truth.shape
    box = f'viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg {box}><path class="halo" d="{path}"/><path d="{path}"/></svg>'


def _edges(mask):
    """Yield (line, start, end) of the straight pieces of a mask's outline that run along its rows."""
    changes = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0) != 0
    for line, row in enumerate(changes):
        ends = np.flatnonzero(np.diff(np.pad(row, 1).astype(np.int8)))
        for start, end in ends.reshape(-1, 2):
            yield line, start, end


def scale(top):
    """Write the colour scale of the maps: square roots, so the ticks of even steps stand wider apart at the lower end."""
    colours = [f"rgb({r},{g},{b})" for r, g, b in np.rint(255 * heat_colours(np.linspace(0, 1, 9))).astype(int)]
    ticks = "".join(f"<span>{top * level**2:.3g}</span>" for level in np.linspace(0, 1, 6))
    bar = f'<div class="bar" style="background:linear-gradient(90deg,{",".join(colours)})"></div>'
    return f'<div class="scale">{bar}<div class="ticks">{ticks}</div>anomaly map, square-root scale, one for all maps of this page</div>'
