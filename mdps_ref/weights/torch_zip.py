"""The files of `torch.save` since PyTorch 1.6, read and written without PyTorch.

Such a file is a zip archive without compression. All members lie under one folder:

- `data.pkl`, a pickle of everything but the numbers (see `torch_pickle`);
- `data/0`, `data/1` ..., the numbers, one member for each storage;
- `byteorder`, "little" or "big"; a file without it is little-endian;
- `version`.

References: "Serialization semantics" in PyTorch's notes, and files that PyTorch wrote.
"""

import functools
import io
import pickle
import zipfile

from mdps_ref.errors import InputError, shown
from mdps_ref.weights.pickle_machine import PickleMachine
from mdps_ref.weights.stored_tensor import layout_of, strides_of
from mdps_ref.weights.stored_zip import StoredZip
from mdps_ref.weights.torch_pickle import ALLOWED, MOST_PICKLED, STORAGES, choose_state_dict, described_storage, read_tensors


def read_torch_zip(handle):
    """Read a state dict. The numbers of other tensors in the file, an optimiser's for example, are not read.

    Parameters
    ----------
    handle : binary file

    Returns
    -------
    dict of str to array

    Raises
    ------
    InputError
        If the file cannot be used. The message says what to do, and does not name the file.
    Exception
        Of any type, if the file is damaged.
    """
    archive = StoredZip(handle)
    root = _root(archive)
    order = _byte_order(archive, root)
    program = io.BytesIO(archive.read(root + "data.pkl"))
    tree = PickleMachine(program, ALLOWED, functools.partial(_stored, archive.sizes, root)).run()
    return read_tensors(choose_state_dict(tree), sum(archive.sizes.values()), lambda name: archive.read(f"{root}data/{name}"), order)


def _stored(sizes, root, persistent_id):
    """The storage that a persistent id describes; its member must have as many bytes as the id says."""
    storage = described_storage(persistent_id)
    if sizes.get(f"{root}data/{storage.name}") != storage.size * layout_of(storage.dtype).itemsize:
        raise ValueError(f"it has no storage '{shown(storage.name)}' of {storage.size} numbers of {storage.dtype}")
    return storage


def _root(archive):
    """Return the folder of the members, with its slash."""
    roots = [name.removesuffix("data.pkl") for name in archive.sizes if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise InputError("is a zip file, but not one of torch.save (it has no data.pkl, or several); give a .pth or .safetensors file")
    if archive.sizes[roots[0] + "data.pkl"] > MOST_PICKLED:
        raise ValueError(f"its data.pkl is longer than {MOST_PICKLED} bytes")
    return roots[0]


def _byte_order(archive, root):
    """NumPy's sign for the byte order of the numbers."""
    order = archive.read(root + "byteorder") if root + "byteorder" in archive.sizes else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("its byteorder is neither little nor big")
    return "<" if order == b"little" else ">"


def write_torch_zip(handle, arrays):
    """Write a state dict that `torch.load(path, weights_only=True)` reads. The same arrays give the same bytes.

    Parameters
    ----------
    handle : binary file
    arrays : dict of str to host array

    Raises
    ------
    TypeError
        If PyTorch has no storage for the dtype of an array.
    """
    with zipfile.ZipFile(handle, "w") as archive:
        members = {"data.pkl": _program(arrays), "byteorder": b"little", "version": b"3\n"}
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)  # a ZipInfo without a date takes a fixed one
        for index, array in enumerate(arrays.values()):
            content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            archive.writestr(zipfile.ZipInfo(f"archive/data/{index}"), content)


def _program(arrays):
    """The pickle of a dictionary of tensors, each with a storage of its own."""
    items = b"".join(_pickled(name) + _pickled_tensor(index, array) for index, (name, array) in enumerate(arrays.items()))
    return pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _pickled_tensor(index, array):
    """The instructions that make a tensor of the whole of storage `index`."""
    kinds = [kind for kind, dtype in STORAGES.items() if dtype == array.dtype.name]
    if not kinds:
        raise TypeError(f"PyTorch has no storage for {array.dtype}; use one of {', '.join(STORAGES.values())}")
    persistent_id = _pickled("storage") + _pickled_name("torch", kinds[0]) + _pickled(str(index)) + _pickled("cpu") + _pickled(array.size)
    storage = pickle.MARK + persistent_id + pickle.TUPLE + pickle.BINPERSID
    hooks = _pickled_name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    view = storage + _pickled(0) + _pickled(array.shape) + _pickled(strides_of(array.shape)) + pickle.NEWFALSE + hooks
    return _pickled_name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + view + pickle.TUPLE + pickle.REDUCE


def _pickled(value):
    """The instructions that make a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]  # without the protocol before them and the stop after them


def _pickled_name(module, name):
    """The instruction that looks up a name."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
