"""ResNets (He et al. 2016; wide: Zagoruyko & Komodakis 2016) as frozen feature extractors, their arrays named as torchvision's are.

A 7 x 7 convolution and a max pooling, both of stride 2, then up to four layers of residual blocks, each but the first with stride 2
in its first block. So a pixel of layer1, layer2, layer3, layer4 stands for 4, 8, 16, 32 pixels a side of the image.
"""

import re
from typing import NamedTuple

import numpy as np

from mdps_ref.autograd.conv import conv2d
from mdps_ref.errors import InputError, check_arrays
from mdps_ref.nn.frozen import fold, max_pool, relu, size_of

LAYERS = ("layer1", "layer2", "layer3", "layer4")
EPSILON = 1e-5  # of torchvision's batch norms


class Layer(NamedTuple):
    """How many residual blocks a layer has, the channels between their convolutions, and the channels they give."""

    blocks: int
    inside: int
    c_out: int


class Architecture(NamedTuple):
    """What tells one ResNet from another: its kind of block, and its layers.

    BasicBlock: two 3 x 3 convolutions, the first with the stride.  Bottleneck: 1 x 1, 3 x 3 with the stride, 1 x 1.
    """

    block: str
    layers: tuple[Layer, ...]


def _architecture(block, blocks, inside):
    """One of the usual kind: every layer has twice the channels of the one before."""
    c_out = {"BasicBlock": 64, "Bottleneck": 256}[block]
    return Architecture(block, tuple(Layer(count, inside << i, c_out << i) for i, count in enumerate(blocks)))


RESNETS = {
    "resnet18": _architecture("BasicBlock", (2, 2, 2, 2), 64),
    "resnet34": _architecture("BasicBlock", (3, 4, 6, 3), 64),
    "resnet50": _architecture("Bottleneck", (3, 4, 6, 3), 64),
    "resnet101": _architecture("Bottleneck", (3, 4, 23, 3), 64),
    "wide_resnet50_2": _architecture("Bottleneck", (3, 4, 6, 3), 128),
    "wide_resnet101_2": _architecture("Bottleneck", (3, 4, 23, 3), 128),
}


def fold_resnet(state, last="layer4"):
    """The weights of a ResNet, batch norms folded in, up to the layer `last`.  Its blocks and widths are read off the file itself.

    state: {torchvision's name: host array}; layers at the end, and the classifier, may be left out.
    Shapes: kernels (Co, Ci, K, K) -> {name: array}, "<convolution>.weight" (K, K, Ci, Co) and "<convolution>.bias" (Co), float32.
    Raises: InputError that lists every array that is missing, not wanted, or of another shape.
    """
    shapes = dict(_convolutions(state))
    wanted, optional = {}, ["fc.weight", "fc.bias"]
    for name, shape in shapes.items():
        wanted |= {f"{name}.weight": shape} | dict.fromkeys(_norm_arrays(name), shape[:1])
        optional.append(f"{_norm(name)}.num_batches_tracked")
    check_arrays(state, wanted, optional)
    weights = {}
    for name in shapes:
        if name[: len(last)] <= last:  # in the alphabet, too, conv1 comes first
            kernel = np.transpose(state[f"{name}.weight"], (2, 3, 1, 0))
            moments = [state[part] for part in _norm_arrays(name)]
            weights[f"{name}.weight"], weights[f"{name}.bias"] = fold(kernel, *moments, EPSILON)
    return weights


def check_architecture(state, name):
    """Raises: InputError unless this is the state dict of the ResNet of that name, a key of RESNETS."""
    found = architecture(state)
    if not _is_beginning(found, RESNETS[name]):
        fitting = [other for other, wanted in RESNETS.items() if _is_beginning(found, wanted)]
        says = f"it is a {' or a '.join(fitting)}" if fitting else f"its layers are {_told(found)}, not {_told(RESNETS[name])}"
        raise InputError(f"not the weights of a {name}: {says}")


def resnet_layers(arrays):
    """The names of the layers that these arrays, a state dict or weights, have."""
    return tuple(layer for layer in LAYERS if f"{layer}.0.conv1.weight" in arrays)


def architecture(state):
    """The Architecture that the names and shapes in a state dict tell; a width that nothing tells is None."""
    block, last = ("Bottleneck", 3) if any(name.endswith(".conv3.weight") for name in state) else ("BasicBlock", 2)
    layers = []
    for layer in LAYERS:
        blocks = {found[1] for name in state if (found := re.match(rf"{layer}\.(\d+)\.", name))}
        if layers and not blocks:
            break
        inside, c_out = (size_of(state, f"{layer}.0.conv{number}.weight", 0) for number in (1, last))
        layers.append(Layer(len(blocks) or 1, inside, c_out))
    return Architecture(block, tuple(layers))


def resnet_features(weights, x, layers):
    """The outputs of some layers, in the order asked for; nothing is computed beyond the last of them.

    Shapes: x (N, H, W, 3), normalised as the network was trained -> a list of (N, h, w, C), h = H / 4, 8, 16, 32 rounded up.
    """
    x = max_pool(relu(_convolution(weights, "conv1", x, 2)))
    outputs = {}
    for layer in LAYERS[: 1 + max(LAYERS.index(layer) for layer in layers)]:
        block = 0
        while f"{layer}.{block}.conv1.weight" in weights:
            x = _block(weights, f"{layer}.{block}", x, stride=2 if layer != "layer1" and block == 0 else 1)
            block += 1
        outputs[layer] = x
    return [outputs[layer] for layer in layers]


def _block(weights, name, x, stride):
    """A residual block: two or three convolutions beside a shortcut, which is x itself or a 1 x 1 convolution of it."""
    strides = (1, stride, 1) if f"{name}.conv3.weight" in weights else (stride, 1)
    y = _convolution(weights, f"{name}.conv1", x, strides[0])
    for number, own in enumerate(strides[1:], 2):
        y = _convolution(weights, f"{name}.conv{number}", relu(y), own)
    y += _convolution(weights, f"{name}.downsample.0", x, stride) if f"{name}.downsample.0.weight" in weights else x
    return relu(y)


def _convolution(weights, name, x, stride):
    """The convolution of that name, its batch norm with it."""
    return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride)


def _convolutions(state):
    """(name, shape of its kernel as in the state dict) of every convolution; sizes that nothing tells are None."""
    block, layers = architecture(state)
    c_in = size_of(state, "conv1.weight", 0)
    yield "conv1", (c_in, 3, 7, 7)
    for layer, (blocks, inside, c_out) in zip(LAYERS, layers, strict=False):
        for number in range(blocks):
            name = f"{layer}.{number}"
            yield f"{name}.conv1", (inside, c_in, 1, 1) if block == "Bottleneck" else (inside, c_in, 3, 3)
            yield f"{name}.conv2", (inside, inside, 3, 3) if block == "Bottleneck" else (c_out, inside, 3, 3)
            if block == "Bottleneck":
                yield f"{name}.conv3", (c_out, inside, 1, 1)
            if number == 0 and (layer != "layer1" or c_in != c_out):
                yield f"{name}.downsample.0", (c_out, c_in, 1, 1)
            c_in = c_out


def _norm(convolution):
    """The name of the batch norm behind a convolution."""
    return convolution.replace("conv", "bn") if "conv" in convolution else convolution.removesuffix("0") + "1"


def _norm_arrays(convolution):
    """The names of its arrays, in the order that `fold` takes them."""
    return [f"{_norm(convolution)}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def _is_beginning(found, whole):
    """Whether a ResNet has the layers of another one, or the first few of them."""
    return found.block == whole.block and found.layers == whole.layers[: len(found.layers)]


def _told(found):
    """An Architecture in words."""
    layers = ", ".join(f"{layer.blocks} of {layer.inside} to {layer.c_out} channels" for layer in found.layers)
    return f"{found.block}s, {layers}"
