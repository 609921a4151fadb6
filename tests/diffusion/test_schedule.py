"""E01, E02: the schedule and the timesteps visited."""

import numpy as np
import pytest

from mdps_ref.check import noise as oracles
from mdps_ref.diffusion.schedule import STEPS, alpha_bar, cumulative_alphas, linear_betas, visited_timesteps


@pytest.mark.equation("E01")
def test_alpha_bar_is_the_product_of_what_each_step_leaves():
    oracles.product_of_shares(cumulative_alphas)


@pytest.mark.equation("E01")
def test_betas_are_linear_from_end_to_end():
    oracles.even_steps(linear_betas)
    assert linear_betas().dtype == np.float64 and linear_betas()[-1] == 0.02


@pytest.mark.equation("E01")
def test_the_level_is_one_before_the_first_step_and_falls_from_there():
    oracles.clean_at_minus_one(alpha_bar)
    levels = alpha_bar(np.arange(-1, STEPS))
    assert (np.diff(levels) < 0).all() and levels[-1] > 0


def test_an_int_gives_a_python_float():
    assert type(alpha_bar(3)) is float and type(alpha_bar(np.int64(3))) is float
    assert (np.ones(2, np.float32) * alpha_bar(3)).dtype == np.float32


@pytest.mark.parametrize("t", [-2, 1000, [0, 1000]])
def test_no_level_outside_the_schedule(t):
    with pytest.raises(ValueError, match="outside -1 .. 999"):
        alpha_bar(t)


@pytest.mark.equation("E02")
def test_the_chain_starts_where_it_says_and_ends_clean():
    oracles.downwards_to_clean(visited_timesteps)


@pytest.mark.parametrize("start, stride", [(1000, 20), (-1, 20), (50, 0)])
def test_no_chain_outside_the_schedule(start, stride):
    with pytest.raises(ValueError, match="a chain starts at"):
        visited_timesteps(start, stride)
