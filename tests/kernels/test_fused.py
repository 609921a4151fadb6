"""The blocked primitives against their plain expressions, in one block and in many, on one thread and on two."""

import numpy as np
import pytest

from mdps_ref.autograd import conv, ops
from mdps_ref.kernels import fused, threads, winograd
from mdps_ref.kernels.fused import attend, group_norm_silu
from mdps_ref.autograd.tape import Tensor, pull_back


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def with_pullbacks(f, *args):
    """f's result, and what a random cotangent is pulled back to."""
    tensors = [Tensor(arg) for arg in args]
    y = f(*tensors)
    return [y.value, *pull_back(y, normal(*y.shape, seed=7, dtype=y.value.dtype), tensors)]


@pytest.mark.parametrize("pixels", [(5, 7), (5, 8)], ids=["a pixel a line", "eight pixels a line"])
@pytest.mark.parametrize("block", [1, 40, 96, 2**17])
def test_normalisation_is_its_plain_expression_in_any_blocks(block, pixels, monkeypatch):
    monkeypatch.setattr(fused, "BLOCK", block)
    args = normal(3, *pixels, 6) + np.arange(pixels[0])[:, None, None], normal(6, seed=1), normal(6, seed=2)
    ours = with_pullbacks(lambda *a: group_norm_silu(*a, groups=2), *args)
    plain = with_pullbacks(lambda *a: ops.silu(ops.group_norm(*a, groups=2)), *args)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_large_mean_does_not_drown_the_variance():
    """In float32, with a mean of 30 deviations, against the plain expression in float64."""
    args = normal(2, 64, 64, 8) + 30, normal(8, seed=1), normal(8, seed=2)
    ours = with_pullbacks(lambda *a: group_norm_silu(*a, groups=4), *(a.astype(np.float32) for a in args))
    plain = with_pullbacks(lambda *a: ops.silu(ops.group_norm(*a, groups=4)), *(a.astype(np.float32).astype(float) for a in args))
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * abs(b).max())


def test_attention_in_single_precision_stands_large_logits():
    """Logits of about 1000: the weights that the pullback computes again sum up to 1 all the same."""
    qkv = normal(1, 64, 24) * np.repeat([30.0, 30.0, 1.0], 8)
    ours = with_pullbacks(lambda a: attend(a, heads=1), qkv.astype(np.float32))
    exact = with_pullbacks(lambda a: attend(a, heads=1), qkv.astype(np.float32).astype(float))
    for a, b in zip(ours, exact, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * abs(b).max())


def attention_by_loops(qkv, heads):
    """The definition: each head, each pixel, its own softmax."""
    n, length, width = qkv.shape
    d = width // (3 * heads)
    q, k, v = np.moveaxis(qkv.reshape(n, length, heads, 3, d), 3, 0)
    y = np.zeros((n, length, heads, d))
    for i, at, head in np.ndindex(n, length, heads):
        share = np.exp([q[i, at, head] @ k[i, other, head] / d**0.5 for other in range(length)])
        y[i, at, head] = sum(s * v[i, other, head] for other, s in enumerate(share / share.sum()))
    return y.reshape(n, length, heads * d)


@pytest.mark.parametrize("block", [1, 2 * 5**2, 2**17], ids=["a head at a time", "two heads", "all at once"])
def test_attention_is_its_twin_in_any_blocks(block, monkeypatch):
    monkeypatch.setattr(fused, "BLOCK", block)
    qkv = normal(2, 5, 36)
    np.testing.assert_allclose(attend(qkv, heads=3), attention_by_loops(qkv, 3), atol=1e-13)


def test_attention_to_far_larger_logits_does_not_overflow():
    """Logits of 7e5, of which each query's own key has 1400 more: its whole weight."""
    q, k, v = np.array([[1e3, 1], [1e3, -1]]), np.array([[1e3, 1e3], [1e3, -1e3]]), np.array([[1.0, 2], [3, 4]])
    qkv = np.concatenate([q, k, v], axis=-1)[None]
    y, g = with_pullbacks(lambda a: attend(a, heads=1), qkv)
    np.testing.assert_array_equal(y, v[None])
    assert np.isfinite(g).all()


@pytest.mark.parametrize("name", ["direct", "winograd", "normalisation", "attention", "linear", "matmul"])
def test_a_second_thread_changes_no_bit(name, monkeypatch):
    monkeypatch.setattr(threads, "_HELPERS", threads._Helpers(1))
    monkeypatch.setattr(fused, "BLOCK", 256)
    monkeypatch.setattr(conv, "BLOCK", 64)
    monkeypatch.setattr(winograd, "BAND", 64)
    x, w = normal(3, 16, 16, 8, dtype=np.float32), normal(3, 3, 8, 8, seed=1, dtype=np.float32)
    scale, shift = normal(8, seed=2, dtype=np.float32), normal(8, seed=3, dtype=np.float32)
    for least in ("LARGE", "LARGE_FOR_KERNEL"):
        monkeypatch.setattr(conv, least, 0 if name == "winograd" else 10**9)
    f, args = {
        "direct": (conv.conv2d, (x, w, shift)),
        "winograd": (conv.conv2d, (x, w, shift)),
        "normalisation": (lambda *a: group_norm_silu(*a, groups=4), (x, scale, shift)),
        "attention": (lambda a: attend(a, heads=4), (normal(2, 24, 48, dtype=np.float32),)),
        "linear": (ops.linear, (normal(3000, 8, dtype=np.float32), w[0, 0], shift)),
        "matmul": (ops.matmul, (normal(300, 70, dtype=np.float32), normal(70, 90, dtype=np.float32))),
    }[name]
    results = []
    for limit, worth in ((1, 0.0), (2, 0.0)):
        monkeypatch.setattr(threads, "_limits", [limit])
        monkeypatch.setattr(threads, "WORTH_SHARING", worth)
        results.append(with_pullbacks(f, *args))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
