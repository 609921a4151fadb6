"""The noise predictor eps_theta: a UNet as one function of (weights, x_t, t) and a flat dictionary of arrays.

The family is that of the authors' code (after Dhariwal & Nichol 2021): residual blocks with BigGAN up- and downsampling, the time
embedding added, self-attention at some resolutions, last convolutions that start at zero.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from mdps_ref.autograd import ops
from mdps_ref.autograd.norm import group_norm_silu
from mdps_ref.backend import random_stream
from mdps_ref.errors import InputError, check_arrays
from mdps_ref.nn.layers import apply_conv2d, apply_norm, attention_block, embed_time, residual_block


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """What fixes the shape of a UNet.

    image_size: pixels a side.  base_channels: width of the first level; level i has base_channels * multipliers[i].
    blocks: residual blocks a level.  attention_sizes: sides in pixels at which each block is followed by attention.
    heads: attention heads.  groups: of every group normalisation.  channels: of the image.
    Raises: InputError where sizes do not divide.
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
        for width in {self.base_channels * m for m in self.multipliers}:
            if width % self.groups or width % self.heads:
                raise InputError(f"{width} channels do not divide into {self.groups} groups and {self.heads} heads")


NETWORKS = {
    "tiny": UNetConfig(),
    "small": UNetConfig(image_size=64, base_channels=32, multipliers=(1, 1, 2, 2), attention_sizes=(16, 8)),
    "released": UNetConfig(
        image_size=256, base_channels=64, multipliers=(1, 1, 2, 2, 4, 4), blocks=2, attention_sizes=(32, 16, 8), groups=32
    ),
}


class Block(NamedTuple):
    """One residual block: its name, channels in and out, whether attention follows, and how it resizes."""

    name: str
    c_in: int
    c_out: int
    attends: bool = False
    resize: str = ""


class Plan(NamedTuple):
    """The blocks in the order in which they run; every `down` block leaves a skip, every `joining` up block takes one."""

    down: list[Block]
    middle: list[Block]
    up: list[Block]
    joining: frozenset[str]


def plan(config):
    """The blocks of a UNet, from which both its arrays and its forward pass are made."""
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
    up, joining = [], []
    for level in range(last, -1, -1):
        for k in range(config.blocks + 1):
            up.append(Block(f"up.{level}.{k}", c + skips.pop(), widths[level], sides[level] in config.attention_sizes))
            joining.append(up[-1].name)
            c = widths[level]
        if level:
            up.append(Block(f"up.{level}.double", c, c, resize="double"))
    return Plan(down, middle, up, frozenset(joining))


def init_unet(config, seed=0, dtype=np.float32):
    """Fresh weights: uniform in +- 1 / sqrt(inputs of a unit), norms at identity, biases and the last map of each branch at zero.

    Shapes: -> {name: array}, on the host; kernels (K, K, Ci, Co), linear maps (Ci, Co), vectors (C).
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
    """eps_theta(x_t, t), the noise that the network sees in x_t.

    weights: {name: array or Tensor}.  record: a dictionary that receives every block's output under its name, if given.
    Shapes: x (N, H, W, C), t (N) integers on the host, 0 .. 999 -> as x.
    """
    blocks = plan(config)
    time = embed_time(weights, t, x, config.base_channels)
    h = apply_conv2d(weights, "first", x)
    skips = [h]
    for block in blocks.down:
        h = _run(weights, block, h, time, config, record)
        skips.append(h)
    for block in blocks.middle:
        h = _run(weights, block, h, time, config, record)
    for block in blocks.up:
        if block.name in blocks.joining:
            h = ops.concatenate(h, skips.pop())
        h = _run(weights, block, h, time, config, record)
    return apply_conv2d(weights, "last.conv", apply_norm(weights, "last.norm", h, config.groups, group_norm_silu))


def check_weights(weights, config):
    """Raises: InputError that lists every array that is missing, not wanted, or of another shape."""
    check_arrays(weights, {name: shape for name, shape, _ in arrays_of(config)})


def _run(weights, block, h, time, config, record):
    """One block, and the attention behind it."""
    resize = {"": None, "half": ops.mean_pool2, "double": ops.upsample2}[block.resize]
    h = residual_block(weights, block.name, h, time, config.groups, resize)
    if block.attends:
        h = attention_block(weights, f"{block.name}.attention", h, config.groups, config.heads)
    if record is not None:
        record[block.name] = h
    return h


def arrays_of(config):
    """(name, shape, kind of start) for every array of the network."""
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
    """The two arrays of a convolution or a linear map."""
    yield f"{name}.weight", shape, kind
    yield f"{name}.bias", (shape[-1],), "zero"


def _norm(name, width):
    """The two arrays of a group normalisation."""
    yield f"{name}.weight", (width,), "one"
    yield f"{name}.bias", (width,), "zero"
