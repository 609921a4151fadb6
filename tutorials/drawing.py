"""The book's one drawing style: a colour and a line for each role, and the few kinds of picture that the notebooks use.

Cells name roles, never colours: `curves(t, {"exact": a, "DPS": b}, role=["truth", "guided"])`. Each function makes a figure, or draws
into the `axis` that it is given, and returns the axes, so that a cell can add a note. Colours are those of Okabe and Ito, which
colour-blind readers can tell apart; on grey paper the line styles and markers tell the roles apart.
"""

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

plt.switch_backend(plt.get_backend())  # now, not inside rc_context, which would undo that a notebook shows figures by itself

WIDTH = 8.4  # inches, of a full figure
INK, FAINT = "#222222", "#D9D9D9"


class Role(NamedTuple):
    """How everything that plays one part in the book is drawn."""

    colour: str
    line: Any
    marker: str


ROLES = {
    "prior": Role("#0072B2", "-", "o"),  # clean images, and what the network knows of them
    "noise": Role("#8C8C8C", ":", "."),
    "observation": Role("#E69F00", "--", "X"),  # the test image y, and its likelihood
    "estimate": Role("#56B4E9", "-.", "s"),  # x0_hat, the guess of the clean image
    "posterior": Role("#009E73", (0, (6, 1.5)), "D"),
    "guided": Role("#C2558F", (0, (4, 1, 1, 1)), "^"),  # guided by the misfit, as in DPS
    "truth": Role(INK, "-", "o"),  # exact values, closed forms
    "suspected": Role("#D55E00", (0, (1, 1)), "v"),  # suspected pixels and defects
    "highlight": Role("#F0E442", "-", "*"),  # what a sentence points at; give it a dark edge on white
}
ROLES["mdps"] = ROLES["posterior"]  # MDPS draws posterior samples
ROLES["reconstruction"] = ROLES["prior"]  # the chain that the prior alone drives

STYLE = {
    "figure.dpi": 100,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#EEEEEE",
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
HEAT, SIGNED = "magma", "cividis"  # from 0 up; from -vmax (dark) over 0 (grey) to vmax (light)


class Heat(NamedTuple):
    """A map, (H, W), among images: `images([y, Heat(difference)])` draws it in the figure's colour scale."""

    values: Any


def colour(role):
    """Return the colour of a role, for a note in a cell."""
    return ROLES[role].colour


def panels(titles, *, columns=None, size=(WIDTH, 2.8), share=False):
    """Make an empty figure with one panel a title; `size` is that of the whole figure in inches.

    Returns
    -------
    array of axes, one a title
    """
    columns = columns or len(titles)
    with plt.rc_context(STYLE):
        shared = {"sharex": True, "sharey": True} if share else {}
        _, grid = plt.subplots(-(-len(titles) // columns), columns, figsize=size, squeeze=False, layout="constrained", **shared)
    for axis, title in zip(grid.flat, titles, strict=False):
        axis.set_title(title)
    for axis in grid.flat[len(titles) :]:
        axis.axis("off")
    return grid.ravel()[: len(titles)]


def images(arrays, titles=(), *, columns=None, labels=(), vmax=None, signed=False, scale_label="", outline=None, width=WIDTH):
    """Show images, all on one scale: -1 is black, 1 is white, and values beyond are cut.

    Parameters
    ----------
    arrays : list
        Images (H, W, 3), (H, W, 1) or (H, W) in [-1, 1]; masks (H, W) of bools, True white; maps `Heat(map)`; None leaves a gap.
    titles, labels : list of str
        Above each panel, or above the first row alone; to the left of each row.
    columns : int
        Panels in a row; all by default.
    vmax, signed, scale_label
        Of the maps, see `heat_maps`.
    outline : bool array, (H, W), or list of them
        A border that is drawn into each map, or into each panel if it is a list (None leaves one out).
    width : float
        Of the figure, in inches.

    Returns
    -------
    array of axes, one an array
    """
    columns = columns or len(arrays)
    rows = -(-len(arrays) // columns)
    titles = [*titles, *[""] * (len(arrays) - len(titles))]
    lines = max(title.count("\n") + 1 for title in titles) if any(titles) else 0
    tall = rows * (width - 0.5) / columns + 0.2 * lines * (rows if any(titles[columns:]) else 1)
    axes = panels(titles, columns=columns, size=(width, tall + 0.1))
    heats = [array.values for array in arrays if isinstance(array, Heat)]
    vmax = vmax or max((float(np.abs(heat).max()) for heat in heats), default=1.0)
    outlines = outline if isinstance(outline, list) else [outline if isinstance(array, Heat) else None for array in arrays]
    mappable = None
    for axis, array, border in zip(axes, arrays, outlines, strict=True):
        mappable = _panel(axis, array, vmax, signed) or mappable
        if border is not None:
            _outline(axis, border)
    for row, label in enumerate(labels):
        axes[row * columns].set_ylabel(label)
    if mappable:
        _colour_bar(mappable, axes, scale_label)
    return axes


def heat_maps(maps, titles=(), vmax=None, *, signed=False, columns=None, labels=(), scale_label="", outline=None, width=WIDTH):
    """Show maps (H, W) on one colour scale with its bar: from 0 to `vmax`, or from -vmax to vmax if `signed`.

    Without `vmax` it is the largest value. The other parameters and the result are those of `images`.
    """
    arrays = [None if values is None else Heat(values) for values in maps]
    more = {"columns": columns, "labels": labels, "scale_label": scale_label, "outline": outline, "width": width}
    return images(arrays, titles, vmax=vmax, signed=signed, **more)


def curves(x, lines, *, role=None, xlabel="", ylabel="", log="", bands=None, markers=False, title="", axis=None, size=(6.4, 3.2)):
    """Draw curves over one x.

    Parameters
    ----------
    x : array, (n,)
    lines : dict of str to array, (n,)
        A label and its curve.
    role : str, list of str, or None
        The role of all curves, or of each; None takes a label that is a role's name as the role, else the roles in turn. Curves of one
        role differ in their line style.
    log : str
        "", "x", "y" or "xy": the axes that are logarithmic.
    bands : dict of str to (array, array)
        A shaded range below and above a curve of `lines`.
    markers : bool
        Mark the points.

    Returns
    -------
    the axis
    """
    axis = _one(axis, title, xlabel, ylabel, size)
    for (label, y), (drawn, dash) in zip(lines.items(), _roles(lines, role), strict=True):
        marker = drawn.marker if markers else None
        axis.plot(x, y, color=drawn.colour, ls=dash, marker=marker, lw=STYLE["lines.linewidth"], ms=5, label=label)
        if bands and label in bands:
            axis.fill_between(x, *bands[label], color=drawn.colour, alpha=0.2, lw=0)
    _scales(axis, log)
    return _legend(axis, lines)


def scatter(groups, *, role=None, xlabel="", ylabel="", log="", equal=False, title="", axis=None, size=(4.2, 3.8), dot=24):
    """Draw points: `groups` maps each label to its points, (n, 2). `equal` gives both axes one scale. Returns the axis."""
    axis = _one(axis, title, xlabel, ylabel, size)
    for (label, points), (drawn, _) in zip(groups.items(), _roles(groups, role), strict=True):
        points = np.asarray(points)
        axis.scatter(points[:, 0], points[:, 1], s=dot, c=drawn.colour, marker=drawn.marker, lw=0.4, ec="white", alpha=0.85, label=label)
    if equal:
        axis.set_aspect("equal", adjustable="datalim")
    _scales(axis, log)
    return _legend(axis, groups)


def bars(names, groups, *, role=None, ylabel="", log="", form="{:.3g}", title="", axis=None, size=(6.4, 2.8)):
    """Draw bars: for each label of `groups` one bar a name, its value written above it in `form`. Returns the axis."""
    axis = _one(axis, title, "", ylabel, size)
    wide, at = 0.8 / len(groups), np.arange(len(names))
    for k, ((label, values), (drawn, _)) in enumerate(zip(groups.items(), _roles(groups, role), strict=True)):
        hatch = ["", "///", "...", "xx"][k % 4]
        drawn_bars = axis.bar(
            at + (k - (len(groups) - 1) / 2) * wide, values, 0.92 * wide, color=drawn.colour, hatch=hatch, ec="white", label=label
        )
        axis.bar_label(drawn_bars, fmt=form, fontsize=9, padding=1, color=INK)
    axis.set_xticks(at, names)
    axis.grid(axis="x", visible=False)
    axis.margins(y=0.15)
    _scales(axis, log)
    return _legend(axis, groups)


def histogram(groups, bins, *, role=None, xlabel="", density=True, title="", axis=None, size=(5.2, 3)):
    """Draw histograms over the same bins: `groups` maps each label to its values. Returns the axis."""
    axis = _one(axis, title, xlabel, "density" if density else "count", size)
    for (label, values), (drawn, dash) in zip(groups.items(), _roles(groups, role), strict=True):
        axis.hist(values, bins, density=density, color=drawn.colour, alpha=0.3)
        axis.hist(values, bins, density=density, histtype="step", color=drawn.colour, ls=dash, lw=1.4, label=label)
    return _legend(axis, groups)


def contours(ticks, log_density, *, role, levels=(-8, -4.5, -2, -0.5), title="", xlabel="", ylabel="", axis=None, size=(4, 4)):
    """Draw the contours of a log density over a square: (n,) ticks of both axes, (n, n) values, row = second axis; levels below its top."""
    axis = _one(axis, title, xlabel, ylabel, size)
    top = log_density - log_density.max()
    axis.contour(ticks, ticks, top, levels=list(levels), colors=ROLES[role].colour, linewidths=1, linestyles="solid")
    axis.set_aspect("equal")
    return axis


def arrows(points, vectors, *, role="truth", scale=1.0, label=None, title="", xlabel="", ylabel="", axis=None, size=(4, 4)):
    """Draw an arrow at each point, (n, 2), along its vector, (n, 2); an arrow is `scale` times its vector, in the axes' own units.

    Returns the axis.
    """
    axis = _one(axis, title, xlabel, ylabel, size)
    (x, y), (u, v) = np.asarray(points).T, scale * np.asarray(vectors).T
    axis.quiver(x, y, u, v, angles="xy", scale_units="xy", scale=1, color=ROLES[role].colour, width=0.007, label=label)
    axis.update_datalim(np.stack([x + u, y + v], axis=1))
    axis.set_aspect("equal")
    axis.autoscale_view()
    return _legend(axis, [label] * 2 if label else [])


def boxes(places, links=(), *, roles=None, size=(WIDTH, 1.6)):
    """Draw a small block diagram.

    Parameters
    ----------
    places : dict of str to (float, float)
        The text of each box and where its centre is; one unit is about the width of a box to the right, its height upwards.
    links : list of (str, str) or (str, str, str)
        From a box to a box, and a text at the arrow.
    roles : dict of str to str
        The role of a box; without one it is grey.

    Returns
    -------
    the axis
    """
    axis = panels([""], size=size)[0]
    axis.axis("off")
    spots = {}
    for name, (x, y) in places.items():
        edge = ROLES[roles[name]].colour if roles and name in roles else "#8C8C8C"
        look = {"boxstyle": "round,pad=0.45", "fc": "white", "ec": edge, "lw": 1.8}
        spots[name] = axis.text(x, y, name, ha="center", va="center", fontsize=10, color=INK, bbox=look, zorder=3)
    for start, end, *words in links:
        line = {"arrowstyle": "-|>", "color": INK, "lw": 1.2, "shrinkA": 2, "shrinkB": 4}
        line |= {"patchA": spots[start].get_bbox_patch(), "patchB": spots[end].get_bbox_patch()}
        axis.annotate("", places[end], places[start], arrowprops=line, zorder=2)
        middle = np.mean([places[start], places[end]], axis=0)
        axis.annotate("".join(words), middle, (0, 5), textcoords="offset points", ha="center", fontsize=9, color=INK)
    x, y = np.array(list(places.values()), float).T
    axis.set(xlim=(x.min() - 0.6, x.max() + 0.6), ylim=(y.min() - 0.7, y.max() + 0.7))
    return axis


def numbers(axis, values, *, zeros=True):
    """Write the numbers of a map, (H, W), into the cells of the axis that shows it; without `zeros` those that are 0 stay empty."""
    for (row, column), value in np.ndenumerate(values):
        if zeros or value:
            axis.annotate(f"{value:.3g}", (column, row), ha="center", va="center", bbox={"fc": "white", "ec": "none", "pad": 1})


def _one(axis, title, xlabel, ylabel, size):
    """The axis given, or that of a new figure, with its texts."""
    axis = panels([""], size=size)[0] if axis is None else axis
    axis.set(**{name: text for name, text in (("title", title), ("xlabel", xlabel), ("ylabel", ylabel)) if text})
    return axis


def _panel(axis, array, vmax, signed):
    """Draw one image, mask or map without ticks; return what a colour bar needs if it is a map."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if array is None:
        return axis.set_facecolor("none")
    if isinstance(array, Heat):
        return axis.imshow(array.values, cmap=SIGNED if signed else HEAT, vmin=-vmax if signed else 0, vmax=vmax, interpolation="nearest")
    array = np.asarray(array)
    picture = array.astype(float) if array.dtype == bool else (np.clip(array, -1, 1) + 1) / 2
    axis.imshow(
        picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    return None


def _colour_bar(mappable, axes, label):
    """The figure's one colour scale, to the right of all panels."""
    with plt.rc_context(STYLE):
        bar = axes[0].figure.colorbar(mappable, ax=list(axes), shrink=0.85, pad=0.01, aspect=18, label=label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)


def _outline(axis, mask):
    """The border of the True pixels of a mask, along the pixels' edges, light on dark so that it shows on every map and image."""
    fine = np.kron(np.asarray(mask, float), np.ones((8, 8)))
    at, down = ((np.arange(size) + 0.5) / 8 - 0.5 for size in fine.shape[::-1])
    axis.contour(at, down, fine, levels=[0.5], colors=INK, linewidths=2)
    axis.contour(at, down, fine, levels=[0.5], colors="white", linewidths=1)


def _roles(labels, role):
    """The Role and the line style of each label; curves of one role get styles in turn."""
    turn = ["prior", "observation", "posterior", "guided", "truth", "estimate", "suspected", "noise"]
    names = [role] * len(labels) if isinstance(role, str) else role or [label if label in ROLES else None for label in labels]
    left = iter([name for name in turn if name not in names] + turn)
    names = [name or next(left) for name in names]
    again = ["-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3))]
    seen = [names[:k].count(name) for k, name in enumerate(names)]
    repeated = {name for name in names if names.count(name) > 1}
    return [(ROLES[n], again[k % len(again)] if n in repeated else ROLES[n].line) for n, k in zip(names, seen, strict=True)]


def _scales(axis, log):
    """Make the named axes logarithmic."""
    if "x" in log:
        axis.set_xscale("log")
    if "y" in log:
        axis.set_yscale("log")


def _legend(axis, labels):
    """Show the legend where there is something to tell apart; return the axis."""
    if len(labels) > 1:
        axis.legend(frameon=False, fontsize=9)
    return axis
