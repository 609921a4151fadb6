"""Files of safetensors: all tensors are read, and a broken file is an error of one line."""

import json
import struct

import numpy as np
import pytest
from helpers import bits

TWELVE = np.arange(12, dtype=np.float32)


def safetensors(header, content):
    """The bytes of a safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def entry(dtype, shape, begin, end):
    """The header's entry of one tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFE_HEADER = {
    "__metadata__": {"format": "pt"},
    "module.w": entry("F32", [3, 4], 3, 51),
    "module.yes": entry("BOOL", [3], 0, 3),
    "module.none": entry("BF16", [0, 5], 51, 51),
    "module.one": entry("BF16", [], 51, 53),
}
SAFE = safetensors(SAFE_HEADER, b"\0\1\0" + TWELVE.tobytes() + b"\xc0\xbf")


def test_all_tensors_are_read(read, outcome):
    expected = {
        "yes": np.array([False, True, False]),
        "w": TWELVE.reshape(3, 4),
        "none": np.zeros((0, 5), np.float32),
        "one": np.array(-1.5, np.float32),
    }
    assert outcome(SAFE) == bits(expected)
    assert all(array.flags.writeable for array in read(SAFE).values())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8"])
def test_every_dtype(dtype, outcome):
    array = np.arange(60, 65).astype(dtype)
    name = dtype[0].upper() + dtype.lstrip("floatuin")
    assert outcome(safetensors({"w": entry(name, [5], 0, array.nbytes)}, array.tobytes())) == bits({"w": array})


def test_there_is_no_key(read, fails_with):
    with fails_with("weights.pth", "no 'model' to choose", "leave key out"):
        read(SAFE, "model")


def test_a_dtype_that_numpy_does_not_have_is_refused(read, fails_with):
    with fails_with("weights.pth", "has a tensor of 'F8_E4M3'", "as F32"):
        read(safetensors({"w": entry("F8_E4M3", [8], 0, 8)}, bytes(8)))


W = entry("F32", [2], 0, 8)
BROKEN_SAFE = {
    "a header longer than the file": (struct.pack("<Q", 2**63) + b"{}", "header is longer than the file"),
    "a header that is no object": (safetensors(b"{", b""), ""),
    "a header too deep": (safetensors(b'{"a":' * 10**5, b""), ""),
    "a name twice": (safetensors(b'{"w": %b, "w": %b}' % ((json.dumps(W).encode(),) * 2), bytes(8)), "a name twice"),
    "an entry that is a number": (safetensors({"w": 1}, b""), ""),
    "an entry without a shape": (safetensors({"w": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "shape"),
    "a shape of another length": (safetensors({"w": W | {"shape": [3]}}, bytes(8)), "gaps, overlaps or wrong"),
    "a negative shape": (safetensors({"w": W | {"shape": [-2, -1]}}, bytes(8)), "whole numbers from 0 on"),
    "a shape of fractions": (safetensors({"w": W | {"shape": [2.0]}}, bytes(8)), "whole numbers from 0 on"),
    "a shape without end": (safetensors({"w": W | {"shape": [2**60] * 10**5}}, bytes(8)), "whole numbers from 0 on"),
    "a hole": (safetensors({"w": W, "v": entry("F32", [1], 12, 16)}, bytes(16)), "gaps"),
    "an overlap": (safetensors({"w": W, "v": entry("F32", [1], 4, 8)}, bytes(8)), "overlaps"),
    "too many bytes": (safetensors({"w": W}, bytes(9)), "another number of bytes"),
    "too few bytes": (safetensors({"w": W}, bytes(7)), "another number of bytes"),
    "offsets that are words": (safetensors({"w": W | {"data_offsets": "08"}}, bytes(8)), "gaps"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN_SAFE.values(), ids=BROKEN_SAFE)
def test_a_broken_file_is_one_line(content, reason, read, fails_with):
    with fails_with("weights.pth", "damaged, cut short or hostile (", reason):
        read(content)


def test_a_file_cut_short_or_spoilt(outcome):
    """The format has no checksum, so a damaged number is not noticed."""
    assert {outcome(SAFE[:length]) for length in range(len(SAFE))} == {"refused"}
    for at in range(len(SAFE)):
        outcome(SAFE[:at] + bytes([SAFE[at] ^ 32]) + SAFE[at + 1 :])
