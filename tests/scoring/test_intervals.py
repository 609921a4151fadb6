"""Bootstrap intervals: resamples by their definition, metrics of counts against metrics of repeated images, and coverage of the truth."""

import itertools
import math

import numpy as np
import pytest
from helpers import by_repeating
from scipy.stats import binomtest, norm

from mdps_ref.scoring.intervals import false_alarm_rate, interval, paired_difference, resampled, share_interval, tally
from mdps_ref.scoring.metrics import aupro, auroc, average_precision

IMAGES, RESAMPLES = 12, 25


def masks_and_maps(seed=0, levels=None):
    """Twelve 16 x 16 masks, every other one empty, and maps that see them faintly; with `levels` many values are shared."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((IMAGES, 16, 16), bool)
    for i in range(0, IMAGES, 2):
        masks[i, 2 : 5 + i // 2, 3:9] = masks[i, 13:15, 12:14] = True
    maps = (rng.normal(size=masks.shape) + 0.8 * masks + 0.5 * rng.normal(size=(IMAGES, 1, 1))).astype(np.float32)
    return masks, maps if levels is None else np.round(maps * levels) / levels


METRICS = {
    "auroc": (auroc, {}),
    "average_precision": (average_precision, {}),
    "aupro": (aupro, {"limit": 0.3}),
    "aupro at 5 %": (aupro, {"limit": 0.05}),
    "aupro over all": (aupro, {"limit": 1.0}),
}
each_metric = pytest.mark.parametrize("metric, options", METRICS.values(), ids=METRICS)


def of_counts(table, metric, options):
    """A Tally's statistic and its error, by the metric's name."""
    value, error = getattr(table, metric.__name__), getattr(table, metric.__name__ + "_error")
    return (lambda counts: value(counts, **options)), (lambda counts: error(counts, **options))


# Resamples


def test_a_resample_draws_as_many_images_as_there_are_each_equally_often():
    counts = resampled(IMAGES, 4000)
    assert counts.shape == (4000, IMAGES) and (counts.sum(axis=1) == IMAGES).all()
    mean_and_variance = counts.mean(axis=0), counts.var(axis=0)  # of a binomial: 1 and 1 - 1 / N
    np.testing.assert_allclose(mean_and_variance, [np.ones(IMAGES), np.full(IMAGES, 1 - 1 / IMAGES)], atol=0.12)


def test_seeds():
    np.testing.assert_array_equal(resampled(9, 5, seed=4), resampled(9, 5, seed=4))
    assert not np.array_equal(resampled(9, 5, seed=4), resampled(9, 5, seed=5))


def test_images_of_one_group_are_drawn_together_and_strata_keep_their_number_of_groups():
    groups = ["b", "a", "b", "c", "d", "e", "a", "e"]
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 1])  # of a to e: 1, 0, 1, 0, 1
    counts = resampled(groups, 300, strata=labels)
    for i, j in [(0, 2), (1, 6), (5, 7)]:
        np.testing.assert_array_equal(counts[:, i], counts[:, j])
    firsts = counts[:, [1, 0, 3, 4, 5]]
    assert (firsts[:, [1, 3]].sum(axis=1) == 2).all() and (firsts[:, [0, 2, 4]].sum(axis=1) == 3).all()
    without = resampled(groups, 300)[:, [1, 0, 3, 4, 5]]
    assert (without.sum(axis=1) == 5).all() and len(set(without[:, [1, 3]].sum(axis=1))) > 2


def test_a_number_of_images_may_be_a_numpy_integer():
    np.testing.assert_array_equal(resampled(np.int64(7), 5), resampled(7, 5))


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="no images"):
        resampled(0)
    with pytest.raises(ValueError, match="two strata"):
        resampled(["a", "b", "a"], strata=[0, 0, 1])


# Metrics of counts


@each_metric
@pytest.mark.parametrize("levels", [None, 3])
def test_with_a_bin_a_score_they_are_the_metrics_of_the_repeated_images(metric, options, levels):
    masks, maps = masks_and_maps(levels=levels)
    value, error = of_counts(tally(masks, maps, bins=len(np.unique(maps))), metric, options)
    counts = resampled(IMAGES, RESAMPLES)
    repeated = by_repeating(lambda masks, maps: metric(masks, maps, **options), masks, maps)
    np.testing.assert_allclose(value(counts), repeated(counts), atol=1e-12)
    np.testing.assert_array_equal(error(counts), 0)


@each_metric
@pytest.mark.parametrize("bins", [8, 64, 512])
def test_with_fewer_bins_they_are_off_by_no_more_than_they_say(metric, options, bins):
    masks, maps = masks_and_maps()
    maps = np.maximum(maps, 0)  # half of the pixels share the lowest bin, which hides nothing
    value, error = of_counts(tally(masks, maps, bins), metric, options)
    counts = resampled(IMAGES, RESAMPLES)
    off = abs(value(counts) - by_repeating(lambda masks, maps: metric(masks, maps, **options), masks, maps)(counts))
    assert (off > 0).any() and (off <= error(counts)).all()
    assert error(counts).max() < (20 if metric is average_precision else 8) / bins / options.get("limit", 1)


@each_metric
def test_no_labels_of_seven_entries_in_three_bins_are_off_by_more_than_that(metric, options):
    ratios, scores = [], np.arange(7.0, 0, -1).reshape(1, 1, 7)
    for labels in itertools.product([0, 1], repeat=7):
        if 0 < sum(labels) < 7:
            value, error = (f(np.ones((1, 1))) for f in of_counts(tally([[labels]], scores, 3), metric, options))
            off = abs(value - metric([[labels]], scores, **options))
            assert off <= error + 1e-12
            ratios += [off / error] if error > 0 else []
    assert np.max(ratios) > 0.4
    if metric is auroc:
        assert np.max(ratios) == pytest.approx(1)


def test_perfect_scores_are_perfect_in_every_resample():
    masks, _ = masks_and_maps()
    table, counts = tally(masks, masks + np.linspace(0, 0.5, masks.size).reshape(masks.shape)), resampled(IMAGES, 200)
    for statistic in (table.auroc, table.average_precision, lambda counts: table.aupro(counts, 0.05)):
        assert interval(statistic, counts, level=1.0) == (1, 1, 1)


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_scores_of_images(metric):
    rng = np.random.default_rng(3)
    labels = np.arange(30) % 3 == 0
    scores = np.round(rng.normal(size=30) + labels, 1)
    counts = resampled(30, RESAMPLES, strata=labels)
    np.testing.assert_allclose(of_counts(tally(labels, scores), metric, {})[0](counts), by_repeating(metric, labels, scores)(counts))


def test_a_defect_without_a_mask_takes_no_part():
    masks, maps = masks_and_maps()
    without = tally([None, *masks[1:]], maps)
    counts = resampled(IMAGES, RESAMPLES)
    np.testing.assert_allclose(without.auroc(counts), tally(masks[1:], maps[1:]).auroc(counts[:, 1:]), rtol=1e-12)
    np.testing.assert_allclose(without.aupro(counts), tally(masks[1:], maps[1:]).aupro(counts[:, 1:]), rtol=1e-12)


@pytest.mark.parametrize("name", ["auroc", "average_precision", "aupro"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_without_a_class_a_metric_is_nan_and_so_is_its_interval(name, labels):
    statistic, counts = getattr(tally(labels, [0.1, 0.3, 0.2]), name), resampled(3, 20)
    assert np.isnan(statistic(counts)).all()
    assert all(math.isnan(number) for number in interval(statistic, counts))


# Intervals


def mean_of(values):
    return lambda counts: (counts @ values) / counts.sum(axis=1)


def test_an_interval_is_the_quantiles_of_its_resamples_without_those_where_it_is_nan():
    values, counts = np.random.default_rng(0).normal(size=40), resampled(40, 501)
    statistic = lambda counts: np.where(counts[:, 0] == 2, np.nan, mean_of(values)(counts))  # noqa: E731
    drawn = np.sort([np.repeat(values, row).mean() for row in counts if row[0] != 2])
    found = interval(statistic, counts, level=0.8)
    assert found.value == pytest.approx(values.mean())
    np.testing.assert_allclose(found[1:], np.quantile(drawn, [0.1, 0.9]), rtol=1e-12)


def within_binomial_bound(hits, repetitions, level=0.95):
    """Whether so many hits are within 3.3 deviations of the level: wrong by chance once in 1,000 times."""
    return abs(hits - level * repetitions) <= 3.3 * (level * (1 - level) * repetitions) ** 0.5


def test_it_covers_the_mean_of_a_gaussian_in_95_percent_of_cases_and_with_groups_only_if_they_are_known():
    """60 groups of three images each, which differ little in a group."""
    groups, hits, naive = np.repeat(np.arange(60), 3), 0, 0
    for repetition in range(300):
        rng = np.random.default_rng(repetition)
        values = 1.5 + rng.normal(size=60)[groups] + 0.2 * rng.normal(size=180)
        found, apart = (interval(mean_of(values), resampled(of, 400, seed=repetition)) for of in (groups, 180))
        hits, naive = hits + (found.low <= 1.5 <= found.high), naive + (apart.low <= 1.5 <= apart.high)
    assert within_binomial_bound(hits, 300)
    assert not within_binomial_bound(naive, 300)


def test_it_covers_the_auroc_of_two_gaussians_in_95_percent_of_cases():
    labels, hits, truth = np.repeat([False, True], [60, 80]), 0, norm.cdf(1 / 2**0.5)
    for repetition in range(300):
        scores = np.random.default_rng(repetition).normal(size=140) + labels
        found = interval(tally(labels, scores).auroc, resampled(140, 300, seed=repetition, strata=labels))
        hits += found.low <= truth <= found.high
    assert within_binomial_bound(hits, 300)


def test_a_method_does_not_differ_from_itself_and_a_shift_of_all_is_certain():
    masks, maps = masks_and_maps()
    counts, table = resampled(IMAGES, 100), tally(masks, maps)
    for statistic in (table.auroc, table.average_precision, table.aupro):
        assert paired_difference(statistic, statistic, counts) == (0, 0, 0)
    values = np.random.default_rng(1).normal(size=IMAGES)
    np.testing.assert_allclose(paired_difference(mean_of(values + 0.3), mean_of(values), counts), 0.3, rtol=1e-9)


def test_what_differs_by_rounding_does_not_differ():
    counts = resampled(IMAGES, 50)
    assert paired_difference(lambda counts: np.full(len(counts), 1 - 2e-16), lambda counts: np.ones(len(counts)), counts) == (0, 0, 0)
    small = paired_difference(lambda counts: np.full(len(counts), 2e-9), lambda counts: np.full(len(counts), 1e-9), counts)
    np.testing.assert_allclose(small, 1e-9, rtol=1e-9)


def test_a_paired_interval_is_narrower_for_methods_that_find_the_same_images_hard():
    masks, maps = masks_and_maps()
    better, counts = tally(masks, maps + np.float32(0.4) * masks), resampled(IMAGES, 300)
    alone, paired = interval(better.auroc, counts), paired_difference(better.auroc, tally(masks, maps).auroc, counts)
    assert paired.low > 0
    assert paired.high - paired.low < alone.high - alone.low
    assert paired.value == pytest.approx(auroc(masks, maps + np.float32(0.4) * masks) - auroc(masks, maps), abs=1e-6)


# Shares


@pytest.mark.parametrize("count, total", [(0, 12), (1, 12), (20, 20), (1, 1), (37, 100)])
def test_the_exact_interval_of_a_share(count, total):
    exact = binomtest(count, total).proportion_ci(0.9, "exact")
    assert share_interval(count, total, 0.9) == pytest.approx((count / total, exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("flagged", [0, 1, 4])
def test_the_rate_of_false_alarms_is_that_of_new_scores_above_the_threshold(flagged):
    """With uniform scores a threshold is exceeded by 1 less the threshold of the new ones; its distribution is simulated."""
    held_out = np.sort(np.random.default_rng(0).random((20_000, 9)), axis=1)
    rates = 1 - held_out[:, 8 - flagged]
    expected = (rates.mean(), *np.quantile(rates, [0.025, 0.975]))
    assert false_alarm_rate(flagged, 9) == pytest.approx(expected, abs=0.01)
