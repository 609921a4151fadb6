"""The gallery: test images row by row, with their reconstruction, mask, posterior sample and anomaly maps."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdps_ref.data.folders import GOOD
from mdps_ref.report.style import DEFECT_COLOUR, GOOD_COLOUR, INK, WIDTH, chains_of, printable

HEAT, SPREAD = "inferno", "viridis"
DECISIONS = {  # (defective, flagged)
    (True, True): "flagged",
    (True, False): "missed",
    (False, True): "false alarm",
    (False, False): "passed",
}


class Column(NamedTuple):
    """A column of the gallery: its title, the chain's name above it, the kind of its pictures, and the pictures, (N, H, W, ...)."""

    title: str
    chain: str
    kind: str
    pictures: Any


def heat_limit(result):
    """Return the top of the anomaly maps' colour scale: the 99.5th percentile of MDPS's maps of all test images, or 1 if that is 0."""
    return result.chains["mdps"].pixels.quantile(0.995) or 1.0


def gallery(result):
    """Draw the shown images, one in each row. All images share the colour scales.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Figure
    """
    columns = _columns(result)
    left, label, top, bottom, cell = 0.05, 1.3, 0.68, 0.72, (WIDTH - 1.4) / len(columns)
    height = top + bottom + cell * len(result.shown)
    figure = Figure((WIDTH, height))
    frame = {"left": (left + label) / WIDTH, "right": 1 - left / WIDTH, "top": 1 - top / height, "bottom": bottom / height}
    rows = figure.add_gridspec(len(result.shown), len(columns), wspace=0.05, hspace=0.05, **frame).subplots(squeeze=False)
    heat = PowerNorm(0.5, 0, heat_limit(result))  # square roots show faint defects, and good images stay dark
    spread = Normalize(0, float(np.percentile(result.chains["mdps"].shown.spread, 99.5)) or 1.0)
    for row, (axes, index) in enumerate(zip(rows, result.shown, strict=True)):
        for picture, column in zip(axes, columns, strict=True):
            _draw_picture(picture, column.kind, column.pictures[row], result.images[row], heat, spread)
        _outline(axes[-1], result.truths[row])
        _label_row(axes[0], result, index)
    _add_headings(figure, rows[0], columns, height)
    _add_colour_bar(figure, rows[-1][:4], height, heat, HEAT, "anomaly map, one square-root scale for all pictures")
    if result.config.samples > 1:
        _add_colour_bar(figure, rows[-1][4:], height, spread, SPREAD, "spread of the anomaly map over the samples")
    return figure


def _columns(result):
    """Return the Columns of a run. Only a run with a mask has the mask, and only a run with several samples has the spread."""
    config, reconstruction, mdps = result.config, result.chains["reconstruction"].shown, result.chains["mdps"].shown
    names = {key: chain.name for key, chain in chains_of(config).items()}
    return [
        Column("test image $y$", "", "image", result.images),
        Column("$x_0$", names["reconstruction"], "image", reconstruction.x_0),
        Column("anomaly map", names["reconstruction"], "heat", reconstruction.anomaly),
        *([Column("mask $m$", names["mdps"], "mask", mdps.suspected)] if config.masked else []),
        Column("$x_0$, a sample" if config.samples > 1 else "$x_0$", names["mdps"], "image", mdps.x_0),
        Column("anomaly map", names["mdps"], "heat", mdps.anomaly),
        *([Column("spread", names["mdps"], "spread", mdps.spread)] if config.samples > 1 else []),
        Column("true defect", "", "image", result.images),
    ]


def _draw_picture(axes, kind, pixels, y, heat, spread):
    """Draw one picture; an anomaly map lies over the grey test image y."""
    if kind == "image":
        axes.imshow(np.clip((pixels + 1) / 2, 0, 1))
    elif kind == "mask":
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    elif kind == "spread":
        axes.imshow(pixels, cmap=SPREAD, norm=spread, interpolation="bilinear")
    else:
        axes.imshow(y.mean(axis=-1), cmap="gray", vmin=-1, vmax=1)
        axes.imshow(pixels, cmap=HEAT, norm=heat, alpha=0.8, interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _label_row(axes, result, index):
    """Write the kind of an image, its name, its score and the decision to the left of its row."""
    kind, name, flagged = result.defects[index], result.names[index].rpartition("/")[2], bool(result.flagged[index])
    lines = (
        (printable(kind, 16), INK, "bold"),
        (printable(name, 18), INK, "normal"),
        (f"score {result.chains['mdps'].score[index]:.3f}", INK, "normal"),
        (DECISIONS[kind != GOOD, flagged], DEFECT_COLOUR if flagged else GOOD_COLOUR, "normal"),
    )
    for line, (text, colour, weight) in enumerate(lines):
        place = {"transform": axes.transAxes, "ha": "right", "va": "center", "parse_math": False}
        axes.text(-0.08, 0.8 - 0.2 * line, text, color=colour, weight=weight, fontsize=9, **place)


def _outline(axes, truth):
    """Draw the outline of a true mask along the edges of its pixels; without a mask say so."""
    if truth is None:
        axes.text(0.5, 0.06, "no mask given", transform=axes.transAxes, ha="center", fontsize=8, color="white", backgroundcolor="#00000080")
    elif truth.any():
        fine = np.pad(np.kron(truth, np.ones((4, 4))), 1)  # the padding closes the outline of a defect at the image's border
        y, x = (np.arange(-1, 4 * size + 1) / 4 - 3 / 8 for size in truth.shape)
        limits = axes.axis()
        axes.contour(x, y, fine, levels=[0.5], colors=["white"], linewidths=2.6)
        axes.contour(x, y, fine, levels=[0.5], colors=[DEFECT_COLOUR], linewidths=1.4)
        axes.axis(limits)


def _add_headings(figure, axes, columns, height):
    """Write a title above each column, and the names of the two chains above the titles."""
    places = {}
    for picture, column in zip(axes, columns, strict=True):
        picture.set_title(column.title, fontsize=9, color=INK, pad=5)
        places.setdefault(column.chain, []).append(picture.get_position())
    del places[""]
    for chain, boxes in places.items():
        x_0, x_1, y = boxes[0].x0, boxes[-1].x1, 1 - 0.36 / height
        figure.add_artist(Line2D((x_0, x_1), (y, y), color=INK, linewidth=0.8))
        figure.text((x_0 + x_1) / 2, y + 0.06 / height, chain, ha="center", va="bottom", fontsize=11, weight="bold", color=INK)


def _add_colour_bar(figure, axes, height, norm, cmap, label):
    """Draw a colour bar below these axes. It is open at its upper end, since values may exceed the scale."""
    x_0, x_1 = axes[0].get_position().x0 + 0.02, axes[-1].get_position().x1 - 0.02
    place = figure.add_axes((x_0, 0.5 / height, x_1 - x_0, 0.13 / height))
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=place, orientation="horizontal", extend="max")
    bar.outline.set_visible(False)
    ticks = norm.inverse(np.linspace(0, 1, 6))
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.set_label(label, fontsize=9, color=INK)
    place.tick_params(labelsize=8, length=2, color=INK)
