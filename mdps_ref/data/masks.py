"""Read ground-truth masks: which pixels are anomalous, at the working size."""

import pathlib

import numpy as np
from PIL import Image

from mdps_ref.data.findings import Findings
from mdps_ref.data.images import fitted_box
from mdps_ref.data.pixels import WHITE_16, decode
from mdps_ref.errors import InputError, shown

MANY_LEVELS = "mask of more than two levels, cut at half height"
HALF_TRANSPARENT = "mask with half-transparent pixels, cut at half"
FROM_TRANSPARENCY = "mask of one colour; more than half of it is opaque, and so anomalous"
EMPTY = "mask without an anomalous pixel"
FULL = "mask without a normal pixel"
VANISHING = "mask whose defect vanishes at the working size, kept where it covers most"
HALF = 128  # of 255
REMEDY = "save it with 0 for normal and 255 for anomalous pixels"


def nearest_mask(values, size):
    """Resize a mask to its nearest neighbours: a new pixel is anomalous if the old pixel at its centre is.

    Parameters
    ----------
    values : array, (H, W) uint8
        Above 0 where anomalous.
    size : int or tuple of int
        Pixels a side, or (width, height).

    Returns
    -------
    array, (height, width) bool
    """
    return _resized(values, size, Image.Resampling.NEAREST) > 0


def bilinear_mask(values, size):
    """Resize a mask as the authors' code does: bilinearly, and then every value above 0 is anomalous.

    Pillow's filter, like torchvision's, widens with the reduction. So an anomalous region grows by up to one new pixel on each side.

    Parameters
    ----------
    values : array, (H, W) uint8
        Above 0 where anomalous.
    size : int or tuple of int
        Pixels a side, or (width, height).

    Returns
    -------
    array, (height, width) bool
    """
    return _resized(values, size, Image.Resampling.BILINEAR) > 0


def load_mask(path, size, image_size, shrink=nearest_mask, white=None, fit="stretch", findings=None):
    """Read a ground-truth mask as a square.

    Parameters
    ----------
    path : path-like
    size : int
        Pixels a side of the square.
    image_size : tuple of int
        (width, height) of the image that the mask belongs to, as a viewer shows it.
    shrink : {nearest_mask, bilinear_mask} or callable
        How to resize the mask.
    white : int, optional
        White in the category's 16-bit images. A 16-bit mask has the same white, unless it holds a larger value.
    fit : {"stretch", "letterbox"}
        As in `load_image`. What lies beside the mask in the square is normal.
    findings : Findings, optional
        Takes note of masks that are empty, full, not two-level, or too small for the working size.

    Returns
    -------
    array, (size, size) bool
        True where anomalous.

    Raises
    ------
    InputError
        If the file is not a whole image, its size is not the size of its image, or it does not tell which pixels are anomalous.

    Notes
    -----
    The value of a pixel is its largest channel. Two levels: every value above 0 is anomalous. More levels (JPEG noise, soft edges): values
    from half of white are. Transparent pixels are normal; if all opaque pixels are of one class, these are anomalous. A defect that
    leaves no pixel at the working size is kept at the pixels of which it covers the largest share.
    """
    path = pathlib.Path(path)
    picture = decode(path)
    width, height = picture.size
    if picture.size != tuple(image_size):
        raise InputError(
            f"{shown(path)}: is {width} x {height} pixels, but its image is {image_size[0]} x {image_size[1]}; give one of that size"
        )
    findings = Findings() if findings is None else findings
    values = _anomalous_values(path, picture, white, findings)
    if values.all():
        findings.add(FULL, path)
    left, top, right, bottom = fitted_box(picture.size, size, fit)
    part = right - left, bottom - top
    mask = shrink(values, part)
    if not values.any():
        findings.add(EMPTY, path)
    elif not mask.any():
        findings.add(VANISHING, path)
        share = _resized((values > 0).astype(np.float32), part, Image.Resampling.BOX)
        mask = share == share.max()
    return np.pad(mask, ((top, size - bottom), (left, size - right)))


def _resized(values, size, method):
    """An array resized by Pillow."""
    return np.asarray(Image.fromarray(values).resize(tuple(np.broadcast_to(size, 2).tolist()), method))


def _anomalous_values(path, picture, white, findings):
    """A mask as (H, W) uint8, above 0 where anomalous."""
    heights, full = _heights(picture)
    if white and full == WHITE_16 and heights.max() <= white:
        full = white
    opaque = _opaque(path, picture, findings)
    if opaque is None:
        return _two_level(path, heights, full, findings)
    seen = heights[opaque]
    if not seen.size:
        if heights.min() < heights.max():
            raise InputError(f"{shown(path)}: is transparent everywhere, though its colours differ; save it without an alpha channel")
        return np.zeros(heights.shape, np.uint8)
    if seen.min() > 0 or seen.max() == 0:
        if opaque.mean() > 0.5:
            findings.add(FROM_TRANSPARENCY, path)
        return opaque.astype(np.uint8) * 255
    return _two_level(path, heights * opaque, full, findings)


def _heights(picture):
    """How far the largest channel of each pixel lies above black, (H, W), and how far white does."""
    heights = np.asarray(picture.planes[0]())
    for plane in picture.planes[1:]:
        heights = np.maximum(heights, np.asarray(plane()))
    if picture.black > picture.white:
        heights = np.float32(picture.black) - heights
    return heights, abs(picture.white - picture.black)


def _opaque(path, picture, findings):
    """Where a mask with transparent pixels is opaque, (H, W) bool. None if it has none."""
    if picture.alpha is None:
        return None
    alpha = np.asarray(picture.alpha)
    if alpha.min() == 255:
        return None
    if not ((alpha == 0) | (alpha == 255)).all():
        findings.add(HALF_TRANSPARENT, path)
    return alpha >= HALF


def _two_level(path, heights, full, findings):
    """Heights as (H, W) uint8, above 0 where anomalous. Two levels, 0 and another, stay what they are of 255."""
    largest = heights.max()
    if ((heights == 0) | (heights == largest)).all():
        return (heights > 0) * np.uint8(max(np.rint(255 / full * largest), largest > 0))
    anomalous = heights >= HALF / 255 * full
    if not anomalous.any():
        raise InputError(
            f"{shown(path)}: has levels from 0 to {largest:g}, all below half of white ({full}), as label images have; {REMEDY}"
        )
    findings.add(MANY_LEVELS, path)
    return anomalous.astype(np.uint8) * 255
