"""What is measured: a table of rows, and for each kind of row a function that sets it up and returns the call to time.

`torch_twins.py` has functions of the same names, where PyTorch is compared.
"""

import dataclasses
import math

import numpy as np

from mdps_ref.autograd.attention import self_attention
from mdps_ref.autograd.conv import conv2d
from mdps_ref.autograd.norm import group_norm_silu
from mdps_ref.autograd.tape import Tensor
from mdps_ref.bench.weights import extractor_weights, kernel_like, network_weights, normal
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.job.config import make_config
from mdps_ref.job.detect import calibrate, make_model
from mdps_ref.job.train import BatchGradient, start_training, train_step
from mdps_ref.kernels.processes import Team, members
from mdps_ref.kernels.threads import LIMIT, even_shares
from mdps_ref.nn.efficientnet import efficientnet_features
from mdps_ref.nn.mobilenet import mobilenet_features
from mdps_ref.nn.resnet import resnet_features
from mdps_ref.nn.unet import NETWORKS, plan, unet
from mdps_ref.posterior.guidance import misfit_gradient, unit_residual
from mdps_ref.scoring.difference import difference_map
from mdps_ref.scoring.features import EXTRACTORS
from mdps_ref.scoring.image_score import IMAGE_SCORES

TRAINING_BATCH = 16
TIMESTEP = 200
CONVOLUTIONS = {"conv forward": "convolution", "conv to input": "convolution_to_input", "conv to kernel": "convolution_to_kernel"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing to measure: the function that sets it up, its arguments, and its floating-point operations (2 a multiply-add)."""

    name: str
    setup: str
    arguments: tuple = ()
    flops: float | None = None


def rows():
    """All rows, in the order of the table."""
    shapes = [(1, *shape) for shape in convolution_shapes(NETWORKS["released"])]
    shapes += [(TRAINING_BATCH, *shape) for shape in convolution_shapes(NETWORKS["small"])]
    table = [
        Row(f"{kind} {'x'.join(map(str, shape))}", setup, shape, 18 * math.prod(shape) * shape[1])
        for kind, setup in CONVOLUTIONS.items()
        for shape in shapes
    ]
    released = unet_flops(NETWORKS["released"])
    return table + [
        Row("norm+SiLU forward 1x256x64", "normalisation", (1, 256, 64)),
        Row("norm+SiLU pullback 1x256x64", "normalisation_pullback", (1, 256, 64)),
        Row("attention forward 1x32x128", "attention", (1, 32, 128), 4 * 32**4 * 128),
        Row("attention pullback 1x32x128", "attention_pullback", (1, 32, 128), 8 * 32**4 * 128),
        Row("UNet forward, released, 256 x 256", "network", ("released", 1), released),
        Row("guided step, released, 256 x 256", "guided_step", ("released", 1), 2 * released),
        *_small_rows(),
        Row("sampling one image, guided and mdps, small, 64 x 64", "guided_and_mdps"),
        *_feature_rows(),
        Row("scoring, 8 images, 256 x 256, given features", "scoring", (8, 256)),
    ]


def _small_rows():
    """Passes and training steps of the networks that notebooks and the default run use."""
    for name, batch in (("tiny", 8), ("small", TRAINING_BATCH)):
        size, flops = NETWORKS[name].image_size, unet_flops(NETWORKS[name])
        for n in (1, 4, 16):
            yield Row(f"UNet forward, {name}, {n} x {size} x {size}", "network", (name, n), n * flops)
            yield Row(f"guided step, {name}, {n} x {size} x {size}", "guided_step", (name, n), 2 * n * flops)
        yield Row(f"training step, {name}, batch {batch}, {size} x {size}", "training", (name, batch), 3 * batch * flops)


def _feature_rows():
    """ImageNet networks on small images, and the authors' on theirs."""
    for name, side, batches in (("efficientnet_lite0", 128, (1, 16)), ("mobilenet_v1", 128, (1, 16)), ("wide_resnet101_2", 256, (1, 2))):
        for n in batches:
            yield Row(f"features, {name}, {n} x {side} x {side}", "features", (name, n, side))


def convolution_shapes(config):
    """(side, channels in, channels out) of the network's 3 x 3 convolutions, each shape once, large images first."""
    blocks, side, shapes = plan(config), config.image_size, {(config.image_size, config.channels, config.base_channels)}
    for block in blocks.down + blocks.middle + blocks.up:
        side = {"half": side // 2, "double": side * 2, "": side}[block.resize]
        shapes |= {(side, block.c_in, block.c_out), (side, block.c_out, block.c_out)}
    shapes.add((config.image_size, config.base_channels * config.multipliers[0], config.channels))
    return sorted(shapes, reverse=True)


def unet_flops(config):
    """Operations of a forward pass of one image: its convolutions, linear maps of images, and attention's two products."""
    blocks, side, total = plan(config), config.image_size, 18 * config.image_size**2 * config.channels * config.base_channels
    for block in blocks.down + blocks.middle + blocks.up:
        side = {"half": side // 2, "double": side * 2, "": side}[block.resize]
        shortcut = 2 * block.c_in * block.c_out * (block.c_in != block.c_out)
        attention = (8 * block.c_out**2 + 4 * side**2 * block.c_out) * block.attends
        total += side**2 * (18 * block.c_out * (block.c_in + block.c_out) + shortcut + attention)
    return total + 18 * config.image_size**2 * config.base_channels * config.multipliers[0] * config.channels


def pullback(make, g, wrapped, *others, **settings):
    """The pullback of make(wrapped, *others) to its wrapped argument, for the cotangent g, as a call."""
    node = make(Tensor(wrapped), *others, **settings).node
    return lambda: list(node.pullback(g))


def convolution(n, side, c_in, c_out):
    x, w, b = normal(n, side, side, c_in), kernel_like(c_in, c_out), np.zeros(c_out, np.float32)
    return lambda: conv2d(x, w, b)


def convolution_to_input(n, side, c_in, c_out):
    x, g, w = normal(n, side, side, c_in), normal(n, side, side, c_out), kernel_like(c_in, c_out)
    return pullback(conv2d, g, x, w, np.zeros(c_out, np.float32))


def convolution_to_kernel(n, side, c_in, c_out):
    x, g, b = normal(n, side, side, c_in), normal(n, side, side, c_out), np.zeros(c_out, np.float32)
    return pullback(lambda w: conv2d(x, w, b), g, kernel_like(c_in, c_out))


def normalisation(n, side, c):
    x, scale, shift = normal(n, side, side, c), np.ones(c, np.float32), np.zeros(c, np.float32)
    return lambda: group_norm_silu(x, scale, shift, groups=32)


def normalisation_pullback(n, side, c):
    x, g = normal(n, side, side, c), normal(n, side, side, c)
    return pullback(group_norm_silu, g, x, np.ones(c, np.float32), np.zeros(c, np.float32), groups=32)


def attention(n, side, c):
    qkv = normal(n, side**2, 3 * c)
    return lambda: self_attention(qkv, heads=4)


def attention_pullback(n, side, c):
    return pullback(self_attention, normal(n, side**2, c), normal(n, side**2, 3 * c), heads=4)


def network(name, images):
    config, weights = NETWORKS[name], network_weights(NETWORKS[name])
    x, t = normal(images, config.image_size, config.image_size, 3), np.full(images, TIMESTEP)
    return shared_by_image(lambda part: unet(weights, x[part], t[part], config), images)


def guided_step(name, images):
    config, weights = NETWORKS[name], network_weights(NETWORKS[name])
    x, t, level = normal(images, config.image_size, config.image_size, 3), np.full(images, TIMESTEP), alpha_bar(TIMESTEP)

    def step(part):
        return misfit_gradient(lambda x_t, t: unet(weights, x_t, t, config), x[part], t[part], 0.3 * x[part], level, unit_residual)

    return shared_by_image(step, images)


def shared_by_image(step, images):
    """The call of step(part) for all images, shared as detection shares them: by a team of processes, made at the first call.

    A team keeps the number of threads that it was made under, so each number has a team of its own.
    """
    teams = {}

    def call():
        count, threads = members(images), LIMIT.get()
        if threads not in teams:
            teams[threads] = Team(step, count)
        return teams[threads]([(part,) for part in even_shares(images, count)])

    return call


def training(name, batch):
    size = NETWORKS[name].image_size
    config = make_config(image_size=size, network=name, batch_size=batch)
    images, started = normal(batch, size, size, 3), {}

    def call():
        if members(batch) not in started:
            state = start_training(config, np)
            started[members(batch)] = state, BatchGradient(state, config, np)
        state, gradient = started[members(batch)]
        train_step(state, images, config, gradient)

    return call


def guided_and_mdps(size=64, images=1, **settings):
    """The guided chain and MDPS, as `calibrate` runs them, from images to scores."""
    config = make_config({"image_size": size, "network": "small"} | settings)
    model = make_model(network_weights(config.unet()), config)
    y = np.clip(normal(images, size, size, 3, scale=0.3), -1, 1)
    return lambda: calibrate(model, y, config)


def features(name, images, side):
    """The layers that are compared, of all images, shared as detection shares them."""
    weights, x, layers = extractor_weights(name), normal(images, side, side, 3), EXTRACTORS[name].layers
    run = {"efficientnet_lite0": efficientnet_features, "mobilenet_v1": mobilenet_features}.get(name, resnet_features)
    return shared_by_image(lambda part: run(weights, x[part], layers), images)


def scoring(images, side):
    x_0, y = normal(images, side, side, 3), np.flip(normal(images, side, side, 3), axis=1)
    given = {id(x_0): [normal(images, side // 8, side // 8, 512)], id(y): [normal(images, side // 8, side // 8, 512)]}

    def score():
        maps = difference_map(x_0, y, lambda a: given[id(a)], pixel_weight=0.5, sigma=side / 64)
        return IMAGE_SCORES["top_mean"](maps)

    return score
