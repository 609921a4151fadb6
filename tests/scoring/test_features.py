"""The network's own activations as features."""

import numpy as np

from mdps_ref.nn.unet import UNetConfig, init_unet
from mdps_ref.scoring.features import unet_features

CONFIG = UNetConfig(image_size=16, base_channels=4, multipliers=(1, 1, 2), attention_sizes=(), heads=2, groups=2)


def test_two_layers_at_a_half_and_a_quarter_of_the_side():
    layers = unet_features(init_unet(CONFIG), CONFIG)(np.zeros((3, 16, 16, 3), np.float32))
    assert [layer.shape for layer in layers] == [(3, 8, 8, 4), (3, 4, 4, 8)]


def test_a_network_of_one_level_has_one_layer():
    config = UNetConfig(image_size=8, base_channels=4, multipliers=(1,), attention_sizes=(), heads=2, groups=2)
    assert [layer.shape for layer in unet_features(init_unet(config), config)(np.zeros((1, 8, 8, 3), np.float32))] == [(1, 8, 8, 4)]


def test_equal_images_have_equal_features_and_a_change_shows_near_it():
    images = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    changed = images.copy()
    changed[0, 2:5, 2:5] *= -1
    extract = unet_features(init_unet(CONFIG), CONFIG)
    for same, a, b in zip(extract(images.copy()), extract(images), extract(changed), strict=True):
        np.testing.assert_array_equal(same, a)
        difference = abs(a - b).sum(axis=-1)[0]
        assert np.unravel_index(difference.argmax(), difference.shape) <= (difference.shape[0] // 2, difference.shape[1] // 2)
