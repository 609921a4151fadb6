"""MobileNet v1 (Howard et al. 2017) as a frozen feature extractor, its arrays named as in Keras, with "." for "/".

A 3 x 3 convolution of stride 2, then 13 blocks of a depthwise 3 x 3 and a 1 x 1 convolution, a batch norm and ReLU6 behind each.
So a pixel of conv_pw_1, conv_pw_3, conv_pw_5, conv_pw_11, conv_pw_13 stands for 2, 4, 8, 16, 32 pixels a side of the image.
"""

from mdps_ref.autograd.conv import conv2d, depthwise_conv2d
from mdps_ref.errors import check_arrays
from mdps_ref.nn.frozen import fold, relu6, size_of

BLOCKS = 13
HALVING = (2, 4, 6, 12)  # the blocks whose depthwise convolution has stride 2
PADS = {1: (1, 1), 2: (0, 1)}  # zeros before and after, by stride: Keras pads the layers of stride 2 below and to the right only
EPSILON = 1e-3  # of Keras's batch norms
MOMENTS = ("gamma", "beta", "moving_mean", "moving_variance")


def fold_mobilenet(arrays):
    """The weights of a MobileNet, batch norms folded in.  Its widths, and whether its last block is whole, are read off the file.

    arrays: {Keras's name: host array}; the last 1 x 1 convolution and the classifier may be left out.
    Shapes: kernels (K, K, Ci, Co), depthwise (3, 3, C, 1) -> {name: array}, "<convolution>.kernel" (K, K, Ci, Co), depthwise (3, 3, C),
    and "<convolution>.bias" (Co), float32.
    Raises: InputError that lists every array that is missing, not wanted, or of another shape.
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
    """The names of the layers that these arrays, Keras's or weights, have: the outputs of the blocks."""
    return tuple(f"conv_pw_{block}" for block in range(1, BLOCKS + 1) if f"conv_pw_{block}.kernel" in arrays)


def mobilenet_features(weights, x, layers):
    """The outputs of some blocks, in the order asked for; nothing is computed beyond the last of them.

    Shapes: x (N, H, W, 3) in [-1, 1] -> a list of (N, h, w, C), h = H / 2, 4, 8, 16, 32 rounded down.
    """
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
    """(name, kind, shape) of the kernel of every convolution, as in the file; sizes that nothing tells are None."""
    width = size_of(arrays, "conv1.kernel", 3)
    yield "conv1", "kernel", (3, 3, 3, width)
    for block in range(1, BLOCKS + 1):
        if block == BLOCKS and f"conv_pw_{block}.kernel" not in arrays:
            return
        yield f"conv_dw_{block}", "depthwise_kernel", (3, 3, width, 1)
        c_in, width = width, size_of(arrays, f"conv_pw_{block}.kernel", 3)
        yield f"conv_pw_{block}", "kernel", (1, 1, c_in, width)
