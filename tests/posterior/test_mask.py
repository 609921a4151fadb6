"""E14: the mask, and which images it depends on."""

import numpy as np
import pytest

from mdps_ref.posterior.mask import mask_threshold, suspected


@pytest.mark.equation("E14")
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_at_most_the_share_of_the_held_out_pixels_is_suspected(share):
    maps = np.random.default_rng(0).random((7, 5, 5))
    found = suspected(maps, mask_threshold(maps, share)).mean()
    assert found <= share and found >= share - 2 / maps.size


@pytest.mark.equation("E14")
def test_a_mask_does_not_depend_on_other_test_images():
    rng = np.random.default_rng(0)
    threshold = mask_threshold(rng.random((7, 5, 5)), 0.1)
    maps = rng.random((4, 5, 5))
    together = suspected(maps, threshold)
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(suspected(maps[order], threshold), together[order])
    np.testing.assert_array_equal(suspected(np.concatenate([maps[:2], 100 + maps]), threshold)[:2], together[:2])


@pytest.mark.equation("E14")
def test_the_order_of_the_held_out_images_does_not_matter():
    maps = np.random.default_rng(0).random((7, 5, 5))
    assert mask_threshold(maps, 0.1) == mask_threshold(maps[::-1], 0.1)


def test_a_mask_multiplies_images():
    mask = suspected(np.ones((2, 3, 4), np.float32), 0.5)
    assert mask.shape == (2, 3, 4, 1) and mask.dtype == np.float32


@pytest.mark.parametrize("maps, share, says", [(np.zeros((0, 3, 3)), 0.1, "no numbers"), (np.zeros((1, 3, 3)), 1.5, "held-out good maps")])
def test_nothing_to_calibrate_on_is_refused(maps, share, says):
    with pytest.raises(ValueError, match=says):
        mask_threshold(maps, share)
