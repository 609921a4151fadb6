"""Checkpoints come back bit for bit; any other file is an error of one line, and nothing in it is executed."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from helpers import Trap, bits

from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint

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
    monkeypatch.setattr(np, "savez", full)
    with fails_with(path, "no space left"):
        save_checkpoint(path, {}, {})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_a_checkpoint_cut_short_anywhere_is_refused(path, share, fails_with):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with fails_with(path, "not a whole checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_with_a_spoilt_byte_is_refused(path, fails_with):
    content = bytearray(path.read_bytes())
    at = content.find(GROUPS["weights"]["first.weight"].tobytes())
    assert at > 0
    content[at + 7] ^= 1
    path.write_bytes(content)
    with fails_with(path, "not a whole checkpoint"):
        load_checkpoint(path)


def zipped(members, compression=zipfile.ZIP_STORED):
    """A zip file of {name: bytes}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(array):
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def spoilt(content):
    """The bytes with some of the compressed ones inverted."""
    content = bytearray(content)
    content[60:100] = bytes(255 - byte for byte in content[60:100])
    return bytes(content)


ABOUT_NPY = npy(np.array(json.dumps({})))
HUGE = npy(np.zeros(1000)).replace(b"(1000,)", b"(9999,)")
FOREIGN = {
    "nothing": b"",
    "text": b"weights = 1\n",
    "one array, not several": npy(np.ones(3)),
    "a zip of text": zipped({"readme.txt": b"hello"}),
    "an empty zip": zipped({}),
    "arrays without about": zipped({"weights/w.npy": npy(np.ones(3))}),
    "about that is no JSON": zipped({"about.npy": npy(np.array("step 5"))}),
    "an array cut short inside a whole zip": zipped({"about.npy": ABOUT_NPY, "ema/w.npy": npy(np.ones(30))[:150]}),
    "an array said to be longer than it is": zipped({"about.npy": ABOUT_NPY, "ema/w.npy": HUGE}),
    "spoilt compression": spoilt(zipped({"about.npy": npy(np.array("{" + " " * 9999 + "}"))}, zipfile.ZIP_DEFLATED)),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_any_other_file_is_refused(content, tmp_path, fails_with):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with fails_with(path, "checkpoint.npz of a run folder"):
        load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path, fails_with):
    for path in (tmp_path / "none.npz", tmp_path):
        with fails_with(path, "no such checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("place", ["about", "member", "whole file"])
def test_what_is_pickled_is_never_executed(place, tmp_path, fails_with):
    path, sprung = tmp_path / "trap.npz", tmp_path / "sprung"
    trap = np.array([Trap(sprung)], object)
    if place == "whole file":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    elif place == "about":
        np.savez(path, about=trap)
    else:
        np.savez(path, about=np.array("{}"), **{"ema/w": trap})
    with fails_with(path, "not a whole checkpoint"):
        load_checkpoint(path)
    assert not sprung.exists()
    spring(path)
    assert sprung.exists(), "the trap must be one that would spring"


def spring(path):
    """Read the file in the unsafe way."""
    content = np.load(path, allow_pickle=True)
    if isinstance(content, np.lib.npyio.NpzFile):
        with content as archive:
            dict(archive)
