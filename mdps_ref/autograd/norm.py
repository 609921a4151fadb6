"""Group normalisation, alone and with the activation behind it, and their pullbacks."""

import math

import numpy as np

from mdps_ref.autograd.ops import silu, silu_slope
from mdps_ref.autograd.tape import primitive

EPSILON = 1e-5  # added to the variance


@primitive(
    lambda y, x, scale, shift, groups: lambda g: _group_norm_to_x(g, x, scale, groups),
    lambda y, x, scale, shift, groups: lambda g: g * _normalised(x, groups)[0],
    lambda y, x, scale, shift, groups: lambda g: g,
)
def group_norm(x, scale, shift, *, groups):
    """Group normalisation: subtract each group's mean, divide by its standard deviation, then scale and shift each channel.

    A group is a run of neighbouring channels of one image.  Shapes: x (N, ..., C), scale, shift (C) -> as x.
    Wu & He 2018, Eqs. (1) and (2), with 1e-5 added to the variance.
    """
    return _normalised(x, groups)[0] * scale + shift


@primitive(
    lambda y, x, scale, shift, groups: lambda g: _group_norm_to_x(_before_silu(g, x, scale, shift, groups), x, scale, groups),
    lambda y, x, scale, shift, groups: lambda g: _before_silu(g, x, scale, shift, groups) * _normalised(x, groups)[0],
    lambda y, x, scale, shift, groups: lambda g: _before_silu(g, x, scale, shift, groups),
)
def group_norm_silu(x, scale, shift, *, groups):
    """silu(group_norm(x)).  Its pullbacks compute the normalised x again, so that only x is kept.  Shapes: as `group_norm`."""
    return silu(group_norm(x, scale, shift, groups=groups))


def _normalised(x, groups):
    """x with mean 0 and variance 1 in each group, and 1 / deviation.  Shapes: (N, ..., C) -> the same, (N, 1, groups, 1)."""
    grouped = _grouped(x, groups)
    centred = grouped - _group_mean(grouped)
    inverse_deviation = (_group_mean(centred * centred) + EPSILON) ** -0.5
    return (centred * inverse_deviation).reshape(x.shape), inverse_deviation


def _grouped(x, groups):
    """The channels of each group apart.  Shapes: (N, ..., C) -> (N, P, groups, C / groups), P pixels."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def _group_mean(grouped):
    """The mean of each group, summed in float64, since a sum of many float32 rounds.  Shapes: (N, P, groups, c) -> (N, 1, groups, 1)."""
    return grouped.mean(axis=(1, 3), keepdims=True, dtype=np.float64).astype(grouped.dtype)


def _group_norm_to_x(g, x, scale, groups):
    """The pullback of group normalisation to x.

    With u = x normalised and h = g scale:  (h - mean(h) - u mean(h u)) / deviation, means over a group.
    """
    u, inverse_deviation = _normalised(x, groups)
    u, h = _grouped(u, groups), _grouped(g * scale, groups)
    return ((h - _group_mean(h) - u * _group_mean(h * u)) * inverse_deviation).reshape(x.shape)


def _before_silu(g, x, scale, shift, groups):
    """The cotangent of the normalised image, from g behind the silu."""
    return g * silu_slope(group_norm(x, scale, shift, groups=groups))
