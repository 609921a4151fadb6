"""Self-attention against its definition, and its rounding."""

import numpy as np

from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.tape import Tensor, pull_back


def with_pullback(qkv, heads):
    tensor = Tensor(qkv)
    y = self_attention(tensor, heads=heads)
    g = np.random.default_rng(7).standard_normal(y.shape).astype(qkv.dtype)
    return y.value, pull_back(y, g, [tensor])[0]


def by_loops(qkv, heads):
    """The definition: each head, each pixel, its own softmax."""
    n, length, width = qkv.shape
    d = width // (3 * heads)
    q, k, v = np.moveaxis(qkv.reshape(n, length, heads, 3, d), 3, 0)
    y = np.zeros((n, length, heads, d))
    for i, at, head in np.ndindex(n, length, heads):
        share = np.exp([q[i, at, head] @ k[i, other, head] / d**0.5 for other in range(length)])
        y[i, at, head] = sum(s * v[i, other, head] for other, s in enumerate(share / share.sum()))
    return y.reshape(n, length, heads * d)


def test_it_is_its_definition():
    qkv = np.random.default_rng(0).standard_normal((2, 5, 36))
    np.testing.assert_allclose(self_attention(qkv, heads=3), by_loops(qkv, 3), atol=1e-13)


def test_single_precision_stands_large_logits():
    """Logits of about 1000."""
    qkv = (np.random.default_rng(0).standard_normal((1, 64, 24)) * np.repeat([30.0, 30.0, 1.0], 8)).astype(np.float32)
    for ours, exact in zip(with_pullback(qkv, 1), with_pullback(qkv.astype(float), 1), strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-3 * abs(exact).max())


def test_far_larger_logits_do_not_overflow():
    """Logits of 7e5, of which each query's own key has 1400 more: its whole weight."""
    q, k, v = np.array([[1e3, 1], [1e3, -1]]), np.array([[1e3, 1e3], [1e3, -1e3]]), np.array([[1.0, 2], [3, 4]])
    y, g = with_pullback(np.concatenate([q, k, v], axis=-1)[None], 1)
    np.testing.assert_array_equal(y, v[None])
    assert np.isfinite(g).all()
