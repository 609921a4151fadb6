"""Files of safetensors, read without its library.

Such a file is the length of its header (8 bytes, little-endian), the header, and the numbers. The header is JSON: for each name the
dtype, the shape and the range of bytes. The numbers are little-endian, in C order, with no gap and no overlap.

References: "Format" in the README of safetensors.
"""

import math
import os
import struct

from mdps_ref.errors import InputError, shown
from mdps_ref.weights.checks import strict_json
from mdps_ref.weights.stored_tensor import Storage, StoredTensor, check_counts, layout_of, strides_of, to_array

LONGEST_HEADER = 2**22  # bytes, enough for 30,000 tensors
DTYPES = {
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


def read_safetensors(handle):
    """Read all tensors.

    Parameters
    ----------
    handle : binary file

    Returns
    -------
    dict of str to array

    Raises
    ------
    InputError
        If a tensor's dtype is not in DTYPES. The message does not name the file.
    Exception
        Of any type, if the file is damaged.
    """
    (length,) = struct.unpack("<Q", handle.read(8))
    size = os.fstat(handle.fileno()).st_size
    if length > size:
        raise ValueError("its header is longer than the file")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header is longer than {LONGEST_HEADER} bytes")
    header = strict_json(handle.read(length))
    if not all(isinstance(value, str) for value in header.pop("__metadata__", {}).values()):
        raise ValueError("its metadata are not strings")
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        tensors[name] = _tensor(entry, end)
        end += tensors[name].storage.size
    if 8 + length + end != size:
        raise ValueError("its header describes another number of bytes than the file has")
    return {name: to_array(tensor, handle.read(tensor.storage.size)) for name, tensor in tensors.items()}


def _tensor(entry, begin):
    """The tensor of an entry of the header; its bytes must start at `begin`, where the tensor before it ended."""
    if entry["dtype"] not in DTYPES:
        raise InputError(f"has a tensor of '{shown(entry['dtype'])}', which cannot be read; save it again as F32")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    check_counts(shape)
    length = math.prod(shape) * layout_of(dtype).itemsize
    check_counts(tuple(entry["data_offsets"]))
    if entry["data_offsets"] != [begin, begin + length]:
        raise ValueError("its header has byte ranges with gaps, overlaps or wrong lengths")
    return StoredTensor(Storage("", "uint8", length), dtype, 0, shape, strides_of(shape))
