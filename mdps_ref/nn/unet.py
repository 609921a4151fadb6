"""The noise predictor eps_theta: a UNet, written as one function of a flat dictionary of arrays.

The architecture is that of the authors' code, after [1]_. The residual blocks resize as in BigGAN [2]_ and add the time embedding. Some
resolutions have self-attention. The last convolution of each residual branch, and of the network, starts at zero.

References
----------
.. [1] P. Dhariwal, A. Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021.
.. [2] A. Brock, J. Donahue, K. Simonyan, "Large scale GAN training for high fidelity natural image synthesis", ICLR 2019.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.autograd.network import replayable
from mdps_ref.autograd.norm import group_norm_silu
from mdps_ref.backend import random_stream
from mdps_ref.errors import InputError, check_arrays
from mdps_ref.nn.layers import apply_conv2d, apply_norm, attention_block, embed_time, residual_block


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The architecture of a UNet.

    Parameters
    ----------
    image_size : int
        Pixels a side.
    base_channels : int
    multipliers : tuple of int
        One for each level; level i has base_channels * multipliers[i] channels, at image_size / 2**i pixels a side.
    blocks : int
        Residual blocks in a level on the way down. The way up has one more.
    attention_sizes : tuple of int
        Pixels a side at which attention follows each residual block.
    heads : int
        Heads of each attention.
    groups : int
        Groups of each group normalisation.
    channels : int
        Channels of the image.

    Raises
    ------
    InputError
        If the image cannot be halved once for each level but the first, base_channels is odd, or channels do not divide into groups or
        heads.
    """

    image_size: int = 32
    base_channels: int = 24
    multipliers: tuple[int, ...] = (1, 1, 2)
    blocks: int = 1
    attention_sizes: tuple[int, ...] = (8,)
    heads: int = 4
    groups: int = 8
    channels: int = 3

    def __post_init__(self):
        halvings = len(self.multipliers) - 1
        if self.image_size % 2**halvings:
            raise InputError(f"image size {self.image_size} cannot be halved {halvings} times; use a multiple of {2**halvings}")
        if self.base_channels % 2:
            raise InputError(f"base_channels is {self.base_channels}; the time embedding has sines and cosines, so it must be even")
        widths = {self.base_channels * m for m in self.multipliers}
        for width in sorted({self.base_channels, *widths}):
            if width % self.groups or width in widths and width % self.heads:
                raise InputError(f"{width} channels do not divide into {self.groups} groups and {self.heads} heads")


NETWORKS = {
    "tiny": UNetConfig(),
    "small": UNetConfig(image_size=64, base_channels=32, multipliers=(1, 1, 2, 2), attention_sizes=(16, 8)),
    "released": UNetConfig(
        image_size=256, base_channels=64, multipliers=(1, 1, 2, 2, 4, 4), blocks=2, attention_sizes=(32, 16, 8), groups=32
    ),
}


class Block(NamedTuple):
    """A residual block of a UNet.

    Attributes
    ----------
    name : str
        Beginning of the names of its arrays.
    c_in, c_out : int
        Channels.
    attends : bool
        True if attention follows the block.
    resize : {"", "half", "double"}
    """

    name: str
    c_in: int
    c_out: int
    attends: bool = False
    resize: str = ""


class Plan(NamedTuple):
    """The residual blocks of a UNet, in the order in which they run.

    Attributes
    ----------
    down, middle, up : list of Block
        The output of every block of `down` is kept as a skip connection.
        Each block of `up` that does not resize takes a skip connection, the latest first; its channels are put behind the input's.
    """

    down: list[Block]
    middle: list[Block]
    up: list[Block]


def plan(config):
    """List the residual blocks of a UNet. Its arrays and its forward pass both follow this list.

    Parameters
    ----------
    config : UNetConfig

    Returns
    -------
    Plan
    """
    widths = [config.base_channels * m for m in config.multipliers]
    sides = [config.image_size >> level for level in range(len(widths))]
    last = len(widths) - 1
    down, skips, c = [], [config.base_channels], config.base_channels
    for level, (width, side) in enumerate(zip(widths, sides, strict=True)):
        for k in range(config.blocks):
            down.append(Block(f"down.{level}.{k}", c, width, side in config.attention_sizes))
            c = width
            skips.append(c)
        if level < last:
            down.append(Block(f"down.{level}.half", c, c, resize="half"))
            skips.append(c)
    middle = [Block("middle.0", c, c, attends=True), Block("middle.1", c, c)]
    up = []
    for level in range(last, -1, -1):
        for k in range(config.blocks + 1):
            up.append(Block(f"up.{level}.{k}", c + skips.pop(), widths[level], sides[level] in config.attention_sizes))
            c = widths[level]
        if level:
            up.append(Block(f"up.{level}.double", c, c, resize="double"))
    return Plan(down, middle, up)


def init_unet(config, seed=0, dtype=np.float32):
    """Draw the weights of an untrained network, which predicts zero.

    Kernels and matrices are uniform between -1 / sqrt(n) and 1 / sqrt(n), where n is the number of inputs that an output sums over. The
    last one of each residual branch, of each attention and of the network is zero. Group normalisations have scale 1. Biases are zero.

    Parameters
    ----------
    config : UNetConfig
    seed : int
    dtype : data type

    Returns
    -------
    dict of str to host array
        Kernels (K, K, Ci, Co), matrices (Ci, Co) and vectors (C).
    """
    rng = random_stream(seed, "weights")
    weights = {}
    for name, shape, kind in arrays_of(config):
        if kind == "uniform":
            bound = 1 / math.sqrt(math.prod(shape[:-1]))
            weights[name] = rng.uniform(-bound, bound, shape).astype(dtype)
        else:
            weights[name] = np.full(shape, 1.0 if kind == "one" else 0.0, dtype)
    return weights


def unet(weights, x, t, config, record=None):
    """Predict the noise in noisy images: eps_theta(x_t, t).

    Parameters
    ----------
    weights : dict of str to array or Tensor
    x : array or Tensor, (N, H, W, C)
        The noisy images x_t.
    t : host array of int, (N,), 0 to 999
        Timestep of each image.
    config : UNetConfig
    record : dict or None
        Filled with the output of each block, under the block's name.

    Returns
    -------
    array or Tensor, shape of `x`
    """
    time = embed_time(weights, t, x, config.base_channels)
    return _layers(weights, x, time, config, record) if record is not None else _network(weights, x, time, config=config)


def _layers(weights, x, time, config, record=None):
    """The network behind the embedding of time.  Shapes: x (N, H, W, C), time (N, 4 base_channels) -> as x."""
    blocks = plan(config)
    h = apply_conv2d(weights, "first", x)
    skips = [h]
    for block in blocks.down:
        h = _run(weights, block, h, time, config, record)
        skips.append(h)
    for block in blocks.middle:
        h = _run(weights, block, h, time, config, record)
    for block in blocks.up:
        if not block.resize:
            h = ops.concatenate(h, skips.pop())
        h = _run(weights, block, h, time, config, record)
    return apply_conv2d(weights, "last.conv", apply_norm(weights, "last.norm", h, config.groups, group_norm_silu))


_network = replayable(_layers)


def check_weights(weights, config):
    """Check that weights fit a UNet.

    Parameters
    ----------
    weights : dict of str to array
    config : UNetConfig

    Raises
    ------
    InputError
        If an array is missing, unexpected, or has another shape.
    """
    check_arrays(weights, {name: shape for name, shape, _ in arrays_of(config)})


def _run(weights, block, h, time, config, record):
    """Run a block, and its attention if it has one."""
    resize = {"": None, "half": ops.mean_pool2, "double": ops.upsample2}[block.resize]
    h = residual_block(weights, block.name, h, time, config.groups, resize)
    if block.attends:
        h = attention_block(weights, f"{block.name}.attention", h, config.groups, config.heads)
    if record is not None:
        record[block.name] = h
    return h


def arrays_of(config):
    """List the arrays of a UNet.

    Parameters
    ----------
    config : UNetConfig

    Yields
    ------
    name : str
    shape : tuple of int
    start : {"uniform", "zero", "one"}
        How an untrained network begins.
    """
    base, time_width = config.base_channels, 4 * config.base_channels
    blocks = plan(config)
    yield from _map("time.0", (base, time_width))
    yield from _map("time.1", (time_width, time_width))
    yield from _map("first", (3, 3, config.channels, base))
    for block in blocks.down + blocks.middle + blocks.up:
        name, c_in, c_out = block.name, block.c_in, block.c_out
        yield from _norm(f"{name}.norm_in", c_in)
        yield from _map(f"{name}.conv_in", (3, 3, c_in, c_out))
        yield from _map(f"{name}.time", (time_width, c_out))
        yield from _norm(f"{name}.norm_out", c_out)
        yield from _map(f"{name}.conv_out", (3, 3, c_out, c_out), "zero")
        if c_in != c_out:
            yield from _map(f"{name}.shortcut", (c_in, c_out))
        if block.attends:
            yield from _norm(f"{name}.attention.norm", c_out)
            yield from _map(f"{name}.attention.qkv", (c_out, 3 * c_out))
            yield from _map(f"{name}.attention.project", (c_out, c_out), "zero")
    width = base * config.multipliers[0]
    yield from _norm("last.norm", width)
    yield from _map("last.conv", (3, 3, width, config.channels), "zero")


def _map(name, shape, kind="uniform"):
    """The weight and the bias of a convolution or a linear map."""
    yield f"{name}.weight", shape, kind
    yield f"{name}.bias", (shape[-1],), "zero"


def _norm(name, width):
    """The scale and the shift of a group normalisation."""
    yield f"{name}.weight", (width,), "one"
    yield f"{name}.bias", (width,), "zero"
