"""The plots of a report, from the differences of the chains to the training loss. Each is a matplotlib Figure; pyplot is not used."""

import numpy as np
from matplotlib.figure import Figure

from mdps_ref.data.folders import GOOD
from mdps_ref.job.evaluate import PRO_LIMIT, doubts
from mdps_ref.report.style import CHAINS, DEFECT_COLOUR, DOUBTS, FAINT, GOOD_COLOUR, HALF, INK, THIRD, chains_of, plain_axes, printable
from mdps_ref.scoring.curves import roc_curve
from mdps_ref.scoring.metrics import exceeds
from mdps_ref.scoring.uncertainty import errors_left

GREY_LEVEL = 2 / 255  # one of the 256 grey levels of an image, in pixel values from -1 to 1
SMALLEST = 1e-4  # the lower end of the axis of differences, which is logarithmic; a difference may be 0
RUNNING_MEAN = 50  # training steps
WIDTHS = (1.3, 3.0, 5.0)  # of the curves of the chains
LINES = {"spread": (0, (1, 1.2)), "distance": "-"}  # of the measures of doubt
ON_WHITE = {"color": "white", "pad": 0.4}  # a box behind text, so that no line runs through it


def differences(result):
    """Plot how far each chain's x_0 is from the test image: on good images it should be near, in defects far.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Figure
    """
    shown = chains_of(result.config)
    figure = Figure((HALF, 1.2 + 1.0 * len(shown)), layout="constrained")
    axes = figure.subplots()
    good = np.array([kind == GOOD for kind in result.defects])
    for height, (key, chain) in enumerate(shown.items()):
        found = result.chains[key]
        _draw_strip(axes, found.difference[good], height, GOOD_COLOUR)
        _draw_strip(axes, found.inside[np.isfinite(found.inside)], height, DEFECT_COLOUR)
        _draw_means(axes, result.metrics[key], height)
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "bottom", "color": INK, "bbox": ON_WHITE}
        axes.annotate(chain.name, (0, height - 0.42), (0, 0), fontsize=11, weight="bold", **place)
        axes.annotate(_comparison(key, result.metrics), (1, height - 0.42), (0, 0), fontsize=8.5, ha="right", **place)
    axes.axvline(GREY_LEVEL, color=INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    axes.text(GREY_LEVEL, len(shown) - 0.46, " one grey level (of 256)", va="bottom", fontsize=8, color=GOOD_COLOUR)
    for x, text, colour in ((0.0, "◆ good images", GOOD_COLOUR), (0.36, "◆ inside defects", DEFECT_COLOUR)):
        axes.annotate(text, (x, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", color=colour, weight="bold", fontsize=9.5)
    largest = max(2, 1.5 * axes.dataLim.xmax)  # x_0 of a network that is hardly trained may leave [-1, 1]
    axes.set(xscale="log", xlim=(SMALLEST, largest), ylim=(len(shown) - 0.42, -0.78), yticks=[])
    plain_axes(axes, xlabel="mean |$x_0 - y$| (pixel values from −1 to 1, log axis)")
    axes.spines["left"].set_visible(False)
    return figure


def _draw_strip(axes, values, height, colour):
    """Draw a faint dot for each image."""
    dot = {"marker": "o", "markersize": 5, "markeredgewidth": 0, "alpha": 0.25, "linestyle": "", "clip_on": False}
    axes.plot(np.maximum(values, SMALLEST), np.full(len(values), height), color=colour, **dot)


def _draw_means(axes, metrics, height):
    """Draw a chain's two means, where they are defined, and a line between them."""
    ends = [("good", GOOD_COLOUR, 14), ("defect", DEFECT_COLOUR, -14)]  # one label above and one below: the means may coincide
    ends = [(metrics[f"{name}_difference"], *rest) for name, *rest in ends if metrics[f"{name}_difference"] is not None]
    axes.plot([max(value, SMALLEST) for value, _, _ in ends], [height] * len(ends), color=INK, linewidth=1.2, zorder=1)
    for value, colour, offset in ends:
        x = max(value, SMALLEST)
        axes.plot(x, height, "D", color=colour, markersize=9, zorder=3)
        style = {"ha": "center", "va": "center", "color": colour, "weight": "bold", "bbox": ON_WHITE}
        axes.annotate(f"{value:.3g}", (x, height), (0, offset), textcoords="offset points", **style)


def _comparison(key, metrics):
    """Return a chain's AUROC with its contrast, and the comparison of its means with those of reconstruction, a line each."""
    own, reconstruction = metrics[key], metrics["reconstruction"]
    names = {"image_auroc": ("image AUROC", ".3f"), "contrast": ("contrast", ".1f")}
    first = ", ".join(f"{name} {own[metric]:{form}}" for metric, (name, form) in names.items() if own[metric] is not None)
    second = []
    if key != "reconstruction" and own["good_difference"] and reconstruction["good_difference"]:
        second.append(f"{closeness(own, reconstruction)} on good images")
    if key != "reconstruction" and own["defect_difference"] is not None and reconstruction["defect_difference"]:
        second.append(f"{own['defect_difference'] / reconstruction['defect_difference'] * 100:.0f} % in defects")
    return "\n".join(filter(None, [first, ", ".join(second)]))


def closeness(own, reconstruction):
    """Say how much closer a chain keeps good images than reconstruction does.

    Parameters
    ----------
    own, reconstruction : dict
        Metrics of two chains whose good_difference is above 0.

    Returns
    -------
    str
        Such as "11.4× closer".
    """
    ratio = reconstruction["good_difference"] / own["good_difference"]
    if f"{ratio:.1f}" == f"{1 / ratio:.1f}":
        return "as close"
    return f"{ratio:.1f}× closer" if ratio >= 1 else f"{1 / ratio:.1f}× farther"


def score_histogram(result):
    """Plot the scores and the decision's threshold: above as shares of each group, below as one stroke an image, by kind.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Figure
    """
    score, defects = result.chains["mdps"].score, np.array(result.defects)
    kinds = sorted(set(result.defects) - {GOOD})
    rows = [("good, held out", result.held_out_scores, GOOD_COLOUR), ("good, test", score[defects == GOOD], GOOD_COLOUR)]
    rows += [(printable(kind), score[defects == kind], DEFECT_COLOUR) for kind in kinds]
    strip_height = 0.26 * len(rows) + 0.1
    figure = Figure((HALF, 2.5 + strip_height), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.8, strip_height))
    groups = [("good, held out", rows[0][1], FAINT, "stepfilled"), ("good, test", rows[1][1], GOOD_COLOUR, "step")]
    _draw_histograms(upper, [*groups, ("defective", score[defects != GOOD], DEFECT_COLOUR, "step")])
    for height, (_, values, colour) in enumerate(rows):
        count = f"{np.count_nonzero(exceeds(values, result.threshold))} of {len(values)} flagged"
        lower.text(1.01, height, count, transform=lower.get_yaxis_transform(), va="center", color=INK, fontsize=9)
        lower.plot(values, np.full(len(values), height), "|", color=colour, markersize=13, markeredgewidth=1.4, alpha=0.8)
    lower.set(yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6), xlabel=f"image score ({result.config.image_score} of the anomaly map)")
    lower.set_yticklabels([name for name, _, _ in rows], parse_math=False)
    plain_axes(upper, ylabel="share of the group (%)")
    plain_axes(lower)
    _mark_threshold(upper, lower, result.threshold)
    upper.legend(frameon=False, loc="upper right")
    return figure


def _draw_histograms(axes, groups):
    """Draw a histogram, in percent, of each group (name, scores, colour, type of histogram), all with the same bins."""
    everything = np.concatenate([values for _, values, _, _ in groups]).astype(np.float64)
    slack = 1e-6 * max(1.0, abs(everything).max())  # scores may all be the same, give or take rounding
    edges = np.linspace(everything.min() - slack, everything.max() + slack, 41)
    for name, values, colour, kind in groups:
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            axes.hist(values, edges, weights=weights, histtype=kind, color=colour, linewidth=1.8, label=f"{name} ({len(values)})")


def _mark_threshold(upper, lower, threshold):
    """Draw the decision's threshold as a line through both panels."""
    for axes in (upper, lower):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=0)
    place = {"xycoords": ("data", "axes fraction"), "xytext": (0, 4), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    upper.annotate(f"flagged above {threshold:.3f}", (threshold, 1), color=INK, fontsize=9, **place)


def curves(result):
    """Plot each chain's ROC of images, ROC of pixels, and per-region overlap, with the areas under the curves.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to Figure
        "roc-images", "roc-pixels" and "pro".
    """
    labels = np.array([kind != GOOD for kind in result.defects])
    figures = {name: Figure((THIRD, 3.5), layout="constrained") for name in ("roc-images", "roc-pixels", "pro")}
    image, pixel, region = (figure.subplots() for figure in figures.values())
    _draw_curves(image, result, "image_auroc", lambda chain: roc_curve(labels, chain.score)[:2])
    _draw_curves(pixel, result, "pixel_auroc", lambda chain: chain.pixels.roc_curve())
    _draw_curves(region, result, "aupro", lambda chain: chain.pixels.pro_curve())
    plain_axes(image, "Images: ROC", "share of good images flagged", "share of defective images flagged")
    plain_axes(pixel, "Pixels: ROC", "share of normal pixels marked", "share of anomalous pixels marked")
    plain_axes(region, "Regions: PRO", "share of normal pixels marked", "share of each region marked, mean")
    region.set_xlim(-0.02 * PRO_LIMIT, PRO_LIMIT)
    return figures


def _draw_curves(axes, result, metric, curve_of):
    """Draw curve_of(ChainResult) of each chain, with the area under MDPS's curve shaded; say so if the metric is not defined.

    The first chain's line is the thinnest and lies on top, so that all are seen where they coincide.
    """
    axes.set(xlim=(-0.02, 1), ylim=(0, 1.03))
    if result.metrics["mdps"][metric] is None:
        needs = "good and defective images" if metric == "image_auroc" else "true masks of defects"
        axes.text(0.5, 0.5, f"not defined here:\nit needs {needs}", transform=axes.transAxes, ha="center", va="center", color=GOOD_COLOUR)
        return
    chains = chains_of(result.config)
    for width, (key, chain) in reversed(list(zip(WIDTHS, chains.items(), strict=False))):
        x, y = _thinned(*curve_of(result.chains[key]))
        axes.plot(x, y, color=chain.colour, linewidth=width, label=f"{chain.name}: {result.metrics[key][metric]:.3f}")
        if key == "mdps":
            axes.fill_between(x, y, color=chain.colour, alpha=0.1, linewidth=0)
    axes.legend(frameon=False, loc="lower right", fontsize=9, reverse=True, title="area under the curve", title_fontsize=9)


def _thinned(x, y, points=2000):
    """Return at most `points` points of a rising curve, spread evenly along both axes: millions of pixels make one line."""
    along = x + y
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)).clip(max=len(x) - 1))
    return x[kept], y[kept]


def uncertainty(result):
    """Plot the error rate that is left against the share of least certain decisions that are set aside.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Figure
    """
    figure = Figure((HALF, 3.1), layout="constrained")
    axes = figure.subplots()
    wrong, count = result.flagged != np.array([kind != GOOD for kind in result.defects]), len(result.defects)
    aside = 100 * np.arange(count) / count
    axes.axhline(100 * wrong.mean(), color=GOOD_COLOUR, linewidth=1.2, linestyle=(0, (4, 2)), label="chance")
    for name, doubt in doubts(result.chains["mdps"], result.threshold, result.config.samples).items():
        style = {"color": CHAINS["mdps"].colour, "linewidth": 2, "linestyle": LINES[name]}
        axes.plot(aside, 100 * errors_left(wrong, doubt), label=f"by {DOUBTS[name]}", **style)
    axes.axvline(10, color=FAINT, linewidth=1, zorder=0)
    plain_axes(axes, xlabel="least certain decisions set aside (%)", ylabel="wrong among the others (%)")
    in_sight = max(max(line.get_ydata()[: count // 2 + 1]) for line in axes.lines[:-1])  # the last few jump about
    axes.set(xlim=(0, 50), ylim=(0, max(1, 1.3 * in_sight)))
    axes.legend(frameon=False, fontsize=9)
    return figure


def loss_curve(log):
    """Plot the training loss of each step and its running mean.

    Parameters
    ----------
    log : array, (steps, 2)
        Loss and gradient norm, for at least one step.

    Returns
    -------
    Figure
    """
    loss = np.asarray(log)[:, 0]
    steps = np.arange(1, len(loss) + 1)
    total = np.append(0, np.cumsum(loss))
    first, last = np.maximum(steps - RUNNING_MEAN // 2, 0), np.minimum(steps + RUNNING_MEAN // 2, len(loss))
    figure = Figure((HALF, 3.0), layout="constrained")
    axes = figure.subplots()
    colour = CHAINS["mdps"].colour
    axes.plot(steps, loss, color=colour, linewidth=0.8, alpha=0.35, label="each step")
    axes.plot(steps, (total[last] - total[first]) / (last - first), color=colour, linewidth=2, label=f"mean of {RUNNING_MEAN} steps")
    axes.set_yscale("log")
    plain_axes(axes, xlabel="training step", ylabel="noise loss per pixel value (log axis)")
    axes.legend(frameon=False)
    return figure
