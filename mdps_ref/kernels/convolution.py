"""Direct convolution in blocks: one product for each offset of the kernel, on a block of pixels that stays in cache for all of them.

`winograd.py` is faster for large 3 x 3 convolutions in float32; `table.py` chooses.
"""

import itertools

import numpy as np

from mdps_ref.autograd.conv import windows
from mdps_ref.backend import array_module
from mdps_ref.kernels import winograd
from mdps_ref.kernels.blocks import BLOCK as ENTRIES
from mdps_ref.kernels.blocks import Padded, matmul, of_images
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.kernels.threads import PER_ENTRY, PER_PRODUCT, bands_of, blocks, in_threads, pieces

BLOCK = 1024  # pixels in a block: it and its sums stay in a core's cache for all K * K products
COLUMNS = 256  # output channels at most in one piece of work, where all pixels are in one block
FEW_PIXELS = 128  # pixels of a batch up to which products with a turned kernel are faster into memory of the kernel's order
LARGE, LARGE_FOR_KERNEL = 256, 1024  # pixels of a batch from which on Winograd's form is used; in the pullback to the kernel
CROWDED = 128  # pairs of channels for each pixel, beyond which Winograd's transformed kernel is too large for the cache


def suits_winograd(x, w, b, residual=None, *, stride=1, pads=None):
    """True if Winograd's form exists for this convolution and is faster: 3 x 3, float32, whole tiles, enough pixels, few enough channels.

    Measured once on two cores, in milliseconds, against direct products: 6.5 and 17 for 256 x 256 pixels of 64 channels, 0.7 and 1.6 for
    32 x 32 of 128, 0.3 and 0.5 for 16 x 16 of 128, 0.8 to 1.3 and 1.0 for 16 x 16 of 256, 0.5 and 0.4 for 8 x 8 of 256.
    """
    n, h, wide, c_in = x.shape
    exists = suits_direct(x, w, b, residual, stride=stride, pads=pads) and len(w) == 3 and x.dtype == np.float32 and h % 4 == wide % 4 == 0
    return exists and LARGE <= n * h * wide >= c_in * w.shape[3] / CROWDED


def suits_direct(x, w, b, residual=None, *, stride=1, pads=None):
    """True for a same-size convolution on the host."""
    return _on_host(x, w) and stride == 1 and len(w) % 2 == 1 and pads in (None, (len(w) // 2, len(w) // 2))


def suits_strided(x, w, b, residual=None, *, stride=1, pads=None):
    """True for any other convolution on the host, without a residual."""
    return _on_host(x, w) and residual is None


def _on_host(x, w):
    return array_module(x, w) is np and x.dtype == w.dtype


def turned(w):
    """The kernel turned by half a circle, its input and output channels exchanged: the convolution's adjoint, as a view.

    Shapes: w (K, K, Ci, Co) -> (K, K, Co, Ci).
    """
    return w[::-1, ::-1].swapaxes(2, 3)


def winograd_to_kernel(x, g, k):
    """The pullback to the kernel of a convolution in Winograd's form.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (K, K, Ci, Co)."""
    return winograd.to_kernel(x, g) if x[..., 0].size >= LARGE_FOR_KERNEL else direct_to_kernel(x, g, k)


def direct_conv2d(x, w, b, residual=None):
    """The same-size convolution by K * K products of windows.  Shapes: as `autograd.conv.conv2d`, b (N or 1, 1, 1, Co)."""
    (n, h, wide, c_in), (k, c_out) = x.shape, w.shape[::3]
    y = empty((n, h, wide, c_out), x.dtype)
    bands = bands_of(n, h, BLOCK // wide)
    parts = list(itertools.product(bands, pieces(c_out, COLUMNS) if len(bands) == 1 else blocks(c_out, c_out)))
    across = w.strides[2] < w.strides[3] and x[..., 0].size <= FEW_PIXELS  # sums in the order of memory of a turned kernel

    def work(parts):
        padded, most = Padded(x, bands[0], (k // 2, k // 2)), y[bands[0]].size // c_out
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
            if residual is not None:
                part += residual[band][..., columns]

    in_threads(work, parts, PER_PRODUCT * x.size * c_out * k * k)
    return y


def direct_to_kernel(x, g, k):
    """The pullback to the kernel, one product for each offset.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (K, K, Ci, Co)."""
    cotangents, products = g.reshape(-1, g.shape[-1]), np.empty((k, k, x.shape[-1], g.shape[-1]), x.dtype)
    padded, (h, wide) = _padded(x, (k // 2, k // 2)), x.shape[1:3]

    def work(offsets):
        for i, j in offsets:
            products[i, j] = padded[:, i : i + h, j : j + wide].reshape(-1, x.shape[-1]).T @ cotangents

    in_threads(work, np.ndindex(k, k), PER_PRODUCT * x.size * g.shape[-1] * k * k)
    return products


def strided_conv2d(x, w, b, *, stride=1, pads=None):
    """The convolution for any stride and padding, by K products: one for each line of the kernel.

    Each padded line is unfolded once: the K pixels under the kernel side by side, for every stride-th position. Moved by whole lines,
    the unfolded image is what the kernel's other lines read.  Shapes: as `autograd.conv.conv2d`.
    """
    k, _, c_in, c_out = w.shape
    if k == 1 and sum(pads or (0, 0)) == 0:
        x = x[:, ::stride, ::stride]
        y = matmul(x.reshape(-1, c_in), w[0, 0]).reshape(*x.shape[:3], c_out)
        y += b
        return y
    before, after = pads or (k // 2, k // 2)
    rows, columns = ((size + before + after - k) // stride + 1 for size in x.shape[1:3])
    steps = (k - 1) // stride  # strides that the kernel reaches beyond its first pixel
    height, width = stride * (rows + steps), stride * (columns + steps)
    padded = np.zeros((len(x), height, width, c_in), x.dtype)
    seen = x[:, : height - before, : width - before]
    padded[:, before : before + seen.shape[1], before : before + seen.shape[2]] = seen
    groups = padded.reshape(len(x), rows + steps, stride, columns + steps, stride * c_in)
    lines = np.empty((stride, len(x), rows + steps, columns, k * c_in), x.dtype)
    for i, step in itertools.product(range(stride), range(steps + 1)):
        part = lines[i, ..., step * stride * c_in : (step + 1) * stride * c_in]
        part[...] = groups[:, :, i, step : step + columns, : part.shape[-1]]
    y = np.empty((len(x), rows, columns, c_out), x.dtype)
    y[...] = b
    for at, i in itertools.product(range(len(x)), range(k)):
        step, phase = divmod(i, stride)
        under = lines[phase, at, step : step + rows].reshape(-1, k * c_in)
        y[at] += matmul(under, w[i].reshape(-1, c_out)).reshape(y.shape[1:])
    return y


def depthwise_conv2d(x, w, b, *, stride=1, pads=None):
    """A convolution of each channel with a kernel of its own, in blocks of lines.  Shapes: as `autograd.conv.depthwise_conv2d`."""
    k, c = len(w), x.shape[3]
    before, after = pads or (k // 2, k // 2)
    rows, columns = ((size + before + after - k) // stride + 1 for size in x.shape[1:3])
    padded = _padded(x, (before, after))
    y = empty((len(x), rows, columns, c), x.dtype)

    def work(parts):
        for images, lines in parts:
            total = y[images, lines]
            total[...] = b
            for i, j in np.ndindex(k, k):
                first, last = stride * lines.start + i, stride * (lines.stop - 1) + i
                total += padded[images, first : last + 1 : stride, j : stride * (columns - 1) + j + 1 : stride] * w[i, j]

    in_threads(work, bands_of(len(x), rows, ENTRIES // max(1, columns * c)), PER_ENTRY * y.size * k)
    return y


def _padded(x, border):
    """The whole of x with its border of zeros."""
    whole = slice(0, len(x)), slice(0, x.shape[1])
    return Padded(x, whole, border).lines(whole)


def joined_windows_conv2d(x, w, b, residual=None, *, stride=1, pads=None):
    """The convolution as one product with all K * K windows side by side: more memory, but one call on a GPU, for arrays of any device."""
    xp, k = array_module(x, w), len(w)
    joined = xp.concatenate([window for _, window in windows(x, k, stride, pads)], axis=-1)
    y = (joined.reshape(-1, joined.shape[-1]) @ w.reshape(-1, w.shape[-1])).reshape(*joined.shape[:3], -1) + b
    return y if residual is None else y + residual
