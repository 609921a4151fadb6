"""Exercises of primitives: what they compute, and how a cotangent g of the result is pulled back to an argument."""

import math

import numpy as np

from mdps_ref.autograd import conv, norm, ops
from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.check import central_differences
from mdps_ref.autograd.tape import Tensor, pull_back
from mdps_ref.check.exercise import Exercise, agree, normal

SCALE, SHIFT = normal(4) + 2, normal(4, seed=1)
X = {"image": normal(2, 4, 4, 2), "channels": normal(2, 3, 3, 4), "rows": normal(3, 5), "kernel": normal(3, 3, 2, 3), "bias": normal(3)}
SQUARE = normal(4, 4)  # so that an axis that is not kept raises no error
KERNEL, BIAS = normal(3, 3, 2, 2), normal(2)  # so that channels that are not swapped raise no error
QKV = normal(2, 3, 12)


def by_differences(forward, *shapes, argument=0):
    """Make the oracle of a pullback: central differences of the forward function, for a random cotangent and new arguments."""

    def oracle(f):
        """central differences of the forward function, for a random cotangent."""
        for seed in (11, 12):
            arguments = [normal(*shape, seed=seed + k) for k, shape in enumerate(shapes)]
            g = normal(*forward(*arguments).shape, seed=seed + 9)
            right = central_differences(forward, arguments, argument, g, 1e-5)
            agree(f(g, *arguments), right, "the cotangent that comes back", 1e-6)

    return oracle


def pulled(forward, argument=0):
    """The library's pullback of a primitive to an argument, as a function of g and the arguments."""

    def answer(g, *arguments):
        tensor = Tensor(arguments[argument])
        result = forward(*arguments[:argument], tensor, *arguments[argument + 1 :])
        return pull_back(result, g, [tensor])[0]

    return answer


def case(forward, *arguments):
    """The case (g, *arguments) with a random cotangent g."""
    return [(normal(*forward(*arguments).shape, seed=5), *arguments)]


def convolution_in_loops(f):
    """the definition in loops over pixels, offsets and channels; what lies beyond the border counts as 0."""
    x, w, b = normal(1, 4, 5, 2, seed=3), normal(3, 3, 2, 2, seed=4), normal(2, seed=5)
    y = np.asarray(f(x, w, b))
    for r, c, o in np.ndindex(4, 5, 2):
        total = b[o]
        for i, j, k in np.ndindex(3, 3, 2):
            row, column = r + i - 1, c + j - 1
            if 0 <= row < 4 and 0 <= column < 5:
                total += x[0, row, column, k] * w[i, j, k, o]
        agree(y[0, r, c, o], total, f"the result at row {r}, column {c}, channel {o}")


def softmax_row_by_row(f):
    """the definition, row by row, and large numbers do not overflow."""
    for row, found in zip(X["rows"], f(X["rows"]), strict=True):
        shares = [math.exp(value) for value in row]
        agree(found, [share / sum(shares) for share in shares], "a row of the softmax")
    agree(f(X["rows"] + 1000), f(X["rows"]), "the softmax of a row with 1000 added")


def group_norm_group_by_group(f):
    """the definition, group by group: mean 0 and variance 1, then scale and shift."""
    x = X["channels"]
    y = np.asarray(f(x, SCALE, SHIFT, 2))
    for i, group in np.ndindex(2, 2):
        channels = slice(2 * group, 2 * group + 2)
        values = x[i, :, :, channels]
        even = (values - values.sum() / values.size) / math.sqrt(((values - values.mean()) ** 2).sum() / values.size + 1e-5)
        agree(y[i, :, :, channels], even * SCALE[channels] + SHIFT[channels], f"group {group} of image {i}")


def attention_in_loops(f):
    """the definition in loops: for each query the softmax of its products with all keys weighs the values."""
    for i in range(2):
        for head in range(2):
            q, k, v = (QKV[i, :, 6 * head + 2 * part : 6 * head + 2 * part + 2] for part in range(3))
            for at in range(3):
                weights = [math.exp(q[at] @ key / math.sqrt(2)) for key in k]
                right = sum(weight * value for weight, value in zip(weights, v, strict=True)) / sum(weights)
                agree(f(QKV, 2)[i, at, 2 * head : 2 * head + 2], right, f"the result of query {at} in head {head}")


def _group_norm(x, scale, shift, groups, axes=(1, 3), root=True, epsilon=1e-5):
    """Group normalisation with faults."""
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    variance = grouped.var(axis=axes, keepdims=True) + epsilon
    even = (grouped - grouped.mean(axis=axes, keepdims=True)) / (variance**0.5 if root else variance)
    return even.reshape(x.shape) * scale + shift


def _group_norm_back(g, x, scale, mean=True, variance=True, times_scale=True):
    """The pullback of group normalisation in two groups, with faults."""
    shape = (len(x), -1, 2, x.shape[-1] // 2)
    h, grouped = (g * scale if times_scale else g).reshape(shape), x.reshape(shape)
    over = {"axis": (1, 3), "keepdims": True}
    deviation = np.sqrt(grouped.var(**over) + 1e-5)
    u = (grouped - grouped.mean(**over)) / deviation
    h = h - (h.mean(**over) if mean else 0) - (u * (h * u).mean(**over) if variance else 0)
    return (h / deviation).reshape(x.shape)


def _convolved(x, w, pads=1, turned=False):
    """A convolution with faults."""
    w = w[::-1, ::-1] if turned else w
    return conv.conv2d(x, w, np.zeros(w.shape[-1]), pads=(pads, pads))


def _attention(weights):
    """Attention with two heads whose weights are made from the products q k^T and the width d."""

    def attend(qkv, heads):
        q, k, v = (np.stack([qkv[..., 6 * head + 2 * part : 6 * head + 2 * part + 2] for head in range(heads)], 1) for part in range(3))
        return (weights(q @ k.swapaxes(-1, -2), 2) @ v).swapaxes(1, 2).reshape(*qkv.shape[:2], -1)

    return attend


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _normalise(x, scale):
    """Group normalisation in two groups without a shift."""
    return norm.group_norm(x, scale, 0 * SHIFT, groups=2)


def _convolve(x, w, b):
    return conv.conv2d(x, w, b)


_AS_X = "the cotangent of x"
EXERCISES = {
    "softmax": Exercise(
        "x",
        "the softmax over the last axis",
        ops.softmax,
        softmax_row_by_row,
        [(SQUARE,)],
        {
            "The division by the sum of the row is missing.": np.exp,
            "The sum runs over the whole array; each row has its own.": lambda x: np.exp(x) / np.exp(x).sum(),
            "The sum runs over the first axis; it should run over the last.": lambda x: np.exp(x) / np.exp(x).sum(axis=0),
            "Sum over the last axis, and keep it (keepdims=True); without it each row is divided by the sums of all rows.": lambda x: (
                np.exp(x) / np.exp(x).sum(axis=-1)
            ),
            "The exponential is missing.": lambda x: x / x.sum(axis=-1, keepdims=True),
        },
    ),
    "softmax pullback": Exercise(
        "g, x",
        _AS_X,
        pulled(ops.softmax),
        by_differences(ops.softmax, (3, 5)),
        case(ops.softmax, SQUARE),
        {
            "That is 0 everywhere: with a cotangent of ones it would be right, but not with this one.": lambda g, x: 0 * g,
            "The shares of a row hang together: subtract the sum of g y over the row from g.": lambda g, x: g * ops.softmax(x),
            "That is the slope of each share to its own entry, y (1 - y); the other entries act on it, too.": lambda g, x: (
                g * ops.softmax(x) * (1 - ops.softmax(x))
            ),
            "The last product with y is missing.": lambda g, x: g - (g * ops.softmax(x)).sum(axis=-1, keepdims=True),
            "Sum g y over the last axis, and keep it (keepdims=True); without it each row gets the sums of all rows.": lambda g, x: (
                ops.softmax(x) * (g - (g * ops.softmax(x)).sum(axis=-1))
            ),
            "Sum g y over the last axis, and keep it; yours is one sum over the whole array.": lambda g, x: (
                ops.softmax(x) * (g - (g * ops.softmax(x)).sum())
            ),
            "Sum g y over the row, not g.": lambda g, x: ops.softmax(x) * (g - g.sum(axis=-1, keepdims=True)),
        },
    ),
    "group norm": Exercise(
        "x, scale, shift, groups",
        "x normalised in each group, scaled and shifted",
        lambda x, scale, shift, groups: norm.group_norm(x, scale, shift, groups=groups),
        group_norm_group_by_group,
        [(X["channels"], SCALE, SHIFT, 2)],
        {
            "Divide by the deviation, not by the variance.": lambda *arguments: _group_norm(*arguments, root=False),
            "Each image has its own mean and variance; yours run over the batch.": lambda *arguments: _group_norm(
                *arguments, axes=(0, 1, 3)
            ),
            "Mean and variance run over all channels of a group; yours run over each channel.": lambda *arguments: _group_norm(
                *arguments, axes=1
            ),
            "Mean and variance run over all pixels; yours run over each pixel.": lambda *arguments: _group_norm(*arguments, axes=3),
            "That is one group of all channels.": lambda x, a, b, groups: _group_norm(x, a, b, 1),
            "Scale and shift are missing.": lambda x, a, b, groups: _group_norm(x, 1, 0, groups),
        },
    ),
    "group norm pullback": Exercise(
        "g, x, scale",
        "the cotangent of x, in two groups",
        pulled(_normalise),
        by_differences(_normalise, (2, 3, 3, 4), (4,)),
        case(_normalise, X["channels"], SCALE),
        {
            "The deviation depends on x, too: subtract u mean(h u).": lambda *arguments: _group_norm_back(*arguments, variance=False),
            "The mean depends on x, too: subtract mean(h).": lambda *arguments: _group_norm_back(*arguments, mean=False),
            "Mean and deviation depend on x, too; you took both for constants.": lambda *arguments: _group_norm_back(
                *arguments, mean=False, variance=False
            ),
            "The cotangent has to pass the scale first: h = g scale.": lambda *arguments: _group_norm_back(*arguments, times_scale=False),
            "That is 0 everywhere: with a cotangent of ones it would be right, but not with this one.": lambda g, x, scale: 0 * g,
        },
    ),
    "convolution": Exercise(
        "x, w, b",
        "x convolved with the 3 x 3 kernel w, plus b, as large as x",
        _convolve,
        convolution_in_loops,
        [(X["image"], X["kernel"], X["bias"])],
        {
            "The kernel is turned by half a circle; networks do not turn it.": lambda x, w, b: _convolved(x, w, turned=True) + b,
            "The bias is missing.": lambda x, w, b: _convolved(x, w),
            "Zeros beyond the border keep the size; they are missing.": lambda x, w, b: _convolved(x, w, pads=0) + b,
            "Rows and columns of the kernel are swapped.": lambda x, w, b: _convolved(x, w.swapaxes(0, 1)) + b,
            "Only the centre of the kernel is used.": lambda x, w, b: x @ w[1, 1] + b,
        },
    ),
    "convolution pullback to x": Exercise(
        "g, x, w, b",
        _AS_X,
        pulled(_convolve),
        by_differences(_convolve, (1, 4, 4, 2), (3, 3, 2, 3), (3,)),
        case(_convolve, X["image"], KERNEL, BIAS),
        {
            "The kernel has to be turned by half a circle on the way back.": lambda g, x, w, b: _convolved(g, w.swapaxes(2, 3)),
            "Input and output channels have to be swapped on the way back.": lambda g, x, w, b: _convolved(g, w, turned=True),
            "On the way back the kernel has to be turned by half a circle, and its channels swapped.": lambda g, x, w, b: _convolved(g, w),
            "Only the centre of the kernel is used.": lambda g, x, w, b: g @ w[1, 1].T,
        },
    ),
    "convolution pullback to w": Exercise(
        "g, x, w, b",
        "the cotangent of w",
        pulled(_convolve, 1),
        by_differences(_convolve, (2, 3, 3, 2), (3, 3, 2, 3), (3,), argument=1),
        case(_convolve, X["image"], X["kernel"], X["bias"]),
        {
            "The offsets are turned: entry (i, j) belongs to the window that starts at (i, j).": lambda *arguments: pulled(_convolve, 1)(
                *arguments
            )[::-1, ::-1],
            "That is the mean over the images; cotangents of a shared kernel add.": lambda g, x, w, b: (
                pulled(_convolve, 1)(g, x, w, b) / len(x)
            ),
            "Only the first image is used; cotangents of a shared kernel add.": lambda g, x, w, b: pulled(_convolve, 1)(g[:1], x[:1], w, b),
        },
    ),
    "matmul pullback": Exercise(
        "g, a, b",
        "the cotangent of a in a @ b",
        pulled(ops.matmul),
        by_differences(ops.matmul, (4, 4), (4, 4)),
        case(ops.matmul, normal(4, 4), normal(4, 4, seed=1)),
        {
            "b has to be transposed on the way back.": lambda g, a, b: g @ b,
            "The order of the product is the wrong way round: g comes first.": lambda g, a, b: b.T @ g,
            "That is the transposed result: (A B)^T is B^T A^T.": lambda g, a, b: b @ g.T,
            "The cotangent of a alone is asked for; you return that of b, too.": lambda g, a, b: (g @ b.T, a.T @ g),
            "That is the cotangent of b.": lambda g, a, b: a.T @ g,
            "That is the product entry by entry; the pullback is a matrix product, too.": lambda g, a, b: g * b,
        },
    ),
    "upsample pullback": Exercise(
        "g, x",
        _AS_X,
        pulled(ops.upsample2),
        by_differences(ops.upsample2, (1, 2, 3, 2)),
        case(ops.upsample2, X["image"]),
        {
            "Each pixel became four; their cotangents add, you take their mean.": lambda g, x: ops.mean_pool2(g),
            "Only one of the four pixels is used, four times.": lambda g, x: 4 * g[:, ::2, ::2],
            "Only one of the four pixels is used; add all four.": lambda g, x: g[:, ::2, ::2],
        },
    ),
    "silu pullback": Exercise(
        "g, x",
        _AS_X,
        pulled(ops.silu),
        by_differences(ops.silu, (3, 4)),
        case(ops.silu, X["rows"]),
        {
            "x acts through the sigmoid, too: the term x s (1 - s) is missing.": lambda g, x: g * _sigmoid(x),
            "x acts as a factor, too: the term s is missing.": lambda g, x: g * x * _sigmoid(x) * (1 - _sigmoid(x)),
            "That is the slope alone; multiply by the cotangent g.": lambda g, x: ops.silu_slope(x),
            "That is the slope of the sigmoid; silu is x times it.": lambda g, x: g * _sigmoid(x) * (1 - _sigmoid(x)),
            "That is g silu(x); the slope of silu is asked for.": lambda g, x: g * ops.silu(x),
        },
    ),
    "broadcast pullback": Exercise(
        "g, x",
        "the cotangent of x of shape (4,), where y = x + 0 has the shape of g, (2, 3, 4)",
        pulled(lambda x: ops.add(x, np.zeros((2, 3, 4)))),
        by_differences(lambda x: x + np.zeros((2, 3, 4)), (4,)),
        [(normal(2, 3, 4, seed=5), normal(4))],
        {
            "The cotangent has the shape of y; sum it over the axes that broadcasting added.": lambda g, x: g,
            "x was used many times, so its cotangents add; you take their mean.": lambda g, x: g.mean(axis=(0, 1)),
            "Only one use of x is counted; sum over all.": lambda g, x: g[0, 0],
            "One of the added axes is left: sum over both.": lambda g, x: g.sum(axis=0),
        },
    ),
    "exp pullback": Exercise(
        "g, x",
        _AS_X,
        pulled(ops.exp),
        by_differences(ops.exp, (3, 4)),
        case(ops.exp, X["rows"]),
        {
            "That is the slope alone; multiply by the cotangent g.": lambda g, x: np.exp(x),
            "Multiply g by the slope e^x, not by x.": lambda g, x: g * x,
            "The slope is missing: multiply g by e^x.": lambda g, x: g,
        },
    ),
    "attention": Exercise(
        "qkv, heads",
        "softmax(q k^T / sqrt(d)) v of each head; the channels are ordered head by head, within a head q, k, v",
        lambda qkv, heads: self_attention(qkv, heads=heads),
        attention_in_loops,
        [(QKV, 2)],
        {
            "The products are not divided by sqrt(d).": _attention(lambda products, d: ops.softmax(products)),
            "Divide by sqrt(d), not by d.": _attention(lambda products, d: ops.softmax(products / d)),
            "The softmax is missing.": _attention(lambda products, d: products / d**0.5),
            "The softmax runs over the queries; it should run over the keys.": _attention(
                lambda products, d: ops.softmax((products / d**0.5).swapaxes(-1, -2)).swapaxes(-1, -2)
            ),
        },
    ),
}
