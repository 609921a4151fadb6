"""Hostile and broken files of every format: one short line, nothing executed, no large cost; the kinds are in hostile_weights.py."""

import pickle
import resource
import time

import numpy as np
import pytest
import small_networks
from helpers import Trap
from hostile_weights import every_kind
from weight_files import Raw, entry, floats, npy, safetensors, signed, torch_stream, torch_zip, zipped

from mdps_ref.errors import InputError
from mdps_ref.export import export
from mdps_ref.job.weights import check_fits, load_weights
from mdps_ref.nn.resnet import RESNETS, architecture
from mdps_ref.nn.unet import init_unet
from mdps_ref.scoring.features import make_features
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint
from mdps_ref.weights.state_dict import read_state_dict, write_state_dict
from mdps_ref.weights.stored_tensor import Storage, StoredTensor, to_array
from mdps_ref.weights.torch_zip import write_torch_zip

READERS = {
    "state dict": read_state_dict,
    "checkpoint": load_checkpoint,
    "keras": lambda path: make_features("mobilenet_v1", path, "", np),
}
KINDS = {name: kind for name, *kind in every_kind()}


@pytest.fixture
def one_gibibyte():
    """No more than 1 GiB of memory beside what there is, where the system can tell."""
    try:
        with open("/proc/self/statm") as handle:
            used = int(handle.read().split()[0]) * resource.getpagesize()
    except OSError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def causes(error):
    """An exception and those behind it."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where the file lies."""
    return tmp_path_factory.mktemp("hostile") / "weights"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_one_short_line_at_a_bounded_cost(kind, path, one_gibibyte, monkeypatch):
    reader, content, said = KINDS[kind]
    path.write_bytes(content() if callable(content) else content)
    monkeypatch.chdir(path.parent)
    before = time.process_time()
    with pytest.raises(InputError) as caught:
        READERS[reader](path)
    assert time.process_time() - before < 5
    message = str(caught.value)
    assert message.isprintable() and len(message) <= 300
    assert str(path) in message and said in message
    assert not any(isinstance(error, MemoryError) for error in causes(caught.value))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_there_are_many_kinds():
    assert len(KINDS) >= 400


def test_a_tensor_is_never_made_from_fewer_bytes_than_its_storage_has():
    """NumPy's own check trusts strides over an empty buffer."""
    for content in (b"", bytes(12)):
        with pytest.raises(ValueError, match="fewer bytes"):
            to_array(StoredTensor(Storage("0", "float32", 4), "float32", 0, (4,), (1,)), content)


TRAPS = {  # each puts a pickle, or an array of objects, where a careless reader would run it
    "zip": ("state dict", lambda trap: torch_zip(Raw(trap[2:-1]))),
    "stream": ("state dict", lambda trap: torch_stream(Raw(trap[2:-1]))),
    "the facts of a stream": ("state dict", lambda trap: torch_stream({}, about=Raw(trap))),
    "a bare pickle": ("state dict", lambda trap: trap),
    "a pickle for a checkpoint": ("checkpoint", lambda trap: trap),
    "about": ("checkpoint", lambda trap: signed(zipped({"about.json": trap}))),
    "an array": ("checkpoint", lambda trap: signed(zipped({"about.json": b"{}", "ema/w.npy": objects(trap)}))),
    "an array of Keras": ("keras", lambda trap: zipped({"w.npy": objects(trap)})),
}


def objects(trap):
    """A .npy file whose content is this pickle."""
    whole = npy(np.array([None], object))
    return whole[: whole.index(b"\n") + 1] + trap


@pytest.mark.parametrize("kind", TRAPS)
def test_what_is_pickled_is_never_executed(kind, tmp_path):
    reader, make = TRAPS[kind]
    trap = pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)
    (tmp_path / "weights").write_bytes(make(trap))
    with pytest.raises(InputError):
        READERS[reader](tmp_path / "weights")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists(), "the trap must be one that would spring"


BAD = np.array([1, np.nan, 3], np.float32)
NOT_FINITE = {  # arrays of which not all are finite, in each format
    "zip": torch_zip({name: floats(0, (3,), (1,), 3) for name in "abcdefg"}, {"0": BAD}),
    "stream": torch_stream({name: floats(0, (3,), (1,), 3) for name in "abcdefg"}, {"0": BAD}),
    "safetensors": safetensors({name: entry("F32", [3], 12 * i, 12 * i + 12) for i, name in enumerate("abcdefg")}, BAD.tobytes() * 7),
    "of float64 past float32": safetensors(
        {name: entry("F64", [1], 8 * i, 8 * i + 8) for i, name in enumerate("abcdefg")}, np.full(7, 1e300).tobytes()
    ),
}


@pytest.mark.parametrize("content", NOT_FINITE.values(), ids=NOT_FINITE)
def test_weights_that_are_not_finite_are_told_by_name(content, path, quick_config, fails_with):
    path.write_bytes(content)
    with fails_with(path, "not finite, in 'a', 'b', 'c', 'd', 'e' and 2 more"):
        load_weights(path, quick_config())


OWN_ABOUT = {"config": {"network": "tiny", "image_size": 16}}


@pytest.fixture
def average(quick_config):
    """The weights of a small network."""
    return init_unet(quick_config().unet(), 0)


def test_a_moving_average_that_is_not_finite_is_told_by_name(average, path, quick_config, fails_with):
    average["first.bias"][1] = np.inf
    average["time.0.bias"] = np.full(average["time.0.bias"].shape, -np.inf)
    save_checkpoint(path, {"ema": average}, OWN_ABOUT)
    with fails_with(path, "not finite, in ", "'first.bias'", "'time.0.bias'"):
        load_weights(path, quick_config())
    with fails_with(path, "not finite, in ", "'first.bias'", "'time.0.bias'"):
        check_fits(path, average, quick_config(), OWN_ABOUT)


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v1"])
def test_an_extractors_weights_that_are_not_finite_are_told_by_name(network, path, monkeypatch, fails_with):
    """Also those that become so: the root of a negative variance."""
    resnet = small_networks.random_arrays(small_networks.resnet_shapes("Bottleneck", (1, 2, 1), 4, (3, 6, 5), (8, 10, 12)))
    monkeypatch.setitem(RESNETS, "resnet18", architecture(resnet))
    good = resnet if network == "resnet18" else small_networks.random_arrays(small_networks.mobilenet_shapes((4,) * 13))
    name = next(name for name in good if "var" in name)
    for value, told in ((np.nan, f"'{name}'"), (-1.0, "")):
        arrays = good | {name: np.full_like(good[name], value)}
        with open(path, "wb") as handle:
            write_torch_zip(handle, arrays) if network == "resnet18" else np.savez(handle, **arrays)
        with fails_with(path, "not finite, in ", told):
            make_features(network, path, "", np)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"config": None},
        {"config": [1]},
        {"config": {"network": "tiny"}},
        {"config": {"network": ["tiny"], "image_size": 16}},
        {"config": {"network": "tiny", "image_size": "16"}},
        {"config": {"network": "tiny", "image_size": True}},
        {"config": {"network": "tiny", "image_size": 10**400}},
        {"config": {"network": "\x1b[2J\n" + "x" * 10**4, "image_size": 16}},
    ],
)
def test_what_a_checkpoint_says_about_its_network_in_a_foreign_form_is_one_line(about, average, path, tmp_path, quick_config):
    save_checkpoint(path, {"ema": average}, about)
    for read in (lambda: load_weights(path, quick_config()), lambda: export(path, tmp_path / "out.pth")):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value).isprintable() and len(str(caught.value)) <= 300 and str(path) in str(caught.value)
    assert not (tmp_path / "out.pth").exists()


def test_a_mismatch_lists_few_names_and_counts_the_others(average, path, quick_config):
    strange = {f"array.{'x' * 100}.{number}": np.zeros((1,) * 9, np.float32) for number in range(500)}
    theirs = quick_config(network="released", image_size=32)
    for write, config in (
        (lambda: save_checkpoint(path, {"ema": average | strange}, OWN_ABOUT), quick_config()),
        (lambda: write_state_dict(path, strange), theirs),
    ):
        write()
        with pytest.raises(InputError) as caught:
            load_weights(path, config)
        message = str(caught.value)
        assert message.isprintable() and len(message) <= 300 and " more" in message and message.count("array.") <= 5
