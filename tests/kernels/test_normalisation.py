"""Blocked normalisation: any blocks, and a large mean in single precision."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.autograd import norm
from mdps_ref.autograd.tape import Tensor, pull_back
from mdps_ref.kernels import fast, normalisation

pytestmark = pytest.mark.kernels_as_they_are
NAMES = ["group_norm", "group_norm_silu"]


def with_pullbacks(f, args, groups):
    """f's result, and what a random cotangent is pulled back to."""
    tensors = [Tensor(arg) for arg in args]
    y = f(*tensors, groups=groups)
    return [y.value, *pull_back(y, normal(*y.shape, seed=7).astype(y.dtype), tensors)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pixels", [(5, 7), (5, 8)], ids=["a pixel a line", "eight pixels a line"])
@pytest.mark.parametrize("block", [1, 40, 96, 2**17])
def test_any_blocks_give_the_plain_expression(name, block, pixels, monkeypatch):
    monkeypatch.setattr(normalisation, "BLOCK", block)
    args = normal(3, *pixels, 6) + np.arange(pixels[0])[:, None, None], normal(6, seed=1), normal(6, seed=2)
    plain = with_pullbacks(getattr(norm, name), args, 2)
    with fast():
        ours = with_pullbacks(getattr(norm, name), args, 2)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_large_mean_does_not_drown_the_variance(name):
    """In float32, with a mean of 30 deviations, against the plain expression in float64."""
    args = [a.astype(np.float32) for a in (normal(2, 64, 64, 8) + 30, normal(8, seed=1), normal(8, seed=2))]
    with fast():
        ours = with_pullbacks(getattr(norm, name), args, 4)
    for a, b in zip(ours, with_pullbacks(getattr(norm, name), [arg.astype(float) for arg in args], 4), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * abs(b).max())
