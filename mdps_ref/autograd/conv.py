"""Convolution and its pullbacks as matrix products, one a kernel offset: K * K products, added up, and no array of all patches.

For the offset (i, j) every output pixel wants the one pixel of the image that lies (i, j) from the corner of its patch. These pixels,
a window of the padded image, are brought into one piece of memory, rows of Ci channels, and multiplied by the kernel's (Ci, Co) matrix.
Blocks of pixels stay in a core's cache for all offsets. Large 3 x 3 convolutions in float32 go to `winograd.py` instead.
"""

import itertools

import numpy as np

from mdps_ref.kernels import winograd
from mdps_ref.kernels.blocks import Padded, of_images
from mdps_ref.autograd.tape import primitive
from mdps_ref.kernels.threads import PER_PRODUCT, bands_of, blocks, in_threads, pieces
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.backend import array_module

BLOCK = 1024  # pixels; a block of them and of their sums stays in a core's cache for all K * K products
COLUMNS = 256  # output channels at most in one piece of work, where all pixels are in one block
FEW_PIXELS = 128  # pixels of a batch up to which products with a turned kernel are faster into memory of its order
LARGE, LARGE_FOR_KERNEL = 256, 1024  # pixels of a batch from which on Winograd's form is used; in the pullback to the kernel
CROWDED = 128  # pairs of channels a pixel, up to which it is used


@primitive(
    lambda y, x, w, b, onto=None: lambda g: convolve(g, turned(w)),
    lambda y, x, w, b, onto=None: lambda g: kernel_products(x, g, w.shape[0]),
    lambda y, x, w, b, onto=None: lambda g: g,
    lambda y, x, w, b, onto=None: lambda g: g,
)
def conv2d(x, w, b, onto=None):
    """Same-size convolution, y[p] = b + onto[p] + sum over offsets d of x[p + d] @ w[d], zeros beyond the border, stride 1.

    Shapes: x (N, H, W, Ci), w (K, K, Ci, Co) with K odd, b (Co) or (N, 1, 1, Co), onto (N, H, W, Co), if any,
    -> (N, H, W, Co).
    The pullback to x is the convolution with the kernel turned round; to w, one product of x and g an offset.
    """
    return convolve(x, w, b, onto)


def turned(w):
    """The kernel turned by half a circle, its input and output channels exchanged: the convolution's adjoint, as a view.

    Shapes: w (K, K, Ci, Co) -> (K, K, Co, Ci).
    """
    return w[::-1, ::-1].swapaxes(2, 3)


def convolve(x, w, b=None, onto=None):
    """b + onto + the convolution of x with w; None adds nothing.  Shapes: as `conv2d`."""
    xp = array_module(x, w)
    if xp is not np:
        y = sum(window.reshape(-1, x.shape[3]) @ w[offset] for offset, window in _windows(x, w.shape[0]))
        return sum((a for a in (b, onto) if a is not None), start=y.reshape(*x.shape[:3], w.shape[3]))
    b = (np.zeros(w.shape[3], x.dtype) if b is None else b).reshape(-1, 1, 1, w.shape[3])
    suits = _suits_winograd(x, w.shape[0], w.shape[3], LARGE)
    return (winograd.convolve if suits else window_products)(x, w, b, onto)


def kernel_products(x, g, k):
    """The pullback of the convolution to its kernel.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (K, K, Ci, Co)."""
    xp = array_module(x, g)
    if xp is np and _suits_winograd(x, k, g.shape[3], LARGE_FOR_KERNEL):
        return winograd.kernel_pullback(x, g)
    cotangents, products = g.reshape(-1, g.shape[-1]), xp.empty((k, k, x.shape[-1], g.shape[-1]), x.dtype)

    def work(windows):
        for offset, window in windows:
            products[offset] = window.reshape(-1, x.shape[-1]).T @ cotangents

    in_threads(work, _windows(x, k), PER_PRODUCT * x.size * g.shape[-1] * k * k if xp is np else 0.0)
    return products


def window_products(x, w, b, onto=None):
    """b + onto + the convolution, by K * K products of windows.  Shapes: as `conv2d`, b (N or 1, 1, 1, Co); arrays on the host."""
    (n, h, wide, c_in), (k, c_out) = x.shape, w.shape[::3]
    y = empty((n, h, wide, c_out), x.dtype)
    bands = bands_of(n, h, BLOCK // wide)
    parts = list(itertools.product(bands, pieces(c_out, COLUMNS) if len(bands) == 1 else blocks(c_out, c_out)))
    across = w.strides[2] < w.strides[3] and x[..., 0].size <= FEW_PIXELS  # sums in the order of memory of a turned kernel

    def work(parts):
        padded, most = Padded(x, bands[0], k // 2), y[bands[0]].size // c_out
        pixels, *memories = (empty((most * c,), x.dtype) for c in (c_in, c_out, c_out))
        for band, columns in parts:
            lines, part = padded.lines(band), y[band][..., columns]
            window = cut(pixels, (*part.shape[:3], c_in))
            shape = part[..., 0].size, part.shape[3]
            sums, product = (cut(memory, shape[::-1]).T if across else cut(memory, shape) for memory in memories)
            for i, j in np.ndindex(k, k):
                window[...] = lines[:, i : i + part.shape[1], j : j + wide]
                np.matmul(window.reshape(-1, c_in), w[i, j][:, columns], out=product if i or j else sums)
                if i or j:
                    sums += product
            np.add(sums.reshape(part.shape), of_images(b, band[0])[..., columns], out=part)
            if onto is not None:
                part += onto[band][..., columns]

    in_threads(work, parts, PER_PRODUCT * x.size * c_out * k * k)
    return y


def _suits_winograd(x, k, c_out, pixels):
    """Whether Winograd's form is there for this convolution, and fast: from so many `pixels` of a batch on, and with at most
    CROWDED pairs of channels a pixel, beyond which the transformed kernel is too large for the cache.

    Measured once on two cores, milliseconds, and those of direct products: 6.5 and 17 for 256 x 256 pixels of 64 channels, 0.7 and 1.6
    for 32 x 32 of 128, 0.3 and 0.5 for 16 x 16 of 128, 0.8 to 1.3 and 1.0 for 16 x 16 of 256, 0.5 and 0.4 for 8 x 8 of 256.
    """
    n, h, wide, c_in = x.shape
    fits = k == 3 and x.dtype == np.float32 and h % 4 == wide % 4 == 0
    return fits and pixels <= n * h * wide >= c_in * c_out / CROWDED


def _windows(x, k):
    """Each offset of a kernel and the window that it reads of x with a border of zeros.  Shapes: x (N, H, W, C) -> k^2 like x."""
    n, h, w, c = x.shape
    r = k // 2
    padded = array_module(x).zeros((n, h + 2 * r, w + 2 * r, c), x.dtype)
    padded[:, r : r + h, r : r + w] = x
    return [((i, j), padded[:, i : i + h, j : j + w]) for i, j in np.ndindex(k, k)]
