"""ResNets: their architecture from a state dict, and their features against a twin with separate batch norms."""

import numpy as np
import pytest
import small_networks
from helpers import bits

from mdps_ref.backend import to_device, to_host
from mdps_ref.nn.resnet import LAYERS, RESNETS, architecture, check_architecture, fold_resnet, resnet_features, resnet_layers

BASIC = small_networks.resnet_shapes("BasicBlock", (2, 1, 2, 1), 4, (4, 6, 8, 10), (4, 6, 8, 10))
BOTTLENECK = small_networks.resnet_shapes("Bottleneck", (1, 2, 1, 1), 4, (3, 6, 5, 4), (8, 10, 12, 14))
PARAMETERS = {  # of the whole networks, their last linear map included, as published with the weights
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def named(name, layers=4):
    """A state dict with the shapes of a named ResNet's first layers, made of zeros that take no memory."""
    block, parts = RESNETS[name]
    columns = zip(*parts[:layers], strict=True)
    shapes = small_networks.resnet_shapes(block, *(next(columns), 64, *columns))
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


@pytest.fixture(params=[BASIC, BOTTLENECK], ids=["BasicBlock", "Bottleneck"])
def state(request):
    """A state dict with random numbers in it."""
    return small_networks.random_arrays(request.param)


@pytest.mark.parametrize("size", [(64, 64), (41, 58), (9, 33)])
def test_every_layer_is_its_twin(state, size):
    x = images(2, *size, 3)
    twin, weights = small_networks.resnet_twin(state, x), fold_resnet(state)
    for layer, ours in zip(LAYERS, resnet_features(weights, x, LAYERS), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, twin[layer], rtol=0, atol=2e-6 * abs(twin[layer]).max())
    np.testing.assert_array_equal(x, images(2, *size, 3))  # the input stays as it was, and so do the weights
    assert bits(weights) == bits(fold_resnet(state))


def test_layers_come_in_the_order_asked_for_and_no_more_is_computed(state):
    x, weights = images(1, 16, 16, 3), fold_resnet(state)
    every = resnet_features(weights, x, LAYERS)
    weights["layer3.0.conv1.weight"] = None
    second, first = resnet_features(weights, x, ["layer2", "layer1"])
    np.testing.assert_array_equal(first, every[0])
    np.testing.assert_array_equal(second, every[1])


def test_no_more_is_folded_than_asked_for(state):
    weights, every = fold_resnet(state, last="layer2"), fold_resnet(state)
    assert resnet_layers(weights) == ("layer1", "layer2")
    assert weights.keys() == {name for name in every if not name.startswith(("layer3", "layer4"))}


def test_on_a_device_it_is_the_same(state, xp):
    x, weights = images(1, 16, 16, 3), fold_resnet(state)
    there = resnet_features({name: to_device(w, xp) for name, w in weights.items()}, to_device(x, xp), LAYERS)
    for ours, host in zip(there, resnet_features(weights, x, LAYERS), strict=True):
        np.testing.assert_allclose(to_host(ours), host, atol=1e-5)


@pytest.mark.parametrize("name", RESNETS)
def test_a_named_network_has_its_layers_and_its_number_of_parameters(name):
    state = named(name)
    assert architecture(state) == RESNETS[name]
    check_architecture(state, name)
    own = sum(array.size for key, array in state.items() if not key.endswith(("running_mean", "running_var", "num_batches_tracked")))
    assert own + 1000 * (RESNETS[name].layers[-1].c_out + 1) == PARAMETERS[name]


@pytest.mark.parametrize("given", RESNETS)
@pytest.mark.parametrize("asked", RESNETS)
def test_another_network_is_refused_by_name(given, asked, fails_with):
    if given == asked:
        check_architecture(named(given), asked)
    else:
        with fails_with(f"not the weights of a {asked}", f"it is a {given}"):
            check_architecture(named(given), asked)


def test_the_first_layers_alone_may_belong_to_either():
    """Up to layer2, resnet50 and resnet101 are the same network."""
    for name in ("resnet50", "resnet101"):
        check_architecture(named("resnet50", layers=2), name)


def test_a_network_of_no_name_is_told_in_numbers(fails_with):
    state = {name: np.broadcast_to(np.float32(0), shape) for name, shape in BASIC.items()}
    with fails_with("not the weights of a resnet18", "BasicBlocks, 2 of 4 to 4 channels, 1 of 6 to 6 channels", "2 of 64 to 64"):
        check_architecture(state, "resnet18")


def test_another_kind_of_block_is_another_network(fails_with):
    """Even if all numbers are those of a resnet50."""
    blocks, inside, c_out = zip(*RESNETS["resnet50"].layers, strict=True)
    shapes = small_networks.resnet_shapes("BasicBlock", blocks, 64, inside, c_out)
    with fails_with("not the weights of a resnet50", "BasicBlocks, 3 of 64 to 256", "Bottlenecks, 3 of 64 to 256"):
        check_architecture({name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}, "resnet50")


def test_what_is_not_needed_may_be_there_or_not(state):
    bare = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    full = state | {"fc.weight": np.zeros((1000, 10)), "fc.bias": np.zeros(1000)}
    wanted = fold_resnet(state)
    for more_or_less in (bare, full):
        folded = fold_resnet(more_or_less)
        assert folded.keys() == wanted.keys()
        assert all(np.array_equal(folded[name], wanted[name]) for name in wanted)


def test_everything_that_does_not_fit_is_listed(state, fails_with):
    del state["layer2.0.bn1.running_var"], state["layer1.0.bn1.weight"]
    state["layer1.0.conv2.weight"] = state["layer1.0.conv2.weight"][:, :1]
    state |= {"layer3.0.bn1.bias": np.zeros((3, 3)), "layer2.0.se.weight": np.zeros(3)}
    with fails_with(
        "layer1.0.bn1.weight is missing",
        "layer2.0.bn1.running_var is missing",
        "layer1.0.conv2.weight has shape (",
        "layer3.0.bn1.bias has shape (3, 3), not (",
        "layer2.0.se.weight is unexpected",
    ):
        fold_resnet(state)


def test_a_block_or_a_layer_that_is_left_out_is_missed(state, fails_with):
    """Without layer2, all layers behind it are unexpected."""
    without = {name: array for name, array in state.items() if not name.startswith("layer2")}
    with fails_with("layer3.0.bn1.bias is unexpected"):
        fold_resnet(without)
    moved = {name.replace("layer2.0", "layer2.7"): array for name, array in state.items()}
    with fails_with("layer2.0.bn1.bias is missing"):
        fold_resnet(moved)


def test_what_is_no_resnet_is_one_line(fails_with):
    for other in ({}, {"features.0.weight": np.zeros((8, 3, 3, 3))}):
        with fails_with("conv1.weight is missing"):
            fold_resnet(other)
