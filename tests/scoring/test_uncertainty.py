"""The error rate that is left: against its definition, order by order."""

import itertools

import numpy as np
import pytest

from mdps_ref.scoring.uncertainty import errors_left, least_certain


@pytest.mark.parametrize("doubt", [[4, 1, 3, 2, 0], [1, 1, 0, 0, 1], [2, 2, 2, 2, 2], [np.inf, 1, np.inf, -3, 1]], ids=str)
def test_it_is_the_mean_over_all_orders_that_the_doubts_allow(doubt):
    wrong, doubt = np.array([1, 0, 0, 1, 0], bool), np.array(doubt, float)
    falling = sorted(doubt, reverse=True)
    allowed = [wrong[list(order)] for order in itertools.permutations(range(5)) if list(doubt[list(order)]) == falling]
    expected = [np.mean([order[aside:].mean() for order in allowed]) for aside in range(5)]
    np.testing.assert_allclose(errors_left(wrong, doubt), expected, atol=1e-12)


def test_a_perfect_measure_leaves_no_error_once_the_wrong_ones_are_aside():
    wrong = np.random.default_rng(0).random(50) < 0.2
    left = errors_left(wrong, wrong.astype(float))
    assert left[0] == pytest.approx(wrong.mean()) and left[wrong.sum()] == 0 < left[wrong.sum() - 1]


def test_a_tenth_is_at_least_one_and_never_all():
    assert [least_certain(count) for count in (1, 2, 5, 32, 280)] == [0, 1, 1, 3, 28]
