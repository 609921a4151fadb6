"""Layers as functions: each takes its arrays from the flat dictionary under its own name. The embedding of time is here, too."""

import math

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.conv import conv2d
from mdps_ref.autograd.norm import group_norm, group_norm_silu
from mdps_ref.autograd.tape import value_of
from mdps_ref.backend import array_module, to_device


def apply_conv2d(weights, name, x, shift=None, residual=None):
    """Apply a same-size convolution, and add `shift` (N, 1, 1, Co) and `residual` (N, H, W, Co) where they are given.

    Shapes: x (N, H, W, Ci) -> (N, H, W, Co).
    """
    bias = weights[f"{name}.bias"]
    return conv2d(x, weights[f"{name}.weight"], bias if shift is None else bias + shift, residual)


def apply_linear(weights, name, x):
    """Apply a linear map to the last axis.  Shapes: x (..., Ci) -> (..., Co)."""
    return ops.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def apply_norm(weights, name, x, groups, norm=group_norm):
    """Apply group normalisation, or `norm`, which takes the same arguments.  Shapes: x (N, H, W, C) -> the same."""
    return norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], groups=groups)


def timestep_embedding(t, width):
    """Embed timesteps: sines, then cosines, of t at `width` / 2 frequencies from 1 down towards 1 / 10000.

    Parameters
    ----------
    t : (N) integers on the host
    width : int

    Returns
    -------
    (N, width) float64, on the host

    References
    ----------
    Vaswani et al. 2017, section 3.5, as in DDPM.
    """
    frequencies = np.exp(-math.log(10_000) * np.arange(width // 2) / (width // 2))
    angles = np.asarray(t, np.float64)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def embed_time(weights, t, x, width):
    """Turn timesteps into the vectors that every residual block maps.  Shapes: t (N) on the host -> (N, 4 width), on x's device."""
    array = value_of(x)
    wave = to_device(timestep_embedding(t, width).astype(array.dtype), array_module(array))
    return ops.silu(apply_linear(weights, "time.1", ops.silu(apply_linear(weights, "time.0", wave))))


def residual_block(weights, name, x, time, groups, resize=None):
    """Apply two normalised convolutions beside a shortcut, with the time embedding added between them.

    Parameters
    ----------
    x : (N, H, W, Ci)
    time : (N, T)
    groups : int
    resize : None, ops.upsample2 or ops.mean_pool2
        Applied to both branches, after the first activation (as in BigGAN).

    Returns
    -------
    (N, H', W', Co)
    """
    h = apply_norm(weights, f"{name}.norm_in", x, groups, group_norm_silu)
    if resize:
        h, x = resize(h), resize(x)
    shift = apply_linear(weights, f"{name}.time", time)
    h = apply_conv2d(weights, f"{name}.conv_in", h, ops.reshape(shift, shape=(shift.shape[0], 1, 1, shift.shape[1])))
    h = apply_norm(weights, f"{name}.norm_out", h, groups, group_norm_silu)
    shortcut = apply_linear(weights, f"{name}.shortcut", x) if f"{name}.shortcut.weight" in weights else x
    return apply_conv2d(weights, f"{name}.conv_out", h, residual=shortcut)


def attention_block(weights, name, x, groups, heads):
    """Apply multi-head self-attention over pixels, and add x.  Shapes: x (N, H, W, C) -> the same.

    The projection's channels are ordered head by head, and within a head q, k, v.
    """
    n, h, w, c = x.shape
    qkv = apply_linear(weights, f"{name}.qkv", ops.reshape(apply_norm(weights, f"{name}.norm", x, groups), shape=(n, h * w, c)))
    return x + ops.reshape(apply_linear(weights, f"{name}.project", self_attention(qkv, heads=heads)), shape=x.shape)
