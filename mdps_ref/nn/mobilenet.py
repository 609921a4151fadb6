"""MobileNet v1 [1]_ as a frozen feature extractor, with Keras's names for its arrays ("." for "/").

A 3 x 3 convolution of stride 2 comes first, then 13 blocks of a depthwise 3 x 3 and a 1 x 1 convolution. A batch norm and a ReLU6 follow
each convolution. A pixel of conv_pw_1, conv_pw_3, conv_pw_5, conv_pw_11, conv_pw_13 stands for 2, 4, 8, 16, 32 pixels a side of the image.

References
----------
.. [1] A. G. Howard et al., "MobileNets: Efficient convolutional neural networks for mobile vision applications", arXiv 1704.04861, 2017.
"""

from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.autograd.network import replayable
from mdps_ref.errors import check_arrays
from mdps_ref.nn.frozen import fold, relu6, size_of

BLOCKS = 13
HALVING = (2, 4, 6, 12)  # blocks with a depthwise convolution of stride 2
PADS = {1: (1, 1), 2: (0, 1)}  # stride: zeros (before, after); Keras pads layers of stride 2 only below and to the right
EPSILON = 1e-3  # of Keras's batch norms
MOMENTS = ("gamma", "beta", "moving_mean", "moving_variance")


def fold_mobilenet(arrays):
    """Fold the batch norms of a MobileNet into its convolutions. The number of channels comes from the arrays themselves.

    Parameters
    ----------
    arrays : dict of str to host array
        Keras's arrays: kernels (K, K, Ci, Co) and depthwise kernels (3, 3, C, 1). The last 1 x 1 convolution, without which the last
        block is left out, and the classifier may be missing.

    Returns
    -------
    dict of str to float32 array
        "<convolution>.kernel", (K, K, Ci, Co) or depthwise (3, 3, C), and "<convolution>.bias", (Co).

    Raises
    ------
    InputError
        If an array is missing, unexpected, or has another shape.
    """
    kernels = list(_kernels(arrays))
    wanted = {f"{name}.{kind}": shape for name, kind, shape in kernels}
    for name, kind, shape in kernels:
        width = shape[3:] if kind == "kernel" else shape[2:3]
        wanted |= {f"{name}_bn.{moment}": width for moment in MOMENTS}
    check_arrays(arrays, wanted, [name for name in arrays if name.startswith(("conv_dw_13", "conv_pw_13", "conv_preds"))])
    weights = {}
    for name, kind, _ in kernels:
        kernel = arrays[f"{name}.{kind}"] if kind == "kernel" else arrays[f"{name}.{kind}"][..., 0]
        moments = [arrays[f"{name}_bn.{moment}"] for moment in MOMENTS]
        weights[f"{name}.kernel"], weights[f"{name}.bias"] = fold(kernel, *moments, EPSILON)
    return weights


def mobilenet_layers(arrays):
    """Return the names of the layers, which are the outputs of the blocks, in Keras's arrays or in folded weights."""
    return tuple(f"conv_pw_{block}" for block in range(1, BLOCKS + 1) if f"conv_pw_{block}.kernel" in arrays)


def mobilenet_features(weights, x, layers):
    """Compute the outputs of some blocks. Nothing behind the last of these blocks is computed.

    Parameters
    ----------
    weights : dict of str to array
        From `fold_mobilenet`.
    x : array, (N, H, W, 3) in [-1, 1]
    layers : sequence of str
        Some of "conv_pw_1" ... "conv_pw_13".

    Returns
    -------
    list of array, (N, h, w, C)
        In the order of `layers`; h is H / 2, 4, 8, 16 or 32, rounded down.
    """
    return _blocks(weights, x, layers=tuple(layers))


@replayable
def _blocks(weights, x, *, layers):
    """The network as far as it is asked for.  Shapes: as `mobilenet_features`."""
    x = relu6(conv2d(x, *_weights(weights, "conv1"), stride=2, pads=PADS[2]))
    outputs, block = {}, 0
    while not outputs.keys() >= set(layers):
        block += 1
        stride = 2 if block in HALVING else 1
        x = relu6(depthwise_conv2d(x, *_weights(weights, f"conv_dw_{block}"), stride=stride, pads=PADS[stride]))
        x = relu6(conv2d(x, *_weights(weights, f"conv_pw_{block}")))
        outputs[f"conv_pw_{block}"] = x
    return [outputs[layer] for layer in layers]


def _weights(weights, name):
    """The kernel and the bias of a convolution."""
    return weights[f"{name}.kernel"], weights[f"{name}.bias"]


def _kernels(arrays):
    """(name, kind, shape in the file) of the kernel of every convolution; None is a size that nothing implies."""
    width = size_of(arrays, "conv1.kernel", 3)
    yield "conv1", "kernel", (3, 3, 3, width)
    for block in range(1, BLOCKS + 1):
        if block == BLOCKS and f"conv_pw_{block}.kernel" not in arrays:
            return
        yield f"conv_dw_{block}", "depthwise_kernel", (3, 3, width, 1)
        c_in, width = width, size_of(arrays, f"conv_pw_{block}.kernel", 3)
        yield f"conv_pw_{block}", "kernel", (1, 1, c_in, width)
