"""ResNets [1]_ and wide ResNets [2]_ as frozen feature extractors, with torchvision's names for their arrays.

A 7 x 7 convolution and a max pooling, both of stride 2, come first. Then come up to four layers of residual blocks; the first block of
layer2, layer3 and layer4 has stride 2. So a pixel of layer1, layer2, layer3, layer4 stands for 4, 8, 16, 32 pixels a side of the image.

References
----------
.. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
.. [2] S. Zagoruyko, N. Komodakis, "Wide residual networks", BMVC 2016.
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
    """A layer of residual blocks.

    Attributes
    ----------
    blocks : int
        Number of blocks.
    inside : int
        Channels between the convolutions of a block.
    c_out : int
        Channels that a block returns.
    """

    blocks: int
    inside: int
    c_out: int


class Architecture(NamedTuple):
    """The kind of block and the layers of a ResNet.

    Attributes
    ----------
    block : {"BasicBlock", "Bottleneck"}
        A BasicBlock has two 3 x 3 convolutions, the first with the stride. A Bottleneck has a 1 x 1 convolution, a 3 x 3 convolution
        with the stride, and a 1 x 1 convolution.
    layers : tuple of Layer
    """

    block: str
    layers: tuple[Layer, ...]


def _architecture(block, blocks, inside):
    """An Architecture in which every layer has twice the channels of the layer before it."""
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
    """Fold the batch norms of a ResNet into its convolutions, up to the layer `last`.

    The number of blocks and of channels comes from the state dict itself.

    Parameters
    ----------
    state : dict of str to host array
        A state dict of torchvision, kernels (Co, Ci, K, K). The last layers and the classifier may be missing.
    last : str
        One of LAYERS.

    Returns
    -------
    dict of str to float32 array
        "<convolution>.weight", (K, K, Ci, Co), and "<convolution>.bias", (Co).

    Raises
    ------
    InputError
        If an array is missing, unexpected, or has another shape.
    """
    shapes = dict(_convolutions(state))
    wanted, optional = {}, ["fc.weight", "fc.bias"]
    for name, shape in shapes.items():
        wanted |= {f"{name}.weight": shape} | dict.fromkeys(_norm_arrays(name), shape[:1])
        optional.append(f"{_norm(name)}.num_batches_tracked")
    check_arrays(state, wanted, optional)
    weights = {}
    for name in shapes:
        if name[: len(last)] <= last:  # in alphabetic order, too, conv1 comes before the layers
            kernel = np.transpose(state[f"{name}.weight"], (2, 3, 1, 0))
            moments = [state[part] for part in _norm_arrays(name)]
            weights[f"{name}.weight"], weights[f"{name}.bias"] = fold(kernel, *moments, EPSILON)
    return weights


def check_architecture(state, name):
    """Check that a state dict is that of a named ResNet, or of its first layers.

    Parameters
    ----------
    state : dict of str to array
    name : str
        A key of RESNETS.

    Raises
    ------
    InputError
        If it is another network. The message says which.
    """
    found = architecture(state)
    if not _is_beginning(found, RESNETS[name]):
        fitting = [other for other, wanted in RESNETS.items() if _is_beginning(found, wanted)]
        says = f"it is a {' or a '.join(fitting)}" if fitting else f"its layers are {_described(found)}, not {_described(RESNETS[name])}"
        raise InputError(f"not the weights of a {name}: {says}")


def resnet_layers(arrays):
    """Return the names of the layers in a state dict or in folded weights."""
    return tuple(layer for layer in LAYERS if f"{layer}.0.conv1.weight" in arrays)


def architecture(state):
    """Infer the architecture of a ResNet from the names and shapes in its state dict.

    Parameters
    ----------
    state : dict of str to array

    Returns
    -------
    Architecture
        A number of channels that cannot be inferred is None.
    """
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
    """Compute the outputs of some layers. Nothing behind the last of these layers is computed.

    Parameters
    ----------
    weights : dict of str to array
        From `fold_resnet`.
    x : array, (N, H, W, 3)
        Normalised as for the network's training.
    layers : sequence of str
        Some of LAYERS.

    Returns
    -------
    list of array, (N, h, w, C)
        In the order of `layers`; h is H / 4, 8, 16 or 32, rounded up.
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
    """A residual block: two or three convolutions, plus a shortcut, which is x itself or a 1 x 1 convolution of x."""
    strides = (1, stride, 1) if f"{name}.conv3.weight" in weights else (stride, 1)
    y = _convolution(weights, f"{name}.conv1", x, strides[0])
    for number, own in enumerate(strides[1:], 2):
        y = _convolution(weights, f"{name}.conv{number}", relu(y), own)
    y += _convolution(weights, f"{name}.downsample.0", x, stride) if f"{name}.downsample.0.weight" in weights else x
    return relu(y)


def _convolution(weights, name, x, stride):
    """The convolution of that name, with its batch norm."""
    return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride)


def _convolutions(state):
    """(name, shape of the kernel in the state dict) of every convolution; None is a size that nothing implies."""
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
    """The name of the batch norm that follows a convolution."""
    return convolution.replace("conv", "bn") if "conv" in convolution else convolution.removesuffix("0") + "1"


def _norm_arrays(convolution):
    """The names of the batch norm's arrays, in the order of `fold`'s arguments."""
    return [f"{_norm(convolution)}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def _is_beginning(found, whole):
    """True if `found` has the first layers of `whole`, or all of them."""
    return found.block == whole.block and found.layers == whole.layers[: len(found.layers)]


def _described(found):
    """An Architecture in words, for a message."""
    layers = ", ".join(f"{layer.blocks} of {layer.inside} to {layer.c_out} channels" for layer in found.layers)
    return f"{found.block}s, {layers}"
