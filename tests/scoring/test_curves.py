"""The curves against their definitions and by hand; test_metrics.py compares them with scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdps_ref.scoring import curves


def test_curves_by_hand():
    labels, scores = [1, 0, 1, 0, 0], [4, 3, 3, 2, 1]
    false_positive_rates, true_positive_rates, thresholds = curves.roc_curve(labels, scores)
    precisions, recalls, same_thresholds = curves.precision_recall_curve(labels, scores)
    np.testing.assert_array_equal([thresholds, same_thresholds], [[np.inf, 4, 3, 2, 1]] * 2)
    np.testing.assert_allclose(false_positive_rates, [0, 0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose([true_positive_rates, recalls], [[0, 0.5, 1, 1, 1]] * 2)
    np.testing.assert_allclose(precisions, [1, 1, 2 / 3, 2 / 4, 2 / 5])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), max_size=30))
def test_curves_hold_what_their_thresholds_select(pairs):
    labels, scores = np.array([*pairs, (True, 0), (False, 0)]).T  # few distinct scores, so that ties are common
    labels = labels.astype(bool)
    false_positive_rates, true_positive_rates, thresholds = curves.roc_curve(labels, scores)
    precisions, recalls, _ = curves.precision_recall_curve(labels, scores)
    for i, t in enumerate(thresholds):
        predicted = scores >= t
        assert false_positive_rates[i] == pytest.approx(predicted[~labels].mean())
        assert true_positive_rates[i] == recalls[i] == pytest.approx(predicted[labels].mean())
        assert precisions[i] == pytest.approx(labels[predicted].mean() if predicted.any() else 1)
    assert thresholds.size == len(set(scores)) + 1


def test_pro_curve_counts_a_small_region_as_much_as_a_large_one():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 0, 0] = masks[0, 2:, :] = True
    maps = np.zeros((1, 4, 4))
    maps[0, 0, 0] = 1
    false_positive_rates, overlaps = curves.pro_curve(masks, maps)
    np.testing.assert_array_equal(false_positive_rates, [0, 0, 1])
    np.testing.assert_array_equal(overlaps, [0, 0.5, 1])


def test_pixels_that_touch_at_a_corner_are_one_region_and_images_do_not_touch():
    maps = np.zeros((2, 2, 2))
    maps[0, 0, 0] = 1
    diagonal = np.array([np.eye(2), np.zeros((2, 2))])
    assert curves.pro_curve(diagonal, maps)[1][1] == 0.5
    over_two_images = np.array([[[1, 0], [0, 0]], [[1, 0], [0, 0]]])
    assert curves.pro_curve(over_two_images, maps)[1][1] == 0.5
    larger_second = np.array([[[1, 0], [0, 0]], [[1, 1], [0, 0]]])
    assert curves.pro_curve(larger_second, maps)[1][1] == 0.5  # one third if they were one region


def test_a_rate_of_an_absent_class_is_nan_and_the_other_is_not():
    false_positive_rates, true_positive_rates, _ = curves.roc_curve([0, 0], [1, 2])
    assert np.isnan(true_positive_rates).all()
    np.testing.assert_array_equal(false_positive_rates, [0, 0.5, 1])
