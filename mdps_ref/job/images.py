"""The images of a run: read from their folders, and checked where they come in from Python."""

import collections
import dataclasses

import numpy as np

from mdps_ref.data.folders import read_category, split_held_out
from mdps_ref.data.images import centre_crop, load_images
from mdps_ref.data.masks import load_mask
from mdps_ref.data.pixels import image_size
from mdps_ref.data.synthetic import check_request, write_category
from mdps_ref.errors import InputError
from mdps_ref.job.run_folder import write_config

SYNTHETIC = {"size": 128, "train": 100, "test_good": 12, "per_defect": 4}


@dataclasses.dataclass(frozen=True)
class RunImages:
    """All images of a run, on the host, float32 in [-1, 1].

    Parameters
    ----------
    train : array, (M, H, W, 3)
    held_out : array, (K, H, W, 3)
    held_out_names : list of str
    test : array, (N, H, W, 3)
    items : tuple of Item
        The test images' files and defects.
    truths : list of array, (side, side) bool, or None
        The true masks of the judged centre. All False for a good image; None for a defect without a mask.
    side : int
        Side, in pixels, of the centre that is scored and judged.
    """

    train: np.ndarray
    held_out: np.ndarray
    held_out_names: list
    test: np.ndarray
    items: tuple
    truths: list
    side: int

    @property
    def test_names(self):
        """The names of the test images, which key their noise."""
        return [item.name for item in self.items]


def read_images(config, folder):
    """Read all images of a run, so that a broken one is found before any work is done, and write config.json into `folder`.

    Without `config.data` the synthetic set is drawn into `folder` first. Its config.json is written before the drawing, so that an
    interrupted drawing can be resumed.

    Returns
    -------
    RunImages

    Raises
    ------
    InputError
        If the category cannot be drawn or read, or has too few images.
    """
    root = config.data or folder / "synthetic"
    if not config.data:
        check_request(config.category, SYNTHETIC["size"])
        write_config(folder, config)
        write_category(root, config.category, seed=config.seed, **SYNTHETIC)
    category = read_category(root, config.category)
    try:
        train_items, held_out_items = split_held_out(category.train, config.held_out, config.seed)
    except InputError as error:
        raise InputError(f"{category.root}: {error}") from None
    side = judged_side(config, category.layout)
    images = RunImages(
        train=load_images(train_items, config.image_size),
        held_out=load_images(held_out_items, config.image_size),
        held_out_names=[item.name for item in held_out_items],
        test=load_images(category.test, config.image_size),
        items=category.test,
        truths=[true_mask(item, config, side) for item in category.test],
        side=side,
    )
    if config.data:
        write_config(folder, config)
    return images


def judged_side(config, layout):
    """Return the side, in pixels, of the centre of each image that is scored and judged; `layout` is "mvtec" or "btad"."""
    return round(config.image_size * config.resolved_rules.judged_share[layout])


def true_mask(item, config, side):
    """Return the centre of an image's true mask.

    Returns
    -------
    array, (side, side) bool, or None
        All False for a good image; None for a defect without a mask.
    """
    if not item.is_anomalous:
        return np.zeros((side, side), bool)
    if not item.mask_path:
        return None
    mask = load_mask(item.mask_path, config.image_size, image_size(item.path), config.resolved_rules.shrink_mask)
    return centre_crop(mask[None], side)[0]


def check_images(images, size, names=None):
    """Check images that come from Python, and return them as float32.

    Parameters
    ----------
    images : array, (N, size, size, 3), in [-1, 1]
        NumPy array, float32 or float64.
    size : int
        The config's image size.
    names : sequence of str, optional
        One name an image, all different.

    Returns
    -------
    array, (N, size, size, 3) float32

    Raises
    ------
    InputError
        That says what to do, such as `images / 127.5 - 1` for values from 0 to 255.
    """
    if not isinstance(images, np.ndarray):
        raise InputError(f"images are of type {type(images).__name__}; give a NumPy array of shape (N, {size}, {size}, 3)")
    scaled = "images / 127.5 - 1 brings 0 .. 255 to [-1, 1]"
    if images.dtype not in (np.float32, np.float64):
        raise InputError(f"images have dtype {images.dtype}; they must be float32 in [-1, 1]: {scaled}")
    if images.ndim == 3:
        raise InputError(f"images have shape {images.shape}, which is one image without a batch axis; give images[None]")
    if images.shape[1:] != (size, size, 3):
        raise InputError(f"images have shape {images.shape}; this config wants (N, {size}, {size}, 3)")
    if not len(images):
        raise InputError("there are no images; give at least one")
    if not np.isfinite(images).all():
        raise InputError("images hold nan or infinite values; they must lie in [-1, 1]")
    if abs(images).max() > 1:
        raise InputError(f"images hold values from {images.min():g} to {images.max():g}; they must lie in [-1, 1]: {scaled}")
    if names is not None:
        _check_names(names, len(images))
    return images.astype(np.float32, copy=False)


def _check_names(names, count):
    """Raise InputError unless there are `count` names, all different."""
    if isinstance(names, str):
        raise InputError(f"names are the text {names!r}; give a list with one name an image")
    if len(names) != count:
        raise InputError(f"there are {len(names)} names for {count} images; give one name an image")
    name, times = collections.Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{times} images have the name {name!r}; a name keys its image's noise, so give each its own")
