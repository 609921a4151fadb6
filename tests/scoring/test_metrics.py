"""Metrics against their definitions in loops, closed forms, their bounds, and scikit-learn where it is installed."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mdps_ref.check.metrics import aupro_by_definition, auroc_by_pairs, average_precision_by_steps, small_maps
from mdps_ref.scoring import curves, metrics

THRESHOLD_FREE = [metrics.auroc, metrics.average_precision]
METRICS = [*THRESHOLD_FREE, lambda labels, scores: metrics.f1_score(labels, scores, 3.5)]
METRIC_NAMES = ["auroc", "average_precision", "f1_score"]
PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)

entries = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=30)


def split(pairs):
    """Labels and scores from (label, score) pairs; the few distinct scores make ties common."""
    labels, scores = np.array(pairs).T
    return labels.astype(bool), scores.astype(float)


def both_classes(labels):
    return 0 < labels.sum() < labels.size


# Areas


@pytest.mark.equation("E21")
@PROPERTY
@given(entries)
def test_auroc_is_the_share_of_ordered_pairs(pairs):
    labels, scores = split(pairs)
    assume(both_classes(labels))
    assert metrics.auroc(labels, scores) == pytest.approx(auroc_by_pairs(labels, scores), abs=1e-12)


@pytest.mark.equation("E21")
def test_auroc_closed_forms():
    labels = np.repeat([False, True], 50)
    assert metrics.auroc(labels, labels.astype(float)) == 1
    assert metrics.auroc(labels, -labels.astype(float)) == 0
    assert metrics.auroc(labels, np.zeros(100)) == 0.5
    assert metrics.auroc([0, 1, 0, 1], [1, 2, 3, 4]) == 0.75


@pytest.mark.equation("E22")
@PROPERTY
@given(entries)
def test_average_precision_is_its_sum_of_steps(pairs):
    labels, scores = split(pairs)
    assume(both_classes(labels))
    assert metrics.average_precision(labels, scores) == pytest.approx(average_precision_by_steps(labels, scores), abs=1e-12)


@pytest.mark.equation("E22")
def test_average_precision_closed_forms():
    assert metrics.average_precision([0, 0, 1, 1], [1, 2, 3, 4]) == 1
    assert metrics.average_precision([0, 0, 0, 1], np.zeros(4)) == 0.25
    n = 7
    last = np.arange(n) == 0
    assert metrics.average_precision(last, np.arange(n)) == pytest.approx(1 / n)
    assert metrics.average_precision([1, 0, 1], [3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.equation("E23")
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_aupro_is_its_definition(seed, limit):
    masks, maps = small_maps(seed)
    assert metrics.aupro(masks, maps, limit) == pytest.approx(aupro_by_definition(masks, maps, limit), abs=1e-12)


@pytest.mark.equation("E23")
@pytest.mark.parametrize("limit", [0.1, 0.3, 1.0])
def test_aupro_closed_forms(limit):
    masks, _ = small_maps(0)
    assert metrics.aupro(masks, masks.astype(float), limit) == 1
    assert metrics.aupro(masks, np.zeros(masks.shape), limit) == pytest.approx(limit / 2)
    assert metrics.aupro(masks, -masks.astype(float), limit) == 0


@pytest.mark.equation("E23")
def test_aupro_of_one_region_up_to_limit_one_is_the_pixel_auroc():
    masks = np.zeros((2, 12, 12), bool)
    masks[0, 3:7, 2:9] = True
    maps = np.random.default_rng(5).integers(0, 20, masks.shape) + 4.0 * masks
    assert metrics.aupro(masks, maps, limit=1.0) == pytest.approx(metrics.auroc(masks, maps), abs=1e-12)


def test_aupro_weighs_regions_alike_where_auroc_weighs_pixels():
    masks = np.zeros((1, 16, 16), bool)
    masks[0, :8] = masks[0, 12, 12] = True
    maps = np.where(masks, 1.0, 0.0)
    maps[0, 12, 12] = -1
    assert metrics.auroc(masks, maps) > 0.98
    assert metrics.aupro(masks, maps) == pytest.approx(0.5, abs=0.01)


# A threshold fixed beforehand


@PROPERTY
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 100))
def test_threshold_keeps_its_rate_and_no_smaller_score_does(scores, percent):
    scores, rate = np.array(scores, float), percent / 100
    threshold = metrics.threshold_at_rate(scores, rate)
    assert (scores > threshold).mean() <= rate
    assert all((scores > s).mean() > rate for s in scores if s < threshold)


def test_threshold_uses_the_whole_rate_where_rate_times_count_rounds_down():
    assert math.floor(0.29 * 100) == 28
    assert metrics.threshold_at_rate(np.arange(100), 0.29) == 70  # 71 .. 99 exceed it
    assert metrics.threshold_at_rate([3, 9, 5], 0) == 9


@pytest.mark.equation("E24")
@PROPERTY
@given(entries, st.sampled_from([-np.inf, -1.5, 0.0, 2.0, np.inf]))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs, threshold):
    labels, scores = split(pairs)
    assume(both_classes(labels))
    predicted = scores > threshold
    precision, recall = labels[predicted].mean() if predicted.any() else 1, predicted[labels].mean()
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert metrics.f1_score(labels, scores, threshold) == pytest.approx(harmonic)


@pytest.mark.equation("E24")
def test_f1_closed_forms():
    labels = [0, 0, 1, 1]
    assert metrics.f1_score(labels, [1, 2, 3, 4], 2) == 1
    assert metrics.f1_score(labels, [1, 2, 3, 4], 0) == pytest.approx(2 / 3)
    assert metrics.f1_score(labels, [1, 2, 3, 4], 4) == 0
    assert metrics.counts_at([1, 1, 1, 0, 0, 0, 0], [9, 5, 1, 9, 5, 1, 1], 5) == (1, 1, 2, 3)


@pytest.mark.equation("E24")
def test_a_score_equal_to_the_threshold_is_normal_in_float32_too():
    scores = np.array([[0.1], [0.3]], np.float32)  # float32's 0.1 lies above 0.1
    np.testing.assert_array_equal(metrics.exceeds(scores, 0.1), [[True], [True]])
    np.testing.assert_array_equal(metrics.exceeds(scores, float(scores[0, 0])), [[False], [True]])
    np.testing.assert_array_equal(metrics.exceeds(scores, scores[0, 0]), [[False], [True]])
    assert metrics.counts_at([1], scores[0], float(scores[0, 0])) == (0, 0, 1, 0)


# Bounds, invariance, edges


@PROPERTY
@given(entries)
def test_metrics_are_between_0_and_1(pairs):
    labels, scores = split(pairs)
    assume(both_classes(labels))
    assert all(0 <= metric(labels, scores) <= 1 for metric in METRICS)


def test_perfect_scores_give_exactly_1_whatever_the_counts():
    for normal in range(1, 60):  # with 47, AUPRO's trapezoids add up to 1 + 2e-16; the pieces of recall to 1 - 1e-16
        labels = np.arange(normal + 49) >= normal
        scores = np.arange(labels.size)
        assert metrics.auroc(labels, scores) == 1
        assert metrics.average_precision(labels, scores) == 1
        assert metrics.aupro(labels.reshape(1, 1, -1), scores.reshape(1, 1, -1)) == 1


@pytest.mark.parametrize("rescale", [np.exp, np.arctan, lambda x: 3 * x - 7, lambda x: x**3], ids=["exp", "arctan", "affine", "cube"])
@PROPERTY
@given(entries)
def test_strictly_monotone_maps_change_nothing(rescale, pairs):
    labels, scores = split(pairs)
    assume(both_classes(labels))
    assert all(metric(labels, rescale(scores)) == metric(labels, scores) for metric in THRESHOLD_FREE)
    assert metrics.f1_score(labels, rescale(scores), rescale(0.5)) == metrics.f1_score(labels, scores, 0.5)


@pytest.mark.parametrize("rescale", [np.exp, lambda x: 3 * x - 7], ids=["exp", "affine"])
def test_aupro_is_unchanged_by_strictly_monotone_maps_and_the_order_of_images(rescale):
    masks, maps = small_maps(1)
    assert metrics.aupro(masks, rescale(maps)) == metrics.aupro(masks, maps)
    assert metrics.aupro(masks[::-1], maps[::-1]) == pytest.approx(metrics.aupro(masks, maps), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=METRIC_NAMES)
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []], ids=["normal", "anomalous", "none"])
def test_one_class_gives_nan(metric, labels):
    assert math.isnan(metric(np.array(labels, bool), np.arange(len(labels)) + 3.0))


@pytest.mark.parametrize("masks", [np.zeros((2, 4, 4)), np.ones((2, 4, 4)), np.ones((0, 4, 4))], ids=["normal", "anomalous", "none"])
def test_aupro_without_region_or_normal_pixel_is_nan(masks):
    assert math.isnan(metrics.aupro(masks, np.random.default_rng(0).random(masks.shape)))


def test_lists_of_images_and_integer_maps_are_taken():
    masks, maps = small_maps(2)
    expected = metrics.aupro(masks, np.round(maps * 12))
    assert metrics.aupro(list(masks), [np.round(m * 12).astype(np.uint8) for m in maps]) == expected


def test_a_score_of_minus_zero_is_tied_with_zero():
    assert metrics.auroc([1, 0], [-0.0, 0.0]) == 0.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.auroc([0, 1], [1.0, np.nan]), "scores hold 1 of 2 values that are nan or infinite"),
        (lambda: metrics.average_precision([0, 1], [-np.inf, np.inf]), "scores hold 2 of 2 values"),
        (lambda: metrics.threshold_at_rate([1.0, np.nan], 0.1), "nan or infinite"),
        (lambda: curves.roc_curve([0, 1], [1.0]), r"labels have shape \(2,\) and scores \(1,\)"),
        (lambda: curves.pro_curve(np.zeros((1, 2, 2)), np.zeros((1, 2, 3))), r"\(1, 2, 2\) and scores \(1, 2, 3\)"),
        (lambda: curves.pro_curve(np.zeros((2, 2)), np.zeros((2, 2))), r"masks have shape \(2, 2\); expected \(N, H, W\)"),
        (lambda: metrics.aupro([np.zeros((2, 2)), np.zeros((3, 2))], np.zeros((2, 2, 2))), "masks are images of several sizes"),
        (lambda: metrics.auroc([0, 255], [1.0, 2.0]), "labels hold values other than 0 and 1"),
        (lambda: metrics.auroc([0, np.nan], [1.0, 2.0]), "labels hold values other than 0 and 1"),
        (lambda: metrics.aupro(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), limit=0), "limit is 0"),
        (lambda: metrics.aupro(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), limit=1.5), "limit is 1.5"),
        (lambda: metrics.exceeds([1.0], math.nan), "threshold is nan"),
        (lambda: metrics.f1_score([0, 1], [1.0, 2.0], np.nan), "threshold is nan"),
        (lambda: metrics.threshold_at_rate([], 0.1), "no held-out good scores"),
        (lambda: metrics.threshold_at_rate([1.0], 1.1), "rate is 1.1"),
        (lambda: metrics.threshold_at_rate([1.0], math.nan), "rate is nan"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.equation("E21", "E22", "E24")
@pytest.mark.parametrize("levels", [5, 1000])
def test_agreement_with_scikit_learn(levels):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(levels)
    labels = rng.random(500) < 0.2
    scores = np.round((rng.random(500) + 0.3 * labels) * levels) / levels
    assert metrics.auroc(labels, scores) == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(sklearn.average_precision_score(labels, scores), abs=1e-12)
    assert metrics.f1_score(labels, scores, 0.6) == pytest.approx(sklearn.f1_score(labels, scores > 0.6), abs=1e-12)
    for ours, theirs in zip(curves.roc_curve(labels, scores), sklearn.roc_curve(labels, scores, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(ours, theirs)
    ours, theirs = curves.precision_recall_curve(labels, scores), sklearn.precision_recall_curve(labels, scores)
    for name, mine, their in zip(("precision", "recall", "threshold"), ours, theirs, strict=True):
        np.testing.assert_allclose(mine[name == "threshold" :], their[::-1], err_msg=name)  # scikit-learn has no threshold of infinity
