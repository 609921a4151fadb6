"""State dicts in PyTorch's files: tensors have their storage's numbers, and what is written is what PyTorch reads."""

import itertools
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from helpers import bits
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_files import TWELVE, WHOLE, Call, Name, Outside, Raw, floats, pickled, stored, tensor, torch_stream, torch_zip

from mdps_ref.errors import InputError
from mdps_ref.weights.checkpoint import load_checkpoint
from mdps_ref.weights.state_dict import read_state_dict, write_state_dict
from mdps_ref.weights.torch_pickle import STORAGES, choose_state_dict

rng = np.random.default_rng(0)
PARITY = pathlib.Path(__file__).parents[3] / "shared" / "parity"
KINDS = {kind: dtype for kind, dtype in STORAGES.items() if dtype != "bfloat16"}


@pytest.mark.parametrize(
    "error, part", [(MemoryError(), "memory"), (PermissionError(13, "Permission denied"), "could not be read")], ids=str
)
@pytest.mark.parametrize("read_file", [read_state_dict, load_checkpoint])
def test_a_good_file_that_cannot_be_read_here_is_not_called_damaged(error, part, read_file, tmp_path, monkeypatch):
    (tmp_path / "good").write_bytes(b"any")
    monkeypatch.setattr("builtins.open", raising(error))
    with pytest.raises(InputError, match=part) as told:
        read_file(tmp_path / "good")
    assert str(tmp_path / "good") in str(told.value) and "damaged" not in str(told.value) and "whole" not in str(told.value)


def raising(error):
    def refuse(*_, **__):
        raise error

    return refuse


def test_a_file_that_pytorch_wrote(read):
    """PyTorch 2.13: {"model": state dict of BatchNorm1d(2) and the five below, "epoch": 3, "optimiser": of SGD, "trained": Parameter}."""
    twelve = TWELVE.reshape(3, 4)
    arrays = read_state_dict(pathlib.Path(__file__).with_name("saved_by_pytorch.pth"))
    expected = {
        "weight": np.float32([1, 2]),
        "bias": np.float32([0, 0]),
        "running_mean": np.float32([0, 0]),
        "running_var": np.float32([1, 1]),
        "num_batches_tracked": np.array(0),
        "turned": twelve.T,
        "stepped": twelve[1:, ::2],
        "brain": np.float32([-1.5, 2.0**-100]),
        "half": np.float16([0.5]),
        "yes": np.array([True, False]),
    }
    assert bits(arrays) == bits(expected)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays.values())


def test_the_authors_files():
    """Names without `module.`, float32 weights, and the architecture's number of parameters."""
    if not PARITY.is_dir():
        pytest.skip("there is no ../shared/parity")
    spec = json.loads((PARITY / "spec.json").read_text())
    for case, about in spec.items():
        arrays = read_state_dict(PARITY / f"{case}.pth")
        floating = [array for array in arrays.values() if array.ndim]
        assert not any(name.startswith("module.") for name in arrays)
        assert {array.dtype for array in floating} == {np.dtype(np.float32)}
        assert all(np.isfinite(array).all() for array in floating)
        assert sum(array.size for array in floating) == about.get("n_params", sum(array.size for array in floating))


views = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(KINDS)), st.integers(0, 3), views, st.sampled_from(["little", "big", "before 1.6"]))
def test_a_view_is_what_a_loop_over_its_storage_gives(read, kind, offset, axes, form):
    shape, strides = tuple(n for n, _ in axes), tuple(stride for _, stride in axes)
    last = offset + sum((n - 1) * stride for n, stride in axes)
    storage = rng.integers(0, 2 if kind == "BoolStorage" else 100, max(last, 0) + 1).astype(KINDS[kind])
    storages = {"0": storage.astype(storage.dtype.newbyteorder(">" if form == "big" else "<"))}
    tree = {"w": tensor(stored(kind, "0", len(storage)), offset, shape, strides)}
    array = read(torch_stream(tree, storages) if form == "before 1.6" else torch_zip(tree, storages, byteorder=form.encode()))["w"]
    assert (array.shape, array.dtype) == (shape, storage.dtype)
    for at in itertools.product(*map(range, shape)):
        assert array[at] == storage[offset + sum(i * stride for i, stride in zip(at, strides, strict=True))]


def test_tensors_that_share_a_storage_come_back_apart(read):
    arrays = read(torch_zip({"all": WHOLE, "row": floats(4, (4,), (1,)), "column": floats(1, (3,), (4,)), "one": floats(11, (), ())}))
    arrays["all"][:] = -1
    assert [arrays[name].tolist() for name in ("row", "column", "one")] == [[4, 5, 6, 7], [1, 5, 9], 11]


def test_bfloat16_is_the_upper_half_of_float32(read):
    halves = np.arange(2**16, dtype=np.uint16)
    view = tensor(stored("BFloat16Storage", "0", 2**16), 0, (2**16,), (1,))
    widened = read(torch_zip({"w": view}, {"0": halves}))["w"]
    sign, exponent, fraction = halves >> 15, (halves >> 7 & 255).astype(float), (halves & 127) / 128
    value = np.where(exponent == 0, fraction * 2.0**-126, (1 + fraction) * 2.0 ** (exponent - 127))
    value = np.where(exponent == 255, np.where(fraction == 0, np.inf, np.nan), value)
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, value * (1 - 2.0 * sign))


def test_any_number_but_0_is_true(read):
    view = tensor(stored("BoolStorage", "0", 3), 0, (3,), (1,))
    assert read(torch_zip({"w": view}, {"0": b"\0\1\2"}))["w"].tobytes() == b"\0\1\1"


def test_the_forms_in_which_pytorch_pickles_tensors(read):
    raw = Outside("storage", Name("torch.storage UntypedStorage"), "0", "cuda:0", 48)
    hooks = Call("collections OrderedDict")
    tree = {
        "first form": Call("torch._utils _rebuild_tensor", stored("FloatStorage", "0", 12), 0, (3, 4), (4, 1)),
        "bytes": Call("torch._utils _rebuild_tensor_v3", raw, 0, Call("torch Size", (3, 4)), (4, 1), True, hooks, Name("torch float32")),
        "parameter": Call("torch._utils _rebuild_parameter", WHOLE, True, hooks),
        "parameter with attributes": Call("torch._utils _rebuild_parameter_with_state", WHOLE, True, hooks, {"name": "x"}),
        "none": floats(99, (0, 3), (3, 1)),
    }
    arrays = read(torch_zip(tree, root="any root"))
    assert arrays.pop("none").shape == (0, 3)
    for array in arrays.values():
        np.testing.assert_array_equal(array, TWELVE.reshape(3, 4))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_format_before_1_6(protocol, read):
    """The storages lie in the order of their list, and a part of a storage begins at its own start."""
    part, long = floats(1, (2, 2), (3, 1), 12, ("5", 4, 6)), tensor(stored("LongStorage", "9", 3), 1, (2,), (1,))
    state = {"module.w": WHOLE, "module.part": part, "module.n": long}
    tree, storages = {"model": state, "epoch": 3}, {"9": np.array([7, 8, -9]), "0": TWELVE}
    expected = {"w": TWELVE.reshape(3, 4), "part": np.float32([[5, 6], [8, 9]]), "n": np.array([8, -9])}
    assert bits(read(torch_stream(tree, storages, protocol))) == bits(expected)


OTHERS = {
    "epoch": 3,
    "loss": 0.5,
    "best": None,
    "names": ["a", ("b", True)],
    "dtype": Name("torch float16"),
    "storage": stored("FloatStorage", "0", 12),
    "milestones": Call("collections Counter", {10: 1}),
    "optimiser": {
        "state": {0: {"step": floats(0, (), ()), "mean": WHOLE}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}],
    },
    "version": Raw(pickled(Call("collections OrderedDict")) + pickled({"_metadata": {"": {"version": 1}}}) + b"b"),
}
STATE = {"module.a.weight": WHOLE, "module.b": floats(0, (), ())}


SMALL = {"x": floats(0, (), ())}


@pytest.mark.parametrize(
    "tree",
    [
        STATE,
        STATE | OTHERS,
        {"model": STATE},
        {"model": STATE} | OTHERS,
        {"net": {"weights": STATE, "epoch": 3}},
        {"model": STATE, "by number": {0: WHOLE}, "mixed": {"w": WHOLE, "n": 1}},
        {"schema": SMALL, "model": STATE, "state_dict": SMALL},
        {"discriminator": SMALL, "state_dict": STATE},
        {"model": SMALL, "ema": STATE},
        {"model": SMALL, "model_ema": STATE},
        {"ema": {"decay": 0.9, "shadow": STATE}, "model": SMALL},
        {"EMA.model": STATE, "EMA.critic": SMALL, "model": SMALL},
    ],
)
def test_a_state_dict_is_found_wherever_it_is_and_a_moving_average_first(tree, read):
    assert {name: array.shape for name, array in read(torch_zip(tree)).items()} == {"a.weight": (3, 4), "b": ()}


def test_what_wrappers_put_before_names_is_taken_off_only_where_every_name_has_it(read):
    assert list(read(torch_zip(STATE))) == ["a.weight", "b"]
    assert list(read(torch_zip(STATE | {"c": WHOLE}))) == ["module.a.weight", "module.b", "c"]
    for before in ("module.", "_orig_mod.", "model.", "ema.", "module._orig_mod.", "_orig_mod.module.", "ema.module.model._orig_mod."):
        assert list(read(torch_zip({before + "a": WHOLE, before + "model": WHOLE}))) == ["a", "model"]
    assert list(read(torch_zip({"n_averaged": WHOLE, "module.a": WHOLE}))) == ["a"]


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"generator": STATE, "critic": STATE}, ["several state dicts: 'generator', 'critic'", "torch.save the one that you want alone"]),
        ({"ema_1": STATE, "ema_2": STATE, "model": STATE}, ["several state dicts: 'ema_1', 'ema_2', 'model'"]),
        ({str(index): STATE for index in range(99)}, ["'0', '1', '2', '3', '4' and 94 more"]),
        (OTHERS, ["no named tensors", "'epoch', 'loss'", "save model.state_dict()"]),
        ({1: WHOLE}, ["no named tensors (its entries: '1')"]),
        ({}, ["no named tensors (its entries: none)"]),
        ([WHOLE], ["holds a list", "save model.state_dict()"]),
        (WHOLE, ["holds a tensor,", "save model.state_dict()"]),
    ],
)
def test_what_cannot_be_chosen_is_told(tree, parts, read, fails_with):
    with fails_with("weights.pth", *parts):
        read(torch_zip(tree))


WRITTEN = {
    "w": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),
    "turned": rng.standard_normal((4, 5)).astype(np.float32).T,
    "stepped": TWELVE[::-3],
    "big-endian": TWELVE.astype(">f4"),
    "none": np.zeros((0, 3), np.float64),
    "one": np.array(2.5, np.float32),
    "Größe": np.array([np.nan, np.inf, -0.0, 1e-45], np.float32),
    **{dtype: np.arange(3).astype(dtype) for dtype in KINDS.values()},
}


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    write_state_dict(tmp_path / "w.pth", WRITTEN)
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in WRITTEN.items()}
    assert bits(read_state_dict(tmp_path / "w.pth")) == bits(native)


class PythonsOwn(pickle.Unpickler):
    """Python's own machine, with stand-ins for PyTorch's names."""

    def find_class(self, module, name):
        return dict if (module, name) == ("collections", "OrderedDict") else getattr(self, name, f"{module} {name}")

    def persistent_load(self, persistent_id):
        return persistent_id

    def _rebuild_tensor_v2(self, *arguments):
        return arguments


def test_what_is_written_is_what_pytorch_reads(tmp_path):
    """Python's own pickle machine finds PyTorch's function for tensors, PyTorch's names for storages, and C order."""
    write_state_dict(tmp_path / "w.pth", WRITTEN)
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        tree = PythonsOwn(archive.open("archive/data.pkl")).load()
        for index, (name, array) in enumerate(WRITTEN.items()):
            (kind,) = [kind for kind, dtype in KINDS.items() if dtype == array.dtype.name]
            storage, offset, shape, strides, requires_grad, hooks = tree.pop(name)
            assert storage == ("storage", f"torch {kind}", str(index), "cpu", array.size)
            assert (offset, shape, requires_grad, hooks) == (0, array.shape, False, {})
            if array.size:
                assert [stride * array.itemsize for stride in strides] == list(np.zeros(array.shape, array.dtype).strides)
            assert archive.read(f"archive/data/{index}") == array.astype(array.dtype.newbyteorder("<")).tobytes()
        assert tree == {}


def test_the_same_arrays_give_the_same_bytes(tmp_path, monkeypatch):
    """The clock and the name of the file do not matter."""
    write_state_dict(tmp_path / "a.pth", WRITTEN)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_state_dict(tmp_path / "b.pth", {name: array.copy() for name, array in WRITTEN.items()})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_a_dtype_that_pytorch_has_not_leaves_the_old_file(tmp_path):
    write_state_dict(tmp_path / "w.pth", {"w": TWELVE})
    before = (tmp_path / "w.pth").read_bytes()
    with pytest.raises(TypeError, match="no storage for complex64"):
        write_state_dict(tmp_path / "w.pth", {"w": TWELVE, "z": np.zeros(2, np.complex64)})
    assert (tmp_path / "w.pth").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("inside", [{"w": WHOLE}, {"w": 1}], ids=["state dicts", "none"])
def test_one_dictionary_of_many_names_is_looked_through_once(inside):
    """A pickle of a few kilobytes may name one dictionary a thousand times, and that one another a thousand times."""
    looked = 0

    class Counted(dict):
        def items(self):
            nonlocal looked
            looked += 1
            return super().items()

    innermost = Counted(inside)
    tree = dict.fromkeys(map(str, range(1500)), dict.fromkeys(map(str, range(1500)), innermost))
    with pytest.raises(InputError, match="more than 1000 state dicts|no named tensors"):
        choose_state_dict(tree)
    assert looked <= 1
