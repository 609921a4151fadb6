"""Files of safetensors: all tensors are read, with their dtypes."""

import numpy as np
import pytest
from helpers import bits
from weight_files import TWELVE, entry, safetensors

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
