"""Open image files, which may be damaged, hostile or no images at all, so that reading them takes bounded time and memory."""

import contextlib
import os
import re
import struct
import warnings

from PIL import Image, features

from mdps_ref.data import tiff
from mdps_ref.data.files import SPECIAL, is_special
from mdps_ref.errors import InputError, shown

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
READ = "not a PNG, JPEG, BMP, TIFF or WebP image"
MOST_PIXELS = 64_000_000
MOST_WEBP_PIXELS = 32_000_000  # WebP's decoder holds several copies of the picture
MOST_SCANS = 100  # of a JPEG file; a progressive one has about 10
MOST_SCANNED_PIXELS = 20 * MOST_PIXELS  # over all scans
MOST_BYTES = 128 * 2**20  # of JPEG and WebP files, which are read at once
MOST_RUNS_BYTES, LONGEST_RUNS_SIDE = 2**22, 2**14  # of a run-length encoded BMP, which Pillow decodes in Python
MOST_CHUNKS, MOST_NOTES, MOST_NOTE_BYTES = 200_000, 4096, 2**24  # of a PNG file; notes are the chunks without pixels
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)  # a JPEG marker that is no restart
_PIXELS, _SCAN, _END = (b"IDAT", b"fdAT"), 0xDA, 0xD9


@contextlib.contextmanager
def opened(path):
    """Open an image file and read its header.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    PIL.Image.Image
        Not decoded yet. Every error of Pillow inside the block becomes an InputError. An InputError inside the block is given the
        file's name.

    Raises
    ------
    InputError
        If the file is missing, no ordinary file, no image, damaged, of several pages or frames, or too large to be decoded.
    """
    try:
        with _ordinary_file(path) as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata; damaged pixels raise an error
            cost, pages = _survey(handle)
            handle.seek(0)
            with Image.open(handle, formats=FORMATS) as image:
                _check_size(image, cost)
                _check_frames(image, pages)
                yield image
    except InputError as error:
        if str(error).startswith(f"{shown(path)}: "):  # of the same file, opened once more inside the block
            raise
        raise InputError(f"{shown(path)}: {error}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{shown(path)}: has more than {MOST_PIXELS} pixels; make it smaller") from error
    except MemoryError as error:
        raise InputError(f"{shown(path)}: there is not enough memory to decode it; make it smaller") from error
    except Exception as error:  # Pillow's readers raise many types of error for a broken file
        reason = (getattr(error, "strerror", None) or "").lower() or f"truncated, damaged, or {_kind_of_tiff(path) or READ}"
        raise InputError(f"{shown(path)}: could not be read ({reason}); replace or remove it") from error


def has_late_notes(image):
    """Return True if notes follow the pixels of an undecoded PNG, where its orientation may stand."""
    if image.format != "PNG":
        return False
    place = image.fp.tell()
    kinds = [kind for kind, _ in _chunks(image.fp)]
    image.fp.seek(place)
    first = next((k for k, kind in enumerate(kinds) if kind in _PIXELS), len(kinds))
    return any(kind not in (*_PIXELS, b"IEND") for kind in kinds[first:])


def _ordinary_file(path):
    """Open a file for reading, if it is no FIFO, socket or device."""
    if is_special(path):
        raise InputError(SPECIAL)
    return open(path, "rb")


def _survey(handle):
    """Check what the format's own structure tells, before Pillow reads it. Returns the scans of a JPEG and the pages of a TIFF, else 1."""
    size = os.fstat(handle.fileno()).st_size
    head = handle.read(34)
    scans = pages = 1
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_chunks(handle)
    elif head.startswith(b"\xff\xd8\xff"):
        scans = _scans(handle, size)
    elif head.startswith((b"II", b"MM")):
        pages, _ = tiff.survey(handle)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        _check_bytes(size)
        if not features.check("webp"):
            raise InputError("is a WebP image, and Pillow was built without WebP here; save it as PNG")
    elif head.startswith(b"BM"):
        _check_runs(head, size)
    return scans, pages


def _check_bytes(size):
    """Refuse a file too large to be read at once."""
    if size > MOST_BYTES:
        raise InputError(f"has {size} bytes, more than {MOST_BYTES}; save it again")


def _check_size(image, scans):
    """Refuse a picture whose decoding takes too much memory or time."""
    most = MOST_WEBP_PIXELS if image.format == "WEBP" else MOST_PIXELS
    pixels = image.size[0] * image.size[1]
    if pixels > most:
        raise InputError(f"has {pixels} pixels, more than {most}; make it smaller")
    if scans * pixels > MOST_SCANNED_PIXELS and scans > 1:
        raise InputError(f"is a JPEG of {pixels} pixels in {scans} scans, which takes too long; save it again")


def _check_frames(image, pages):
    """Refuse all but single pictures. The second frame of a phone's photograph (MPO) is a preview or a depth map."""
    frames = 1 if image.format in ("MPO", "TIFF") else getattr(image, "n_frames", 1)
    for count, what in ((pages, "pages"), (frames, "frames")):
        if count > 1:
            raise InputError(f"holds {count} {what}; save each that you need as a file of its own")


def _chunks(handle):
    """Kind and length of each chunk of a PNG file, as far as the file goes."""
    handle.seek(8)
    while len(head := handle.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        handle.seek(length + 4, os.SEEK_CUR)


def _check_chunks(handle):
    """Refuse a PNG with more notes than a picture has."""
    notes = 0
    for count, (kind, length) in enumerate(_chunks(handle)):
        notes += kind not in _PIXELS
        if notes > MOST_NOTES or count > MOST_CHUNKS:
            raise InputError("is a PNG of too many chunks; save it again without its notes")
        if kind not in _PIXELS and length > MOST_NOTE_BYTES:
            raise InputError(f"has a note of {length} bytes, more than {MOST_NOTE_BYTES}; save it again without its notes")


def _scans(handle, size):
    """The number of scans of a JPEG file. What follows its end, such as a phone's video, is not searched."""
    _check_bytes(size)
    handle.seek(0)
    content, place, scans = handle.read(), 2, 0
    for _ in range(MOST_NOTES):
        marker = _MARKER.search(content, place)
        if not marker or marker[1][0] == _END:
            return max(scans, 1)
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
        scans += marker[1][0] == _SCAN
        if scans > MOST_SCANS:
            raise InputError(f"is a JPEG of more than {MOST_SCANS} scans; save it again")
    raise InputError(f"is a JPEG of more than {MOST_NOTES} segments; save it again without its notes")


def _check_runs(head, size):
    """Refuse a large run-length encoded BMP."""
    if len(head) == 34 and struct.unpack_from("<I", head, 14)[0] >= 40:
        width, height, _, _, compression = struct.unpack_from("<iiHHI", head, 18)
        if compression in (1, 2) and (size > MOST_RUNS_BYTES or max(width, abs(height)) > LONGEST_RUNS_SIDE):
            raise InputError("is a large run-length encoded BMP, which takes too long; save it as PNG")


def _kind_of_tiff(path):
    """What a TIFF that Pillow refused holds; nothing for other files."""
    with contextlib.suppress(Exception), _ordinary_file(path) as handle:
        if handle.read(2) in (b"II", b"MM"):
            _, tags = tiff.survey(handle)
            kind = [
                ("bits", tiff.BITS),
                ("photometric", tiff.PHOTOMETRIC),
                ("samples", tiff.SAMPLES),
                ("sample format", tiff.SAMPLE_FORMAT),
            ]
            told = ", ".join(f"{name} {tags[tag]}" for name, tag in kind if tag in tags)
            return f"a TIFF of a kind that is not read: {told}" if told else ""
    return ""
