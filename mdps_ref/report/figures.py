"""The figures of a report, each a matplotlib Figure from a Result; no pyplot, so nothing is left open and no window is needed."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdps_ref.data.folders import GOOD
from mdps_ref.job.evaluate import PRO_LIMIT
from mdps_ref.scoring.metrics import pro_curve, roc_curve

# {chain: (its field in Detection, its name, its colour)}; Okabe and Ito's colours, which the colour-blind can tell apart.
CHAINS = {
    "mdps": ("masked", "MDPS", "#0072B2"),
    "stage_1": ("stage1", "stage 1, no mask", "#E69F00"),
    "reconstruction": ("plain", "plain reconstruction", "#7A7A7A"),
}
GOOD_COLOUR, DEFECT_COLOUR, INK, FAINT = "#4D4D4D", "#D55E00", "#222222", "#D9D9D9"
WIDTH = 10.5  # inches, the page's full width, so that text is about as large as the page's own
HEAT, SPREAD = "inferno", "viridis"
GREY_LEVEL = 2 / 255  # one step of an 8-bit image, whose values span [-1, 1]
SMALLEST = 1e-4  # where the axis of differences begins; a difference may be exactly 0
RUNNING_MEAN = 50
DECISIONS = {  # (defective, flagged)
    (True, True): "flagged",
    (True, False): "passed: missed",
    (False, True): "flagged: false alarm",
    (False, False): "passed",
}


def chains(config):
    """CHAINS as a run has them: without a mask the one guided pass is the result, and there is no stage 1 beside it."""
    if config.masked:
        return CHAINS
    attribute, name, colour = CHAINS["mdps"]
    return {"mdps": (attribute, f"{name}, no mask", colour), "reconstruction": CHAINS["reconstruction"]}


def choose(result, limit):
    """The indices of at most `limit` images to show: the first good ones, then of each kind of defect the first, the second, and so on.

    About a quarter are good; every kind has one while the limit allows. By file name alone, so nobody picks the ones that look well.
    """
    members = {}
    for index, kind in enumerate(result.defects):
        members.setdefault(kind, []).append(index)
    good = members.pop(GOOD, [])
    in_turn = sorted((turn, kind, index) for kind, indices in members.items() for turn, index in enumerate(indices))
    few = min(len(good), max(1, limit // 4), max(0, limit - len(members)))
    few = max(few, limit - len(in_turn))
    by_kind = sorted((kind, index) for _, kind, index in in_turn[: limit - few])
    return good[:few] + [index for _, index in by_kind]


def flagged(result):
    """Whether the decision calls each image anomalous.  Shapes: -> (N) bool."""
    return result.detection.masked.score.astype(np.float64) > result.metrics["mdps"]["decision_threshold"]


def heat_limit(maps):
    """The top of a colour scale that all maps share: their 99.5th percentile, 1 if that is 0.  Shapes: (N, H, W) -> float."""
    return float(np.percentile(maps, 99.5)) or 1.0


def gallery(result, chosen):
    """The chosen images, one a row: what came in, what either chain made of it, and the truth, on colour scales all images share."""
    columns = _columns(result)
    left, label, top, bottom, cell = 0.05, 1.3, 0.68, 0.72, (WIDTH - 1.4) / len(columns)
    height = top + bottom + cell * len(chosen)
    figure = Figure((WIDTH, height))
    frame = {"left": (left + label) / WIDTH, "right": 1 - left / WIDTH, "top": 1 - top / height, "bottom": bottom / height}
    rows = figure.add_gridspec(len(chosen), len(columns), wspace=0.05, hspace=0.05, **frame).subplots(squeeze=False)
    heat = PowerNorm(0.5, 0, heat_limit(result.detection.masked.anomaly))  # faint defects show, good images stay dark
    spread = Normalize(0, heat_limit(result.detection.masked.spread))
    for axes, index in zip(rows, chosen, strict=True):
        for picture, (_, _, kind, arrays) in zip(axes, columns, strict=True):
            _picture(picture, kind, arrays[index], result.images[index], heat, spread)
        _outline(axes[-1], result.truths[index])
        _row_label(axes[0], result, index)
    _gallery_headings(figure, rows[0], columns, height)
    _colour_bar(figure, rows[-1][:4], height, heat, HEAT, "anomaly map (square-root scale), one for all images and both chains")
    if result.config.samples > 1:
        _colour_bar(figure, rows[-1][4:], height, spread, SPREAD, "spread of the anomaly map over the samples")
    return figure


def _columns(result):
    """The gallery's columns, (title, the chain's name over it, kind of picture, arrays); a mask and a spread only where there are any."""
    config, plain, own = result.config, result.detection.plain, result.detection.masked
    names = {chain: name for chain, (_, name, _) in chains(config).items()}
    return [
        ("test image $y$", "", "image", result.images),
        ("$x_0$", names["reconstruction"], "image", plain.x_0),
        ("anomaly map", names["reconstruction"], "heat", plain.anomaly),
        *([("mask $m$", names["mdps"], "mask", own.suspected)] if config.masked else []),
        ("$x_0$, a sample" if config.samples > 1 else "$x_0$", names["mdps"], "image", own.x_0),
        ("anomaly map", names["mdps"], "heat", own.anomaly),
        *([("spread", names["mdps"], "spread", own.spread)] if config.samples > 1 else []),
        ("true defect", "", "image", result.images),
    ]


def _picture(axes, kind, pixels, y, heat, spread):
    """One picture of the gallery; an anomaly map lies over the test image y in grey."""
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


def _row_label(axes, result, index):
    """Left of a row: kind and name of the image, its score, the decision, and whether that was wrong."""
    kind, name, is_flagged = result.defects[index], result.names[index].rpartition("/")[2], flagged(result)[index]
    lines = (
        (_shown(kind, 16), INK, "bold"),
        (_shown(name, 18), INK, "normal"),
        (f"score {result.detection.masked.score[index]:.3f}", INK, "normal"),
        (DECISIONS[kind != GOOD, bool(is_flagged)], DEFECT_COLOUR if is_flagged else GOOD_COLOUR, "normal"),
    )
    for line, (text, colour, weight) in enumerate(lines):
        place = {"transform": axes.transAxes, "ha": "right", "va": "center", "parse_math": False}
        axes.text(-0.08, 0.8 - 0.2 * line, text, color=colour, weight=weight, fontsize=9, **place)


def _outline(axes, truth):
    """Draw the border of a true mask along the edges of its pixels; words instead where there is no mask."""
    if truth is None:
        axes.text(0.5, 0.06, "no mask given", transform=axes.transAxes, ha="center", fontsize=8, color="white", backgroundcolor="#00000080")
    elif truth.any():
        fine = np.pad(np.kron(truth, np.ones((4, 4))), 1)  # padded, so that a defect at the image's border is closed too
        y, x = (np.arange(-1, 4 * size + 1) / 4 - 3 / 8 for size in truth.shape)
        limits = axes.axis()
        axes.contour(x, y, fine, levels=[0.5], colors=["white"], linewidths=2.6)
        axes.contour(x, y, fine, levels=[0.5], colors=[DEFECT_COLOUR], linewidths=1.4)
        axes.axis(limits)


def _gallery_headings(figure, axes, columns, height):
    """A title over each column, and over them the names of the two chains."""
    places = {}
    for picture, (title, chain, _, _) in zip(axes, columns, strict=True):
        picture.set_title(title, fontsize=9, color=INK, pad=5)
        places.setdefault(chain, []).append(picture.get_position())
    del places[""]
    for chain, boxes in places.items():
        x_0, x_1, y = boxes[0].x0, boxes[-1].x1, 1 - 0.36 / height
        figure.add_artist(Line2D((x_0, x_1), (y, y), color=INK, linewidth=0.8))
        figure.text((x_0 + x_1) / 2, y + 0.06 / height, chain, ha="center", va="bottom", fontsize=11, weight="bold", color=INK)


def _colour_bar(figure, axes, height, norm, cmap, label):
    """A colour bar under these axes, open at its end, as values may lie above the scale."""
    x_0, x_1 = axes[0].get_position().x0 + 0.02, axes[-1].get_position().x1 - 0.02
    place = figure.add_axes((x_0, 0.5 / height, x_1 - x_0, 0.13 / height))
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=place, orientation="horizontal", extend="max")
    bar.outline.set_visible(False)
    ticks = norm.inverse(np.linspace(0, 1, 6))
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.set_label(label, fontsize=9, color=INK)
    place.tick_params(labelsize=8, length=2, color=INK)


def score_histogram(result):
    """How the scores lie to the decision's threshold: as shares of the three groups, and below one stroke an image, by kind."""
    score, defects = result.detection.masked.score, np.array(result.defects)
    kinds = sorted(set(result.defects) - {GOOD})
    rows = [("good, held out", result.held_out_scores, GOOD_COLOUR), ("good, test", score[defects == GOOD], GOOD_COLOUR)]
    rows += [(_shown(kind), score[defects == kind], DEFECT_COLOUR) for kind in kinds]
    strip_height = 0.26 * len(rows) + 0.1
    figure = Figure((WIDTH, 2.9 + strip_height), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.1, strip_height))
    everything = np.concatenate([score, result.held_out_scores]).astype(np.float64)
    slack = 1e-6 * max(1.0, abs(everything).max())  # scores may all be the same, give or take rounding
    edges = np.linspace(everything.min() - slack, everything.max() + slack, 41)
    groups = (("good, held out", rows[0][1], FAINT, "stepfilled"), ("good, test", rows[1][1], GOOD_COLOUR, "step"))
    for name, values, colour, kind in (*groups, ("defective", score[defects != GOOD], DEFECT_COLOUR, "step")):
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            upper.hist(values, edges, weights=weights, histtype=kind, color=colour, linewidth=1.8, label=f"{name} ({len(values)})")
    threshold = result.metrics["mdps"]["decision_threshold"]
    for height, (_, values, colour) in enumerate(rows):
        above = f"{np.count_nonzero(np.float64(values) > threshold)} of {len(values)} flagged"
        lower.text(1.01, height, above, transform=lower.get_yaxis_transform(), va="center", color=colour, fontsize=9)
        lower.plot(values, np.full(len(values), height), "|", color=colour, markersize=13, markeredgewidth=1.4, alpha=0.8)
    lower.set(yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6), xlabel=f"image score ({result.config.image_score} of the anomaly map)")
    lower.set_yticklabels([name for name, _, _ in rows], parse_math=False)
    _plain_axes(upper, ylabel="share of the group (%)")
    _plain_axes(lower)
    _mark_threshold(upper, lower, threshold)
    upper.legend(frameon=False, loc="upper right")
    return figure


def _mark_threshold(upper, lower, threshold):
    """The decision's threshold as a line through both panels."""
    for axes in (upper, lower):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=0)
    place = {"xycoords": ("data", "axes fraction"), "xytext": (0, 4), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    upper.annotate(f"threshold {threshold:.3f}: above it, flagged", (threshold, 1), color=INK, fontsize=9, **place)


def curves(result):
    """Image ROC, pixel ROC and per-region overlap for each chain, with the area under each in the legend."""
    figure = Figure((WIDTH, 3.9), layout="constrained")
    image, pixel, region = figure.subplots(1, 3)
    labels = np.array([kind != GOOD for kind in result.defects])
    known = [index for index, truth in enumerate(result.truths) if truth is not None]
    masks = np.array([result.truths[index] for index in known], bool)
    _curve_panel(image, result, "image_auroc", lambda maps: roc_curve(labels, maps.score)[:2])
    _curve_panel(pixel, result, "pixel_auroc", lambda maps: roc_curve(masks, maps.anomaly[known])[:2])
    _curve_panel(region, result, "aupro", lambda maps: pro_curve(masks, maps.anomaly[known]))
    _plain_axes(image, "Images: ROC", "good images flagged (share)", "defective images flagged (share)")
    _plain_axes(pixel, "Pixels: ROC", "normal pixels marked (share)", "anomalous pixels marked (share)")
    _plain_axes(region, "Regions: PRO", "normal pixels marked (share)", "overlap with a true region (mean share)")
    region.set_xlim(0, PRO_LIMIT)
    return figure


def _curve_panel(axes, result, metric, curve_of):
    """One panel of curves, MDPS's area shaded; words instead where the metric is not defined."""
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if result.metrics["mdps"][metric] is None:
        needs = "good and defective images" if metric == "image_auroc" else "true masks of defects"
        axes.text(0.5, 0.5, f"not defined here:\nit needs {needs}", transform=axes.transAxes, ha="center", va="center", color=GOOD_COLOUR)
        return
    for kind, (attribute, name, colour) in reversed(chains(result.config).items()):
        x, y = _thinned(*curve_of(getattr(result.detection, attribute)))
        axes.plot(x, y, color=colour, linewidth=2, label=f"{name}: {result.metrics[kind][metric]:.3f}")
        if kind == "mdps":
            axes.fill_between(x, y, color=colour, alpha=0.1, linewidth=0)
    axes.legend(frameon=False, loc="lower right", fontsize=9, reverse=True, title="area under the curve", title_fontsize=9)


def _thinned(x, y, points=2000):
    """A curve that never falls, at about so many points of it, evenly spread along both axes: millions of pixels make one line."""
    along = x + y
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)).clip(max=len(x) - 1))
    return x[kept], y[kept]


def differences(result):
    """The claim in one figure: how far x_0 stands from the image where it is good (wanted: near) and in defects (wanted: far)."""
    shown = chains(result.config)
    figure = Figure((WIDTH, 1.5 + 0.7 * len(shown)), layout="constrained")
    axes = figure.subplots()
    good = np.array([kind == GOOD for kind in result.defects])
    for height, (kind, (attribute, _, _)) in enumerate(shown.items()):
        difference = getattr(result.detection, attribute).difference
        inside = [image[truth].mean() for image, truth in zip(difference, result.truths, strict=True) if truth is not None and truth.any()]
        _strip(axes, difference[good].mean(axis=(1, 2)), height, GOOD_COLOUR)
        _strip(axes, np.array(inside), height, DEFECT_COLOUR)
        _dumbbell(axes, result.metrics[kind], height)
        axes.text(1.02, height, _verdict(kind, result.metrics), transform=axes.get_yaxis_transform(), va="center", fontsize=9.5, color=INK)
    axes.axvline(GREY_LEVEL, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.text(GREY_LEVEL, -0.72, "one grey level of 8 bits", ha="center", va="bottom", fontsize=8.5, color=GOOD_COLOUR)
    for x, text, colour in ((0.30, "◆ good images", GOOD_COLOUR), (0.55, "◆ inside defects", DEFECT_COLOUR)):
        axes.annotate(text, (x, 1), (0, 17), xycoords="axes fraction", textcoords="offset points", color=colour, weight="bold")
    largest = max(2, 1.5 * axes.dataLim.xmax)  # a network that is hardly trained may leave the range of pixel values
    axes.set(xscale="log", xlim=(SMALLEST, largest), ylim=(len(shown) - 0.4, -0.7))
    axes.set_yticks(range(len(shown)), [name for _, name, _ in shown.values()])
    _plain_axes(axes, xlabel="mean |$x_0 - y$| (pixel values, which span −1 to 1; log axis)")
    axes.tick_params(axis="y", length=0, labelsize=11)
    return figure


def _strip(axes, values, height, colour):
    """A faint dot an image."""
    axes.plot(np.maximum(values, SMALLEST), np.full(len(values), height), "o", color=colour, markersize=5, alpha=0.25, markeredgewidth=0)


def _dumbbell(axes, metrics, height):
    """The two means of one chain, joined by a line; nothing for one that is not defined."""
    ends = [("good", GOOD_COLOUR, 14), ("defect", DEFECT_COLOUR, -14)]  # one label above, one below: they may coincide
    ends = [(metrics[f"{name}_difference"], *rest) for name, *rest in ends if metrics[f"{name}_difference"] is not None]
    axes.plot([max(value, SMALLEST) for value, _, _ in ends], [height] * len(ends), color=INK, linewidth=1.2, zorder=1)
    for value, colour, offset in ends:
        x = max(value, SMALLEST)
        axes.plot(x, height, "D", color=colour, markersize=9, zorder=3)
        style = {"ha": "center", "va": "center", "color": colour, "weight": "bold", "bbox": {"color": "white", "pad": 0.4}}
        axes.annotate(f"{value:.3g}", (x, height), (0, offset), textcoords="offset points", **style)


def _verdict(kind, metrics):
    """A chain's contrast, and how its two means compare with those of plain reconstruction."""
    own, plain = metrics[kind], metrics["reconstruction"]
    lines = [] if own["contrast"] is None else [f"contrast {own['contrast']:.1f}"]
    if kind != "reconstruction" and own["good_difference"] and plain["good_difference"]:
        lines.append(closeness(own, plain))
    if kind != "reconstruction" and own["defect_difference"] is not None and plain["defect_difference"]:
        lines.append(f"{own['defect_difference'] / plain['defect_difference'] * 100:.0f} % of the difference in defects")
    return "\n".join(lines)


def closeness(own, plain):
    """In words, how much closer good images come back than by plain reconstruction; both means are above 0."""
    ratio = plain["good_difference"] / own["good_difference"]
    if f"{ratio:.1f}" == f"{1 / ratio:.1f}":
        return "as close on good images"
    return f"{ratio:.1f}× closer on good images" if ratio >= 1 else f"{1 / ratio:.1f}× farther on good images"


def loss_curve(log):
    """The training loss at each step, faint, and its mean over the steps around.  Shapes: log (steps, 2), loss first; at least one step."""
    loss = np.asarray(log)[:, 0]
    steps = np.arange(1, len(loss) + 1)
    total = np.append(0, np.cumsum(loss))
    first, last = np.maximum(steps - RUNNING_MEAN // 2, 0), np.minimum(steps + RUNNING_MEAN // 2, len(loss))
    figure = Figure((WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    colour = CHAINS["mdps"][2]
    axes.plot(steps, loss, color=colour, linewidth=0.8, alpha=0.35, label="each step")
    axes.plot(steps, (total[last] - total[first]) / (last - first), color=colour, linewidth=2, label=f"mean of {RUNNING_MEAN} steps")
    axes.set_yscale("log")
    _plain_axes(axes, xlabel="training step", ylabel="noise loss per pixel value (log axis)")
    axes.legend(frameon=False)
    return figure


def _plain_axes(axes, title="", xlabel=None, ylabel=None):
    """Axes with no more lines than are read."""
    axes.set_title(title, loc="left", fontsize=11, weight="bold", color=INK)
    if xlabel:
        axes.set_xlabel(xlabel, color=INK)
    if ylabel:
        axes.set_ylabel(ylabel, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GOOD_COLOUR)
    axes.tick_params(color=GOOD_COLOUR, labelcolor=INK, labelsize=9)


def _shown(name, longest=22):
    """A name that the figures' font can write: other characters as "?", a long one shortened."""
    text = "".join(character if character.isprintable() and ord(character) < 256 else "?" for character in name)
    return text if len(text) <= longest else text[: longest - 1] + "…"
