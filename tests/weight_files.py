"""Files of weights made by hand, right and wrong: torch.save's two formats, safetensors, and zip files."""

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
