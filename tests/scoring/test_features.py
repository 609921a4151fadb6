"""The network's own activations as features."""

import numpy as np

from mdps_ref.nn.unet import UNetConfig, init_unet
from mdps_ref.scoring.features import unet_features

CONFIG = UNetConfig(image_size=16, base_channels=4, multipliers=(1, 1, 2), attention_sizes=(), heads=2, groups=2)


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
