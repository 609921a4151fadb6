"""MobileNet v1: its features against a twin with separate batch norms, and the real weights if they are there."""

import pathlib

import numpy as np
import pytest
import small_networks

from mdps_ref.backend import to_device, to_host
from mdps_ref.nn.mobilenet import fold_mobilenet, mobilenet_features, mobilenet_layers

WIDTHS = (4, 6, 5, 7, 4, 6, 8, 5, 6, 7, 4, 5, 6, 8)
REAL = pathlib.Path(__file__).parents[3] / "shared" / "weights" / "mobilenet_v1_1.0_224.npz"


@pytest.fixture
def arrays():
    """Random arrays in Keras's form."""
    return small_networks.random_arrays(small_networks.mobilenet_shapes(WIDTHS))


def images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("size", [(64, 64), (37, 70)])
def test_every_block_is_its_twin(arrays, size):
    x, layers = images(2, *size, 3), mobilenet_layers(arrays)
    assert len(layers) == 13
    twin = small_networks.mobilenet_twin(arrays, x)
    for layer, ours in zip(layers, mobilenet_features(fold_mobilenet(arrays), x, layers), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, twin[layer], rtol=0, atol=2e-6 * abs(twin[layer]).max())


def test_blocks_come_in_the_order_asked_for_and_no_more_is_computed(arrays):
    x, weights = images(1, 32, 32, 3), fold_mobilenet(arrays)
    fewer = {name: w for name, w in weights.items() if not name.startswith(("conv_dw_6", "conv_pw_6"))}
    fifth, second = mobilenet_features(fewer, x, ["conv_pw_5", "conv_pw_2"])
    every = mobilenet_features(weights, x, mobilenet_layers(weights))
    np.testing.assert_array_equal(second, every[1])
    np.testing.assert_array_equal(fifth, every[4])


def test_on_a_device_it_is_the_same(arrays, xp):
    x, weights = images(1, 32, 32, 3), fold_mobilenet(arrays)
    there = mobilenet_features({name: to_device(w, xp) for name, w in weights.items()}, to_device(x, xp), ["conv_pw_2", "conv_pw_13"])
    for ours, host in zip(there, mobilenet_features(weights, x, ["conv_pw_2", "conv_pw_13"]), strict=True):
        np.testing.assert_allclose(to_host(ours), host, atol=1e-5)


def test_without_its_last_kernel_the_last_block_is_no_layer(arrays):
    """The project's file has a part of the 13th block, and the classifier; both are left out."""
    del arrays["conv_pw_13.kernel"]
    arrays |= {"conv_preds.kernel": np.zeros((1, 1, 8, 10)), "conv_preds.bias": np.zeros(10)}
    assert mobilenet_layers(arrays)[-1] == "conv_pw_12"
    assert not any(name.startswith(("conv_dw_13", "conv_preds")) for name in fold_mobilenet(arrays))


def test_everything_that_does_not_fit_is_listed(arrays, fails_with):
    del arrays["conv_dw_3_bn.gamma"], arrays["conv_pw_7.kernel"]
    arrays["conv_dw_5.depthwise_kernel"] = arrays["conv_dw_5.depthwise_kernel"][..., 0]
    arrays["conv1_bn.beta"] = np.zeros(3)
    arrays["dense.kernel"] = np.zeros((2, 2))
    with fails_with(
        "conv_dw_3_bn.gamma is missing",
        "conv_pw_7.kernel is missing",
        "conv_dw_5.depthwise_kernel has shape (3, 3, 4), not (3, 3, 4, 1)",
        "conv1_bn.beta has shape (3,), not (4,)",
        "dense.kernel is unexpected",
    ):
        fold_mobilenet(arrays)
    with fails_with("conv1.kernel is missing", "and 121 more"):
        fold_mobilenet({"weight": np.zeros(3)})


@pytest.fixture(scope="module")
def real_weights():
    """The real weights, folded."""
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    with np.load(REAL) as archive:
        return fold_mobilenet(dict(archive))


def test_the_real_network_is_its_twin_and_its_features_are_in_use(real_weights):
    """The features of random images are neither all 0 nor all 6."""
    layers = ("conv_pw_1", "conv_pw_3", "conv_pw_5", "conv_pw_11", "conv_pw_12")
    features = mobilenet_features(real_weights, images(2, 64, 96, 3), layers)
    assert [f.shape[1:] for f in features] == [(32, 48, 64), (16, 24, 128), (8, 12, 256), (4, 6, 512), (2, 3, 1024)]
    for f in features:
        assert f.min() == 0 and f.max() <= 6 and 0.02 < (f > 0).mean() < 0.9
    with np.load(REAL) as archive:
        twin = small_networks.mobilenet_twin(dict(archive), images(1, 64, 96, 3))
    for layer, f in zip(layers, mobilenet_features(real_weights, images(1, 64, 96, 3), layers), strict=True):
        np.testing.assert_allclose(f, twin[layer], rtol=0, atol=2e-5 * abs(twin[layer]).max())
