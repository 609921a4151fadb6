"""Pictures of single images that stand beside each other where there is room, and below each other on a phone."""

import numpy as np

from mdps_ref.data.folders import GOOD
from mdps_ref.report.gallery import DECISIONS, heat_limit
from mdps_ref.report.html import data_uri, escaped
from mdps_ref.report.overlay import blended, heat_colours, pixels_as_png


def where_it_looks(result):
    """Write a card for each shown image: the image, and its anomaly map over it with the outline of the true defect.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        HTML.
    """
    top, cards = heat_limit(result), ""
    for row, index in enumerate(result.shown):
        y, anomaly = (result.images[row] + 1) / 2, result.chains["mdps"].shown.anomaly[row]
        grey = np.repeat(y.mean(axis=-1, keepdims=True), 3, axis=-1)
        pictures = _picture(y, "test image") + _picture(blended(grey, anomaly, top), "anomaly map", _outline(result.truths[row]))
        cards += f'<li class="card"><div class="pair">{pictures}</div>{_label(result, row, index)}</li>\n'
    return f'<ul class="cards">\n{cards}</ul>\n{_scale(top)}'


def good_reconstructions(result):
    """Write a card for each shown good image: the image and its reconstruction. "" where none is shown."""
    cards = ""
    for row, index in enumerate(result.shown):
        if result.defects[index] == GOOD:
            both = _picture((result.images[row] + 1) / 2, "good image")
            both += _picture((result.chains["reconstruction"].shown.x_0[row] + 1) / 2, "its reconstruction")
            error = result.chains["reconstruction"].difference[index]
            cards += f'<li class="card"><div class="pair">{both}</div><p>good, and reconstructed: differs by {error:.3f}</p></li>\n'
    return f'<ul class="cards">\n{cards}</ul>' if cards else ""


def _picture(pixels, name, over=""):
    """Write a picture, (H, W, 3) with values from 0 to 1, and what lies over it."""
    return f'<div class="picture"><img alt="{name}" src="{data_uri(pixels_as_png(np.clip(pixels, 0, 1)))}">{over}</div>'


def _label(result, row, index):
    """Write the kind of an image, the decision, its score and its name."""
    kind, flagged = result.defects[index], bool(result.flagged[index])
    right = "right" if flagged == (kind != GOOD) else "wrong"
    without = ", no mask given" if result.truths[row] is None else ""
    return (
        f'<p><b>{escaped(kind)}</b> <span class="{right}">{DECISIONS[kind != GOOD, flagged]}</span><br>'
        f"<small>{escaped(result.names[index].rpartition('/')[2])}, score {result.chains['mdps'].score[index]:.3f}{without}</small></p>"
    )


def _outline(truth):
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


def _scale(top):
    """Write the colour scale of the maps: square roots, so the ticks of even steps stand wider apart at the lower end."""
    colours = [f"rgb({r},{g},{b})" for r, g, b in np.rint(255 * heat_colours(np.linspace(0, 1, 9))).astype(int)]
    ticks = "".join(f"<span>{top * level**2:.2g}</span>" for level in np.linspace(0, 1, 6))
    bar = f'<div class="bar" style="background:linear-gradient(90deg,{",".join(colours)})"></div>'
    return f'<div class="scale">{bar}<div class="ticks">{ticks}</div></div>'
