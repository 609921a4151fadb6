"""Decode image files: upright, with the values that mean black and white, one channel at a time."""

import dataclasses

import numpy as np
from PIL import Image

from mdps_ref.data import depth, tiff
from mdps_ref.data.opening import has_late_notes, opened
from mdps_ref.errors import InputError

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
WHITE_16 = 65535
DEPTHS = (10, 12, 14)  # bits of cameras whose values are stored in 16
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # by the EXIF orientation: what makes the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded image.

    Parameters
    ----------
    planes : tuple of callable
        1 for grey, 3 for colour. Each makes its channel, a Pillow image of mode L or F with the values of the file. So a large picture's
        channels need not be in memory together.
    size : tuple of int
        (width, height) as a viewer shows it.
    black, white : float
        The values that mean black and white. Black is above white in a file whose zero is white.
    alpha : PIL.Image.Image or None
        Opacity from 0 to 255, mode L, if the file tells it.
    """

    planes: tuple
    size: tuple[int, int]
    black: float
    white: float
    alpha: Image.Image | None

    def unit(self, values):
        """Scale values of the file, in [black, white], to [0, 1] as float32."""
        return (np.asarray(values, np.float32) - self.black) / np.float32(self.white - self.black)


def decode(path, white=None):
    """Decode an image file.

    Parameters
    ----------
    path : path-like
    white : int, optional
        The value of white in a 16-bit file that does not tell it itself; 65535 by default.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If the file cannot be read, or holds values that are not from black to white.
    """
    with opened(path) as image:
        if _is_16_bit(image) and "transparency" in image.info:
            raise InputError("has 16 bits and a value that means transparent, which is not read; save it without")
        told = _told_white(image) or (white if _is_16_bit(image) else None) or WHITE_16
        if depth.is_deep_colour(image):
            return _sixteen_bits(path, image, told)
        zero_is_white = _zero_is_white(image)
        image = _upright(image)
        if image.mode not in MODES:
            raise InputError(f"has the Pillow mode {image.mode}, which is not supported; save it as grey or RGB")
        if image.mode.startswith(("I", "F")):
            largest = 1 if image.mode == "F" else told
            _check_range(np.asarray(image), largest)
            black, white = (largest, 0) if zero_is_white else (0, largest)
            return Picture((lambda: image if image.mode == "F" else image.convert("F"),), image.size, black, white, None)
        return _eight_bits(image)


def _upright(image):
    """An image, decoded, as a viewer shows it."""
    image.load()
    turn = TURNS.get(_orientation(image))
    return image.transpose(turn) if turn is not None else image


def _sixteen_bits(path, image, white):
    """The Picture of an undecoded image of 16-bit colour, or of 16-bit grey with alpha."""
    depth.check_deep_colour(image)
    if depth.is_grey_with_alpha(image):
        depth.keep_both_bytes(image)
        high, low, alpha, _ = _upright(image).split()
        planes = (lambda: depth.joined_bytes(high, low),)
    else:
        high = _upright(image)
        with opened(path) as again:
            depth.keep_low_bytes(again)
            low = _upright(again)
        planes = tuple(lambda name=name: depth.joined_bytes(high.getchannel(name), low.getchannel(name)) for name in "RGB")
        alpha = high.getchannel("A") if high.mode == "RGBA" else None
    for plane in planes if white < WHITE_16 else ():
        _check_range(np.asarray(plane()), white)
    return Picture(planes, high.size, 0, white, alpha)


def _eight_bits(image):
    """The Picture of an image of 8 bits a channel, or of one bit. Pillow has made its zero black."""
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("P", "PA") or (has_alpha and image.mode in ("L", "RGB")):
        image = image.convert("RGBA")  # converting a palette with transparent colours to RGB makes Pillow warn
    if image.mode in ("CMYK", "YCbCr"):
        image = image.convert("RGB")
    names = ("L",) if image.mode in ("L", "LA") else ("R", "G", "B")
    alpha = image.getchannel("A") if has_alpha else None
    return Picture(tuple(lambda name=name: image.getchannel(name) for name in names), image.size, 0, 255, alpha)


def image_size(path):
    """Read the size of an image from the header of its file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    width, height : int
        In pixels, as a viewer shows the image.

    Raises
    ------
    InputError
        If the header cannot be read.
    """
    with opened(path) as image:
        width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
        if has_late_notes(image):
            image.load()
        return (height, width) if _orientation(image) >= 5 else (width, height)


def image_depth(path):
    """Read how deep an image is from the header of its file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        Such as "8-bit colour", "16-bit grey" or "32-bit float grey".

    Raises
    ------
    InputError
        If the header cannot be read.
    """
    with opened(path) as image:
        return depth.depth_of(image)


def find_white(paths):
    """Find the depth of a set of 16-bit images that do not tell it themselves: cameras store 10, 12 or 14 bits in 16.

    Parameters
    ----------
    paths : iterable of path-like
        Files of other kinds, and files that cannot be read, are passed over.

    Returns
    -------
    int or None
        1023, 4095 or 16383, if the largest value of the set fits into 10, 12 or 14 bits and not into the next smaller depth (8 bits
        below 10). None if it does not, or no file has 16 bits.
    """
    largest = max(map(_largest_untold, paths), default=0)
    smaller = (8, *DEPTHS)
    for low, bits in zip(smaller, DEPTHS, strict=False):
        if 2**low <= largest < 2**bits:
            return 2**bits - 1
    return None


def _largest_untold(path):
    """The largest value in a 16-bit file that does not tell its depth, and 0 for any other."""
    try:
        with opened(path) as image:
            untold = _is_16_bit(image) and not _told_white(image)
        return max(int(np.asarray(plane()).max()) for plane in decode(path).planes) if untold else 0
    except InputError:
        return 0  # told when the image is read


def _orientation(image):
    """The EXIF orientation, from 1 to 8. Notes that cannot be read tell none."""
    try:
        notes = image.tag_v2 if image.format == "TIFF" else Image.Image.getexif(image)  # a PNG's own getexif decodes the pixels
        found = notes.get(ORIENTATION, 1)
    except Exception:  # Pillow's reader of notes raises many types of error
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _is_16_bit(image):
    """True for unsigned values of 16 bits. Older versions of Pillow read such a PNG of grey as mode I."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG") or depth.is_deep_colour(image)


def _told_white(image):
    """The value of white that a TIFF of 16 bits or more tells by its tags; None if it tells none.

    The tag MaxSampleValue counts where it is the largest value of a depth. Some programs write the largest value of the picture there.
    """
    if image.format != "TIFF" or not (image.mode.startswith("I") or depth.is_deep_colour(image)):
        return None
    bits, signed, largest = (_first(image.tag_v2.get(tag)) for tag in (tiff.BITS, tiff.SAMPLE_FORMAT, tiff.LARGEST))
    if bits and bits < 16:
        return 2**bits - 1
    if largest in [2**depth - 1 for depth in range(8, 16)]:
        return largest
    return 32767 if (bits, signed) == (16, 2) else None


def _zero_is_white(image):
    """True if a TIFF tells that its zero is white. Pillow inverts a picture of 8 bits or fewer itself, but none of more bits."""
    if image.format != "TIFF":
        return False
    if image.mode == "L" and _first(image.tag_v2.get(tiff.SAMPLE_FORMAT)) == 2:
        raise InputError("holds signed 8-bit values; save it as unsigned grey")
    meaning = image.tag_v2.get(tiff.PHOTOMETRIC)
    if meaning is None and image.mode in ("1", "L", "I;16", "I;16B", "I", "F") and image.tag_v2.get(tiff.COMPRESSION) not in (2, 3, 4):
        raise InputError("does not tell whether its zero is black or white (the TIFF tag PhotometricInterpretation); save it again")
    return meaning == 0


def _first(values):
    """The first of a tag's values."""
    return values[0] if isinstance(values, tuple) and values else values


def _check_range(values, largest):
    """Refuse values that are not from 0 to `largest`."""
    low, high = values.min(), values.max()
    if np.isnan(low):
        raise InputError(f"holds nan; expected values from 0 to {largest}")
    if low < 0 or high > largest:
        raise InputError(f"holds values from {low} to {high}; expected 0 to {largest}; scale them")
