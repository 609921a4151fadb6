"""Files of weights made by hand, right and wrong: torch.save's two formats, safetensors, and zip files."""

import hashlib
import io
import json
import pickle
import struct
import zipfile

import numpy as np


class Name(str):
    """A name for a pickle to look up: "module name"."""


class Call:
    """A call for a pickle to make."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = Name(name), arguments


class Outside:
    """A persistent id, which describes an object outside of the pickle."""

    def __init__(self, *parts):
        self.parts = parts


class Raw(bytes):
    """Instructions of a pickle."""


def pickled(value, *more):
    """The instructions of a pickle that make a value. `more` is the last part of a persistent id before PyTorch 1.6."""
    match value:
        case Raw():
            return bytes(value)
        case Name():
            return b"c" + value.replace(" ", "\n").encode() + b"\n"
        case Call():
            return pickled(value.name) + pickled(value.arguments, *more) + b"R"
        case Outside():
            return pickled((*value.parts, *more)[:6]) + b"Q"
        case dict():
            return b"}(" + b"".join(pickled(part, *more) for item in value.items() for part in item) + b"u"
        case list():
            return b"](" + b"".join(pickled(part, *more) for part in value) + b"e"
        case tuple():
            return b"(" + b"".join(pickled(part, *more) for part in value) + b"t"
        case _:
            return pickle.dumps(value, protocol=2)[2:-1]


def stored(kind, name, size, *part):
    """PyTorch's description of a storage. `part` describes a part of it, before PyTorch 1.6."""
    return Outside("storage", Name(f"torch {kind}"), name, "cpu", size, *part)


def tensor(storage, offset, shape, strides):
    """PyTorch's description of a tensor."""
    return Call("torch._utils _rebuild_tensor_v2", storage, offset, shape, strides, False, Call("collections OrderedDict"))


def floats(offset, shape, strides, size=12, *part):
    """A view of storage "0", which has twelve float32 numbers, or of a part of the storage."""
    return tensor(stored("FloatStorage", "0", size, *part), offset, shape, strides)


TWELVE = np.arange(12, dtype=np.float32)
WHOLE = floats(0, (3, 4), (4, 1))


def torch_zip(tree, storages=None, root="saved", **others):
    """The bytes of a file of torch.save. `storages` is {name: array or bytes}."""
    file = io.BytesIO()
    storages = {"0": TWELVE} if storages is None else storages
    members = {"data.pkl": b"\x80\2" + pickled(tree) + b".", **others}
    members |= {f"data/{name}": content if isinstance(content, bytes) else content.tobytes() for name, content in storages.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
        archive.writestr(f"{root}/version", "3\n")
    return file.getvalue()


def old_program(tree):
    """The pickle of everything but the numbers, before PyTorch 1.6."""
    return b"\x80\2" + pickled(tree, None) + b"."


def torch_stream(tree, storages=None, protocol=2, **others):
    """The bytes of a file of torch.save before PyTorch 1.6. `storages` is {name: array}, `others` are wrong pickles."""
    storages = {"0": TWELVE} if storages is None else storages
    pickles = {"magic": 0x1950A86A20F9469CFC6C, "version": 1001, "about": {"little_endian": True}, "tree": Raw(old_program(tree))}
    pickles |= {"names": list(storages)} | others
    parts = [bytes(value) if isinstance(value, Raw) else pickle.dumps(value, protocol) for value in pickles.values()]
    return b"".join(parts + [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()])


def safetensors(header, content=b""):
    """The bytes of a safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def entry(dtype, shape, begin, end):
    """The header's entry of one tensor in a safetensors file."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def zipped(members, compression=zipfile.ZIP_STORED):
    """A zip file of [(name, bytes)] or {name: bytes}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in dict(members).items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def unzipped(content):
    """{name: bytes} of a zip file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array):
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of(described, content=b"", version=1):
    """The bytes of a .npy file with this header."""
    described = described if isinstance(described, bytes) else described.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(described)) + described + content


def signed(content):
    """A zip file with the checksum of a checkpoint, as a forger would sign it."""
    content = content[:-2] + struct.pack("<H", 64)
    return content + hashlib.sha256(content + b"0" * 64).hexdigest().encode()


LIST = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L"), "at": (42, "<L")}
OWN = {"flags": (6, "<H"), "method": (8, "<H")}


def patch(content, at, layout, value):
    """The bytes with a number at this place overwritten."""
    content = bytearray(content)
    struct.pack_into(layout, content, at, value)
    return bytes(content)


def listed_as(content, name, **fields):
    """A zip file whose list says these numbers about a member; `own_...` stands for the member's own header."""
    entry = content.rindex(name.encode()) - 46
    (own,) = struct.unpack_from("<L", content, entry + 42)
    for field, value in fields.items():
        base, table = (own, OWN) if field.startswith("own_") else (entry, LIST)
        at, layout = table[field.removeprefix("own_")]
        content = patch(content, base + at, layout, value)
    return content


def ends_as(content, **fields):
    """A zip file whose last record says these numbers about the list: `count`, `length`, `at`."""
    table = {"count": (10, "<H"), "length": (12, "<L"), "at": (16, "<L")}
    for field, value in fields.items():
        at, layout = table[field]
        content = patch(content, len(content) - 22 + at, layout, value)
    return content


def with_list(content, change):
    """A zip file whose list of members, bytes, is changed, and measured anew but not counted."""
    length, at = struct.unpack_from("<2L", content, len(content) - 10)
    entries = change(content[at : at + length])
    return ends_as(content[:at] + entries + content[-22:], length=len(entries))


def as_zip64(content, count=None, at=None, disks=1):
    """A zip file whose list is described by the records for huge files; `count` and `at`, the record's place, may be wrong."""
    told, length, begin = struct.unpack_from("<H2L", content, len(content) - 12)
    end = len(content) - 22
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, told, told if count is None else count, length, begin)
    return content[:end] + record + struct.pack("<4sLQL", b"PK\6\7", 0, end if at is None else at, disks) + content[end:]
