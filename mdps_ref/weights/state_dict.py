"""State dicts in the formats of others, without their libraries: PyTorch's files, read and written, and safetensors, read.

A .pth file of `torch.save` (since PyTorch 1.6) is a zip file, whose members are stored as they are, under one folder: `data.pkl`, a
pickle of everything but the numbers; `data/0`, `data/1` ..., the numbers, one member a storage; `byteorder`, little where it is missing;
`version`. A tensor is a view of its storage, an offset, a shape and strides in elements, and several tensors may share a storage.
Source: "Serialization semantics" in PyTorch's notes, and files that PyTorch wrote.

Before 1.6 it was a stream: five pickles (a magic number; the version, 1001; facts about the computer; everything but the numbers; the
list of the storages' names), and then, in the order of that list, how many numbers a storage has (8 bytes) and the numbers, all
little-endian. A persistent id may tell of a part of a storage.  Source: files that PyTorch wrote.

A safetensors file is the length of its header (8 bytes, little-endian), the header (JSON: name to dtype, shape and the range of
bytes), and the bytes, little-endian and in C order, with no hole and no overlap.  Source: "Format" in the README of safetensors.
"""

import functools
import io
import json
import math
import os
import pickle
import struct
import zipfile

from mdps_ref.errors import InputError
from mdps_ref.weights.pickle_machine import PickleMachine
from mdps_ref.weights.stored_tensor import Storage, Tensor, check_counts, check_total, check_view, layout_of, strides_of, to_array

MAGIC = 0x1950A86A20F9469CFC6C
MOST_PICKLED = 2**24  # bytes of pickles in a file: a hundred thousand tensors; each byte of a hostile one may cost a hundred
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_torch_zip(handle, key=None):
    """{name: host array} of a PyTorch zip file: of its outer dictionary, or of the one dictionary of tensors in it, or under `key`.

    Only these tensors are read, not an optimiser's beside them.
    Raises: InputError, without the name of the file, with a remedy; for a damaged file an exception of any kind.
    """
    with zipfile.ZipFile(handle) as archive:
        size = os.fstat(handle.fileno()).st_size
        root = _root(archive, size)
        order = _byte_order(archive, root)
        tree = PickleMachine(io.BytesIO(archive.read(root + "data.pkl")), _ALLOWED, _storage).run()
        return _arrays(_choose(tree, key), size, lambda name: archive.read(f"{root}data/{name}"), order)


def _root(archive, size):
    """The folder of the archive, with its slash, once its list of members is in order."""
    members = archive.infolist()
    names = [member.filename for member in members]
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise InputError("is a zip file, but not one of torch.save (no data.pkl in it); give a .pth or .safetensors file")
    if len(set(names)) < len(names):
        raise ValueError("its zip file lists a member twice")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError("is a compressed zip file, as those of TorchScript are; torch.save model.state_dict() and give that")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its zip file lists more bytes than it has")
    if archive.getinfo(roots[0] + "data.pkl").file_size > MOST_PICKLED:
        raise ValueError(f"its data.pkl is longer than {MOST_PICKLED} bytes")
    for member in members:  # the list and the member itself must tell the same name, or a spoilt list could hide one
        archive.open(member).close()
    return roots[0]


def _byte_order(archive, root):
    """NumPy's sign for the byte order, which is little-endian where the archive does not say."""
    told = archive.read(root + "byteorder") if root + "byteorder" in archive.namelist() else b"little"
    if told not in (b"little", b"big"):
        raise ValueError("its byteorder is neither little nor big")
    return "<" if told == b"little" else ">"


def read_torch_stream(handle, key=None):
    """{name: host array} of a file from before PyTorch 1.6, chosen as `read_torch_zip` does.

    The format has no checksum: a number, an offset, a shape or a name may be spoilt unnoticed.  Raises: as `read_torch_zip` does.
    """
    size = os.fstat(handle.fileno()).st_size
    pickles, storages = io.BytesIO(handle.read(MOST_PICKLED)), {}
    magic, version, _ = (PickleMachine(pickles, {}, None).run() for _ in range(3))
    if (magic, version) != (MAGIC, 1001):
        raise ValueError("its first pickles are not those of torch.save")
    tree = PickleMachine(pickles, _ALLOWED, functools.partial(_part_of, storages)).run()
    names = PickleMachine(pickles, {}, None).run()
    if not all(isinstance(name, str) for name in names) or sorted(names) != sorted(storages):
        raise ValueError("its list of storages is not that of its tensors")
    handle.seek(pickles.tell())
    places = {name: _place(handle, storages[name]) for name in names}
    if handle.tell() != size:
        raise ValueError("its storages end elsewhere than the file does")
    return _arrays(_choose(tree, key), size, lambda name: _content(handle, *places[name]))


def _place(handle, storage):
    """Where in the file a storage's numbers begin, and their length in bytes; the handle goes on to the next storage."""
    (count,) = struct.unpack("<q", handle.read(8))
    if count != storage.size:
        raise ValueError("a storage is not as long as its pickle says")
    begin, length = handle.tell(), count * layout_of(storage.dtype).itemsize
    handle.seek(length, os.SEEK_CUR)
    return begin, length


def _content(handle, begin, length):
    """Some bytes of a file."""
    handle.seek(begin)
    return handle.read(length)


def _arrays(tensors, size, read, order="<"):
    """{name: host array} of tensors in a file of `size` bytes; read: function of a storage's name that gives its bytes."""
    for tensor in tensors.values():
        check_view(tensor)
    check_total(tensors.values(), size)
    read = functools.cache(read)
    return {name: to_array(tensor, read(tensor.storage.name), order) for name, tensor in tensors.items()}


def _storage(told):
    """The storage that a pickle's persistent id tells of."""
    kind, dtype, name, _, size = told
    check_counts((size,))
    if kind != "storage" or dtype not in STORAGES.values() or not isinstance(name, str):
        raise ValueError("its pickle tells of a storage in a wrong form")
    return Storage(name, dtype, size)


def _part_of(storages, told):
    """The storage, or the part of one, that a persistent id of before 1.6 tells of; whole ones are entered in {name: storage}."""
    *told, part = told
    whole = _storage(told)
    if storages.setdefault(whole.name, whole) != whole:
        raise ValueError("its pickle tells of one storage in two ways")
    if part is None:
        return whole
    _, start, size = part
    check_counts((start, size))
    if start + size > whole.size:
        raise ValueError("a part of a storage reaches beyond it")
    return whole._replace(start=start, size=size)


def _dictionary():
    """An OrderedDict, filled afterwards."""
    return {}


def _same(value):
    """What a torch.Size makes of a tuple, and a Counter of a dictionary."""
    return value


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    """A tensor of its storage's own dtype."""
    return _tensor_of(storage, offset, shape, strides, requires_grad, hooks, storage.dtype, metadata)


def _tensor_of(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None):
    """A tensor of any dtype over a storage of bytes."""
    if not isinstance(storage, Storage) or dtype not in STORAGES.values():  # NumPy's "object" would take the numbers for pointers
        raise ValueError("its pickle makes a tensor of what is no storage")
    if metadata:
        raise InputError("holds a tensor whose sign is still to be changed; call resolve_neg() on it before saving")
    return Tensor(storage, dtype, offset, shape, strides)


def _parameter(tensor, requires_grad, hooks, attributes=None):
    """A tensor that is trained."""
    return tensor


_ALLOWED = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _same,
    "torch.Size": _same,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.storage.UntypedStorage": "uint8",
    **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
    **{f"torch.{dtype}": dtype for dtype in STORAGES.values()},
}


def _choose(tree, key):
    """{name: Tensor} of the dictionary that was meant.  Raises: InputError if none, or more than one, can be."""
    if not isinstance(tree, dict):
        raise InputError(f"holds a {type(tree).__name__}, not a dictionary of tensors; save model.state_dict() and give that")
    if key is not None:
        inside = {name: value for name, value in tree.items() if isinstance(value, dict)}
        if key not in inside:
            raise InputError(f"holds no dictionary under the key {key!r}; those it holds: {_told(inside)}")
        tree = inside[key]
    inside = [name for name, value in tree.items() if _is_state_dict(value)]
    if len(inside) > 1:
        raise InputError(f"holds several state dicts: {_told(inside)}; choose one with key={_told(inside[:1])}")
    chosen = tree[inside[0]] if inside else tree
    tensors = {name: value for name, value in chosen.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"holds no tensors by name (its entries: {_told(chosen)}); save model.state_dict() and give that")
    return tensors


def _is_state_dict(value):
    """Whether this is a dictionary of tensors by name."""
    return isinstance(value, dict) and value != {} and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _told(names):
    """Names for a message, not too many and not too long."""
    names = list(names)
    return ", ".join(repr(name)[:60] for name in names[:10]) + (" ..." if names[10:] else "") if names else "none"


def read_safetensors(handle):
    """{name: host array} of a safetensors file.  Raises: an exception of any kind for a damaged file."""
    (length,) = struct.unpack("<Q", handle.read(8))
    size = os.fstat(handle.fileno()).st_size
    if length > size:
        raise ValueError("its header is longer than the file")
    header = json.loads(handle.read(length), object_pairs_hook=_without_repetition)
    header.pop("__metadata__", None)
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        tensors[name], end = _safe_tensor(entry, end), entry["data_offsets"][1]
    if 8 + length + end != size:
        raise ValueError("its header tells of another number of bytes than there are")
    return {name: to_array(tensor, handle.read(tensor.storage.size)) for name, tensor in tensors.items()}


def _safe_tensor(entry, begin):
    """The tensor of an entry of the header, whose bytes must start at `begin`, where those before it ended."""
    if entry["dtype"] not in SAFETENSORS:
        raise InputError(f"has a tensor of {_told([entry['dtype']])}, which cannot be read; save it again as F32")
    dtype, shape = SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
    check_counts(shape)
    length = math.prod(shape) * layout_of(dtype).itemsize
    if entry["data_offsets"] != [begin, begin + length]:
        raise ValueError("its header has ranges of bytes with holes, overlaps or wrong lengths")
    return Tensor(Storage("", "uint8", length), dtype, 0, shape, strides_of(shape))


def _without_repetition(pairs):
    """A JSON object whose names are all different."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("its header has a name twice")
    return dict(pairs)


def write_torch_zip(handle, arrays):
    """Write {name: host array} so that `torch.load(path, weights_only=True)` gives a dictionary of tensors.

    The same arrays give the same bytes.  Raises: TypeError for a dtype that PyTorch's zip files do not have.
    """
    with zipfile.ZipFile(handle, "w") as archive:
        members = {"data.pkl": _program(arrays), "byteorder": b"little", "version": b"3\n"}
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)  # a ZipInfo without a date has a fixed one
        for index, array in enumerate(arrays.values()):
            content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            archive.writestr(zipfile.ZipInfo(f"archive/data/{index}"), content)


def _program(arrays):
    """The pickle of a dictionary of tensors, one storage each."""
    items = b"".join(_pickled(name) + _pickled_tensor(index, array) for index, (name, array) in enumerate(arrays.items()))
    return pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _pickled_tensor(index, array):
    """The instructions that make a tensor of the whole of storage `index`."""
    kinds = [kind for kind, dtype in STORAGES.items() if dtype == array.dtype.name]
    if not kinds:
        raise TypeError(f"no PyTorch storage for {array.dtype}; one of {', '.join(STORAGES.values())} would do")
    told = _pickled("storage") + _pickled_name("torch", kinds[0]) + _pickled(str(index)) + _pickled("cpu") + _pickled(array.size)
    storage = pickle.MARK + told + pickle.TUPLE + pickle.BINPERSID
    hooks = _pickled_name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    view = storage + _pickled(0) + _pickled(array.shape) + _pickled(strides_of(array.shape)) + pickle.NEWFALSE + hooks
    return _pickled_name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + view + pickle.TUPLE + pickle.REDUCE


def _pickled(value):
    """The instructions that make a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]  # without the version before them and the stop after them


def _pickled_name(module, name):
    """The instruction that looks up a name."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
