"""Exercises of the metrics: E21 to E24. Labels are bools."""

import numpy as np

from mdps_ref.check.exercise import Exercise, agree
from mdps_ref.scoring import curves, metrics

LABELS = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0], bool)
SCORES = np.array([1, 4, 3, 3, 5, 2, 5, 2, 0, 3], float)  # with ties


def small_maps(seed, levels=12):
    """Three 9 x 9 masks, the last one empty, and maps with ties that see the masks faintly."""
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 9, 9)) < 0.18
    masks[2] = False
    return masks, np.round((rng.random((3, 9, 9)) + 0.4 * masks) * levels) / levels


def drawn_entries(seed):
    """Labels of both kinds, and scores of few values, so that ties are common."""
    rng = np.random.default_rng(seed)
    return np.append(rng.random(20) < 0.4, [True, False]), rng.integers(-4, 5, 22).astype(float)


def auroc_by_pairs(labels, scores):
    """Over all pairs of an anomalous and a normal entry, the share in the right order, ties one half."""
    wins = [float(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    return sum(wins) / len(wins)


def average_precision_by_steps(labels, scores):
    """Down the distinct scores, precision times the recall gained."""
    total, recall_before = 0.0, 0.0
    for t in sorted(set(scores.tolist()), reverse=True):
        predicted = scores >= t
        recall = (predicted & labels).sum() / labels.sum()
        total += (recall - recall_before) * (predicted & labels).sum() / predicted.sum()
        recall_before = recall
    return total


def regions_by_flood(mask, diagonal=True):
    """The pieces of a mask, 8-connected or, without the diagonal, 4-connected, each a set of pixels, grown from a seed pixel by pixel."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        region, front = set(), [left.pop()]
        while front:
            row, col = front.pop()
            region.add((row, col))
            near = {(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if diagonal or not i * j} & left
            left -= near
            front += near
        regions.append(region)
    return regions


def aupro_by_definition(masks, maps, limit, diagonal=True):
    """A threshold at a time, a region at a time; then trapezoids, the last one cut at the limit."""
    points, pieces = [(0.0, 0.0)], [regions_by_flood(mask, diagonal) for mask in masks]
    for t in sorted(set(maps.ravel().tolist()), reverse=True):
        overlaps = [np.mean([m[p] >= t for p in region]) for m, regions in zip(maps, pieces, strict=True) for region in regions]
        points.append(((maps[~masks] >= t).mean(), np.mean(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def _tie(f, words):
    """An anomalous and a normal entry of the same score, in both orders: AUROC and average precision are one half."""
    for labels in ([True, False], [False, True]):
        agree(f(np.array(labels), np.array([1.0, 1.0])), 0.5, f"{words}; with labels {labels} and scores [1, 1]")


def pairs(f):
    """a count of pairs: how often an anomalous entry scores above a normal one, ties one half."""
    agree(f(np.array([0, 1, 0, 1], bool), np.array([1.0, 2, 3, 4])), 0.75, "the AUROC of four entries")
    _tie(f, "a tie counts one half, in whatever order its entries are")
    for seed in range(5):
        entries = drawn_entries(seed)
        agree(f(*entries), auroc_by_pairs(*entries), "the AUROC of 22 entries")


def steps(f):
    """the sum of steps, a distinct score at a time."""
    agree(f(np.array([1, 0, 1], bool), np.array([3.0, 2, 1])), (1 + 2 / 3) / 2, "the average precision of three entries")
    _tie(f, "entries of the same score are one step, and are not counted one by one")
    for seed in range(5):
        entries = drawn_entries(seed)
        agree(f(*entries), average_precision_by_steps(*entries), "the average precision of 22 entries")


def regions(f):
    """the definition in loops: a threshold at a time, a region at a time."""
    for seed, limit in [(0, 0.3), (1, 0.05), (2, 1.0)]:
        maps = small_maps(seed)
        agree(f(*maps, limit), aupro_by_definition(*maps, limit), f"the AUPRO up to {limit}")


def harmonic_mean(f):
    """the harmonic mean of precision and recall, counted entry by entry."""
    for threshold in (-1.5, 0.0, 2.0):
        labels, scores = drawn_entries(3)
        predicted = scores > threshold
        precision, recall = labels[predicted].mean(), predicted[labels].mean()
        agree(f(labels, scores, threshold), 2 / (1 / precision + 1 / recall), f"F1 at threshold {threshold}")


def no_lower_threshold(f):
    """a search through all scores, for the lowest that keeps to the rate."""
    for scores in (drawn_entries(0)[1], np.arange(100.0)):
        for rate in (0.0, 0.1, 0.29, 0.5, 1.0):
            lowest = min(value for value in scores.tolist() if (scores > value).mean() <= rate)
            agree(f(scores, rate), lowest, f"the threshold of {len(scores)} scores at rate {rate}")


def _pairs(tie=0.5, turned=False):
    """AUROC by pairs with faults in the ties or in the order."""

    def area(labels, scores):
        a, b = scores[labels][:, None], scores[~labels]
        return float(((b > a if turned else a > b) + tie * (a == b)).mean())

    return area


def _precisions(change):
    """Average precision from (recalls, precisions), changed."""

    def area(labels, scores):
        precisions, recalls, _ = curves.precision_recall_curve(labels, scores)
        return float(change(recalls, precisions))

    return area


def _pro(share=None, limit=None, normalise=True):
    """AUPRO with faults: pixels weighed alike, another limit, no normalisation."""

    def area(masks, maps, given):
        rates, overlaps = curves.pro_curve(masks, maps)
        rates, overlaps = curves.roc_curve(masks, maps)[:2] if share == "pixels" else (rates, overlaps)
        to = limit or given
        return metrics.area_under(rates, overlaps, to) * (1 if normalise else to)

    return area


def _counts(labels, predicted):
    """True positives, false positives, false negatives, true negatives."""
    return (predicted & labels).sum(), (predicted & ~labels).sum(), (~predicted & labels).sum(), (~predicted & ~labels).sum()


def _f1(score, at_least=False):
    """A score of the four counts."""
    return lambda labels, scores, h: float(score(*_counts(labels, scores >= h if at_least else scores > h)))


EXERCISES = {
    "E21": Exercise(
        "labels, scores",
        "the AUROC",
        metrics.auroc,
        pairs,
        [(LABELS, SCORES), drawn_entries(9)],
        {
            "That is 1 - AUROC: a pair is right if the anomalous entry scores higher.": _pairs(turned=True),
            "A tie counts one half; you count it as wrong.": _pairs(tie=0.0),
            "A tie counts one half; you count it as right.": _pairs(tie=1.0),
            "That is the mean height of the points of the curve; the false positive rates say how wide each step is.": (
                lambda labels, scores: float(curves.roc_curve(labels, scores)[1].mean())
            ),
            "The number of right pairs has to be divided by the number of all pairs.": lambda labels, scores: (
                metrics.auroc(labels, scores) * labels.sum() * (~labels).sum()
            ),
            "That is the area under precision and recall, not under the ROC curve.": metrics.average_precision,
        },
    ),
    "E22": Exercise(
        "labels, scores",
        "the average precision",
        metrics.average_precision,
        steps,
        [(LABELS, SCORES), drawn_entries(9)],
        {
            "A step has the precision at its end, not at its beginning.": _precisions(lambda r, p: (np.diff(r) * p[:-1]).sum()),
            "Straight lines between the points overestimate the area; sum steps.": _precisions(lambda r, p: np.trapezoid(p, r)),
            "That is the mean of the precisions; each has to be weighed by the recall gained.": _precisions(lambda r, p: p[1:].mean()),
            "The precisions are weighed by the recall itself; take the recall gained.": _precisions(lambda r, p: (r * p).sum()),
            "That is the AUROC.": metrics.auroc,
        },
    ),
    "E23": Exercise(
        "masks, maps, limit",
        "the AUPRO up to the limit",
        metrics.aupro,
        regions,
        [(*small_maps(0), 0.3), (*small_maps(1), 0.1)],
        {
            "The integral ends at the limit; yours goes on to 1.": _pro(limit=1.0),
            "Each region counts alike; you count each pixel alike.": _pro(share="pixels"),
            "Pixels that touch at a corner belong to one region (8-connected); yours are 4-connected.": lambda *arguments: (
                aupro_by_definition(*arguments, diagonal=False)
            ),
            "Divide the integral by the limit, so that 1 is perfect.": _pro(normalise=False),
            "Both: each region counts alike, and the integral ends at the limit. That is the pixels' AUROC.": _pro("pixels", 1.0),
        },
    ),
    "E24": Exercise(
        "labels, scores, threshold",
        "F1, where a score above the threshold is called anomalous",
        metrics.f1_score,
        harmonic_mean,
        [(LABELS, SCORES, 2.0), (*drawn_entries(9), 0.0)],
        {
            "The true positives count twice, above and below.": _f1(lambda tp, fp, fn, tn: tp / (tp + fp + fn)),
            "A score at the threshold is normal: use >, not >=.": _f1(lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn), at_least=True),
            "That is the precision.": _f1(lambda tp, fp, fn, tn: tp / (tp + fp)),
            "That is the recall.": _f1(lambda tp, fp, fn, tn: tp / (tp + fn)),
            "That is the accuracy, which good images alone can make high.": _f1(lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn)),
            "That is the plain mean of precision and recall; take the harmonic mean.": _f1(
                lambda tp, fp, fn, tn: (tp / (tp + fp) + tp / (tp + fn)) / 2
            ),
            "That is the F1 of the normal entries.": _f1(lambda tp, fp, fn, tn: 2 * tn / (2 * tn + fp + fn)),
        },
    ),
    "E24 threshold": Exercise(
        "good_scores, rate",
        "the lowest good score that at most this share of the good scores exceeds",
        metrics.threshold_at_rate,
        no_lower_threshold,
        [(np.arange(20.0), 0.1), (np.arange(100.0), 0.29)],
        {
            "That is the quantile of the rate; the quantile of 1 - rate is asked for.": lambda s, rate: np.sort(s)[int(rate * len(s))],
            "That is the highest of the good scores, whatever the rate is.": lambda s, rate: s.max(),
            "That is one score too low: more than the rate exceeds it.": lambda s, rate: np.sort(s)[::-1][int(rate * len(s) + 1e-9) + 1],
            "That is one score too high: the whole rate may be used.": lambda s, rate: np.sort(s)[::-1][int(rate * len(s) + 1e-9) - 1],
            "int(rate * n) can be one too low, for 0.29 * 100 is 28.999...: look for the largest k with k / n <= rate.": (
                lambda s, rate: np.sort(s)[::-1][int(rate * len(s))]
            ),
            "That lies between two scores; take the score itself.": lambda s, rate: np.quantile(s, 1 - rate),
        },
    ),
}
