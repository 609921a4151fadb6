"""Defects planted in good photographs, of any object: they stand for real defects where a choice must be made without any.

Each kind changes a part of an image. It gives an opacity, (H, W) in [0, 1], and what to see there instead, (H, W, 3).

References
----------
C.-L. Li, K. Sohn, J. Yoon, T. Pfister, "CutPaste: Self-supervised learning for anomaly detection and localization", CVPR 2021.
V. Zavrtanik, M. Kristan, D. Skocaj, "DRAEM: A discriminatively trained reconstruction embedding for surface anomaly detection", ICCV 2021.
"""

import numpy as np

from mdps_ref.backend import random_stream
from mdps_ref.data.drawing import blot, grain, ramp, stroke

VISIBLE = 0.08  # of a change in [-1, 1]: ten of 256 grey levels
RADII = 0.03, 0.3  # of a defect, as a share of the image's side: from a pit to a stain
STRENGTHS = 0.15, 0.8  # faint ones, too: the opacity of what takes the good pixels' place
GREY = 0.02  # mean distance of the channels from their mean, below which an image counts as grey
TRIES = 20


def piece_of_another(image, other, rng, radius):
    """A turned piece of another good image lies there."""
    moved = np.roll(np.rot90(other, rng.integers(4)), rng.integers(0, len(image), 2), axis=(0, 1))
    return _spot(image, rng, radius), moved


def texture(image, other, rng, radius):
    """A torn patch has another texture, in colours of the image."""
    x, y = _coordinates(image)
    cells = int(rng.integers(8, 24))
    places = rng.integers(0, len(image), (2, 64, 64))
    planes = [grain(image[places[0], places[1], channel], x, y, cells) for channel in range(3)]
    torn = grain(rng.random((64, 64)), x, y, 12) > 0.4
    return _spot(image, rng, 1.5 * radius) * torn, np.stack(planes, axis=-1)


def line(image, other, rng, radius):
    """A thin line, dark or light, runs across."""
    angle, length = rng.uniform(0, 2 * np.pi), 5 * radius
    turns = angle + 0.35 * rng.standard_normal(5)
    steps = length / 5 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    corners = rng.uniform(0.2, 0.8, 2) + np.concatenate([[(0, 0)], np.cumsum(steps, axis=0)])
    x, y = _coordinates(image)
    opacity = np.zeros((3, *image.shape[:2]), np.float32)
    stroke(corners, max(0.15 * radius, 0.7 / len(image)), "#ffffff")(x, y, opacity)
    return opacity[0], np.full_like(image, rng.choice([-0.9, 0.9]))


def blob(image, other, rng, radius):
    """A soft spot is darker or lighter."""
    return _spot(image, rng, radius, softness=0.35), np.clip(image + rng.choice([-1, 1]) * rng.uniform(0.3, 0.9), -1, 1)


def other_colour(image, other, rng, radius):
    """A spot has another colour; in a grey image, another contrast around mid-grey."""
    spot = _spot(image, rng, radius)
    if abs(image - image.mean(axis=-1, keepdims=True)).mean() < GREY:
        return spot, np.clip(rng.choice([0.4, 1.8]) * image, -1, 1)
    return spot, np.clip(image + rng.uniform(-0.7, 0.7, 3), -1, 1).astype(image.dtype)


KINDS = {kind.__name__: kind for kind in (piece_of_another, texture, line, blob, other_colour)}


def plant(image, other, kind, rng):
    """Plant a defect in an image.

    Parameters
    ----------
    image, other : array, (H, H, 3), in [-1, 1]
        The image, and another good image.
    kind : str
        A name in KINDS.
    rng : numpy.random.Generator

    Returns
    -------
    image : array, (H, H, 3), in [-1, 1]
    mask : array, (H, H) bool
        Where a channel changed by more than VISIBLE. Size, strength and place are drawn again while there is no such pixel.

    Raises
    ------
    ValueError
        If none of many draws can be seen, as with images that are alike and of one colour.
    """
    for _ in range(TRIES):
        radius, strength = np.exp(rng.uniform(*np.log(RADII))), rng.uniform(*STRENGTHS)
        opacity, instead = KINDS[kind](image, other, rng, radius)
        changed = image + np.float32(strength) * opacity[..., None].astype(image.dtype) * (instead - image)
        mask = abs(changed - image).max(axis=-1) > VISIBLE
        if mask.any():
            return changed.astype(image.dtype), mask
    raise ValueError(f"{kind}: {TRIES} draws changed no pixel visibly")


def plant_in_all(images, seed, times=1):
    """Plant defects in copies of images, one in each copy, the kinds in turn.

    Parameters
    ----------
    images : array, (N, H, H, 3), in [-1, 1]
        Good images.
    seed : int
    times : int
        The number of copies of each image.

    Returns
    -------
    images : array, (times N, H, H, 3)
        A copy of each image, in their order; then the next copies, with other defects.
    masks : array, (times N, H, H) bool
    kinds : list of str, times N
    """
    count, kinds, planted = len(images), [], []
    for i in range(times * count):
        of, copy = i % count, i // count
        kind = list(KINDS)[(of + copy) % len(KINDS)]
        rng = random_stream(seed, "planted", kind, i)
        try:
            planted.append(plant(images[of], images[(of + 1) % count], kind, rng))
        except ValueError:  # nothing to see: a piece of an equal image, or a flat grey one
            kind = "blob"
            planted.append(plant(images[of], images[of], kind, rng))
        kinds.append(kind)
    return np.stack([image for image, _ in planted]), np.stack([mask for _, mask in planted]), kinds


def _coordinates(image):
    """x (1, W) and y (H, 1), from 0 to 1."""
    at = ((np.arange(len(image)) + 0.5) / len(image)).astype(np.float32)
    return at[None, :], at[:, None]


def _spot(image, rng, radius, softness=0.06):
    """The opacity of a random rounded shape."""
    x, y = _coordinates(image)
    return ramp(-softness, softness, blot(rng, rng.uniform(0.15, 0.85, 2), radius)(x, y))
