"""Arrays in a zip file, one .npy member each: NumPy's .npz without compression, read at a cost that the size of the file bounds.

Only numbers are read: no pickles, dates, strings or complex numbers. NumPy's own reader would parse a header of any length, and would
make an array of any size that the header tells, however few bytes follow.

References: "NPY format" in NumPy's manual.
"""

import io
import math
import re

import numpy as np

from mdps_ref.errors import InputError
from mdps_ref.weights.checks import check_names, listed

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
LONGEST_HEADER = 2**11  # bytes
_START = b"\x93NUMPY\1\0"
_SHAPE = rb"\((|[0-9]{1,19},|[0-9]{1,19}(?:, [0-9]{1,19}){1,63})\)"
_HEADER = re.compile(rb"\{'descr': '([<|](?:f[248]|[iu][1248]|b1))', 'fortran_order': False, 'shape': " + _SHAPE + rb", \} *\n")


def read_npz(archive):
    """Read all arrays of an archive.

    Parameters
    ----------
    archive : StoredZip
        Members that are no .npy files are left out.

    Returns
    -------
    dict of str to host array
        Under the names of the members without `.npy`.

    Raises
    ------
    InputError
        If an array is of no dtype in DTYPES, or has a strange name. The message does not name the file.
    ValueError
        If the file is damaged or hostile.
    """
    names = [name.removesuffix(".npy") for name in archive.sizes if name.endswith(".npy")]
    check_names(names)
    return {name: _parsed(archive.read(f"{name}.npy"), name) for name in names}


def npy(array):
    """Return the bytes of a .npy file, little-endian and in C order.

    Raises
    ------
    TypeError
        If the array is of no dtype in DTYPES.
    """
    if array.dtype.name not in DTYPES:
        raise TypeError(f"a file of weights holds no {array.dtype}; use one of {', '.join(DTYPES)}")
    array, file = np.asarray(array, array.dtype.newbyteorder("<"), order="C"), io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    return file.getvalue() + array.tobytes()


def _parsed(content, name):
    """The array in the bytes of a .npy file."""
    begin = len(_START) + 2 + int.from_bytes(content[8:10], "little")
    if not content.startswith(_START) or begin > LONGEST_HEADER:
        raise ValueError(f"{listed([name])} is no .npy file of version 1 with a short header")
    header = _HEADER.fullmatch(content[10:begin])
    if not header:
        raise InputError(f"holds {listed([name])} in a form that is not read; save it as little-endian float32 in C order")
    dtype, shape = np.dtype(header[1].decode()), tuple(map(int, re.findall(rb"[0-9]+", header[2])))
    if math.prod(shape) * dtype.itemsize != len(content) - begin:
        raise ValueError(f"{listed([name])} has another number of bytes than its shape says")
    if dtype.kind == "b" and max(content[begin:], default=0) > 1:
        raise ValueError(f"{listed([name])} holds bools that are neither 0 nor 1")
    return np.frombuffer(content, dtype, offset=begin).reshape(shape).copy()
