"""Vary the good images of a training batch, in ways that their object allows."""

import numpy as np

FARTHEST_SHIFT = 1 / 16  # of the image's side
LIGHT = 0.1  # largest change of contrast, as a share, and of brightness, in [-1, 1]


def mirrored(image, rng):
    """Exchange left and right, for half of the images."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def flipped(image, rng):
    """Exchange top and bottom, for half of the images."""
    return image[::-1] if rng.random() < 0.5 else image


def turned(image, rng):
    """Turn by 0, 90, 180 or 270 degrees."""
    return np.rot90(image, rng.integers(4))


def shifted(image, rng):
    """Shift by whole pixels, up to a sixteenth of the side; what comes in from outside is the image's mirror image."""
    most = int(FARTHEST_SHIFT * len(image))
    down, right = rng.integers(0, 2 * most + 1, 2)
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), "symmetric")
    return padded[down : down + image.shape[0], right : right + image.shape[1]]


def relit(image, rng):
    """Change contrast and brightness by up to a tenth."""
    contrast, brightness = rng.uniform(-LIGHT, LIGHT, 2)
    return np.clip((1 + contrast) * image + brightness, -1, 1)


VARIATIONS = {"mirror": mirrored, "flip": flipped, "turn": turned, "shift": shifted, "light": relit}


def augmented(images, names, rng):
    """Vary each image by itself.

    Parameters
    ----------
    images : array, (N, H, H, C), in [-1, 1]
        On the host; they are left as they are.
    names : str
        Names in VARIATIONS, commas between, in the order to apply them. "" returns the images.
    rng : numpy.random.Generator

    Returns
    -------
    array, (N, H, H, C), in [-1, 1]
        In the dtype of the images.
    """
    for name in variations(names):
        images = np.stack([VARIATIONS[name](image, rng) for image in images]).astype(images.dtype)
    return images


def variations(names):
    """Return the names in a string, commas between, as a list."""
    return [name.strip() for name in names.split(",")] if names else []
