"""E01, E02: the schedule and the timesteps visited."""

from fractions import Fraction

import numpy as np
import pytest

from mdps_ref.diffusion.schedule import STEPS, alpha_bar, cumulative_alphas, linear_betas, visited_timesteps


@pytest.mark.equation("E01")
def test_alpha_bar_is_the_product_of_what_each_step_leaves():
    betas = [Fraction(1, 10), Fraction(1, 7), Fraction(2, 9)]
    exact = [Fraction(9, 10), Fraction(9, 10) * Fraction(6, 7), Fraction(9, 10) * Fraction(6, 7) * Fraction(7, 9)]
    np.testing.assert_allclose(cumulative_alphas(np.array(betas, float)), np.array(exact, float), rtol=1e-15)


@pytest.mark.equation("E01")
def test_betas_are_linear_from_end_to_end():
    betas = linear_betas()
    assert (betas[0], betas[-1], len(betas), betas.dtype) == (1e-4, 0.02, 1000, np.float64)
    np.testing.assert_allclose(np.diff(betas), (0.02 - 1e-4) / 999, rtol=1e-10)


@pytest.mark.equation("E01")
def test_the_level_is_one_before_the_first_step_and_falls_from_there():
    levels = alpha_bar(np.arange(-1, STEPS))
    assert levels[0] == 1.0 and levels[1] == 1 - 1e-4
    assert (np.diff(levels) < 0).all() and levels[-1] > 0


def test_an_int_gives_a_python_float():
    assert type(alpha_bar(3)) is float and type(alpha_bar(np.int64(3))) is float
    assert (np.ones(2, np.float32) * alpha_bar(3)).dtype == np.float32


@pytest.mark.parametrize("t", [-2, 1000, [0, 1000]])
def test_no_level_outside_the_schedule(t):
    with pytest.raises(ValueError, match="outside -1 .. 999"):
        alpha_bar(t)


@pytest.mark.equation("E02")
@pytest.mark.parametrize("start, stride", [(50, 20), (999, 1), (0, 20), (200, 200), (19, 20)])
def test_the_chain_starts_where_it_says_and_ends_clean(start, stride):
    visited = visited_timesteps(start, stride)
    assert visited[0] == start and visited[-1] == -1 and 0 <= visited[-2] < stride
    assert set(np.diff(visited[:-1])) <= {-stride}


@pytest.mark.parametrize("start, stride", [(1000, 20), (-1, 20), (50, 0)])
def test_no_chain_outside_the_schedule(start, stride):
    with pytest.raises(ValueError, match="a chain starts at"):
        visited_timesteps(start, stride)
