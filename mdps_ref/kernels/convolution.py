"""Direct convolution in bands: the patches of a band's pixels, as rows, stay in cache for one product with the kernel.

`winograd.py` is faster for large 3 x 3 convolutions in float32; `table.py` chooses.
"""

import itertools
import math

import numpy as np

from mdps_ref.autograd.conv import windows
from mdps_ref.backend import array_module
from mdps_ref.kernels.blocks import BLOCK, Padded, add_along, matmul
from mdps_ref.kernels.buffers import cut, empty
from mdps_ref.kernels.threads import PER_PRODUCT, WORTH_SHARING, bands_of, even_shares, in_threads, pieces, slices_of

COLUMNS = 256  # channels of the result at most in one piece of work, where all pixels are in one block
FEW_PIXELS = 128  # pixels of a band at least: with fewer, reading the kernel again for each band would cost more than the patches
LARGE = 2**19  # multiplications of one offset from which on Winograd's form is faster
CROWDED = 128  # pairs of channels for each pixel, beyond which Winograd's transformed kernel is too large for the cache
FEW_CHANNELS = 8  # channels of the image; with fewer, Winograd's form saves too few products


def suits_winograd(x, w, b, residual=None, *, stride=1, pads=None):
    """True if Winograd's form exists for this convolution and is faster: 3 x 3, float32, whole tiles, enough products, few enough channels.

    Measured once on one core, in microseconds, against direct products: 560 and 820 for 64 x 64 pixels of 32 channels, 125 and 158 for
    32 x 32 of 24, 137 and 177 for 16 x 16 of 64, 72 and 56 for 16 x 16 of 24, 89 and 63 for 8 x 8 of 64.
    """
    n, h, wide, c_in = x.shape
    exists = suits_direct(x, w, b, residual, stride=stride, pads=pads) and len(w) == 3 and x.dtype == np.float32 and h % 4 == wide % 4 == 0
    pixels, pairs = n * h * wide, c_in * w.shape[3]
    return exists and c_in >= FEW_CHANNELS and pixels * pairs > LARGE and pixels * CROWDED >= pairs


def suits_direct(x, w, b, residual=None, *, stride=1, pads=None):
    """True for a same-size convolution on the host."""
    return _on_host(x, w, b, residual) and stride == 1 and len(w) % 2 == 1 and pads in (None, (len(w) // 2, len(w) // 2))


def suits_strided(x, w, b, residual=None, *, stride=1, pads=None):
    """True for any other convolution on the host, without a residual."""
    return _on_host(x, w, b) and residual is None


def _on_host(x, w, b, residual=None):
    """True for images on the host, at least one, all arrays of one dtype, and b the same at all pixels; b may be a Python number."""
    if array_module(x, w) is not np or not len(x):
        return False
    alike = x.dtype == w.dtype == np.result_type(x, b) and (residual is None or residual.dtype == x.dtype)
    return alike and (np.ndim(b) < 2 or b.shape[1:3] == (1, 1))


def direct_conv2d(x, w, b, residual=None):
    """The same-size convolution: patches as rows, and one product.  Shapes: as `autograd.conv.conv2d`, b (N or 1, 1, 1, Co)."""
    (n, h, wide, _), (k, c_out) = x.shape, w.shape[::3]
    y, rows = empty((n, h, wide, c_out), x.dtype), w.reshape(-1, c_out)
    bands = _bands(x, k)
    seconds = PER_PRODUCT * x.size * c_out * k * k
    splits = len(bands) == 1 and seconds > WORTH_SHARING
    parts = list(itertools.product(bands, pieces(c_out, COLUMNS) if splits else slices_of(c_out, c_out)))

    def work(parts):
        patches_of = _patches(x, k, bands[0])
        for band, columns in parts:
            part = _flat(y, band)[:, columns]
            np.matmul(patches_of(band), rows[:, columns], out=part)
            add_along(part, b[band[0], 0, 0, columns] if len(b) > 1 else b[:, 0, 0, columns])
            if residual is not None:
                part += _flat(residual, band)[:, columns]

    in_threads(work, parts, seconds)
    return y


def direct_to_image(g, w):
    """The pullback to the image: a product for each offset, added to the pixels that the offset read.

    Shapes: g (N, H, W, Co), w (K, K, Ci, Co) -> (N, H, W, Ci).
    """
    (n, h, wide, c_out), (k, c_in) = g.shape, w.shape[1:3]
    to_x, taps = empty((n, h, wide, c_in), g.dtype), w.reshape(k * k, c_in, c_out).swapaxes(1, 2)
    images = slices_of(n, max(1, BLOCK // (k * k * h * wide * c_in)))
    shares = list(itertools.product(images, pieces(c_in, COLUMNS) if len(images) == 1 else slices_of(c_in, c_in)))
    widest = max(columns.stop - columns.start for _, columns in shares)

    def work(parts):
        memory = empty((k * k * to_x[images[0], ..., :widest].size,), g.dtype)
        for some, columns in parts:
            result = to_x[some][..., columns]
            products = cut(memory, (k * k, g[some, ..., 0].size, result.shape[3]))
            np.matmul(g[some].reshape(-1, c_out), taps[..., columns], out=products)
            _add_shifted(products.reshape(k, k, *result.shape), result)

    in_threads(work, shares, PER_PRODUCT * g.size * c_in * k * k)
    return to_x


def _add_shifted(products, y):
    """Fill y with the sum of images shifted by each offset of the kernel.  Shapes: products (K, K, N, H, W, C), y (N, H, W, C)."""
    k, (_, h, wide, _) = len(products), y.shape
    y[...] = products[k // 2, k // 2]
    for i, j in np.ndindex(k, k):
        down, right = i - k // 2, j - k // 2
        if (down or right) and abs(down) < h and abs(right) < wide:
            to, since = zip(*(_overlap(shift, size) for shift, size in ((down, h), (right, wide))), strict=True)
            y[:, *to] += products[i, j][:, *since]


def _overlap(shift, size):
    """Where a line of `size` entries lands in itself when shifted: slices (to, from)."""
    return slice(max(0, shift), size + min(0, shift)), slice(max(0, -shift), size + min(0, -shift))


def direct_to_kernel(x, g, k):
    """The pullback to the kernel: the product of patches and cotangents.  Shapes: x (N, H, W, Ci), g (N, H, W, Co) -> (K, K, Ci, Co)."""
    c_in, c_out = x.shape[3], g.shape[3]
    bands = _bands(x, k)
    groups = even_shares(len(bands), min(2, len(bands)))
    sums = empty((len(groups), k * k * c_in, c_out), x.dtype)

    def work(numbers):
        patches_of = _patches(x, k, bands[0])
        for number in numbers:
            sums[number] = 0
            for band in bands[groups[number]]:
                sums[number] += np.matmul(patches_of(band).T, _flat(g, band))

    in_threads(work, range(len(groups)), PER_PRODUCT * x.size * c_out * k * k)
    return np.add.reduce(sums, axis=0).reshape(k, k, c_in, c_out)


def _bands(x, k):
    """(images, lines) of bands whose patches stay in cache.  Shapes: x (N, H, W, C)."""
    n, h, wide, c = x.shape
    return bands_of(n, h, max(FEW_PIXELS, BLOCK // (k * k * c)) // wide)


def _patches(x, k, largest):
    """patches_of(band) -> the K x K pixels around each pixel of a band, zeros beyond the image.  Shapes: -> (pixels, K * K * C)."""
    c = x.shape[3]
    if k == 1:
        return lambda band: _flat(x, band)
    padded = Padded(x, largest, (k // 2, k // 2))
    image, line, pixel, entry = padded.memory.strides
    memory = empty((k * k * math.prod(part.stop - part.start for part in largest) * x.shape[2] * c,), x.dtype)

    def patches_of(band):
        (images, lines), wide = (part.stop - part.start for part in band), x.shape[2]
        padded.lines(band)
        shape, strides = (images, lines, wide, k, k * c), (image, line, pixel, line, entry)
        patches = cut(memory, shape)
        patches[...] = np.lib.stride_tricks.as_strided(padded.memory, shape, strides, subok=True)
        return patches.reshape(-1, k * k * c)

    return patches_of


def _flat(x, band):
    """The pixels of a band as rows, a view.  Shapes: (N, H, W, C) -> (pixels, C)."""
    return x[band].reshape(-1, x.shape[3])


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
    padded = empty((len(x), height, width, c_in), x.dtype)
    padded[...] = 0
    seen = x[:, : height - before, : width - before]
    padded[:, before : before + seen.shape[1], before : before + seen.shape[2]] = seen
    groups = padded.reshape(len(x), rows + steps, stride, columns + steps, stride * c_in)
    lines = empty((stride, len(x), rows + steps, columns, k * c_in), x.dtype)
    for i, step in itertools.product(range(stride), range(steps + 1)):
        part = lines[i, ..., step * stride * c_in : (step + 1) * stride * c_in]
        part[...] = groups[:, :, i, step : step + columns, : part.shape[-1]]
    y = empty((len(x), rows, columns, c_out), x.dtype)
    y[...] = b
    for at, i in itertools.product(range(len(x)), range(k)):
        step, phase = divmod(i, stride)
        under = lines[phase, at, step : step + rows].reshape(-1, k * c_in)
        y[at] += matmul(under, w[i].reshape(-1, c_out)).reshape(y.shape[1:])
    return y


def joined_windows_conv2d(x, w, b, residual=None, *, stride=1, pads=None):
    """The convolution as one product with all K * K windows side by side: more memory, but one call on a GPU, for arrays of any device."""
    xp, k = array_module(x, w), len(w)
    joined = xp.concatenate([window for _, window in windows(x, k, stride, pads)], axis=-1)
    y = (joined.reshape(-1, joined.shape[-1]) @ w.reshape(-1, w.shape[-1])).reshape(*joined.shape[:3], -1) + b
    return y if residual is None else y + residual
