"""Read the pixels of images and of ground-truth masks from files."""

import contextlib
import warnings

import numpy as np
from PIL import Image

from mdps_ref.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
SMALLEST_SIDE = 8


def load_image(path, size):
    """Read an image as a square, whatever its aspect ratio. Grey is repeated to three channels.

    Parameters
    ----------
    path : path-like
    size : int
        Pixels a side of the square.

    Returns
    -------
    array, (size, size, 3) float32 in [-1, 1]

    Raises
    ------
    InputError
        If the file is not a whole image, has fewer than 8 pixels a side, or has values outside the range of its mode.

    Notes
    -----
    Pillow's bicubic filter resizes in float, so 16-bit grey keeps its depth. The filter widens with the reduction (antialiasing), and
    what it overshoots is clipped. An alpha channel is dropped, without compositing. Pillow reads colour of 16 bits a channel as 8 bits.
    The orientation in EXIF data is not applied.
    """
    unit = _unit_pixels(path)
    height, width, channels = unit.shape
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(f"{path}: is {width} x {height} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed")
    planes = [Image.fromarray(unit[:, :, c] * 2 - 1).resize((size, size), Image.Resampling.BICUBIC) for c in range(channels)]
    image = np.stack(planes, axis=-1).clip(-1, 1)
    return np.repeat(image, 3, axis=-1) if channels == 1 else image


def load_images(items, size, progress=iter):
    """Read the images of several items.

    Parameters
    ----------
    items : sequence of Item
    size : int
        Pixels a side.
    progress : callable
        Wraps the iteration over the items, as tqdm does.

    Returns
    -------
    array, (N, size, size, 3) float32 in [-1, 1]

    Raises
    ------
    InputError
        As in `load_image`.
    """
    images = np.empty((len(items), size, size, 3), np.float32)
    for image, item in zip(images, progress(items), strict=True):
        image[:] = load_image(item.path, size)
    return images


def nearest_mask(values, size):
    """Resize a mask to its nearest neighbours: a new pixel is anomalous if the old pixel at its centre is.

    Parameters
    ----------
    values : array, (H, W) uint8
        Above 0 where anomalous.
    size : int
        Pixels a side.

    Returns
    -------
    array, (size, size) bool
    """
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST)) > 0


def bilinear_mask(values, size):
    """Resize a mask as the authors' code does: bilinearly, and then every value above 0 is anomalous.

    Pillow's filter, like torchvision's, widens with the reduction. So an anomalous region grows by up to one new pixel on each side.

    Parameters
    ----------
    values : array, (H, W) uint8
        Above 0 where anomalous.
    size : int
        Pixels a side.

    Returns
    -------
    array, (size, size) bool
    """
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BILINEAR)) > 0


def load_mask(path, size, image_size, shrink=nearest_mask):
    """Read a ground-truth mask as a square. A pixel is anomalous where any channel but alpha is above 0.

    Parameters
    ----------
    path : path-like
    size : int
        Pixels a side of the square.
    image_size : tuple of int
        (width, height) of the image that the mask belongs to.
    shrink : {nearest_mask, bilinear_mask} or callable
        How to resize the mask.

    Returns
    -------
    array, (size, size) bool
        True where anomalous.

    Raises
    ------
    InputError
        If the file is not a whole image, or its size is not the size of its image.
    """
    unit = _unit_pixels(path).max(axis=-1)
    height, width = unit.shape
    if (width, height) != tuple(image_size):
        raise InputError(f"{path}: is {width} x {height} pixels, but its image is {image_size[0]} x {image_size[1]}; give one of that size")
    return shrink(np.maximum(np.rint(255 * unit), unit > 0).astype(np.uint8), size)  # a 16-bit value of 1 must not become 0


def image_size(path):
    """Read the size of an image from the header of its file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    width, height : int
        In pixels.

    Raises
    ------
    InputError
        If the header cannot be read.
    """
    with _opened(path) as image:
        return image.size


def centre_crop(arrays, side):
    """Return a view of the central pixels of each image or map.

    If they cannot be exactly central, they lie half a pixel towards the top and the left.

    Parameters
    ----------
    arrays : array, (N, H, W) or (N, H, W, C)
    side : int
        Pixels a side of the crop.

    Returns
    -------
    array, (N, side, side) or (N, side, side, C)

    Raises
    ------
    ValueError
        If H or W is below `side`.
    """
    height, width = arrays.shape[1:3]
    if min(height, width) < side:
        raise ValueError(f"{height} x {width} pixels have no central {side} x {side}")
    top, left = (height - side) // 2, (width - side) // 2
    return arrays[:, top : top + side, left : left + side]


@contextlib.contextmanager
def _opened(path):
    """The Pillow image in a file. Every error of Pillow inside the block becomes an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata; damaged pixels raise an error
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller") from error
    except Exception as error:  # Pillow's readers raise many types of error for a broken file
        broken = f"truncated, or not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
        reason = (getattr(error, "strerror", None) or "").lower() or broken
        raise InputError(f"{path}: could not be read ({reason}); replace or remove it") from error


def _unit_pixels(path):
    """The pixels of an image, (height, width, 1 or 3) float32, black 0 and white 1."""
    with _opened(path) as image:
        image.load()
    mode = image.mode
    if mode not in MODES:
        raise InputError(f"{path}: has the Pillow mode {mode}, which is not supported; save it as grey or RGB")
    if mode == "F" or mode.startswith("I"):
        unit = _scaled(np.asarray(image), 1 if mode == "F" else 65535, path)[:, :, None]
    elif mode == "L":
        unit = np.asarray(image, np.float32)[:, :, None] / 255
    else:
        opaque = image.convert("RGBA").convert("RGB")  # converting a palette with transparent colours directly makes Pillow warn
        unit = np.asarray(opaque, np.float32) / 255
    return unit


def _scaled(values, largest, path):
    """Check that `values` lie between 0 and `largest`, and scale them to [0, 1] as float32."""
    if np.isnan(values).any():
        raise InputError(f"{path}: holds nan; expected values from 0 to {largest}")
    if values.min() < 0 or values.max() > largest:
        raise InputError(f"{path}: holds values from {values.min()} to {values.max()}; expected 0 to {largest}")
    return values.astype(np.float32) / largest
