"""Self-attention in blocks of heads that stay in a core's cache, shared among threads."""

import numpy as np

from mdps_ref.kernels.blocks import BLOCK
from mdps_ref.kernels.buffers import empty
from mdps_ref.kernels.threads import PER_ENTRY, PER_PRODUCT, bands_of, in_threads


def self_attention(qkv, *, heads):
    """softmax(q k^T / sqrt(d)) v for each head, and the pullback.

    Of a head's weights only each query's largest logit and sum are kept; the pullback computes the weights again from these two. A
    column of the weights belongs to a query, so that maxima and sums run down columns, which is faster.
    Shapes: qkv (N, L, 3 C), as in `autograd.attention` -> (N, L, C).
    """
    n, length, width = qkv.shape
    d = width // (3 * heads)
    q, k, v = (qkv.reshape(n, length, heads, 3, d)[:, :, :, i].swapaxes(1, 2) for i in range(3))
    parts = _heads_together(n, heads, length)
    y = empty((n, length, heads, d), qkv.dtype)
    largest, sums = (empty((n, heads, 1, length), qkv.dtype) for _ in range(2))

    def work(parts):
        for part in parts:
            weights = _logits(k[part], q[part])
            largest[part] = weights.max(axis=-2, keepdims=True)
            weights -= largest[part]
            np.exp(weights, out=weights)
            sums[part] = weights.sum(axis=-2, keepdims=True)
            y.swapaxes(1, 2)[part] = np.matmul(weights.swapaxes(-1, -2), v[part]) / sums[part].swapaxes(-1, -2)

    seconds = n * heads * length**2 * (2 * d * PER_PRODUCT + PER_ENTRY)
    in_threads(work, parts, seconds)

    def pullback(g):
        g = g.reshape(n, length, heads, d).swapaxes(1, 2)
        to_qkv = empty((n, length, heads, 3, d), qkv.dtype)
        to_q, to_k, to_v = (to_qkv[:, :, :, i].swapaxes(1, 2) for i in range(3))

        def work(parts):
            for part in parts:
                weights = _logits(k[part], q[part])
                weights -= largest[part]
                np.exp(weights, out=weights)
                share = g[part] / sums[part].swapaxes(-1, -2)
                to_v[part] = np.matmul(weights, share)
                to_weights = empty(weights.shape, weights.dtype)
                np.matmul(v[part], share.swapaxes(-1, -2), out=to_weights)
                to_weights -= (share * y.swapaxes(1, 2)[part]).sum(axis=-1)[..., None, :]
                to_weights *= weights
                to_q[part] = np.matmul(to_weights.swapaxes(-1, -2), k[part]) * d**-0.5
                to_k[part] = np.matmul(to_weights, q[part]) * d**-0.5

        in_threads(work, parts, 2 * seconds)
        return [to_qkv.reshape(qkv.shape)]

    return y.reshape(n, length, heads * d), pullback


def _heads_together(n, heads, length):
    """(images, heads) of every block: some heads of one image, or all of some images."""
    return bands_of(n, heads, BLOCK // length**2)


def _logits(k, q):
    """k q^T / sqrt(d), a column a query.  Shapes: k, q (..., L, d) -> (..., L, L)."""
    logits = empty((*k.shape[:-1], q.shape[-2]), q.dtype)
    return np.matmul(k, (q * q.shape[-1] ** -0.5).swapaxes(-1, -2), out=logits)
