"""A seeded synthetic set of goods with defects and exact masks, in MVTec AD's layout, drawn in NumPy alone."""

import pathlib

import numpy as np
from PIL import Image
from scipy import ndimage

from mdps_ref.backend import random_stream
from mdps_ref.data import defects, drawing, scenes
from mdps_ref.data.files import whole_file
from mdps_ref.errors import InputError

SIZES = (32, 1024)
SUPERSAMPLES = 4  # drawn points a pixel, along each side
BAND = 8  # pixel rows drawn at a time, so that what is being drawn stays in the processor's cache
NOISE = 1.2 / 255  # standard deviation of the sensor noise
VISIBLE = 16 / 255  # a pixel belongs to the defect if some channel differs from the clean twin by more than this

_SCENES = {
    "weave": (scenes.weave_look, scenes.weave),
    "tiles": (scenes.tiles_look, scenes.tiles),
    "washer": (scenes.washer_look, scenes.washer),
}
_DEFECTS = {
    "weave": (defects.hole, defects.oil_stain, defects.missing_thread, defects.pulled_loop, defects.wrong_thread),
    "tiles": (defects.crack, defects.chip, defects.missing_print, defects.shifted_print, defects.wrong_ink, defects.crooked_tile),
    "washer": (defects.scratch, defects.rust, defects.missing_tooth, defects.bent_tooth, defects.heat_tint),
}
DEFECTS = {category: tuple(change.__name__ for change in changes) for category, changes in _DEFECTS.items()}


def draw_good(category, size, rng):
    """One image of goods without a defect.

    Shapes: (size, size, 3) uint8.  Range: [0, 255].
    Raises: InputError if there is no such category, or if size is not a whole number from 32 to 1024.
    """
    check_request(category, size)
    look, noise_seed, _ = _drawn_look(category, rng)
    return _photograph(_render(category, look, size), noise_seed)


def draw_defect(category, defect, size, rng):
    """One image of goods with a defect, and its mask; `draw_good` with the same random stream draws its clean twin.

    The mask is where the two differ by more than VISIBLE before noise, its narrow gaps closed.
    Shapes: (size, size, 3) uint8 and (size, size) bool.  Range: [0, 255]; True is defect.
    Raises: InputError as `draw_good`, and if the category has no such defect.
    """
    check_request(category, size, defect)
    look, noise_seed, defect_seed = _drawn_look(category, rng)
    change = _DEFECTS[category][DEFECTS[category].index(defect)]
    changed = look | change(np.random.default_rng(defect_seed), look)
    clean, image = _render(category, look, size), _render(category, changed, size)
    return _photograph(image, noise_seed), _closed(abs(image - clean).max(axis=-1) > VISIBLE)


def write_category(root, category, size=128, train=120, test_good=20, per_defect=6, seed=0):
    """Draw a whole category into `<root>/<category>` in MVTec AD's layout; returns that folder.

    Each image has a random stream of its own, named after its place (`weave/test/hole/000`), so more images change none of the
    others, and the same call writes the same bytes.
    Raises: InputError as `draw_good`, if a number of images is below 0, or if a file cannot be written.
    """
    check_request(category, size)
    for name, count in (("train", train), ("test_good", test_good), ("per_defect", per_defect)):
        if count < 0:
            raise InputError(f"{name} {count} cannot be drawn; choose a number of images from 0 up")
    folder = pathlib.Path(root) / category

    def stream(place, k):
        return random_stream(seed, "synthetic", f"{category}/{place}/{k:03d}")

    for place, count in (("train/good", train), ("test/good", test_good)):
        for k in range(count):
            _write_png(folder / place / f"{k:03d}.png", draw_good(category, size, stream(place, k)))
    for defect in DEFECTS[category]:
        for k in range(per_defect):
            image, mask = draw_defect(category, defect, size, stream(f"test/{defect}", k))
            _write_png(folder / "test" / defect / f"{k:03d}.png", image)
            _write_png(folder / "ground_truth" / defect / f"{k:03d}_mask.png", np.uint8(255) * mask)
    return folder


def check_request(category, size, defect=None):
    """Raises: InputError, naming value and choices, if a request to draw cannot be met."""
    if category not in DEFECTS:
        raise InputError(f"category {category!r} is unknown; choose one of {', '.join(DEFECTS)}")
    if defect is not None and defect not in DEFECTS[category]:
        raise InputError(f"defect {defect!r} is unknown for {category}; choose one of {', '.join(DEFECTS[category])}")
    if not isinstance(size, int | np.integer) or not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"size {size!r} cannot be drawn; choose a whole number of pixels from {SIZES[0]} to {SIZES[1]}")


def _drawn_look(category, rng):
    """The numbers of one good scene, and seeds for its noise and its defect: the same three whatever the size and the defect."""
    look = _SCENES[category][0](rng)
    return look, *rng.integers(2**63, size=2)


def _render(category, look, size):
    """The scene under its lamp, as a camera without noise sees it.  Shapes: (size, size, 3) float32.  Range: [0, 1]."""
    draw = _SCENES[category][1]
    look = {name: value if callable(value) else np.float32(value) for name, value in look.items()}
    points = ((np.arange(size * SUPERSAMPLES) + 0.5) / (size * SUPERSAMPLES)).astype(np.float32)
    x, bands = points[None, :], []
    for start in range(0, len(points), BAND * SUPERSAMPLES):
        y = points[start : start + BAND * SUPERSAMPLES, None]
        rgb = draw(x, y, look)
        slant = np.cos(look["lamp"]) * (x - 0.5) + np.sin(look["lamp"]) * (y - 0.5)
        rgb *= look["gain"] * (1 + look["slope"] * slant)
        bands.append(rgb.reshape(3, -1, SUPERSAMPLES, size, SUPERSAMPLES).mean(axis=(2, 4)))
    return drawing.encoded(np.concatenate(bands, axis=1).transpose(1, 2, 0))


def _photograph(image, noise_seed):
    """The image with sensor noise, as bytes."""
    noise = NOISE * np.random.default_rng(noise_seed).standard_normal(image.shape)
    return np.round(255 * np.clip(image + noise, 0, 1)).astype(np.uint8)


def _closed(mask):
    """`mask` with the narrow gaps in it (up to about 1/20 of the frame) closed."""
    return mask | ndimage.binary_closing(mask, iterations=max(1, len(mask) // 40))


def _write_png(path, pixels):
    """Write an image (uint8; one channel is mode L) as PNG, whole or not at all."""
    with whole_file(path) as handle:
        Image.fromarray(pixels).save(handle, "PNG")
