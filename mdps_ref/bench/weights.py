"""Random numbers for what is measured: images, and the weights of every network."""

import itertools
import math

import numpy as np

from mdps_ref.nn.efficientnet import KERNELS
from mdps_ref.nn.resnet import RESNETS
from mdps_ref.nn.unet import init_unet

EFFICIENTNET = (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112)  # channels of the first convolution, and of each block up to blocks.10
WIDER = 6  # times as many channels inside a block of it
MOBILENET = (32, 64, 128, 128, 256, 256, *[512] * 6)  # channels of the first convolution, and of each block up to conv_pw_11


def normal(*shape, scale=1.0):
    """Random float32 numbers, the same each time."""
    return scale * np.random.default_rng(0).standard_normal(shape, np.float32)


def kernel_like(c_in, c_out):
    """A random 3 x 3 kernel that keeps the size of what it is given."""
    return normal(3, 3, c_in, c_out, scale=(9 * c_in) ** -0.5)


def network_weights(config):
    """Fresh weights of a network, the maps that start at zero made random, so that nothing is trivial."""
    weights = init_unet(config)
    return {key: normal(*w.shape, scale=math.prod(w.shape[:-1]) ** -0.5) if w.ndim > 1 else w for key, w in weights.items()}


def extractor_weights(name):
    """Random folded weights of an ImageNet network, up to the last layer that is compared."""
    shapes = {"efficientnet_lite0": _efficientnet, "mobilenet_v1": _mobilenet}.get(name, _resnet)
    weights = {}
    for key, shape in shapes(name):
        weights[key] = normal(*shape, scale=math.prod(shape[:-1]) ** -0.5)
        weights[f"{key.rpartition('.')[0]}.bias"] = np.zeros(shape[-1], np.float32)
    return weights


def _efficientnet(_):
    """(name, shape) of each kernel of an EfficientNet-Lite0."""
    yield "conv_stem.weight", (3, 3, 3, EFFICIENTNET[0])
    for block, (c_in, c_out) in enumerate(itertools.pairwise(EFFICIENTNET)):
        inside = WIDER * c_in if block else c_in
        if block:
            yield f"blocks.{block}.expand_conv.weight", (c_in, inside)
        yield f"blocks.{block}.depthwise_conv.weight", (KERNELS[block], KERNELS[block], inside)
        yield f"blocks.{block}.project_conv.weight", (inside, c_out)


def _mobilenet(_):
    """(name, shape) of each kernel of a MobileNet v1."""
    yield "conv1.kernel", (3, 3, 3, MOBILENET[0])
    for block, (c_in, c_out) in enumerate(itertools.pairwise(MOBILENET), 1):
        yield f"conv_dw_{block}.kernel", (3, 3, c_in)
        yield f"conv_pw_{block}.kernel", (1, 1, c_in, c_out)


def _resnet(name):
    """(name, shape) of each kernel of a ResNet of bottlenecks, up to layer3."""
    yield "conv1.weight", (7, 7, 3, 64)
    c_in = 64
    for number, layer in enumerate(RESNETS[name].layers[:3], 1):
        for block in range(layer.blocks):
            at = f"layer{number}.{block}"
            yield f"{at}.conv1.weight", (1, 1, c_in, layer.inside)
            yield f"{at}.conv2.weight", (3, 3, layer.inside, layer.inside)
            yield f"{at}.conv3.weight", (1, 1, layer.inside, layer.c_out)
            if block == 0:
                yield f"{at}.downsample.0.weight", (1, 1, c_in, layer.c_out)
            c_in = layer.c_out
