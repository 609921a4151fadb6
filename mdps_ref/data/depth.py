"""How many bits a channel has, and colour of 16 bits, which Pillow reads as 8.

Pillow's unpackers of 16-bit colour keep the high byte of each value, by the byte order that they are told. Told the other order, they
keep the low byte. So such a file is decoded twice [1]_.

References
----------
.. [1] Pillow, "Writing your own image plugin": a tile's last entry is the raw mode; src/libImaging/Unpack.c: what each raw mode keeps.
"""

import numpy as np
from PIL import Image

from mdps_ref.data import tiff
from mdps_ref.errors import InputError

OTHER_ORDER = {  # the raw mode that keeps the low byte, by that which keeps the high one
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if np.little_endian else "L"))
}
GREY_WITH_ALPHA = "LA;16B"  # has no other order; Pillow makes it RGBA
MOST_PIXELS = 32_000_000  # of 16-bit colour, which is held twice


def raw_mode(image):
    """Return how Pillow would unpack an image that is not decoded yet, such as "RGB;16B"; "" where it does not say."""
    arguments = image.tile[0][3] if image.tile else ""
    mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return mode if isinstance(mode, str) else ""


def is_deep_colour(image):
    """Return True for an undecoded image of 16 bits a channel that Pillow would make one of 8 bits."""
    return image.mode in ("RGB", "RGBA", "CMYK") and bits_of(image) == 16


def is_grey_with_alpha(image):
    """Return True for an undecoded image of 16-bit grey with alpha."""
    return raw_mode(image) == GREY_WITH_ALPHA


def check_deep_colour(image):
    """Refuse colour of 16 bits in a form whose low bytes cannot be had.

    Raises
    ------
    InputError
        Without the file's name.
    """
    mode = raw_mode(image)
    if image.format == "TIFF" and image.tag_v2.get(tiff.PLANES) == 2:
        raise InputError("keeps 16-bit colour in separate planes, which is not read; save it with the channels of a pixel together")
    if mode not in (*OTHER_ORDER, GREY_WITH_ALPHA):
        raise InputError(f"is 16-bit colour of the kind {mode}, which is not read; save it as RGB")
    if image.size[0] * image.size[1] > MOST_PIXELS:
        raise InputError(f"is 16-bit colour of {image.size[0] * image.size[1]} pixels, more than {MOST_PIXELS}; make it smaller")


def keep_low_bytes(image):
    """Make an undecoded image of 16-bit colour keep the low byte of each value."""
    _unpack_as(image, OTHER_ORDER[raw_mode(image)])


def keep_both_bytes(image):
    """Make an undecoded image of 16-bit grey with alpha keep all bytes of a pixel: grey's high and low one, then those of alpha."""
    _unpack_as(image, "RGBA")


def _unpack_as(image, mode):
    """Set the raw mode of an undecoded image."""
    for number, tile in enumerate(image.tile):
        arguments = (mode, *tile[3][1:]) if isinstance(tile[3], tuple) else mode
        fields = (*tile[:3], arguments)
        image.tile[number] = tile._make(fields) if hasattr(tile, "_make") else fields  # Pillow 11 made tiles named tuples


def joined_bytes(high, low):
    """Return the plane of mode F whose values have these high and low bytes; two planes of mode L."""
    return Image.fromarray(np.asarray(high, np.float32) * np.float32(256) + np.asarray(low))


def bits_of(image):
    """Return the bits of a channel, as the file tells them, of an image that is not decoded yet."""
    if image.mode == "P":
        return 8  # of its colours
    if image.format == "TIFF":
        bits = image.tag_v2.get(tiff.BITS, 1)
        return bits[0] if isinstance(bits, tuple) else bits
    mode = raw_mode(image)
    told = mode.partition(";")[2].rstrip("BLNSI") if image.format == "PNG" else ""
    return 1 if image.mode == "1" else 16 if image.mode.startswith("I") else int(told) if told.isdigit() else 8


def depth_of(image):
    """Return the depth of an image that is not decoded yet, in words, such as "16-bit grey" or "8-bit colour"."""
    kind = "grey" if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I") or is_grey_with_alpha(image) else "colour"
    return f"{bits_of(image)}-bit {'float ' * (image.mode == 'F')}{kind}"
