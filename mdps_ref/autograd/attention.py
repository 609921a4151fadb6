"""Self-attention: softmax of the queries times the keys, times the values, and its pullback."""

from mdps_ref.autograd.ops import softmax
from mdps_ref.autograd.tape import primitive
from mdps_ref.backend import array_module


@primitive(lambda y, qkv, heads: lambda g: _to_qkv(g, qkv, heads))
def self_attention(qkv, *, heads):
    """Attend from every pixel to every pixel:  softmax(q k^T / sqrt(d)) v  for each head, of d channels.

    Parameters
    ----------
    qkv : (N, L, 3 C)
        The channels are ordered head by head, and within a head q, k, v.
    heads : int

    Returns
    -------
    (N, L, C)

    References
    ----------
    Vaswani et al. 2017, Eq. (1).
    """
    q, k, v = _by_head(qkv, heads)
    y = _weights(q, k) @ v
    return y.swapaxes(1, 2).reshape(*qkv.shape[:2], -1)


def _by_head(qkv, heads):
    """Shapes: (N, L, 3 C) -> q, k, v, each (N, heads, L, d)."""
    n, length, width = qkv.shape
    parts = qkv.reshape(n, length, heads, 3, width // (3 * heads)).swapaxes(1, 2)
    return [parts[:, :, :, i] for i in range(3)]


def _weights(q, k):
    """softmax(q k^T / sqrt(d)).  Shapes: (N, heads, L, d) twice -> (N, heads, L, L)."""
    return softmax(q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5)


def _to_qkv(g, qkv, heads):
    """The pullback: through the product with v, the softmax, and the product of q and k."""
    q, k, v = _by_head(qkv, heads)
    weights = _weights(q, k)
    g = g.reshape(*g.shape[:2], heads, -1).swapaxes(1, 2)
    to_weights = g @ v.swapaxes(-1, -2)
    to_logits = weights * (to_weights - (to_weights * weights).sum(axis=-1, keepdims=True)) * q.shape[-1] ** -0.5
    to_q, to_k, to_v = to_logits @ k, to_logits.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ g
    return array_module(g).stack([to_q, to_k, to_v], axis=3).swapaxes(1, 2).reshape(qkv.shape)
