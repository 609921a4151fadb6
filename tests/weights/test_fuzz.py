"""Files and parts of files, changed at random: the arrays that were written, or an InputError of one line, and no warning.

`pytest tests/weights/test_fuzz.py --fuzz 10000` goes on for longer.
"""

import json
import struct

import numpy as np
import pytest
from helpers import bits
from hostile_weights import ARRAYS, GOOD, OLD, OWN, PLAIN, TREE
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_files import TWELVE, Raw, entry, npy, pickled, safetensors, signed, torch_stream, torch_zip, zipped

from mdps_ref.errors import InputError
from mdps_ref.scoring.features import make_features
from mdps_ref.weights.checkpoint import load_checkpoint
from mdps_ref.weights.state_dict import read_state_dict

HEADER = {
    "__metadata__": {"format": "pt"},
    "w": entry("F32", [3, 4], 0, 48),
    "b": entry("BF16", [2, 1], 48, 52),
    "z": entry("U8", [0], 52, 52),
}
ABOUT = b'{"step": 5, "config": {"network": "tiny", "loss": [1.5, null, true, "\\u00df"]}}'


def as_is(content):
    """The changed bytes are the file."""
    return content


def flat(path):
    """The arrays of a checkpoint under the names of its members."""
    groups, _ = load_checkpoint(path)
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def keras(path):
    """No array, since no file here is Keras's."""
    make_features("mobilenet_v1", path, "", np)
    return {}


# What is changed: (the reader, the bytes that are changed, how they become a file, whether checksums cover every array)
CHANGED = {
    "our file": (flat, signed(OWN), as_is, True),
    "our file, signed again": (flat, OWN, signed, False),
    "an array in our file": (flat, npy(TWELVE), lambda part: signed(zipped({"about.json": b"{}", **ARRAYS, "ema/w.npy": part})), False),
    "about in our file": (flat, ABOUT, lambda part: signed(zipped({"about.json": part, **ARRAYS})), True),
    "a zip": (read_state_dict, GOOD, as_is, True),
    "a pickle in a zip": (read_state_dict, pickled(TREE), lambda part: torch_zip(Raw(part)), False),
    "a stream": (read_state_dict, OLD, as_is, False),
    "a pickle in a stream": (read_state_dict, pickled(TREE, None), lambda part: torch_stream(Raw(part)), False),
    "a safetensors file": (read_state_dict, safetensors(HEADER, TWELVE.tobytes() + bytes(4)), as_is, False),
    "a header of safetensors": (
        read_state_dict,
        json.dumps(HEADER).encode(),
        lambda part: safetensors(part, TWELVE.tobytes() + bytes(4)),
        False,
    ),
    "a file of Keras": (keras, PLAIN, as_is, True),
    "an array of Keras": (keras, npy(TWELVE), lambda part: zipped({**ARRAYS, "ema/w.npy": part}), True),
}

numbers = st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]).map(lambda number: struct.pack("<Q", number))
parts = (
    st.binary(min_size=1, max_size=9)
    | numbers
    | numbers.map(lambda number: number[:4])
    | st.sampled_from([b"9", b"-", b"[", b"NaN", b"\x1b[2J"])
)
edits = st.lists(
    st.tuples(st.sampled_from("bit over insert remove repeat cut".split()), st.integers(0, 2**16), parts), min_size=1, max_size=4
)


def edited(content, edits):
    """The bytes with every edit made at its place, which is counted round and round."""
    for edit, place, part in edits:
        at = place % (len(content) + 1)
        before, after = content[:at], content[at:]
        content = {
            "bit": before + bytes(byte ^ 1 << place % 8 for byte in after[:1]) + after[1:],
            "over": before + part + after[len(part) :],
            "insert": before + part + after,
            "remove": before + after[part[0] % 64 + 1 :],
            "repeat": before + after[: part[0] % 64 + 1] + after,
            "cut": before,
        }[edit]
    return content


@pytest.mark.parametrize("kind", CHANGED)
def test_a_changed_file_is_what_was_written_or_one_line(kind, request, tmp_path):
    reader, good, make, exact = CHANGED[kind]
    path = tmp_path / "weights"

    def outcome(content):
        path.write_bytes(content)
        try:
            return bits(reader(path))
        except InputError as error:
            assert str(error).isprintable() and len(str(error)) <= 300, str(error)
            return None

    whole = outcome(make(good))
    assert whole or reader is keras

    @settings(deadline=None, max_examples=request.config.getoption("--fuzz"))
    @given(edits)
    def check(edits):
        result = outcome(make(edited(good, edits)))
        assert not exact or result in (whole, None)

    check()


def test_any_bytes_at_all(request, tmp_path):
    starts = st.sampled_from(
        [b"", b"PK\3\4", b"PK\5\6", b"\x80\2", b"\x93NUMPY\1\0", bytes(8) + b"{", OLD[:40], GOOD[:60], signed(OWN)[-150:]]
    )

    @settings(deadline=None, max_examples=request.config.getoption("--fuzz"))
    @given(starts, st.binary(max_size=200), st.sampled_from([flat, read_state_dict, keras]))
    def check(start, rest, reader):
        (tmp_path / "weights").write_bytes(start + rest)
        with pytest.raises(InputError):
            reader(tmp_path / "weights")

    check()
