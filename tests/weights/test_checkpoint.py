"""Checkpoints come back bit for bit, whoever reads them, or not at all."""

import zipfile

import numpy as np
import pytest
from helpers import bits

from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint
from mdps_ref.weights.npz import DTYPES

rng = np.random.default_rng(0)
GROUPS = {
    "weights": {"first.weight": rng.standard_normal((3, 3, 3, 4)).astype(np.float32), "first.bias": np.zeros(0, np.float32)},
    "ema": {"first.weight": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32), "a/b": np.array(2.5)},
    "training": {"log": rng.standard_normal((5, 2)), "steps": np.arange(3)},
    "not contiguous": {"turned": rng.standard_normal((4, 5)).T, "stepped": np.arange(10)[::3]},
}
ABOUT = {"step": 5, "config": {"data": "Größe", "seed": 2**63 - 1, "pixel_weight": 0.1 + 0.2}}


@pytest.fixture
def path(tmp_path):
    """A checkpoint."""
    save_checkpoint(tmp_path / "checkpoint.npz", GROUPS, ABOUT)
    return tmp_path / "checkpoint.npz"


def test_groups_and_about_come_back_bit_for_bit(path):
    groups, about = load_checkpoint(str(path))
    assert {name: bits(group) for name, group in groups.items()} == {name: bits(group) for name, group in GROUPS.items()}
    assert about == ABOUT


def test_the_same_arrays_give_the_same_bytes(path, monkeypatch):
    """The clock and the order of the keys of `about` do not matter."""
    before = path.read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    save_checkpoint(path, GROUPS, dict(reversed(ABOUT.items())))
    assert path.read_bytes() == before


def test_a_save_that_fails_leaves_the_old_checkpoint(path, fails_with, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with fails_with(path, "no space left"):
        save_checkpoint(path, {"ema": {}}, {})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_numpy_reads_the_arrays_too(path):
    with np.load(path) as archive:
        assert bits({f"{group}/{name}": archive[f"{group}/{name}"] for group in GROUPS for name in GROUPS[group]}) == bits(
            {f"{group}/{name}": array for group, arrays in GROUPS.items() for name, array in arrays.items()}
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_little_endian(dtype, path):
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    save_checkpoint(path, {"g": {"as it is": array, "big-endian": array.astype(array.dtype.newbyteorder(">"))}}, {})
    assert bits(load_checkpoint(path)[0]["g"]) == bits({"as it is": array, "big-endian": array})


@pytest.mark.parametrize(
    ("array", "about", "error"),
    [
        (np.zeros(2, complex), {}, TypeError),
        (np.array("text"), {}, TypeError),
        (np.array([None]), {}, TypeError),
        (np.zeros(2), {"loss": float("nan")}, ValueError),
        (np.zeros(2), {"loss": np.zeros(2)}, TypeError),
    ],
)
def test_what_could_not_be_read_is_not_written(array, about, error, path):
    before = path.read_bytes()
    with pytest.raises(error):
        save_checkpoint(path, {"g": {"a": array}}, about)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_one_bit_changed_anywhere_is_refused(path, fails_with):
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for at in {*range(len(content) - 200, len(content)), *range(200), *rng.integers(0, len(content), 600).tolist()}:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.integers(8)]) + content[at + 1 :])
        with fails_with(path, "not a whole checkpoint"):
            load_checkpoint(path)


def test_a_checkpoint_cut_short_or_made_longer_anywhere_is_refused(path, fails_with):
    content = path.read_bytes()
    for changed in [content[:length] for length in range(0, len(content), 7)] + [content + b"0", b"0" + content, content[1:], content * 2]:
        path.write_bytes(changed)
        with fails_with(path, "not a whole checkpoint"):
            load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path, fails_with):
    for path in (tmp_path / "none.npz", tmp_path):
        with fails_with(path, "no such checkpoint"):
            load_checkpoint(path)
