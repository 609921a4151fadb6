"""Primitives: what each computes, and above it how a cotangent g of its result y is pulled back to each argument.

Images are channels-last, (N, H, W, C). The convolution has its own file, `conv.py`.
"""

import numpy as np

from mdps_ref.kernels.blocks import by_blocks, joined, pixel_sums, product
from mdps_ref.autograd.tape import Tensor, primitive
from mdps_ref.kernels.threads import PER_PRODUCT, blocks, in_threads
from mdps_ref.kernels.buffers import empty
from mdps_ref.backend import array_module

ROWS = 1024  # of a linear map's argument that a thread multiplies at a time
EPSILON = 1e-5  # that normalisation adds to the variance
POSITIVE = (0.5, 2.0)  # a domain on which division, roots and logarithms are smooth


@primitive(lambda y, a, b: lambda g: g, lambda y, a, b: lambda g: g)
def add(a, b):
    """a + b, broadcast."""
    return a + b


@primitive(lambda y, a, b: lambda g: g, lambda y, a, b: lambda g: -g)
def sub(a, b):
    """a - b, broadcast."""
    return a - b


@primitive(lambda y, a, b: lambda g: g * b, lambda y, a, b: lambda g: g * a)
def mul(a, b):
    """a * b, broadcast."""
    return a * b


@primitive(lambda y, a, b: lambda g: g / b, lambda y, a, b: lambda g: -g * y / b, domain=POSITIVE)
def div(a, b):
    """a / b, broadcast."""
    return a / b


@primitive(lambda y, x: lambda g: -g)
def neg(x):
    """-x."""
    return -x


@primitive(lambda y, x, exponent: lambda g: g * (exponent * x ** (exponent - 1)), domain=POSITIVE)
def power(x, *, exponent):
    """x ** exponent, the exponent a number."""
    return x**exponent


@primitive(lambda y, x: lambda g: g * y)
def exp(x):
    """e ** x."""
    return array_module(x).exp(x)


@primitive(lambda y, x: lambda g: g / x, domain=POSITIVE)
def log(x):
    """The natural logarithm."""
    return array_module(x).log(x)


@primitive(lambda y, x: lambda g: g / (2 * y), domain=POSITIVE)
def sqrt(x):
    """The square root."""
    return array_module(x).sqrt(x)


@primitive(lambda y, x, axis=None: lambda g: _spread(g, x, axis))
def sum(x, *, axis=None):
    """The sum over `axis` (an int, a tuple, or None for all), which is dropped."""
    return x.sum(axis=axis)


@primitive(lambda y, x, axis=None: lambda g: _spread(g, x, axis) / (x.size // max(1, y.size)))
def mean(x, *, axis=None):
    """The mean over `axis` (an int, a tuple, or None for all), which is dropped."""
    return x.mean(axis=axis)


@primitive(lambda y, x, axis=None: lambda g: _spread(g / _nonzero(y), x, axis) * x)
def norm(x, *, axis=None):
    """The Euclidean norm over `axis`, which is dropped.  At x = 0 the cotangent pulled back is 0, one of the subgradients."""
    return array_module(x).sqrt((x * x).sum(axis=axis))


@primitive(lambda y, a, b: lambda g: product(g, b.swapaxes(-1, -2)), lambda y, a, b: lambda g: product(a.swapaxes(-1, -2), g))
def matmul(a, b):
    """Matrix products, batched.  Shapes: a (..., M, K), b (..., K, N) -> (..., M, N)."""
    return product(a, b)


@primitive(
    lambda y, x, w, b: lambda g: _map_last_axis(g, w.T),
    lambda y, x, w, b: lambda g: product(x.reshape(-1, x.shape[-1]).T, g.reshape(-1, g.shape[-1])),
    lambda y, x, w, b: lambda g: g,
)
def linear(x, w, b):
    """x @ w + b on the last axis (a 1 x 1 convolution, if x is an image).  Shapes: x (..., Ci), w (Ci, Co), b (Co) -> (..., Co)."""
    return _map_last_axis(x, w, b)


@primitive(lambda y, x, shape: lambda g: g.reshape(x.shape))
def reshape(x, *, shape):
    """The same entries in another shape."""
    return x.reshape(shape)


@primitive(lambda y, x, axes: lambda g: g.transpose(_inverse(axes)))
def transpose(x, *, axes):
    """The axes in another order: axis i of the result is axis axes[i] of x."""
    return x.transpose(axes)


@primitive(lambda y, a, b: _channels(None, a.shape[-1]), lambda y, a, b: _channels(a.shape[-1], None))
def concatenate(a, b):
    """b behind a along the last axis."""
    return joined([a, b])


@primitive(lambda y, x, index: lambda g: _put(g, x, index))
def getitem(x, *, index):
    """x[index], for an index of integers and slices (basic indexing: no entry is taken twice)."""
    return x[index]


@primitive(lambda y, x, widths: lambda g: g[tuple(slice(before, -after or None) for before, after in widths)])
def pad(x, *, widths):
    """Zeros around x, widths = ((before, after), ...), one pair an axis."""
    return array_module(x).pad(x, widths)


@primitive(lambda y, x: lambda g: g * y * (1 - y))
def sigmoid(x):
    """1 / (1 + exp(-x)), written with tanh, which cannot overflow."""
    return 0.5 * array_module(x).tanh(0.5 * x) + 0.5


@primitive(lambda y, x: lambda g: g * silu_slope(x))
def silu(x):
    """x * sigmoid(x) (Ramachandran et al. 2017, there called swish)."""
    y = sigmoid(x)
    y *= x
    return y


@primitive(lambda y, x: lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True)))
def softmax(x):
    """exp(x) / sum exp(x) over the last axis; the maximum is taken off first, so nothing overflows."""
    y = array_module(x).exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


@primitive(
    lambda y, x, scale, shift, groups: lambda g: group_norm_to_x(g, x, scale, groups),
    lambda y, x, scale, shift, groups: lambda g: g * normalised(x, groups)[0],
    lambda y, x, scale, shift, groups: lambda g: g,
)
def group_norm(x, scale, shift, *, groups):
    """Each image's channels in `groups` groups, each with its mean taken off and divided by its deviation; then scale and shift.

    Eq: Wu & He 2018, Eq. (1), (2), with 1e-5 added to the variance.  Shapes: x (N, ..., C), scale, shift (C) -> as x.
    """
    y, _ = normalised(x, groups)
    y *= scale
    y += shift
    return y


@primitive(lambda y, x: lambda g: _sum_of_2x2(g))
def upsample2(x):
    """Every pixel as a 2 x 2 block (nearest neighbour).  Shapes: (N, H, W, C) -> (N, 2 H, 2 W, C)."""
    return _as_2x2(x)


@primitive(lambda y, x: lambda g: _as_2x2(0.25 * g))
def mean_pool2(x):
    """The mean of every 2 x 2 block.  Shapes: (N, H, W, C), H and W even -> (N, H / 2, W / 2, C)."""
    y = _sum_of_2x2(x)
    y *= 0.25
    return y


def _nonzero(y):
    """y with 1 for 0."""
    return y + (y == 0)


def _map_last_axis(x, w, b=None):
    """x @ w + b for an x of any rank.  Shapes: x (..., Ci), w (Ci, Co), b (Co) or None -> (..., Co)."""
    xp = array_module(x, w)
    rows = x.reshape(-1, x.shape[-1])
    y = empty((len(rows), w.shape[1]), x.dtype, xp)

    def work(parts):
        for part in parts:
            xp.matmul(rows[part], w, out=y[part])
            if b is not None:
                y[part] += b

    in_threads(work, blocks(len(rows), ROWS if xp is np else len(rows)), PER_PRODUCT * x.size * w.shape[1])
    return y.reshape(*x.shape[:-1], w.shape[1])


def _spread(g, x, axis):
    """The cotangent g of a sum of x over `axis`, repeated along it."""
    xp = array_module(g)
    if axis is not None:
        g = xp.expand_dims(g, axis)
    return xp.broadcast_to(g, x.shape)


def _inverse(axes):
    """The permutation that undoes `axes`."""
    return tuple(axes.index(i) for i in range(len(axes)))


def _channels(first, stop):
    """The pullback of a concatenation to one of its parts; it keeps neither."""
    return lambda g: g[..., first:stop]


def _put(g, x, index):
    """Zeros of the shape of x, with g at `index`."""
    full = array_module(g).zeros_like(x)
    full[index] = g
    return full


def silu_slope(x):
    """s + x s (1 - s) with s = sigmoid(x)."""
    s = sigmoid(x)
    slope = 1 - s
    slope *= x
    slope += 1
    slope *= s
    return slope


def group_means(values, groups):
    """Means over each group's channels, handed back to every channel.  Shapes: (N, 1, C) -> the same."""
    n, _, c = values.shape
    return values.reshape(n, groups, -1).mean(axis=-1).repeat(c // groups, axis=1)[:, None]


def normalised(x, groups):
    """x with mean 0 and variance 1 a group, and 1 / deviation.  Shapes: (N, ..., C) -> the same, (N, 1, C)."""
    pixels = x.reshape(x.shape[0], -1, x.shape[-1])
    count = pixels.shape[1]
    centred = pixels - group_means(pixel_sums(pixels) / count, groups)
    variance = group_means(pixel_sums(centred * centred) / count, groups)
    inverse_deviation = (variance + EPSILON) ** -0.5
    centred *= inverse_deviation
    return centred.reshape(x.shape), inverse_deviation


def group_norm_to_x(g, x, scale, groups):
    """The pullback of group normalisation: g scaled, less what of it the group's mean and variance take up.

    With u = x normalised and h = g scale:  (h - mean(h) - u mean(h u)) / deviation, means over a group.
    """
    u, inverse_deviation = normalised(x, groups)
    u = u.reshape(x.shape[0], -1, x.shape[-1])
    h = (g * scale).reshape(u.shape)
    along_mean = group_means(pixel_sums(h) / u.shape[1], groups)
    along_u = group_means(pixel_sums(h * u) / u.shape[1], groups)
    u *= along_u
    h -= u
    h -= along_mean
    h *= inverse_deviation
    return h.reshape(x.shape)


def _as_2x2(x):
    """Every pixel four times.  Shapes: (N, H, W, C) -> (N, 2 H, 2 W, C)."""
    (n, h, w, c), xp = x.shape, array_module(x)
    y = empty((n, h, 2, w, 2, c), x.dtype, xp)

    def write(part):
        y[part] = x[part][:, :, None, :, None]

    by_blocks(write, x.shape, xp)
    return y.reshape(n, 2 * h, 2 * w, c)


def _sum_of_2x2(x):
    """The sum of every 2 x 2 block.  Shapes: (N, 2 H, 2 W, C) -> (N, H, W, C)."""
    (n, h, w, c), xp = x.shape, array_module(x)
    x = x.reshape(n, h // 2, 2, w // 2, 2, c)
    y = empty((n, h // 2, w // 2, c), x.dtype, xp)

    def write(part):
        y[part] = x[part][:, :, 0, :, 0]
        for i, j in ((0, 1), (1, 0), (1, 1)):
            y[part] += x[part][:, :, i, :, j]

    by_blocks(write, y.shape, xp)
    return y


Tensor.__add__ = lambda a, b: add(a, b)
Tensor.__radd__ = lambda a, b: add(b, a)
Tensor.__sub__ = lambda a, b: sub(a, b)
Tensor.__rsub__ = lambda a, b: sub(b, a)
Tensor.__mul__ = lambda a, b: mul(a, b)
Tensor.__rmul__ = lambda a, b: mul(b, a)
Tensor.__truediv__ = lambda a, b: div(a, b)
Tensor.__rtruediv__ = lambda a, b: div(b, a)
Tensor.__neg__ = lambda a: neg(a)
Tensor.__pow__ = lambda a, exponent: power(a, exponent=exponent)
Tensor.__getitem__ = lambda a, index: getitem(a, index=index)
