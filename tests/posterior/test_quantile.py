"""A quantile that is read in parts: the same number as a sort of all gives, whatever the parts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdps_ref.posterior.quantile import keys_of, upper_quantile, values_of

NUMBERS = {
    "normal": np.random.default_rng(0).standard_normal(3000),
    "skewed": np.random.default_rng(1).random(3000) ** 9,
    "near each other": 1 + np.random.default_rng(2).random(3000) * 1e-4,
    "few levels, both zeros": np.random.default_rng(3).choice([-2, -0.0, 0.0, 1], 3000),
    "one": np.array([7.0]),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("share", [0, 0.05, 0.37, 0.5, 0.95, 1])
def test_it_is_the_number_at_its_rank(share, numbers, dtype):
    numbers = numbers.astype(dtype)
    parts = [part.reshape(1, -1, 1) for part in np.array_split(numbers, min(7, len(numbers)))]
    assert upper_quantile(parts, share) == np.sort(numbers)[math.ceil((len(numbers) - 1) * share)]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=30))
def test_keys_have_the_order_of_their_floats_and_lead_back(numbers):
    values = np.array(numbers, np.float32)
    keys = keys_of(values)
    np.testing.assert_array_equal(values_of(keys), values)
    for (a, x), (b, y) in itertools.combinations(zip(keys, values, strict=True), 2):
        assert (a < b) == (x < y) and (a == b) == (x == y)


def test_ranks_are_exact_where_a_float32_cannot_count():
    """The 0-quantile of 2^24 + 2 numbers is the least of them; a rank in float32 is off by one there."""
    zeros = np.zeros(2**20, np.float32)
    parts = [*[zeros] * 16, np.array([1, 2], np.float32)]
    assert upper_quantile(parts, 1 - 2**-24) == 1 and upper_quantile(parts, 1) == 2


def test_what_can_be_read_once_only_is_refused():
    with pytest.raises(TypeError, match="several times"):
        upper_quantile((np.ones(2, np.float32) for _ in range(2)), 0.5)


def test_without_numbers_there_is_no_quantile():
    with pytest.raises(ValueError, match="no numbers"):
        upper_quantile([np.zeros((0, 3), np.float32)], 0.5)


@pytest.mark.parametrize("parts", [[np.arange(4)], [np.ones(2), np.ones(2, np.float32)]], ids=["integers", "two dtypes"])
def test_only_floats_of_one_dtype_have_keys(parts):
    with pytest.raises(TypeError, match="floats of one dtype"):
        upper_quantile(parts, 0.5)
