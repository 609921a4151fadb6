"""A random EfficientNet-Lite0 of a few channels, as PyTorch holds it, and what it should give, a norm at a time."""

import numpy as np
from small_networks import windows

KERNELS = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
WIDTHS = (3, 4, 4, 5, 5, 4, 4, 4, 6, 6, 6, 5, 5, 5, 5, 7)  # channels out of each block; where they stay, there is a shortcut


def efficientnet_shapes(stem=6, widths=WIDTHS, wider=2, head=9, classes=8):
    """{name: shape} of the state dict.  wider: how many times more channels there are inside a block."""
    shapes = {"_fc.weight": (classes, head), "_fc.bias": (classes,)}

    def add(kernel, norm, *shape):
        shapes[f"{kernel}.weight"] = shape
        shapes.update({f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{norm}.num_batches_tracked"] = ()

    add("_conv_stem", "_bn0", stem, 3, 3, 3)
    before = stem
    for block, (k, after) in enumerate(zip(KERNELS, widths, strict=True)):
        name, inside = f"_blocks.{block}", wider * before if block else before
        if block:
            add(f"{name}._expand_conv", f"{name}._bn0", inside, before, 1, 1)
        add(f"{name}._depthwise_conv", f"{name}._bn1", inside, 1, k, k)
        add(f"{name}._project_conv", f"{name}._bn2", after, inside, 1, 1)
        before = after
    add("_conv_head", "_bn1", head, before, 1, 1)
    return shapes


def efficientnet_twin(state, x):
    """The outputs of all blocks, and the logits, in float64.  Shapes: x (N, H, W, 3) -> {layer: (N, h, w, C)}, (N, classes)."""

    def normed(h, norm):
        gamma, beta, mean, variance = (state[f"{norm}.{part}"].astype(float) for part in ("weight", "bias", "running_mean", "running_var"))
        return gamma * (h - mean) / np.sqrt(variance + 1e-3) + beta

    def relu6(h):
        return np.clip(h, 0, 6)

    def pointwise(h, name):
        return h @ state[f"{name}.weight"][:, :, 0, 0].T.astype(float)

    bytes_ = (x.astype(float) + 1) * 127.5
    stem = state["_conv_stem.weight"].astype(float)
    h = sum(part @ stem[:, :, i, j].T for i, j, part in same_windows((bytes_ - 127) / 128, 3, 2))
    h, outputs = relu6(normed(h, "_bn0")), {}
    for block, (k, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
        name, y = f"_blocks.{block}", h
        if block:
            y = relu6(normed(pointwise(y, f"{name}._expand_conv"), f"{name}._bn0"))
        kernel = state[f"{name}._depthwise_conv.weight"].astype(float)
        y = relu6(normed(sum(part * kernel[:, 0, i, j] for i, j, part in same_windows(y, k, stride)), f"{name}._bn1"))
        y = normed(pointwise(y, f"{name}._project_conv"), f"{name}._bn2")
        h = y + h if stride == 1 and y.shape == h.shape else y
        outputs[f"blocks.{block}"] = h
    pooled = relu6(normed(pointwise(h, "_conv_head"), "_bn1")).mean(axis=(1, 2))
    return outputs, pooled @ state["_fc.weight"].T.astype(float) + state["_fc.bias"]


def same_windows(x, k, stride):
    """(i, j, the pixels that the kernel's entry (i, j) meets), with zeros for ceil(size / stride) positions, the odd zero at the end."""
    needed = [(int(np.ceil(size / stride)) - 1) * stride + k for size in x.shape[1:3]]
    zeros = [max(0, n - size) for n, size in zip(needed, x.shape[1:3], strict=True)]
    padded = np.pad(x, ((0, 0), *((total // 2, total - total // 2) for total in zeros), (0, 0)))
    return windows(padded, k, stride, 0, 0)
