"""Planted defects: they are seen, they stay where the mask says, and they follow from the seed."""

import numpy as np
import pytest

from mdps_ref.data.planted import KINDS, RADII, VISIBLE, plant, plant_in_all
from mdps_ref.data.synthetic import draw_good

SIZE = 64


@pytest.fixture(scope="module")
def photographs():
    return np.stack([np.float32(draw_good("tiles", SIZE, np.random.default_rng(k)) / 127.5 - 1) for k in range(10)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_is_visible_where_the_mask_is_and_nowhere_else(kind, photographs):
    shares = []
    for seed in range(20):
        image, mask = plant(photographs[0], photographs[1], kind, np.random.default_rng(seed))
        change = abs(image - photographs[0]).max(axis=-1)
        assert mask.any() and (change[mask] > VISIBLE).all() and (change[~mask] <= VISIBLE).all()
        assert image.dtype == np.float32 and abs(image).max() <= 1
        shares.append(mask.mean())
    assert max(shares) < 4 * np.pi * (1.5 * RADII[1]) ** 2 and max(shares) > 3 * min(shares)


def test_each_image_gets_one_defect_and_the_kinds_take_turns(photographs):
    images, masks, kinds = plant_in_all(photographs, seed=0)
    assert kinds == [*KINDS, *KINDS] and masks.any(axis=(1, 2)).all()
    assert all((image != good).any() for image, good in zip(images, photographs, strict=True))
    again, _, _ = plant_in_all(photographs, seed=0)
    other, _, _ = plant_in_all(photographs, seed=1)
    np.testing.assert_array_equal(images, again)
    assert (images != other).any()


def test_a_defect_does_not_follow_from_how_many_images_there_are(photographs):
    few, all_images = plant_in_all(photographs[:3], seed=0)[0], plant_in_all(photographs, seed=0)[0]
    np.testing.assert_array_equal(few[1:], all_images[1:3])


@pytest.mark.parametrize("count", [1, 4, 5, 6])
def test_several_copies_of_an_image_have_defects_of_different_kinds(count, photographs):
    images, masks, kinds = plant_in_all(photographs[:count], seed=0, times=5)
    assert all(set(kinds[number::count]) == set(KINDS) for number in range(count))
    np.testing.assert_array_equal(images[:count], plant_in_all(photographs[:count], seed=0)[0])
    for image, mask, good in zip(images, masks, np.tile(photographs[:count], (5, 1, 1, 1)), strict=True):
        assert ((abs(image - good).max(axis=-1) > VISIBLE) == mask).all() and mask.any()


def test_where_no_piece_of_another_image_can_be_seen_a_spot_is_planted():
    """All images are of one colour, so a piece of one in another changes nothing."""
    _, masks, kinds = plant_in_all(np.full((5, SIZE, SIZE, 3), 0.25, np.float32), seed=0)
    assert "piece_of_another" not in kinds and masks.any(axis=(1, 2)).all()
