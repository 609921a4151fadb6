"""The network: its size, its gradient as a whole, its symmetries, and twins of its layers."""

import numpy as np
import pytest
from helpers import normal

from mdps_ref.autograd.check import check_pullback
from mdps_ref.autograd.norm import group_norm
from mdps_ref.autograd.tape import Tensor, pull_back
from mdps_ref.nn.layers import attention_block, timestep_embedding
from mdps_ref.nn.unet import NETWORKS, UNetConfig, check_weights, init_unet, unet

SMALL = UNetConfig(image_size=4, base_channels=4, multipliers=(1, 2), attention_sizes=(2,), heads=2, groups=2)


@pytest.fixture(scope="module")
def weights():
    """Random float64 weights with no zero among them, so that every branch counts."""
    return {name: w + 0.2 * normal(*w.shape, seed=i) for i, (name, w) in enumerate(init_unet(SMALL, dtype=np.float64).items())}


def test_released_has_the_authors_number_of_parameters_and_small_about_a_million_and_a_half():
    released, small = (sum(w.size for w in init_unet(NETWORKS[name]).values()) for name in ("released", "small"))
    assert released == 32_952_707 and 1.3e6 < small < 1.7e6


def test_a_fresh_network_predicts_zero():
    np.testing.assert_array_equal(unet(init_unet(SMALL), normal(1, 4, 4, 3).astype(np.float32), np.array([3]), SMALL), 0)


@pytest.mark.equation("E10")
def test_the_whole_gradient_to_x(weights):
    assert check_pullback(lambda x: unet(weights, x, np.array([7, 700]), SMALL), [normal(2, 4, 4, 3)]) < 1e-7


def test_the_whole_gradient_to_every_array(weights):
    """One random entry of every array against a central difference."""
    x, t, h = normal(2, 4, 4, 3), np.array([7, 700]), 1e-5
    tensors = {name: Tensor(w) for name, w in weights.items()}
    y = unet(tensors, x, t, SMALL)
    u = normal(*y.shape, seed=3)
    pulled = dict(zip(tensors, pull_back(y, u, list(tensors.values())), strict=True))
    rng = np.random.default_rng(4)
    for name, w in weights.items():
        entry = tuple(rng.integers(size) for size in w.shape)
        slopes = []
        for sign in (1, -1):
            moved = w.copy()
            moved[entry] += sign * h
            slopes.append((u * unet({**weights, name: moved}, x, t, SMALL)).sum())
        np.testing.assert_allclose(pulled[name][entry], (slopes[0] - slopes[1]) / (2 * h), rtol=1e-5, atol=1e-6, err_msg=name)


def test_an_image_does_not_see_its_neighbours(weights):
    x, t = normal(3, 4, 4, 3), np.array([0, 5, 999])
    together = unet(weights, x, t, SMALL)
    assert together.shape == x.shape
    for i in range(3):
        np.testing.assert_allclose(together[i : i + 1], unet(weights, x[i : i + 1], t[i : i + 1], SMALL), atol=1e-12)


def test_the_record_holds_every_block(weights):
    record = {}
    unet(weights, normal(1, 4, 4, 3), np.array([3]), SMALL, record)
    assert {name: h.shape[1:3] for name, h in record.items() if name.startswith("up.")} == {
        "up.1.0": (2, 2),
        "up.1.1": (2, 2),
        "up.1.double": (4, 4),
        "up.0.0": (4, 4),
        "up.0.1": (4, 4),
    }


def test_weights_that_do_not_fit_are_listed(weights, fails_with):
    wrong = {**weights, "first.bias": np.zeros(3), "more": np.zeros(1)}
    del wrong["last.conv.bias"]
    with fails_with("first.bias has shape (3,), not (4,)", "last.conv.bias is missing", "more is unexpected"):
        check_weights(wrong, SMALL)


@pytest.mark.parametrize(
    "change",
    [{"image_size": 6, "multipliers": (1, 1, 1)}, {"base_channels": 6, "groups": 4}, {"base_channels": 6, "groups": 2, "heads": 4}]
    + [{"base_channels": 12, "multipliers": (2, 4), "groups": 8}, {"base_channels": 9, "groups": 3, "heads": 3}],
)
def test_sizes_that_do_not_divide_are_refused(change, fails_with):
    with fails_with():
        UNetConfig(**change)


def test_timesteps_are_told_apart_by_sines_and_cosines():
    wave = timestep_embedding(np.arange(1000), 32)
    np.testing.assert_allclose(wave[:, :16] ** 2 + wave[:, 16:] ** 2, 1, atol=1e-12)
    np.testing.assert_allclose(wave[:, 0], np.sin(np.arange(1000)), atol=1e-12)
    assert len(np.unique(wave.round(6), axis=0)) == 1000


def group_norm_by_loops(x, scale, shift, groups):
    y, width = np.empty_like(x), x.shape[-1] // groups
    for i in range(len(x)):
        for k in range(groups):
            part = slice(k * width, (k + 1) * width)
            values = x[i, ..., part]
            y[i, ..., part] = (values - values.mean()) / np.sqrt(values.var() + 1e-5) * scale[part] + shift[part]
    return y


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_group_norm_is_its_twin(dtype, tolerance):
    x, scale, shift = (a.astype(dtype) for a in (5 + 3 * normal(2, 6, 5, 8), normal(8), normal(8, seed=1)))
    np.testing.assert_allclose(group_norm(x, scale, shift, groups=4), group_norm_by_loops(x, scale, shift, 4), atol=tolerance)


def test_attention_is_its_twin():
    """Every pixel looks at every pixel, head by head; the projection's channels are ordered head by head, q, k, v within."""
    n, h, w, c, heads = 2, 2, 3, 8, 2
    shapes = {"a.norm": (c,), "a.qkv": (c, 3 * c), "a.project": (c, c)}
    weights = {f"{name}.weight": normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    weights |= {f"{name}.bias": normal(shape[-1], seed=9 + i) for i, (name, shape) in enumerate(shapes.items())}
    x = normal(n, h, w, c)
    normed = group_norm_by_loops(x, weights["a.norm.weight"], weights["a.norm.bias"], 4).reshape(n, h * w, c)
    mixed, d = np.zeros((n, h * w, c)), c // heads
    for i, head in np.ndindex(n, heads):
        q, k, v = (normed[i] @ weights["a.qkv.weight"] + weights["a.qkv.bias"]).reshape(h * w, heads, 3, d)[:, head].swapaxes(0, 1)
        for p in range(h * w):
            share = np.exp([q[p] @ k[r] / np.sqrt(d) for r in range(h * w)])
            mixed[i, p, head * d : (head + 1) * d] = sum(s * v[r] for r, s in enumerate(share / share.sum()))
    expected = x + (mixed @ weights["a.project.weight"] + weights["a.project.bias"]).reshape(x.shape)
    np.testing.assert_allclose(attention_block(weights, "a", x, 4, heads), expected, atol=1e-10)
