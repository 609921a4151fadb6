"""Convolution and its pullbacks as matrix products of slices: nothing is copied but the border.

Seen as one long list of pixels, rows of C channels, the padded image moved by a kernel offset (i, j) is the same list read from
row i * pitch + j on. So a K x K convolution is K * K matrix products of slices of that list, added up in place. Rows that
straddle two lines or two images land in the margin, which is cut off.
"""

import itertools

from mdps_ref.autograd.blas import add_product
from mdps_ref.autograd.tape import primitive
from mdps_ref.backend import array_module

BLOCK = 4096  # pixels; a block of them and of their sums stays in cache for all K * K products


@primitive(
    lambda y, x, w, b: lambda g: shifted_products(g, turned(w)),
    lambda y, x, w, b: lambda g: kernel_products(x, g, w.shape[0]),
    lambda y, x, w, b: lambda g: g,
)
def conv2d(x, w, b):
    """Same-size convolution, y[p] = b + sum over offsets d of x[p + d] @ w[d], zeros beyond the border, stride 1.

    Shapes: x (N, H, W, Ci), w (K, K, Ci, Co) with K odd, b (Co) -> (N, H, W, Co).
    The pullback to x is the convolution with the kernel turned round; to w, one product of x and g an offset.
    """
    return shifted_products(x, w) + b


def turned(w):
    """The kernel turned by half a circle, its input and output channels exchanged: the convolution's adjoint."""
    return array_module(w).ascontiguousarray(w[::-1, ::-1].swapaxes(2, 3))


def shifted_products(x, w):
    """The convolution without bias.  Shapes: x (N, H, W, Ci), w (K, K, Ci, Co) -> (N, H, W, Co)."""
    n, h, wide, _ = x.shape
    k, _, _, c_out = w.shape
    pixels, pitch, count = _pixel_list(x, k)
    y = array_module(x, w).empty((len(pixels), c_out), x.dtype)
    for start, offset in itertools.product(range(0, count, BLOCK), range(k * k)):
        stop = min(start + BLOCK, count)
        i, j = divmod(offset, k)
        shift = i * pitch + j
        add_product(pixels[start + shift : stop + shift], w[i, j], y[start:stop], keep=offset > 0)
    return y.reshape(n, h + k - 1, pitch, c_out)[:, :h, :wide]


def kernel_products(x, g, k):
    """The pullback of the convolution to its kernel.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (K, K, Ci, Co)."""
    xp = array_module(x, g)
    pixels, pitch, count = _pixel_list(x, k)
    cotangents = xp.zeros((x.shape[0], x.shape[1] + k - 1, pitch, g.shape[-1]), g.dtype)
    cotangents[:, : g.shape[1], : g.shape[2]] = g
    cotangents = cotangents.reshape(len(pixels), -1)[:count]
    products = xp.zeros((k * k, x.shape[-1], g.shape[-1]), x.dtype)
    for start, offset in itertools.product(range(0, count, BLOCK), range(k * k)):
        stop = min(start + BLOCK, count)
        i, j = divmod(offset, k)
        shift = i * pitch + j
        add_product(pixels[start + shift : stop + shift].T, cotangents[start:stop], products[offset])
    return products.reshape(k, k, x.shape[-1], g.shape[-1])


def _pixel_list(x, k):
    """x with a border of k // 2 zeros as one list of pixels; its line length; how many positions a kernel can start from."""
    n, h, w, c = x.shape
    r = k // 2
    padded = array_module(x).zeros((n, h + 2 * r, w + 2 * r, c), x.dtype)
    padded[:, r : r + h, r : r + w] = x
    pixels = padded.reshape(-1, c)
    pitch = w + 2 * r
    return pixels, pitch, len(pixels) - (k - 1) * (pitch + 1)
