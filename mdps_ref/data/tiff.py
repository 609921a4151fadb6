"""Check the directories of a TIFF file before a decoder believes them [1]_.

A TIFF file is a chain of directories, one a page. A directory is a list of tags: a number, a type, a count, and the values or their place
in the file. A decoder reserves memory for as many values as a tag tells, so the counts are checked first.

References
----------
.. [1] Adobe, "TIFF Revision 6.0", 1992; BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html.
"""

import struct

from mdps_ref.errors import InputError

MOST_TAGS, MOST_PAGES, MOST_STRIPS = 4096, 1000, 65536
MOST_TAGS_TOGETHER = 65536  # of all directories: each is looked at in Python
MOST_TAG_BYTES = 64 * 2**20
MOST_TILE_PIXELS = 2**24
COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 50000)  # all but LZMA and those of single makers
SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, LARGEST, PLANES, SAMPLE_FORMAT = 254, 258, 259, 262, 277, 281, 284, 339
STRIPS, TILE_WIDTH, TILE_LENGTH, TILES = 273, 322, 323, 324
SUBDIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability
WANTED = (SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, LARGEST, SAMPLE_FORMAT, TILE_WIDTH, TILE_LENGTH, *SUBDIRECTORIES)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # bytes of a value of each type
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}


class _Reader:
    """Directories of a TIFF file. Everything that is cut short raises struct.error."""

    def __init__(self, handle):
        self.handle = handle
        handle.seek(0)
        header = handle.read(16)
        self.order = "<" if header[:2] == b"II" else ">"
        self.big = header[2:4] == b"\x2b\0"
        (self.first,) = struct.unpack_from(self.order + "Q", header, 8) if self.big else struct.unpack_from(self.order + "I", header, 4)

    def unpack(self, form, place=None):
        """Values at a place in the file, or where the last ones ended."""
        if place is not None:
            self.handle.seek(min(place, 2**63 - 1))
        return struct.unpack(self.order + form, self.handle.read(struct.calcsize(self.order + form)))

    def directory(self, place):
        """The tags {number: (type, count, first value or None)} of a directory, their bytes together, and the next directory's place."""
        (count,) = self.unpack("Q" if self.big else "H", place)
        if count > MOST_TAGS:
            raise InputError(f"has {count} tags in a TIFF directory, more than {MOST_TAGS}; save it again")
        form, inline = ("HHQ8s", 8) if self.big else ("HHI4s", 4)
        entries = [self.unpack(form) for _ in range(count)]
        (following,) = self.unpack("Q" if self.big else "I")
        tags, total = {}, 0
        for tag, kind, values, content in entries:
            size = values * _SIZES.get(kind, 0)  # decoders pass over unknown types
            total += size
            tags.setdefault(tag, (kind, values, self._first(tag, kind, values, content, size > inline)))
        return tags, total, following

    def _first(self, tag, kind, values, content, elsewhere):
        """The first value of a tag, if it is a whole number and wanted."""
        if tag not in WANTED or kind not in _INTEGERS or not values:
            return None
        if elsewhere:
            return self.unpack(_INTEGERS[kind], *struct.unpack(self.order + ("Q" if self.big else "I"), content))[0]
        return struct.unpack_from(self.order + _INTEGERS[kind], content)[0]


def survey(handle):
    """Check a TIFF file's directories.

    Parameters
    ----------
    handle : binary file
        Its position changes.

    Returns
    -------
    pages : int
        Smaller copies of the first page are not counted.
    tags : dict of int to int
        First values of the first page's tags, of those in WANTED.

    Raises
    ------
    InputError
        If a directory tells of more than a picture needs. The message does not name the file.
    struct.error
        If a directory does not lie in the file.
    """
    reader = _Reader(handle)
    first, place, seen, pages, looked_at = None, reader.first, set(), 0, 0
    while place and place not in seen and len(seen) < MOST_PAGES:
        seen.add(place)
        try:
            tags, total, place = reader.directory(place)
        except struct.error:
            if first is None:
                raise
            break
        _check(tags, total)
        looked_at += len(tags)
        if looked_at > MOST_TAGS_TOGETHER:
            raise InputError(f"has more than {MOST_TAGS_TOGETHER} TIFF tags; save the flat picture without its layers or notes")
        values = {tag: value for tag, (_, _, value) in tags.items() if value is not None}
        if first is None:
            first = values
            _check_subdirectories(reader, values, 0)
        pages += first is values or not values.get(SUBFILE, 0) & 1
    return pages, first or {}


def _check(tags, total):
    """Refuse a directory whose values or strips would fill the memory."""
    if total > MOST_TAG_BYTES:
        raise InputError(f"has {total} bytes of TIFF tags, more than {MOST_TAG_BYTES}; save the flat picture without its layers or notes")
    strips = max(tags.get(tag, (0, 0, 0))[1] for tag in (STRIPS, TILES))
    if strips > MOST_STRIPS:
        raise InputError(f"has {strips} strips or tiles, more than {MOST_STRIPS}; save it again, with larger ones")
    width, length = (tags.get(tag, (0, 0, 0))[2] or 1 for tag in (TILE_WIDTH, TILE_LENGTH))
    if width * length > MOST_TILE_PIXELS:
        raise InputError(f"has tiles of {width} x {length} pixels; save it again, with smaller ones")
    compression = tags.get(COMPRESSION, (0, 0, None))[2]
    if compression not in (None, *COMPRESSIONS):
        raise InputError(f"is a TIFF of compression {compression}, which is not read; save it uncompressed or by deflate")


def _check_subdirectories(reader, values, depth):
    """Check the directories of notes that a directory points to, and those that they point to."""
    for tag in SUBDIRECTORIES:
        if values.get(tag) and depth < 3:
            try:
                tags, total, _ = reader.directory(values[tag])
            except struct.error:
                continue  # Pillow passes over broken notes
            _check(tags, total)
            _check_subdirectories(reader, {tag: value for tag, (_, _, value) in tags.items()}, depth + 1)
