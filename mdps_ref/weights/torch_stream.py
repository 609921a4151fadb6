"""The files of `torch.save` before PyTorch 1.6, read without PyTorch.

Such a file is a stream of five pickles and then the numbers. The pickles are

1. a magic number;
2. the version, 1001;
3. facts about the computer that wrote the file;
4. everything but the numbers (see `torch_pickle`);
5. the list of the storages' names.

Then, in the order of that list, each storage has its count of numbers (8 bytes) and the numbers. All is little-endian. A persistent id
may describe a part of a storage. The format has no checksum: a damaged number, offset, shape or name may stay unnoticed.

References: files that PyTorch wrote.
"""

import functools
import io
import os
import struct

from mdps_ref.weights.pickle_machine import PickleMachine
from mdps_ref.weights.stored_tensor import check_counts, layout_of
from mdps_ref.weights.torch_pickle import ALLOWED, MOST_PICKLED, choose_state_dict, described_storage, read_tensors

MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_stream(handle):
    """Read a state dict. Parameters, returns and raises are those of `read_torch_zip`."""
    size = os.fstat(handle.fileno()).st_size
    pickles, storages = io.BytesIO(handle.read(MOST_PICKLED)), {}
    magic, version, _ = (PickleMachine(pickles, {}, None).run() for _ in range(3))
    if (magic, version) != (MAGIC, 1001):
        raise ValueError("its first pickles are not those of torch.save")
    tree = PickleMachine(pickles, ALLOWED, functools.partial(_described_part, storages)).run()
    names = PickleMachine(pickles, {}, None).run()
    if not all(isinstance(name, str) for name in names) or sorted(names) != sorted(storages):
        raise ValueError("its list of storages does not match its tensors")
    handle.seek(pickles.tell())
    places = {name: _place(handle, storages[name]) for name in names}
    if handle.tell() != size:
        raise ValueError("its storages do not end where the file ends")
    return read_tensors(choose_state_dict(tree), size, lambda name: _content(handle, *places[name]))


def _described_part(storages, persistent_id):
    """The storage, or the part of a storage, that a persistent id describes. The whole storage is entered in {name: Storage}."""
    *whole, part = persistent_id
    whole = described_storage(whole)
    if storages.setdefault(whole.name, whole) != whole:
        raise ValueError("its pickle describes one storage in two ways")
    if part is None:
        return whole
    _, start, size = part
    check_counts((start, size))
    if start + size > whole.size:
        raise ValueError("a part of a storage reaches beyond the storage")
    return whole._replace(start=start, size=size)


def _place(handle, storage):
    """Where the numbers of the next storage begin, and how many bytes they have. The handle moves behind them."""
    (count,) = struct.unpack("<q", handle.read(8))
    if count != storage.size:
        raise ValueError("a storage is not as long as its pickle says")
    begin, length = handle.tell(), count * layout_of(storage.dtype).itemsize
    handle.seek(length, os.SEEK_CUR)
    return begin, length


def _content(handle, begin, length):
    """`length` bytes of the file from `begin` on."""
    handle.seek(begin)
    return handle.read(length)
