"""The table of fast twins, and `fast`, which switches it on.

Each primitive of `autograd` has a plain form, one expression for NumPy and CuPy. A twin computes the same faster, for the arguments that
suit it. Inside `with fast():` the first twin that suits takes the primitive's place; outside, nothing here is used.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.autograd.network import RUNNER
from mdps_ref.autograd.norm import group_norm, group_norm_silu
from mdps_ref.autograd.tape import REPLACEMENTS, by_argument
from mdps_ref.backend import array_module
from mdps_ref.kernels import attention, blocks, convolution, depthwise, normalisation, winograd
from mdps_ref.kernels.buffers import POOL, Pool
from mdps_ref.kernels.processes import FORKS
from mdps_ref.kernels.recording import Recorded
from mdps_ref.kernels.replay import Replays
from mdps_ref.kernels.threads import CORES, LIMIT, single_threaded_blas

HOST = (np.ndarray, Recorded)  # types of arrays that twins take
UFUNC_BUFFER = 1024  # entries; NumPy copies a broadcast argument into this buffer (by default 8192) unless a line is longer than half of it


class Twin(NamedTuple):
    """A fast form of a primitive.

    suits(*arguments, **settings): True for arguments that it takes, and takes faster.  rule: see `autograd.tape.by_argument`.
    """

    suits: Callable
    rule: Callable


def shared(forward):
    """Return the rule of a twin with one pullback for all arguments: forward returns y and pullback(g) -> all cotangents."""

    def rule(values, static, wanted):
        y, pullback = forward(*values, **static)

        def pulled(g):
            cotangents = pullback(g)
            return [cotangents[i] for i in wanted]

        return y, pulled

    return rule


def with_plain_pullbacks(primitive, forward):
    """Return the rule of a fast forward pass with the primitive's own pullbacks. They call primitives, which are twins inside fast()."""
    return by_argument(forward, *primitive.pullbacks)


def same_size(forward, to_image, to_kernel):
    """Return the rule of a same-size convolution."""

    def convolve(x, w, b, residual=None, *, stride=1, pads=None):
        return forward(x, w, np.zeros((1, 1, 1, w.shape[3]), x.dtype) + b, residual)

    def unchanged(y, x, w, b, residual=None, **_):
        return lambda g: g

    return by_argument(
        convolve,
        lambda y, x, w, b, residual=None, **_: lambda g: to_image(g, w),
        lambda y, x, w, b, residual=None, **_: lambda g: to_kernel(x, g, len(w)),
        unchanged,
        unchanged,
    )


def on_host(*arrays, axes=1, **_):
    """True for host arrays of one dtype of floats, the first of at least `axes` axes and not empty."""
    first = arrays[0]
    on_host = all(type(a) in HOST for a in arrays) and first.dtype.kind == "f" and len({a.dtype for a in arrays}) == 1
    return on_host and first.ndim >= axes and first.size > 0


def _suits_images(*arrays, **_):
    return on_host(*arrays, axes=3)


def _suits_add(a, b):
    return on_host(a, b, axes=2) and a.shape == b.shape and a.size >= blocks.BLOCK


def _suits_linear(x, w, b):
    adds_nothing = type(b) is float and b == 0
    return on_host(x, w) and (adds_nothing or on_host(b, x) and b.ndim == 1)


def _suits_matmul(a, b):
    return on_host(a, b, axes=2) and b.ndim > 1


def _suits_sum(x, *, axis=None, keepdims=False):
    return on_host(x, axes=2) and bool(axis) and axis in (tuple(range(x.ndim - 1)), tuple(range(1, x.ndim - 1)))


def _suits_concatenate(a, b):
    return on_host(a, b, axes=3) and a.shape[:-1] == b.shape[:-1]


TABLE = {
    ops.add: (Twin(_suits_add, with_plain_pullbacks(ops.add, blocks.add)),),
    ops.sum: (Twin(_suits_sum, with_plain_pullbacks(ops.sum, blocks.sum_over)),),
    ops.matmul: (Twin(_suits_matmul, with_plain_pullbacks(ops.matmul, blocks.matmul)),),
    ops.linear: (Twin(_suits_linear, with_plain_pullbacks(ops.linear, blocks.linear)),),
    ops.concatenate: (Twin(_suits_concatenate, with_plain_pullbacks(ops.concatenate, blocks.concatenate)),),
    ops.upsample2: (Twin(_suits_images, with_plain_pullbacks(ops.upsample2, blocks.upsample2)),),
    ops.mean_pool2: (Twin(_suits_images, with_plain_pullbacks(ops.mean_pool2, blocks.mean_pool2)),),
    group_norm: (Twin(on_host, shared(normalisation.group_norm)),),
    group_norm_silu: (Twin(on_host, shared(normalisation.group_norm_silu)),),
    self_attention: (Twin(_suits_images, shared(attention.self_attention)),),
    depthwise_conv2d: (Twin(_suits_images, with_plain_pullbacks(depthwise_conv2d, depthwise.depthwise_conv2d)),),
    conv2d: (
        Twin(convolution.suits_winograd, same_size(winograd.conv2d, winograd.to_image, lambda x, g, k: winograd.to_kernel(x, g))),
        Twin(convolution.suits_direct, same_size(convolution.direct_conv2d, convolution.direct_to_image, convolution.direct_to_kernel)),
        Twin(convolution.suits_strided, with_plain_pullbacks(conv2d, convolution.strided_conv2d)),
        Twin(lambda x, w, *_, **__: array_module(x, w) is not np, with_plain_pullbacks(conv2d, convolution.joined_windows_conv2d)),
    ),
}


@contextlib.contextmanager
def fast(threads=None, forks=True):
    """Run primitives by their fast twins, with pooled memory and single-threaded BLAS, inside the block.

    Training and detection enter it once. A block inside another one uses the outer block's memory. From its fourth call in a block on, a
    network whose images are small is replayed, see `kernels.replay`: so put a loop over images inside one block.

    Parameters
    ----------
    threads : int or None
        At most this many threads share the work. None is the outer block's number, or one for each core.
    forks : bool
        Whether a batch may be shared by forked processes. A worker of a cluster says False: its neighbours have the other cores.
    """
    table = TABLE

    def replace(primitive, values, static):
        for twin in table.get(primitive, ()):
            if twin.suits(*values, **static):
                return twin.rule
        return None

    pool = POOL.get()
    limit = threads or (LIMIT.get() if pool else CORES)
    settings = {
        REPLACEMENTS: replace,
        RUNNER: RUNNER.get() or Replays(),
        POOL: pool or Pool(),
        LIMIT: min(limit, CORES),
        FORKS: forks and FORKS.get(),
    }
    tokens = [(variable, variable.set(value)) for variable, value in settings.items()]
    earlier = np.setbufsize(UFUNC_BUFFER)
    try:
        with single_threaded_blas:
            yield
    finally:
        np.setbufsize(earlier)
        for variable, token in tokens:
            variable.reset(token)
