"""Draw a synthetic data set in NumPy: three kinds of goods with defects and exact masks, in MVTec AD's layout."""

import pathlib

import numpy as np
from PIL import Image
from scipy import ndimage

from mdps_ref.backend import random_stream
from mdps_ref.data import defects, drawing, scenes
from mdps_ref.data.files import whole_file
from mdps_ref.errors import InputError

SIZES = (32, 1024)
SUPERSAMPLES = 4  # points drawn along each side of a pixel
BAND = 8  # rows of pixels drawn at a time, few enough to stay in the processor's cache
NOISE = 1.2 / 255  # standard deviation of the sensor noise
VISIBLE = 16 / 255  # a pixel belongs to a defect if a channel differs from the clean twin by more than this

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
    """Draw an image without a defect.

    Parameters
    ----------
    category : {"weave", "tiles", "washer"}
    size : int
        Pixels a side, 32 to 1024.
    rng : numpy.random.Generator

    Returns
    -------
    array, (size, size, 3) uint8

    Raises
    ------
    InputError
        If the category is unknown or the size out of range.
    """
    check_request(category, size)
    look, noise_seed, _ = _drawn_look(category, rng)
    return _photograph(_render(category, look, size), noise_seed)


def draw_defect(category, defect, size, rng):
    """Draw an image with a defect, and its mask.

    `draw_good` with a generator in the same state draws the clean twin, the same image without the defect. The mask is True where the
    two differ by more than VISIBLE before noise, and in narrow gaps between such pixels.

    Parameters
    ----------
    category : {"weave", "tiles", "washer"}
    defect : str
        One of DEFECTS[category].
    size : int
        Pixels a side, 32 to 1024.
    rng : numpy.random.Generator

    Returns
    -------
    image : array, (size, size, 3) uint8
    mask : array, (size, size) bool

    Raises
    ------
    InputError
        If the category or the defect is unknown, or the size out of range.
    """
    check_request(category, size, defect)
    look, noise_seed, defect_seed = _drawn_look(category, rng)
    change = _DEFECTS[category][DEFECTS[category].index(defect)]
    changed = look | change(np.random.default_rng(defect_seed), look)
    clean, image = _render(category, look, size), _render(category, changed, size)
    return _photograph(image, noise_seed), _closed(abs(image - clean).max(axis=-1) > VISIBLE)


def for_each(work, places):
    """Call work(place) for each place."""
    for place in places:
        work(place)


def write_category(root, category, size=128, train=120, test_good=20, per_defect=6, seed=0, each=for_each):
    """Draw a whole category into the folder `<root>/<category>`, in MVTec AD's layout.

    Each image has its own random stream, named after its place (`weave/test/hole/000`). So the same call writes the same bytes, and a
    larger set contains the images of a smaller set.

    Parameters
    ----------
    root : path-like
    category : {"weave", "tiles", "washer"}
    size : int
        Pixels a side, 32 to 1024.
    train, test_good, per_defect : int
        Number of images: good ones to train on, good ones to test on, and ones to test on for each kind of defect.
    seed : int
    each : callable
        each(work, places) calls work(place) once for every place of a list, in any order and in any process.

    Returns
    -------
    pathlib.Path
        The category's folder.

    Raises
    ------
    InputError
        If the category is unknown, the size out of range, a number negative, or a file cannot be written.
    """
    check_request(category, size)
    for name, count in (("train", train), ("test_good", test_good), ("per_defect", per_defect)):
        if count < 0:
            raise InputError(f"{name} {count} cannot be drawn; choose a number of images from 0 up")
    folder = pathlib.Path(root) / category

    def stream(place, k):
        return random_stream(seed, "synthetic", f"{category}/{place}/{k:03d}")

    def write(place):
        part, kind, k = place
        rng = stream(f"{part}/{kind}", k)
        if kind == "good":
            image = draw_good(category, size, rng)
        else:
            image, mask = draw_defect(category, kind, size, rng)
            _write_png(folder / "ground_truth" / kind / f"{k:03d}_mask.png", np.uint8(255) * mask)
        _write_png(folder / part / kind / f"{k:03d}.png", image)

    counts = {("train", "good"): train, ("test", "good"): test_good} | {("test", defect): per_defect for defect in DEFECTS[category]}
    each(write, [(*kind, k) for kind, count in counts.items() for k in range(count)])
    return folder


def check_request(category, size, defect=None):
    """Check that a category, and a defect of it, can be drawn at a size.

    Raises
    ------
    InputError
        With the wrong value and the possible ones.
    """
    if category not in DEFECTS:
        raise InputError(f"category {category!r} is unknown; choose one of {', '.join(DEFECTS)}")
    if defect is not None and defect not in DEFECTS[category]:
        raise InputError(f"defect {defect!r} is unknown for {category}; choose one of {', '.join(DEFECTS[category])}")
    if not isinstance(size, int | np.integer) or not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"size {size!r} cannot be drawn; choose a whole number of pixels from {SIZES[0]} to {SIZES[1]}")


def _drawn_look(category, rng):
    """The look of a good scene, a seed for its noise and a seed for its defect. They do not depend on the size or the defect."""
    look = _SCENES[category][0](rng)
    return look, *rng.integers(2**63, size=2)


def _render(category, look, size):
    """The scene under its lamp, as a camera without noise sees it: (size, size, 3) float32 in [0, 1]."""
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
    """The image with sensor noise, as uint8."""
    noise = NOISE * np.random.default_rng(noise_seed).standard_normal(image.shape)
    return np.round(255 * np.clip(image + noise, 0, 1)).astype(np.uint8)


def _closed(mask):
    """`mask` with its narrow gaps closed, up to about 1/20 of the frame."""
    return mask | ndimage.binary_closing(mask, iterations=max(1, len(mask) // 40))


def _write_png(path, pixels):
    """Write a uint8 image, grey or RGB, as PNG."""
    with whole_file(path) as handle:
        Image.fromarray(pixels).save(handle, "PNG")
