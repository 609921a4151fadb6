"""Depthwise convolution in bands that stay in a core's cache, shared among threads."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mdps_ref.kernels.blocks import Padded
from mdps_ref.kernels.buffers import empty
from mdps_ref.kernels.threads import bands_of, in_threads

ENTRIES, LOOP = 2**16, 700  # entries in a band; at least as many in its innermost loop, where a line has them
PER_TAP = 1.2e-10  # seconds for an entry and an offset of the kernel


def depthwise_conv2d(x, w, b, *, stride=1, pads=None):
    """A convolution of each channel with a kernel of its own, in bands of lines.  Shapes: as `autograd.conv.depthwise_conv2d`.

    Einsum adds all K * K windows of a few pixels into the same memory, one after another, without an array for a product in between:
    its innermost loop is `LOOP` entries long, or for short lines as long as a line, so what it works on stays in the nearest cache.
    """
    (n, h, wide, c), k = x.shape, len(w)
    before, after = pads or (k // 2, k // 2)
    rows, columns = ((size + before + after - k) // stride + 1 for size in (h, wide))
    y = empty((n, rows, columns, c), x.dtype)
    if y.size == 0:
        return y
    together = _pixels_in_a_loop(columns, c) if stride == 1 else 1
    kernel, bands = _side_by_side(w, together), bands_of(n, rows, min(ENTRIES // max(1, columns * c), -(-n * rows // 2)))

    def read_by(band):
        images, lines = band
        return images, slice(stride * lines.start, stride * (lines.stop - 1) + k - before - after)

    def work(bands):
        padded = Padded(x, read_by(largest), (before, after))
        for band in bands:
            under, part = padded.lines(read_by(band)), y[band]
            sums = part.reshape(*part.shape[:2], columns // together, together * c)
            of_image, line, pixel, entry = under.strides
            strides = line, pixel, of_image, stride * line, stride * together * pixel, entry
            np.einsum("ijnhwc,ijc->nhwc", as_strided(under, (k, k, *sums.shape), strides, subok=True), kernel, out=sums)
            part += b

    largest = bands[0]
    in_threads(work, bands, PER_TAP * y.size * k * k)
    return y


def _side_by_side(w, times):
    """A kernel, repeated for neighbouring pixels.  Shapes: (K, K, C) -> (K, K, times C)."""
    repeated = empty((*w.shape[:2], times, w.shape[2]), w.dtype)
    repeated[...] = w[:, :, None]
    return repeated.reshape(*w.shape[:2], -1)


def _pixels_in_a_loop(columns, c):
    """The smallest number of pixels that divides a line of so many columns and has at least LOOP entries, or else the whole line."""
    return next(pixels for pixels in range(1, columns + 1) if columns % pixels == 0 and (pixels * c >= LOOP or pixels == columns))
