"""Primitives: what each computes, and above it how a cotangent g of its result y is pulled back to each argument.

Images are channels-last, (N, H, W, C). Convolution, normalisation and attention have files of their own.
"""

import numbers

from mdps_ref.autograd.tape import Tensor, primitive
from mdps_ref.backend import array_module

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


@primitive(lambda y, x, exponent: lambda g: g * (exponent * x ** (exponent - 1)) if exponent else 0 * g, domain=POSITIVE)
def power(x, *, exponent):
    """x ** exponent, for a number as exponent."""
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


@primitive(lambda y, x, axis=None, keepdims=False: lambda g: _spread(g, x, axis, keepdims))
def sum(x, *, axis=None, keepdims=False):
    """The sum over `axis`: an int, a tuple of ints, or None for all axes."""
    return x.sum(axis=axis, keepdims=keepdims)


@primitive(lambda y, x, axis=None, keepdims=False: lambda g: _spread(g, x, axis, keepdims) / (x.size // max(1, y.size)))
def mean(x, *, axis=None, keepdims=False):
    """The mean over `axis`: an int, a tuple of ints, or None for all axes."""
    return x.mean(axis=axis, keepdims=keepdims)


@primitive(lambda y, x, axis=None, keepdims=False: lambda g: _spread(g / (y + (y == 0)), x, axis, keepdims) * x)
def norm(x, *, axis=None, keepdims=False):
    """The Euclidean norm over `axis`.  At x = 0 the cotangent pulled back is 0, which is one of the subgradients."""
    return array_module(x).sqrt((x * x).sum(axis=axis, keepdims=keepdims))


@primitive(lambda y, a, b: lambda g: matmul(g, b.swapaxes(-1, -2)), lambda y, a, b: lambda g: matmul(a.swapaxes(-1, -2), g))
def matmul(a, b):
    """Matrix products, batched.  Shapes: a (..., M, K), b (..., K, N) -> (..., M, N)."""
    if min(a.ndim, b.ndim) < 2:
        raise ValueError(f"matmul takes arrays of at least two axes, not {a.shape} and {b.shape}; reshape a vector to a row or a column")
    return a @ b


@primitive(
    lambda y, x, w, b: lambda g: linear(g, w.T, 0.0),
    lambda y, x, w, b: lambda g: matmul(x.reshape(-1, x.shape[-1]).T, g.reshape(-1, g.shape[-1])),
    lambda y, x, w, b: lambda g: g,
)
def linear(x, w, b):
    """x @ w + b on the last axis: for an image, a 1 x 1 convolution.  Shapes: x (..., Ci), w (Ci, Co), b (Co) -> (..., Co)."""
    return x @ w + b


@primitive(lambda y, x, shape: lambda g: g.reshape(x.shape))
def reshape(x, *, shape):
    """The same entries in another shape."""
    return x.reshape(shape)


@primitive(lambda y, x, axes=None: lambda g: g.transpose(_undoing(axes, g.ndim)))
def transpose(x, *, axes=None):
    """The axes in another order: axis i of the result is axis axes[i] of x.  None reverses them."""
    return x.transpose(axes)


@primitive(lambda y, a, b: _channels(None, a.shape[-1]), lambda y, a, b: _channels(a.shape[-1], None))
def concatenate(a, b):
    """b behind a along the last axis."""
    return array_module(a, b).concatenate([a, b], axis=-1)


@primitive(lambda y, x, index: lambda g: _added_at(index, g, x))
def getitem(x, *, index):
    """x[index].  An entry that is taken twice gets the sum of both cotangents."""
    return x[index]


@primitive(lambda y, x, widths: lambda g: g[tuple(slice(before, -after or None) for before, after in widths)])
def pad(x, *, widths):
    """Zeros around x: widths = ((before, after), ...), one pair for each axis."""
    return array_module(x).pad(x, widths)


@primitive(lambda y, x: lambda g: g * y * (1 - y))
def sigmoid(x):
    """1 / (1 + exp(-x)), written with tanh, which cannot overflow."""
    return 0.5 * array_module(x).tanh(0.5 * x) + 0.5


@primitive(lambda y, x: lambda g: g * silu_slope(x))
def silu(x):
    """x sigmoid(x) (Ramachandran et al. 2017, there called swish)."""
    return x * sigmoid(x)


@primitive(lambda y, x: lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True)))
def softmax(x):
    """exp(x) / sum exp(x) over the last axis.  The maximum is subtracted first, so that nothing overflows."""
    e = array_module(x).exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@primitive(lambda y, x: lambda g: 4 * mean_pool2(g))
def upsample2(x):
    """Every pixel as a 2 x 2 block (nearest neighbour).  Shapes: (N, H, W, C) -> (N, 2 H, 2 W, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


@primitive(lambda y, x: lambda g: upsample2(0.25 * g))
def mean_pool2(x):
    """The mean of every 2 x 2 block.  Shapes: (N, H, W, C), H and W even -> (N, H / 2, W / 2, C)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def _undoing(axes, count):
    """The order of `count` axes that undoes the order `axes`; None for None."""
    return axes and [[axis % count for axis in axes].index(i) for i in range(count)]


def _spread(g, x, axis, keepdims):
    """The cotangent g of a sum of x over `axis`, repeated along it."""
    xp = array_module(g)
    if axis is not None and not keepdims:
        g = xp.expand_dims(g, axis)
    return xp.broadcast_to(g, x.shape)


def _channels(first, stop):
    """The pullback of a concatenation to one of its parts; it keeps no array."""
    return lambda g: g[..., first:stop]


def _added_at(index, g, x):
    """Zeros of the shape of x, with g added at `index`."""
    xp = array_module(g)
    full = xp.zeros_like(x)
    xp.add.at(full, index, g)
    return full


def silu_slope(x):
    """The slope of silu:  s + x s (1 - s)  with s = sigmoid(x)."""
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


def _power(x, exponent):
    """x ** exponent.  Raises: TypeError where the exponent is no number."""
    if not isinstance(exponent, numbers.Real):
        raise TypeError(f"a Tensor's exponent must be a number, not a {type(exponent).__name__}; use exp(exponent * log(x))")
    return power(x, exponent=exponent)


def _not_compared(x, other=None):
    raise TypeError("a Tensor has no truth value and is not compared; compare its array, x.value")


def _not_written(x, index, value):
    raise TypeError("a Tensor is not written in place, since its pullback may need the old entries; make a new one")


Tensor.shape = property(lambda x: x.value.shape)
Tensor.ndim = property(lambda x: x.value.ndim)
Tensor.dtype = property(lambda x: x.value.dtype)
Tensor.size = property(lambda x: x.value.size)
Tensor.T = property(lambda x: transpose(x))
Tensor.sum = lambda x, axis=None, keepdims=False: sum(x, axis=axis, keepdims=keepdims)
Tensor.mean = lambda x, axis=None, keepdims=False: mean(x, axis=axis, keepdims=keepdims)
Tensor.reshape = lambda x, *shape: reshape(x, shape=shape[0] if len(shape) == 1 else shape)
Tensor.__len__ = lambda x: len(x.value)
Tensor.__neg__ = lambda x: neg(x)
Tensor.__pow__ = _power
Tensor.__getitem__ = lambda x, index: getitem(x, index=index)
Tensor.__setitem__ = _not_written
for _name, _op in {"add": add, "sub": sub, "mul": mul, "truediv": div, "matmul": matmul}.items():
    setattr(Tensor, f"__{_name}__", lambda a, b, op=_op: op(a, b))
    setattr(Tensor, f"__r{_name}__", lambda a, b, op=_op: op(b, a))
for _name in ("bool", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", _not_compared)
