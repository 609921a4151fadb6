"""Augmentation: what each variation does to an image, and that training draws it from a stream of its own."""

import numpy as np
import pytest

from mdps_ref.data.augment import VARIATIONS, augmented
from mdps_ref.job import train


def drawn(name, image, count=200):
    """The different images that a variation makes of one image."""
    made = augmented(np.stack([image] * count), name, np.random.default_rng(0))
    return {entry.tobytes(): entry for entry in made}


@pytest.fixture
def image(some_images):
    return some_images(1, 32)[0]


@pytest.mark.parametrize(
    "name, expected",
    {
        "mirror": lambda image: [image, image[:, ::-1]],
        "flip": lambda image: [image, image[::-1]],
        "turn": lambda image: [np.rot90(image, quarters) for quarters in range(4)],
    }.items(),
)
def test_a_symmetry_draws_all_its_images_and_no_other(name, expected, image):
    assert drawn(name, image).keys() == {np.ascontiguousarray(one).tobytes() for one in expected(image)}


def test_a_shift_moves_the_inside_by_up_to_a_sixteenth(image):
    made = drawn("shift", image)
    places = {(down, right): image[2 + down : 30 + down, 2 + right : 30 + right] for down in range(-2, 3) for right in range(-2, 3)}
    found = {place for one in made.values() for place, inside in places.items() if np.array_equal(one[2:30, 2:30], inside)}
    assert found == places.keys() and len(made) == 25


def test_light_changes_contrast_and_brightness_by_up_to_a_tenth():
    ramp = np.linspace(-0.5, 0.5, 16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3)
    lines = [np.polyfit(ramp.ravel(), one.ravel(), 1) for one in drawn("light", ramp).values()]
    contrast, brightness = np.transpose(lines)
    assert 0.9 <= contrast.min() < 0.92 and 1.08 < contrast.max() <= 1.1 + 1e-6
    assert -0.1 - 1e-6 <= brightness.min() < -0.08 and 0.08 < brightness.max() <= 0.1 + 1e-6
    assert max(abs(one).max() for one in drawn("light", np.ones((8, 8, 3), np.float32)).values()) == 1


@pytest.mark.parametrize("names", ["", ",".join(VARIATIONS)])
def test_images_keep_their_type_and_the_batch_given_is_left_alone(names, some_images):
    images = some_images(3)
    before = images.copy()
    made = augmented(images, names, np.random.default_rng(0))
    assert made.dtype == images.dtype and made.shape == images.shape
    np.testing.assert_array_equal(images, before)


def test_a_step_draws_the_same_images_times_and_noise_whether_they_are_varied_or_not(quick_config, some_images):
    images = some_images(6)
    plain, varied = (train.draw_batch(images, quick_config(augment=names, batch_size=4), 5) for names in ("", "turn"))
    for one, other in zip(plain[1:], varied[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(plain[0], varied[0], strict=True):
        assert any(np.array_equal(np.rot90(one, quarters), other) for quarters in range(4))
    assert (plain[0] != varied[0]).any()


def test_an_unknown_variation_is_refused(quick_config, fails_with):
    with fails_with("augment", "'mirror,spin'", "turn"):
        quick_config(augment="mirror,spin")
