"""Self-attention's rounding; its definition in loops is in nn/test_unet.py."""

import numpy as np

from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.tape import Tensor, pull_back


def with_pullback(qkv, heads):
    tensor = Tensor(qkv)
    y = self_attention(tensor, heads=heads)
    g = np.random.default_rng(7).standard_normal(y.shape).astype(qkv.dtype)
    return y.value, pull_back(y, g, [tensor])[0]


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
