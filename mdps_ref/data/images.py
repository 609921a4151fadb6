"""Read images as squares of a working size, and bring maps of that size back to an image's own."""

import numpy as np
from PIL import Image

from mdps_ref.data.pixels import decode
from mdps_ref.errors import InputError, shown

SMALLEST_SIDE = 8
FITS = ("stretch", "letterbox")


def load_image(path, size, white=None, fit="stretch"):
    """Read an image as a square. Grey is repeated to three channels.

    Parameters
    ----------
    path : path-like
    size : int
        Pixels a side of the square.
    white : int, optional
        The value of white in a 16-bit file that does not tell it itself; 65535 by default. `pixels.find_white` finds it for a set.
    fit : {"stretch", "letterbox"}
        How an image that is no square becomes one. "stretch" gives up the aspect ratio. "letterbox" keeps it: the image lies in the
        middle, and its edge pixels are repeated to both sides of it.

    Returns
    -------
    array, (size, size, 3) float32 in [-1, 1]

    Raises
    ------
    InputError
        If the file is not a whole image, has fewer than 8 pixels a side, or has values outside the range of its mode.

    Notes
    -----
    The image is upright, as a viewer shows it (EXIF orientation). Pillow's bicubic filter resizes in float, so 16 bits keep their
    depth. The filter widens with the reduction (antialiasing), and what it overshoots is clipped. An alpha channel is dropped, without
    compositing.
    """
    picture = decode(path, white)
    if min(picture.size) < SMALLEST_SIDE:
        width, height = picture.size
        raise InputError(f"{shown(path)}: is {width} x {height} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed")
    left, top, right, bottom = fitted_box(picture.size, size, fit)
    planes = [_resized(plane(), (right - left, bottom - top)) for plane in picture.planes]
    image = (picture.unit(np.stack(planes, axis=-1)) * 2 - 1).clip(-1, 1)
    image = np.pad(image, ((top, size - bottom), (left, size - right), (0, 0)), mode="edge")
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _resized(plane, size):
    """A channel resized in float."""
    plane = plane if plane.mode == "F" else plane.convert("F")  # converting would copy
    return np.asarray(plane.resize(size, Image.Resampling.BICUBIC))


def fitted_box(own_size, size, fit):
    """Find the part of the square that an image fills.

    Parameters
    ----------
    own_size : tuple of int
        (width, height) of the image.
    size : int
        Pixels a side of the square.
    fit : {"stretch", "letterbox"}

    Returns
    -------
    left, top, right, bottom : int
        At least one pixel wide and high, in the middle; half a pixel to the left or the top of it where that cannot be exact.

    Raises
    ------
    InputError
        If `fit` is neither.
    """
    if fit not in FITS:
        raise InputError(f"fit {fit!r} is unknown; choose one of {', '.join(FITS)}")
    if fit == "stretch":
        return 0, 0, size, size
    width, height = (max(1, round(size * side / max(own_size))) for side in own_size)
    left, top = (size - width) // 2, (size - height) // 2
    return left, top, left + width, top + height


def map_at_image_size(anomaly, own_size, fit="stretch"):
    """Bring a map of the working size back to the size of its image.

    Parameters
    ----------
    anomaly : array, (size, size)
    own_size : tuple of int
        (width, height) of the image.
    fit : {"stretch", "letterbox"}
        How the image was made a square.

    Returns
    -------
    array, (height, width) float32
        Resized bilinearly. What lies beside the image in the square is left out.
    """
    left, top, right, bottom = fitted_box(own_size, len(anomaly), fit)
    part = np.ascontiguousarray(anomaly[top:bottom, left:right], np.float32)
    return np.asarray(Image.fromarray(part).resize(own_size, Image.Resampling.BILINEAR))


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
