"""Hostile and broken zip files, and .npy files inside them, by kind: how a good file is changed, and what the message says about it."""

import zipfile

import numpy as np
from weight_files import TWELVE, as_zip64, ends_as, listed_as, npy, npy_of, unzipped, with_list, zipped

ARRAYS = {"ema/w.npy": npy(TWELVE), "ema/b.npy": npy(TWELVE[:3])}
OWN = zipped({"about.json": b"{}", **ARRAYS})
PLAIN = zipped(ARRAYS)


def inside_another(content, name):
    """A zip file that lists the last member at a place inside the bytes of a member put before the others."""
    members = unzipped(content)
    whole = zipped(members)
    own = whole.rindex(b"PK\3\4")
    outer = zipped({"aa/outer.npy": whole[own : whole.index(b"PK\1\2")], **members})
    return listed_as(outer, name, at=outer.index(b"PK\3\4", 4))


def many(content, count, times=1):
    """A zip file that says to list `count` members, and has `times` more entries than that in the place of one."""
    return ends_as(with_list(content, lambda entries: entries * times), count=count)


ZIPS = {  # of every reader of zip files: (a function of good bytes and the name of their last member, what is said)
    "deflated": (lambda good, name: zipped(unzipped(good), zipfile.ZIP_DEFLATED), "compressed"),
    "packed by bzip2": (lambda good, name: zipped(unzipped(good), zipfile.ZIP_BZIP2), "compressed"),
    "packed by lzma": (lambda good, name: zipped(unzipped(good), zipfile.ZIP_LZMA), "compressed"),
    "a bomb of zeros": (lambda good, name: zipped({**unzipped(good), "ema/z.npy": bytes(2**25)}, zipfile.ZIP_BZIP2), "compressed"),
    "a bomb said to be small": (lambda good, name: listed_as(zipped(unzipped(good), zipfile.ZIP_DEFLATED), name, size=9), "compressed"),
    "said to be deflated": (lambda good, name: listed_as(good, name, method=8), "compressed"),
    "deflated, said to be stored": (lambda good, name: listed_as(zipped(unzipped(good), zipfile.ZIP_DEFLATED), name, method=0), ""),
    "deflated by its own header": (lambda good, name: listed_as(good, name, own_method=8), "another one"),
    "a packing that nobody knows": (lambda good, name: listed_as(good, name, method=77, own_method=77), "compressed"),
    "encrypted": (lambda good, name: listed_as(good, name, flags=1, own_flags=1), "encrypted"),
    "encrypted by its own header": (lambda good, name: listed_as(good, name, own_flags=1), "another one"),
    "patched": (lambda good, name: listed_as(good, name, flags=32, own_flags=32), "patched"),
    "a size past the file": (lambda good, name: listed_as(good, name, size=2**32 - 2, packed=2**32 - 2), "more bytes than it has"),
    "a size past all files": (lambda good, name: listed_as(good, name, size=2**32 - 1, packed=2**32 - 1), ""),
    "two sizes": (lambda good, name: listed_as(good, name, size=2**20), "two sizes"),
    "a size one short": (lambda good, name: listed_as(good, name, size=1, packed=1), ""),
    "no size": (lambda good, name: listed_as(good, name, size=0, packed=0), ""),
    "another checksum": (lambda good, name: listed_as(good, name, crc=7), "checksum"),
    "the place of another member": (lambda good, name: listed_as(good, name, at=0), ""),
    "a place past the end": (lambda good, name: listed_as(good, name, at=2**31), ""),
    "a member inside another": (lambda good, name: inside_another(good, name), "overlap"),
    "a member twice": (lambda good, name: many(good, 2 * len(unzipped(good)), times=2), "twice"),
    "more members than are counted": (lambda good, name: many(good, len(unzipped(good)), times=2), "another number of members"),
    "fewer members than are counted": (lambda good, name: many(good, 20), "another number of members"),
    "65,535 members counted": (lambda good, name: many(good, 65_535), "lists 65535 members"),
    "100,000 members": (lambda good, name: many(good, 9, times=100_000), "lists 9 members in"),
    "a list past the end": (lambda good, name: ends_as(good, at=2**31), "where it should"),
    "a list of no length": (lambda good, name: ends_as(good, length=0), "where it should"),
    "a list of 4 GiB": (lambda good, name: ends_as(good, length=2**32 - 1), "bytes; at most"),
    "a list cut short": (lambda good, name: with_list(good, lambda entries: entries[:-3]), ""),
    "a list with more behind it": (lambda good, name: with_list(good, lambda entries: entries + b"PK"), ""),
    "a list of other records": (lambda good, name: with_list(good, lambda entries: entries.replace(b"PK\1\2", b"PK\1\3")), ""),
    "2^60 members, as zip64 counts": (lambda good, name: as_zip64(good, count=2**60), "members in"),
    "a zip64 record elsewhere": (lambda good, name: as_zip64(good, at=0), "no end"),
    "several disks": (lambda good, name: as_zip64(good, disks=3), "disks"),
    "a zero byte in a name": (lambda good, name: good.replace(name.encode(), name.encode()[:-1] + b"\0"), "strange name"),
    "a name that is no UTF-8": (
        lambda good, name: listed_as(good, name, flags=0x800, own_flags=0x800).replace(
            name.encode(), name.encode()[:-5] + b"\xff" + name.encode()[-4:]
        ),
        "",
    ),
    "another name of its own": (lambda good, name: good.replace(name.encode(), name.encode()[:-1] + b"X", 1), "another one"),
    "bytes before it": (lambda good, name: b"PK\3\4" + good, "where it should"),
    "no end": (lambda good, name: good[:-22] + bytes(22), "no end"),
    "nothing but its end": (lambda good, name: good[-22:], ""),
}

NPYS = {  # a member of our own file and of Keras's: (bytes, what is said)
    "nothing": (b"", ".npy file of version 1"),
    "text": (b"hello", ".npy file of version 1"),
    "version 2": (npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", bytes(12), version=2), "version 1"),
    "half a header": (npy(TWELVE)[:40], "form"),
    "a header of 60 KB": (
        npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }" + " " * 60000 + "\n", bytes(12)),
        "short header",
    ),
    "code for a header": (npy_of("__import__('os').system('touch sprung')\n"), "form"),
    "a deep header": (npy_of("(" * 1000 + "\n"), "form"),
    "cut short": (npy(TWELVE)[:-1], "number of bytes"),
    "too long": (npy(TWELVE) + b"0", "number of bytes"),
    "a shape of more": (npy(TWELVE).replace(b"(12,)", b"(99,)"), "number of bytes"),
    "a shape of fewer": (npy(TWELVE).replace(b"(12,)", b"(11,)"), "number of bytes"),
    "a negative shape": (npy(TWELVE).replace(b"(12,)", b"(-1,)"), "form"),
    "a number for a shape": (npy(TWELVE).replace(b"(12,)", b"(12) "), "form"),
    "a shape past all memory": (npy_of(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, {2**62}), }}\n"), "number of bytes"),
    "no numbers, and yet too many": (npy_of(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {2**62}, {2**62}), }}\n"), ""),
    "70 axes": (npy_of(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1, ' * 69}1), }}\n", bytes(4)), "form"),
    "columns first": (npy(np.asfortranarray(np.ones((3, 4)))), "form"),
    "complex numbers": (npy(np.ones(3, complex)), "form"),
    "dates": (npy(np.zeros(3, "M8[s]")), "form"),
    "strings": (npy(np.array(["a", "b"])), "form"),
    "bytes": (npy(np.array([b"a", b"b"])), "form"),
    "records": (npy(np.zeros(3, [("a", "f4")])), "form"),
    "nameless bytes": (npy(np.zeros(3, "V4")), "form"),
    "long doubles": (npy(np.zeros(3, np.longdouble)), "form"),
    "big-endian numbers": (npy(TWELVE.astype(">f4")), "form"),
    "numbers of no size": (npy(TWELVE).replace(b"<f4", b"<f1"), ""),
    "objects": (npy(np.array([{}], object)), "form"),
    "bools of 2": (npy(np.array([True, False]))[:-1] + b"\2", "neither 0 nor 1"),
}
