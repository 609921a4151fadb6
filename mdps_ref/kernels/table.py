"""The table of fast twins, and `fast`, which switches it on.

Each primitive of `autograd` has a plain form, one expression for NumPy and CuPy. A twin computes the same faster, for the arguments that
suit it. Inside `with fast():` the first twin that suits takes the primitive's place; outside, nothing here is used.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdps_ref.autograd.tape import PRIMITIVES, REPLACEMENTS, by_argument
from mdps_ref.backend import array_module
from mdps_ref.kernels import attention, blocks, convolution, normalisation, winograd
from mdps_ref.kernels.buffers import POOL, Pool
from mdps_ref.kernels.threads import CORES, LIMIT, single_threaded_blas


class Twin(NamedTuple):
    """A fast form of a primitive.

    suits(*arguments, **settings): True for arguments that it takes, and takes faster.  rule: see `autograd.tape.by_argument`.
    """

    suits: Callable
    rule: Callable


def shared(forward):
    """Return the rule of a twin whose pullbacks share their work: forward returns y and pullback(g) -> the cotangents of all arguments."""

    def rule(values, static, wanted):
        y, pullback = forward(*values, **static)

        def pulled(g):
            cotangents = pullback(g)
            return [cotangents[i] for i in wanted]

        return y, pulled

    return rule


def with_plain_pullbacks(name, forward):
    """Return the rule of a fast forward pass whose pullbacks are those of the primitive; these call primitives, which are fast in turn."""
    return by_argument(forward, *PRIMITIVES[name].pullbacks)


def same_size_conv2d(conv2d, to_kernel):
    """Return the rule of a same-size convolution: the pullback to x is the convolution with the turned kernel."""

    def forward(x, w, b, residual=None, *, stride=1, pads=None):
        return conv2d(x, w, np.zeros((1, 1, 1, w.shape[3]), x.dtype) + b, residual)

    def unchanged(y, x, w, b, residual=None, **_):
        return lambda g: g

    return by_argument(
        forward,
        lambda y, x, w, b, residual=None, **_: lambda g: conv2d(g, convolution.turned(w), np.zeros((1, 1, 1, w.shape[2]), g.dtype)),
        lambda y, x, w, b, residual=None, **_: lambda g: to_kernel(x, g, len(w)),
        unchanged,
        unchanged,
    )


def on_host(*arrays, **_):
    """True for images, or lists of pixels, on the host."""
    return array_module(*arrays) is np and arrays[0].ndim > 2


def _suits_matmul(a, b):
    return array_module(a, b) is np and min(a.ndim, b.ndim) > 1


def _suits_add(a, b):
    return on_host(a, b) and np.shape(a) == np.shape(b) and a.dtype == b.dtype and a.size >= blocks.BLOCK


def _suits_sum(x, *, axis=None, keepdims=False):
    return array_module(x) is np and x.ndim > 1 and axis in (tuple(range(x.ndim - 1)), tuple(range(1, x.ndim - 1)) or None)


def _suits_concatenate(a, b):
    return on_host(a, b) and a.shape[:-1] == b.shape[:-1]


TABLE = {
    "add": (Twin(_suits_add, with_plain_pullbacks("add", blocks.add)),),
    "sum": (Twin(_suits_sum, with_plain_pullbacks("sum", blocks.sum_over)),),
    "matmul": (Twin(_suits_matmul, with_plain_pullbacks("matmul", blocks.matmul)),),
    "linear": (Twin(lambda x, w, b: array_module(x, w) is np, with_plain_pullbacks("linear", blocks.linear)),),
    "concatenate": (Twin(_suits_concatenate, with_plain_pullbacks("concatenate", blocks.concatenate)),),
    "upsample2": (Twin(on_host, with_plain_pullbacks("upsample2", blocks.upsample2)),),
    "mean_pool2": (Twin(on_host, with_plain_pullbacks("mean_pool2", blocks.mean_pool2)),),
    "group_norm_silu": (Twin(lambda x, *_, **__: array_module(x) is np, shared(normalisation.group_norm_silu)),),
    "self_attention": (Twin(on_host, shared(attention.self_attention)),),
    "depthwise_conv2d": (Twin(on_host, with_plain_pullbacks("depthwise_conv2d", convolution.depthwise_conv2d)),),
    "conv2d": (
        Twin(convolution.suits_winograd, same_size_conv2d(winograd.conv2d, convolution.winograd_to_kernel)),
        Twin(convolution.suits_direct, same_size_conv2d(convolution.direct_conv2d, convolution.direct_to_kernel)),
        Twin(convolution.suits_strided, with_plain_pullbacks("conv2d", convolution.strided_conv2d)),
        Twin(lambda x, w, *_, **__: array_module(x, w) is not np, with_plain_pullbacks("conv2d", convolution.joined_windows_conv2d)),
    ),
}


@contextlib.contextmanager
def fast(threads=None):
    """Run primitives by their fast twins, with pooled memory and single-threaded BLAS, inside the block.

    Training and detection enter it once. A block inside another one uses the outer block's memory.

    Parameters
    ----------
    threads : int or None
        At most this many threads share the work; None is one for each core.
    """
    table = TABLE

    def replace(name, values, static):
        for twin in table.get(name, ()):
            if twin.suits(*values, **static):
                return twin.rule
        return None

    settings = {REPLACEMENTS: replace, POOL: POOL.get() or Pool(), LIMIT: min(threads or CORES, CORES)}
    tokens = [(variable, variable.set(value)) for variable, value in settings.items()]
    try:
        with single_threaded_blas:
            yield
    finally:
        for variable, token in tokens:
            variable.reset(token)
