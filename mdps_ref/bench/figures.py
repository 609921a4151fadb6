"""The bench's figures, in the style of the report: profiles as bars, and speed against the number of cores."""

import itertools

import numpy as np
from matplotlib.figure import Figure

from mdps_ref.bench.profile import KINDS
from mdps_ref.report.style import FAINT, GOOD_COLOUR, INK, WIDTH, plain_axes

COLOURS = {"products": "#0072B2", "norms": "#E69F00", "copies": "#56B4E9", "sums": "#009E73", "update": "#CC79A7", "rest": "#7A7A7A"}
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
SMALLEST_LABEL = 0.05  # share of a bar that has room for its number


def profile_bars(profiles):
    """Draw a bar for each profile, split by the kinds of work.

    Parameters
    ----------
    profiles : dict of str to dict
        The seconds of each kind, by the name of the step.

    Returns
    -------
    Figure
    """
    figure = Figure((WIDTH, 1.2 + 0.42 * len(profiles)), layout="constrained")
    axes, heights = figure.subplots(), range(len(profiles))
    wholes = np.array([sum(seconds.values()) for seconds in profiles.values()])
    starts = np.zeros(len(profiles))
    for kind, meaning in KINDS.items():
        shares = np.array([seconds[kind] for seconds in profiles.values()]) / wholes
        axes.barh(heights, 100 * shares, left=100 * starts, color=COLOURS[kind], label=meaning, height=0.7)
        for height, share, start in zip(heights, shares, starts, strict=True):
            if share >= SMALLEST_LABEL:
                text = {"ha": "center", "va": "center", "color": "white", "fontsize": 9, "weight": "bold"}
                axes.text(100 * (start + share / 2), height, f"{100 * share:.0f}", **text)
        starts += shares
    for height, whole in zip(heights, wholes, strict=True):
        axes.text(101, height, f"{1000 * whole:.1f} ms", va="center", color=INK, fontsize=9)
    axes.set(xlim=(0, 100), yticks=list(heights), ylim=(len(profiles) - 0.5, -0.5))
    axes.set_yticklabels(profiles)
    plain_axes(axes, xlabel="share of the time on one thread (%)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def scaling_curves(counts):
    """Draw the speed that counting predicts against the number of cores, a line for each step.

    Parameters
    ----------
    counts : dict of str to list of scaling.Count
        By the name of the step, one for each number of cores.

    Returns
    -------
    Figure
    """
    figure = Figure((WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    cores = [count.cores for count in next(iter(counts.values()))]
    axes.plot(cores, cores, color=FAINT, linewidth=1.5, label="as many times as cores")
    for (name, column), colour in zip(counts.items(), itertools.cycle(LINES), strict=False):
        axes.plot(cores, [count.speed for count in column], "o-", color=colour, linewidth=2, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xticks(cores)
    plain_axes(axes, xlabel="cores", ylabel="times the speed of one core, predicted")
    axes.grid(color=FAINT, linewidth=0.5)
    axes.legend(frameon=False, fontsize=9, labelcolor=GOOD_COLOUR)
    return figure
