"""The metrics of maps made by hand, and the decision's threshold."""

import json

import numpy as np
import pytest
from helpers import by_repeating, chain_result_of

from mdps_ref.job.evaluate import evaluate, metrics_of
from mdps_ref.job.maps import Maps
from mdps_ref.scoring.intervals import interval, resampled
from mdps_ref.scoring.metrics import aupro, auroc, average_precision

CHAINS = ("mdps", "guided", "reconstruction")
LABELS = [True, True, False, False]
TRUTHS = np.zeros((4, 12, 12), bool)
TRUTHS[0, 2:5, 3:9] = TRUTHS[1, 7:9, 1:3] = True


def by_hand(anomaly, score=None, difference=None, truths=TRUTHS):
    """A ChainResult of such maps.  Shapes: anomaly, difference (N, H, W), score (N), the largest anomaly if not given."""
    anomaly = np.asarray(anomaly, np.float32)
    difference = anomaly if difference is None else np.asarray(difference, np.float32)
    score = anomaly.max(axis=(1, 2)) if score is None else np.asarray(score, np.float32)
    return chain_result_of(Maps(anomaly[..., None], difference, anomaly, 0 * anomaly, score, np.ones_like(anomaly)), truths)


def of_all(chain):
    return dict.fromkeys(CHAINS, chain)


def areas(truths=TRUTHS):
    return [None if truth is None else int(truth.sum()) for truth in truths]


def test_perfect_maps_score_1_and_their_opposite_0(quick_config):
    perfect = evaluate(of_all(by_hand(TRUTHS)), [0.0, 0.1], LABELS, areas(), quick_config())["mdps"]
    for name in ("image_auroc", "image_average_precision", "pixel_auroc", "aupro", "f1"):
        assert perfect[name] == pytest.approx(1), name
    wrong = metrics_of(by_hand(1 - TRUTHS.astype(float), [0, 0, 1, 1]), LABELS, areas())
    assert (wrong["image_auroc"], wrong["pixel_auroc"], wrong["aupro"]) == (0, 0, 0)


def test_contrast_is_the_ratio_of_the_differences():
    """0.1 everywhere in good images; 0.6 and 0.05 under the true masks, of 18 and 4 pixels; around them 9, which counts for neither."""
    difference = np.where(TRUTHS, np.array([0.6, 0.05, 0, 0])[:, None, None], 9.0)
    difference[2:] = 0.1
    metrics = metrics_of(by_hand(TRUTHS, difference=difference), LABELS, areas())
    found = [metrics[name] for name in ("good_difference", "defect_difference", "contrast")]
    np.testing.assert_allclose(found, [0.1, 0.5, 5], rtol=1e-6)
    difference[2:] = 0
    assert metrics_of(by_hand(TRUTHS, difference=difference), LABELS, areas())["contrast"] is None


OF_IMAGES, OF_PIXELS = {"image_auroc", "image_average_precision"}, {"pixel_auroc", "aupro", "defect_difference", "contrast"}
UNDEFINED = {
    "defects alone": ([0, 1], list(TRUTHS[:2]), OF_IMAGES | {"good_difference", "contrast"}),
    "good images alone": ([2, 3], list(TRUTHS[2:]), OF_IMAGES | OF_PIXELS),
    "no mask": ([0, 1], [None, None], OF_IMAGES | OF_PIXELS | {"good_difference"}),
}


@pytest.mark.parametrize("kept, truths, undefined", UNDEFINED.values(), ids=UNDEFINED)
def test_what_is_not_defined_is_none(kept, truths, undefined, quick_config):
    chain, labels = by_hand(TRUTHS[kept], truths=truths), [LABELS[i] for i in kept]
    metrics = evaluate(of_all(chain), [0.0], labels, areas(truths), quick_config())
    for chain in CHAINS:
        assert {name for name, value in metrics[chain].items() if value is None} == undefined | ({"f1"} if chain == "mdps" else set())
    assert metrics["mdps"]["decision_threshold"] == 0.0
    json.dumps(metrics, allow_nan=False)


def test_a_defect_without_a_mask_takes_no_part_in_the_pixel_metrics():
    maps, truths = np.random.default_rng(0).random(TRUTHS.shape) + 0.3 * TRUTHS, [None, *TRUTHS[1:]]
    maps[0] = maps[2]  # the same values with the first image and without it, so that sums are rounded alike
    cases = ((maps, LABELS, truths), (maps[1:], LABELS[1:], truths[1:]), (maps, LABELS, TRUTHS))
    metrics, without, full = (metrics_of(by_hand(m, truths=t), labels, areas(t)) for m, labels, t in cases)
    for name in ("pixel_auroc", "aupro", "defect_difference"):
        assert metrics[name] == without[name] != full[name], name
    for name in ("image_auroc", "image_average_precision", "good_difference"):
        assert metrics[name] == full[name], name


def test_metrics_say_over_what_they_are(quick_config):
    truths = [None, *TRUTHS[1:3]]
    over = evaluate(of_all(by_hand(TRUTHS[:3], truths=truths)), [0.0], LABELS[:3], areas(truths), quick_config())["over"]
    assert over == {
        "good_images": 1,
        "defective_images": 2,
        "defective_images_without_mask": 1,
        "normal_pixels": 2 * 144 - 4,
        "anomalous_pixels": 4,
    }


def test_metrics_say_how_far_rounding_may_put_them_off(monkeypatch):
    maps = np.random.default_rng(0).random(TRUTHS.shape) + 0.3 * TRUTHS
    exact = metrics_of(by_hand(maps), LABELS, areas())
    monkeypatch.setattr("mdps_ref.scoring.pixel_table.MOST_ROWS", 64)
    rounded = metrics_of(by_hand(maps), LABELS, areas())
    for name in ("pixel_auroc", "aupro"):
        assert exact[f"{name}_error"] == 0 < abs(rounded[name] - exact[name]) <= rounded[f"{name}_error"], name


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 1.0])
def test_the_decision_flags_no_more_than_the_rate_of_held_out_good_images(rate, quick_config):
    """And a finite number decides, even at the ends; the threshold knows held-out scores alone, not those of the test images."""
    held_out, config = np.random.default_rng(0).random(40), quick_config(false_positive_rate=rate)
    found, other = (
        evaluate(of_all(by_hand(scale * TRUTHS)), held_out, LABELS, areas(), config)["mdps"]["decision_threshold"] for scale in (1.0, 7.0)
    )
    assert found == other and np.isfinite(found)
    assert rate - 1 / 40 <= (held_out > found).mean() <= rate


def test_each_chain_is_judged_by_its_own_maps(quick_config):
    perfect, blind = by_hand(TRUTHS), by_hand(np.zeros(TRUTHS.shape))
    for chain in CHAINS:
        metrics = evaluate(of_all(blind) | {chain: perfect}, [0.0], LABELS, areas(), quick_config())
        assert {name for name in CHAINS if metrics[name]["image_auroc"] == 1} == {chain}


def test_intervals_are_those_of_metrics_of_drawn_images_and_hold_the_values(quick_config):
    """The oracle computes each metric afresh for each resample, from the images themselves."""
    rng = np.random.default_rng(0)
    maps = (rng.random(TRUTHS.shape) + 0.5 * TRUTHS).astype(np.float32)
    chain = by_hand(maps)
    found = evaluate(of_all(chain), [0.0], LABELS, areas(), quick_config(seed=3))["guided"]
    counts = resampled(4, 1000, 3, LABELS)
    for name, metric, labels, scores in (
        ("image_auroc", auroc, LABELS, chain.score),
        ("image_average_precision", average_precision, LABELS, chain.score),
        ("pixel_auroc", auroc, TRUTHS, maps),
        ("aupro", aupro, TRUTHS, maps),
    ):
        expected = interval(by_repeating(metric, labels, scores), counts)
        assert found[name] == pytest.approx(expected.value, abs=1e-6), name
        assert found["intervals"][name] == pytest.approx(expected[1:], abs=1e-6 + found["interval_error"]), name
    assert found["interval_error"] < 0.01


def test_a_larger_test_set_has_no_intervals(quick_config, monkeypatch):
    monkeypatch.setattr("mdps_ref.job.evaluate.MOST_RESAMPLED", 3)
    chain = by_hand(TRUTHS)
    found = evaluate(of_all(chain), [0.0], LABELS, areas(), quick_config())["mdps"]
    assert chain.tally is None and found["intervals"] == {} and found["interval_error"] is None


def test_the_drop_in_error_when_the_least_certain_tenth_is_set_aside(quick_config):
    """Of ten decisions one is wrong; the spread points at it, and the distance to the threshold at another one."""
    score, spread = np.array([1, 2, 6, 1, 1, 9, 9, 9, 9, 4.5]), np.zeros((10, 2, 2))
    spread[2] = 1
    maps = Maps(np.zeros((10, 2, 2, 3)), spread, spread, spread, score, spread)
    chain, labels = chain_result_of(maps, [None] * 10), [False] * 5 + [True] * 5
    for samples, drop in ((2, {"spread": 0.1, "distance": 0.1 - 1 / 9}), (1, {"distance": 0.1 - 1 / 9})):
        found = evaluate(of_all(chain), [4.0], labels, [None] * 10, quick_config(samples=samples))["uncertainty"]
        assert (found["images"], found["wrong"], found["set_aside"], found["error"]) == (10, 1, 1, 0.1)
        assert found["drop"] == pytest.approx(drop)
