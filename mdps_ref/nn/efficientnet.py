"""EfficientNet-Lite0 [1]_ [2]_ as a frozen feature extractor, with the names of the PyTorch port for its arrays.

A 3 x 3 convolution of stride 2 comes first, then 16 inverted residual blocks: a 1 x 1 convolution to six times the channels, a depthwise
convolution, and a 1 x 1 convolution back to few channels, with a shortcut around all three where the shapes allow it. A batch norm follows
each convolution, and a ReLU6 follows all but the last of a block. A pixel of blocks.0, blocks.2, blocks.4, blocks.10, blocks.15 stands
for 2, 4, 8, 16, 32 pixels a side of the image: each is the last block at its scale.

References
----------
.. [1] M. Tan, Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.
.. [2] R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020: no squeeze-and-excitation, ReLU6 for Swish.
"""

import numpy as np

from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.autograd.network import replayable
from mdps_ref.autograd.ops import linear, pad
from mdps_ref.errors import check_arrays
from mdps_ref.nn.frozen import fold, relu6, size_of

KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)  # side of each block's depthwise kernel
HALVING = (1, 3, 5, 11)  # blocks with a depthwise convolution of stride 2
BLOCKS = tuple(f"blocks.{block}" for block in range(len(KERNELS)))
EPSILON = 1e-3  # of the batch norms in TensorFlow, where the weights were trained
MOMENTS = ("weight", "bias", "running_mean", "running_var")


def fold_efficientnet(state):
    """Fold the batch norms of an EfficientNet-Lite0 into its convolutions. The number of channels comes from the arrays themselves.

    Parameters
    ----------
    state : dict of str to host array
        PyTorch's state dict: kernels (Co, Ci, K, K), depthwise kernels (C, 1, K, K), and the classifier (classes, C). Counts of
        batches may be missing.

    Returns
    -------
    dict of str to float32 array
        "<convolution>.weight", (K, K, Ci, Co), (Ci, Co) for K = 1 or (K, K, C) where it is depthwise, and "<convolution>.bias", (Co).
        The classifier is "fc.weight", (C, classes), and "fc.bias".

    Raises
    ------
    InputError
        If an array is missing, unexpected, or has another shape.
    """
    convolutions = list(_convolutions(state))
    wanted = {}
    for name, norm, shape in convolutions:
        wanted |= {f"{name}.weight": shape} | {f"{norm}.{moment}": shape[:1] for moment in MOMENTS}
    classes = size_of(state, "_fc.weight", 0)
    wanted |= {"_fc.weight": (classes, size_of(state, "_conv_head.weight", 0)), "_fc.bias": (classes,)}
    check_arrays(state, wanted, [name for name in state if name.endswith("num_batches_tracked")])
    weights = {"fc.weight": np.ascontiguousarray(state["_fc.weight"].T, np.float32), "fc.bias": state["_fc.bias"].astype(np.float32)}
    for name, norm, _ in convolutions:
        kernel = state[f"{name}.weight"].transpose(2, 3, 1, 0)
        if kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]
        elif name.endswith("depthwise_conv"):
            kernel = kernel[:, :, 0]
        ours = name.replace("._", ".").removeprefix("_")
        weights[f"{ours}.weight"], weights[f"{ours}.bias"] = fold(kernel, *(state[f"{norm}.{moment}"] for moment in MOMENTS), EPSILON)
    return weights


def efficientnet_features(weights, x, layers):
    """Compute the outputs of some blocks. Nothing behind the last of these blocks is computed.

    Parameters
    ----------
    weights : dict of str to array
        From `fold_efficientnet`.
    x : array, (N, H, W, 3) in [-1, 1]
    layers : sequence of str
        Some of BLOCKS.

    Returns
    -------
    list of array, (N, h, w, C)
        In the order of `layers`; h is H / 2, 4, 8, 16 or 32, rounded up.
    """
    return _features(weights, x, layers=tuple(layers))


@replayable
def _features(weights, x, *, layers):
    """The network as far as it is asked for.  Shapes: as `efficientnet_features`."""
    outputs, block = {}, 0
    x = _stem(weights, x)
    while not outputs.keys() >= set(layers):
        x = outputs[BLOCKS[block]] = inverted_residual(weights, BLOCKS[block], x, stride=2 if block in HALVING else 1)
        block += 1
    return [outputs[layer] for layer in layers]


def efficientnet_logits(weights, x):
    """Classify images, to check the weights against photographs of known content.

    Parameters
    ----------
    weights : dict of str to array
        From `fold_efficientnet`.
    x : array, (N, H, W, 3) in [-1, 1]
        224 x 224 pixels as the network was trained, or more.

    Returns
    -------
    array, (N, classes)
        The logarithm of each class's probability, up to a constant an image.
    """
    (x,) = efficientnet_features(weights, x, BLOCKS[-1:])
    x = relu6(linear(x, weights["conv_head.weight"], weights["conv_head.bias"])).mean(axis=(1, 2))
    return x @ weights["fc.weight"] + weights["fc.bias"]


def inverted_residual(weights, name, x, stride):
    """Apply a block. The first one does not widen its input, and a block has a shortcut if it changes neither size nor channels.

    Shapes: x (N, H, W, Ci) -> (N, ceil(H / stride), ceil(W / stride), Co).
    """
    y = x
    if f"{name}.expand_conv.weight" in weights:
        y = relu6(linear(y, *_weights(weights, f"{name}.expand_conv")))
    kernel, bias = _weights(weights, f"{name}.depthwise_conv")
    y, pads = _same(y, len(kernel), stride)
    y = relu6(depthwise_conv2d(y, kernel, bias, stride=stride, pads=pads))
    y = linear(y, *_weights(weights, f"{name}.project_conv"))
    if stride == 1 and y.shape == x.shape:
        y += x
    return y


def _stem(weights, x):
    """The first convolution, on pixels as TensorFlow's network was given them: (p - 127) / 128, where p is from 0 to 255."""
    x, pads = _same((127.5 * x + 0.5) / 128, 3, 2)
    return relu6(conv2d(x, *_weights(weights, "conv_stem"), stride=2, pads=pads))


def _same(x, k, stride):
    """TensorFlow's padding "SAME": ceil(size / stride) positions, and of an odd number of zeros one more at the end than at the start.

    Return x and its padding, (before, after). Where lines and columns need different ones, x is padded here.
    """
    totals = (max(0, (-(-size // stride) - 1) * stride + k - size) for size in x.shape[1:3])
    lines, columns = ((total // 2, total - total // 2) for total in totals)
    return (x, lines) if lines == columns else (pad(x, widths=((0, 0), lines, columns, (0, 0))), (0, 0))


def _weights(weights, name):
    """The kernel and the bias of a convolution."""
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _convolutions(state):
    """(name, name of its batch norm, shape of its kernel in the state dict) of each; None is a size that nothing implies."""
    width = size_of(state, "_conv_stem.weight", 0)
    yield "_conv_stem", "_bn0", (width, 3, 3, 3)
    for block, k in enumerate(KERNELS):
        name, c_in = f"_blocks.{block}", width
        if block > 0:
            width = size_of(state, f"{name}._expand_conv.weight", 0)
            yield f"{name}._expand_conv", f"{name}._bn0", (width, c_in, 1, 1)
        yield f"{name}._depthwise_conv", f"{name}._bn1", (width, 1, k, k)
        inside, width = width, size_of(state, f"{name}._project_conv.weight", 0)
        yield f"{name}._project_conv", f"{name}._bn2", (width, inside, 1, 1)
    yield "_conv_head", "_bn1", (size_of(state, "_conv_head.weight", 0), width, 1, 1)
