"""Layers as functions of (weights, name, x): each takes its arrays from the flat dictionary under its own name."""

import math

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.autograd.conv import conv2d
from mdps_ref.kernels.fused import attend, group_norm_silu
from mdps_ref.autograd.tape import value_of
from mdps_ref.backend import array_module, to_device


def conv(weights, name, x, shift=None, onto=None):
    """A same-size convolution; to it are added, where given, `shift`, a vector an image, and the image `onto`.

    Shapes: x (N, H, W, Ci), shift (N, 1, 1, Co), onto (N, H, W, Co) -> (N, H, W, Co).
    """
    bias = weights[f"{name}.bias"]
    return conv2d(x, weights[f"{name}.weight"], bias if shift is None else bias + shift, onto)


def dense(weights, name, x):
    """A linear map of the last axis.  Shapes: x (..., Ci) -> (..., Co)."""
    return ops.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def norm(weights, name, x, groups, kind=ops.group_norm):
    """Group normalisation, or what `kind` makes of it.  Shapes: x (N, H, W, C) -> the same."""
    return kind(x, weights[f"{name}.weight"], weights[f"{name}.bias"], groups=groups)


def timestep_embedding(t, width):
    """Sines, then cosines, of t at `width` / 2 frequencies from 1 down towards 1 / 10000.

    Eq: Vaswani et al. 2017, section 3.5, as in DDPM.  Shapes: t (N), integers on the host -> (N, width), float64 on the host.
    """
    frequencies = np.exp(-math.log(10_000) * np.arange(width // 2) / (width // 2))
    angles = np.asarray(t, np.float64)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def embedded_time(weights, t, x, width):
    """The timestep as the vector that every residual block adds.  Shapes: t (N) on the host -> (N, 4 width), on x's device."""
    array = value_of(x)
    wave = to_device(timestep_embedding(t, width).astype(array.dtype), array_module(array))
    return dense(weights, "time.1", ops.silu(dense(weights, "time.0", wave)))


def residual_block(weights, name, x, time, groups, resize=None):
    """Two normalised convolutions beside a shortcut, the time embedding added between them.

    resize: None, ops.upsample2 or ops.mean_pool2, applied to both branches (the BigGAN form: after the first activation).
    Shapes: x (N, H, W, Ci), time (N, T) -> (N, H', W', Co).
    """
    h = norm(weights, f"{name}.norm_in", x, groups, group_norm_silu)
    if resize:
        h, x = resize(h), resize(x)
    shift = dense(weights, f"{name}.time", ops.silu(time))
    h = conv(weights, f"{name}.conv_in", h, ops.reshape(shift, shape=(shift.shape[0], 1, 1, shift.shape[1])))
    h = norm(weights, f"{name}.norm_out", h, groups, group_norm_silu)
    shortcut = dense(weights, f"{name}.shortcut", x) if f"{name}.shortcut.weight" in weights else x
    return conv(weights, f"{name}.conv_out", h, onto=shortcut)


def attention(weights, name, x, groups, heads):
    """Multi-head self-attention over pixels, added to x.

    Eq: Vaswani et al. 2017, Eq. (1): softmax(q k^T / sqrt(d)) v, d channels a head.  Shapes: x (N, H, W, C) -> the same.
    The projection's channels are ordered head by head, q, k and v within each.
    """
    n, h, w, c = x.shape
    qkv = dense(weights, f"{name}.qkv", ops.reshape(norm(weights, f"{name}.norm", x, groups), shape=(n, h * w, c)))
    return x + ops.reshape(dense(weights, f"{name}.project", attend(qkv, heads=heads)), shape=x.shape)
