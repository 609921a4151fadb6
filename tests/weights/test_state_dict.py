"""State dicts in PyTorch's files: tensors have their storage's numbers, no code is executed, and a broken file is an error of one line."""

import io
import itertools
import json
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
from helpers import Trap, bits
from hypothesis import given, settings
from hypothesis import strategies as st

from mdps_ref.errors import InputError
from mdps_ref.weights.checkpoint import save_checkpoint
from mdps_ref.weights.state_dict import read_state_dict, write_state_dict
from mdps_ref.weights.torch_pickle import STORAGES

rng = np.random.default_rng(0)
PARITY = pathlib.Path(__file__).parents[3] / "shared" / "parity"
KINDS = {kind: dtype for kind, dtype in STORAGES.items() if dtype != "bfloat16"}


class Name(str):
    """A name for a pickle to look up: "module name"."""


class Call:
    """A call for a pickle to make."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = Name(name), arguments


class Outside:
    """A persistent id, which describes an object outside of the pickle."""

    def __init__(self, *parts):
        self.parts = parts


class Raw(bytes):
    """Instructions of a pickle."""


def pickled(value, *more):
    """The instructions of a pickle that make a value. `more` is the last part of a persistent id before PyTorch 1.6."""
    match value:
        case Raw():
            return bytes(value)
        case Name():
            return b"c" + value.replace(" ", "\n").encode() + b"\n"
        case Call():
            return pickled(value.name) + pickled(value.arguments, *more) + b"R"
        case Outside():
            return pickled((*value.parts, *more)[:6]) + b"Q"
        case dict():
            return b"}(" + b"".join(pickled(part, *more) for item in value.items() for part in item) + b"u"
        case list():
            return b"](" + b"".join(pickled(part, *more) for part in value) + b"e"
        case tuple():
            return b"(" + b"".join(pickled(part, *more) for part in value) + b"t"
        case _:
            return pickle.dumps(value, protocol=2)[2:-1]


def stored(kind, name, size, *part):
    """PyTorch's description of a storage. `part` describes a part of it, before PyTorch 1.6."""
    return Outside("storage", Name(f"torch {kind}"), name, "cpu", size, *part)


def tensor(storage, offset, shape, strides):
    """PyTorch's description of a tensor."""
    return Call("torch._utils _rebuild_tensor_v2", storage, offset, shape, strides, False, Call("collections OrderedDict"))


def floats(offset, shape, strides, size=12, *part):
    """A view of storage "0", which has twelve float32 numbers, or of a part of the storage."""
    return tensor(stored("FloatStorage", "0", size, *part), offset, shape, strides)


TWELVE = np.arange(12, dtype=np.float32)
WHOLE = floats(0, (3, 4), (4, 1))


def torch_zip(tree, storages=None, root="saved", **others):
    """The bytes of a file of torch.save. `storages` is {name: array or bytes}."""
    file = io.BytesIO()
    storages = {"0": TWELVE} if storages is None else storages
    members = {"data.pkl": b"\x80\2" + pickled(tree) + b".", **others}
    members |= {f"data/{name}": content if isinstance(content, bytes) else content.tobytes() for name, content in storages.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
        archive.writestr(f"{root}/version", "3\n")
    return file.getvalue()


def old_program(tree):
    """The pickle of everything but the numbers, before PyTorch 1.6."""
    return b"\x80\2" + pickled(tree, None) + b"."


def torch_stream(tree, storages=None, protocol=2, **others):
    """The bytes of a file of torch.save before PyTorch 1.6. `storages` is {name: array}, `others` are wrong pickles."""
    storages = {"0": TWELVE} if storages is None else storages
    pickles = {"magic": 0x1950A86A20F9469CFC6C, "version": 1001, "about": {"little_endian": True}, "tree": Raw(old_program(tree))}
    pickles |= {"names": list(storages)} | others
    parts = [bytes(value) if isinstance(value, Raw) else pickle.dumps(value, protocol) for value in pickles.values()]
    return b"".join(parts + [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()])


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
    with pytest.raises(InputError, match="no dictionary under the key 'net'"):
        read(torch_stream(tree, storages, protocol), "net")


OTHERS = {
    "epoch": 3,
    "loss": 0.5,
    "best": None,
    "names": ["a", ("b", True)],
    "dtype": Name("torch float16"),
    "storage": stored("FloatStorage", "elsewhere", 7),
    "milestones": Call("collections Counter", {10: 1}),
    "optimiser": {
        "state": {0: {"step": floats(0, (), ()), "mean": WHOLE}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}],
    },
    "version": Raw(pickled(Call("collections OrderedDict")) + pickled({"_metadata": {"": {"version": 1}}}) + b"b"),
}
STATE = {"module.a.weight": WHOLE, "module.b": floats(0, (), ())}


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        (STATE, None),
        (STATE | OTHERS, None),
        ({"model": STATE}, None),
        ({"model": STATE} | OTHERS, None),
        ({"model": STATE} | OTHERS, "model"),
        ({"model": STATE, "by number": {0: WHOLE}, "mixed": {"w": WHOLE, "n": 1}}, None),
        ({"model": STATE, "ema": {"x": floats(0, (), ())}}, "model"),
        ({"ema": {"decay": 0.9, "shadow": STATE}, "model": {"x": floats(0, (), ())}}, "ema"),
    ],
)
def test_a_state_dict_is_found_wherever_it_is(tree, key, read):
    arrays = read(torch_zip(tree), key)
    assert {name.removeprefix("module."): array.shape for name, array in arrays.items()} == {"a.weight": (3, 4), "b": ()}


def test_module_is_taken_off_only_where_every_name_has_it(read):
    assert list(read(torch_zip(STATE))) == ["a.weight", "b"]
    assert list(read(torch_zip(STATE | {"c": WHOLE}))) == ["module.a.weight", "module.b", "c"]
    assert list(read(torch_zip({"module.module.a": WHOLE}))) == ["module.a"]


@pytest.mark.parametrize(
    ("tree", "key", "parts"),
    [
        ({"model": STATE, "ema": STATE}, None, ["several state dicts: 'model', 'ema'", "key='model'"]),
        ({str(index): STATE for index in range(99)}, None, ["'0', '1'", "..."]),
        ({"model": STATE, "epoch": 3}, "epoch", ["no dictionary under the key 'epoch'", "it holds: 'model'"]),
        ({"model": STATE, "epoch": 3}, "net", ["no dictionary under the key 'net'", "it holds: 'model'"]),
        (STATE, "net", ["no dictionary under the key 'net'", "none"]),
        (OTHERS, None, ["no named tensors", "'epoch', 'loss'", "save model.state_dict()"]),
        ({1: WHOLE}, None, ["no named tensors (its entries: 1)"]),
        ({}, None, ["no named tensors (its entries: none)"]),
        ({"a\n" + "b" * 999: 1}, None, ["its entries: 'a\\nbbb"]),
        ([WHOLE], None, ["holds a list", "save model.state_dict()"]),
        (WHOLE, None, ["holds a tensor,", "save model.state_dict()"]),
    ],
)
def test_what_cannot_be_chosen_is_told(tree, key, parts, read, fails_with):
    with fails_with("weights.pth", *parts):
        read(torch_zip(tree), key)


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "torch load",
        "torch ComplexFloatStorage",
        "torch._utils _rebuild_sparse_tensor",
        "collections defaultdict",
    ],
)
def test_a_name_outside_the_list_is_refused_by_name(name, read, fails_with):
    for make, value in itertools.product((torch_zip, torch_stream), (Call(name, "touch sprung"), Name(name))):
        with fails_with("weights.pth", f"asks for {name.replace(' ', '.')},", "was not run", "save model.state_dict()"):
            read(make({"w": WHOLE, "x": value}))


def test_what_a_pickle_says_is_never_executed(tmp_path, read, fails_with):
    trap = pickle.dumps({"w": Trap(tmp_path / "sprung")}, protocol=2)
    for content in (torch_zip(Raw(trap[2:-1])), torch_stream(Raw(trap[2:-1])), torch_stream({}, about=Raw(trap))):
        with fails_with("asks for", ".mkdir,", "was not run"):
            read(content)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists(), "the trap must be one that would spring"


def untyped(raw, dtype):
    """A tensor of four numbers over a storage of bytes."""
    return Call("torch._utils _rebuild_tensor_v3", raw, 0, (4,), (1,), False, None, dtype)


ONE = ((1,), (1,))
BYTES = Outside("storage", Name("torch.storage UntypedStorage"), "0", "cpu", 48)
FEW = Outside("storage", Name("torch.storage UntypedStorage"), "0", "cpu", 15)
HOSTILE = {
    "a stride too far": (floats(0, (3, 4), (5, 1)), "beyond its storage"),
    "a row too many": (floats(0, (4, 4), (4, 1)), "beyond its storage"),
    "an offset too far": (floats(1, (3, 4), (4, 1)), "beyond its storage"),
    "one number past the end": (floats(12, (), ()), "beyond its storage"),
    "one of no numbers": (floats(0, *ONE, size=0), "beyond its storage"),
    "a negative stride": (floats(11, (12,), (-1,)), "whole numbers from 0 on"),
    "a negative offset": (floats(-1, *ONE), "whole numbers from 0 on"),
    "a negative size": (floats(0, (-1,), (1,)), "whole numbers from 0 on"),
    "a stride that is no whole number": (floats(0, (2,), (1.0,)), "whole numbers from 0 on"),
    "a size of True": (floats(0, (True,), (1,)), "whole numbers from 0 on"),
    "a shape in a list": (floats(0, [3, 4], (4, 1)), "whole numbers from 0 on"),
    "no shape": (floats(0, None, None), "whole numbers from 0 on"),
    "a shape without strides": (floats(0, (3, 4), ()), "different lengths"),
    "65 axes": (floats(0, (1,) * 65, (1,) * 65), "whole numbers from 0 on"),
    "a size that overflows": (floats(0, (2**62, 2**62), (0, 0)), "would take"),
    "a size past what a computer counts with": (floats(0, (2**64,), (0,)), "whole numbers from 0 on"),
    "a stride that comes round again": (floats(0, (5,), (2**62,)), "beyond its storage"),
    "no numbers, and yet too many": (floats(0, (0, 2**62, 2**62), (1, 1, 1)), ""),
    "one number repeated to a terabyte": (floats(0, (2**38,), (0,)), "would take"),
    "a storage said to be longer than it is": (floats(0, (13,), (1,), size=13), "buffer"),
    "a storage of a negative size": (floats(0, *ONE, size=-1), "whole numbers from 0 on"),
    "a storage that is missing": (tensor(stored("FloatStorage", "7", 12), 0, *ONE), "no item named"),
    "a storage above its folder": (tensor(stored("FloatStorage", "../data.pkl", 12), 0, *ONE), "no item named"),
    "a storage told by a list": (tensor(Raw(b"]Q"), 0, *ONE), ""),
    "a storage told by too little": (tensor(Outside("storage", Name("torch FloatStorage"), "0", "cpu"), 0, *ONE), ""),
    "a storage that is a module": (tensor(Outside("module", Name("torch FloatStorage"), "0", "cpu", 12), 0, *ONE), "wrong form"),
    "a storage without a dtype": (tensor(Outside("storage", 1, "0", "cpu", 12), 0, *ONE), "wrong form"),
    "a storage of a word for a dtype": (tensor(Outside("storage", "object", "0", "cpu", 12), 0, *ONE), "wrong form"),
    "a storage that is a function": (tensor(Outside("storage", Name("torch Size"), "0", "cpu", 12), 0, *ONE), "wrong form"),
    "a storage named by a number": (tensor(Outside("storage", Name("torch FloatStorage"), 0, "cpu", 12), 0, *ONE), "wrong form"),
    "a tensor of a dictionary": (tensor({}, 0, *ONE), ""),
    "a tensor of a tensor": (tensor(WHOLE, 0, *ONE), "not a storage"),
    "bytes of a dictionary": (untyped({}, "float32"), "not a storage"),
    "bytes of a word": (untyped(Outside("storage", "object", "0", "cpu", 48), "float32"), "wrong form"),
    "bytes too few for the dtype": (untyped(FEW, Name("torch float32")), "beyond its storage"),
    "bytes read as a word": (untyped(BYTES, "object"), "not a storage"),
    "bytes read as a list": (untyped(BYTES, [1]), "not a storage"),
    "a tensor of too little": (Call("torch._utils _rebuild_tensor_v2", stored("FloatStorage", "0", 12)), ""),
    "a dictionary made with arguments": ([WHOLE, Call("collections OrderedDict", [((), 1)])], ""),
    "attributes for a tensor": (Raw(pickled(WHOLE) + pickled({"__class__": 1}) + b"b"), "has a StoredTensor where"),
    "a call of a storage": (Call("torch FloatStorage", 10**12), "something that is not a function"),
    "half a pickle": (Raw(b"(" + pickled(WHOLE)), ""),
}


@pytest.mark.parametrize(("value", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_one_line(value, reason, read, fails_with):
    with fails_with("weights.pth", "damaged, cut short or hostile (", reason, "fetch it again"):
        read(torch_zip({"good": WHOLE, "w": value}))
    with fails_with("weights.pth", "damaged, cut short or hostile (", "fetch it again"):
        read(torch_stream({"good": WHOLE, "w": value}))


def test_a_reason_is_short(read):
    with pytest.raises(InputError) as caught:
        read(torch_zip({"w": tensor(stored("FloatStorage", "x" * 10**5, 12), 0, *ONE)}))
    assert len(str(caught.value)) < 500


def test_a_tensor_with_a_sign_to_be_changed_is_refused(read, fails_with):
    negative = Call("torch._utils _rebuild_tensor_v2", stored("FloatStorage", "0", 12), 0, *ONE, False, None, {"neg": True})
    with fails_with("weights.pth", "resolve_neg()"):
        read(torch_zip({"w": negative}))


def rezipped(content, change, compression=zipfile.ZIP_STORED):
    """A zip file with its members (name, content) changed by `change`."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(file, "w", compression) as changed:
        for name, member in change([(name, archive.read(name)) for name in archive.namelist()]):
            changed.writestr(zipfile.ZipInfo(name), member, compression)
    return file.getvalue()


def with_sizes(content, size):
    """A zip file that lists `size` as both sizes of its first member."""
    entry = content.index(b"PK\1\2")
    return content[: entry + 20] + struct.pack("<II", size, size) + content[entry + 28 :]


TREE = {"w": WHOLE, "b": floats(3, (2, 2), (1, 3)), "epoch": 3}
GOOD = torch_zip(TREE, byteorder=b"little")
OLD = torch_stream(TREE)
TWICE = rezipped(GOOD, lambda members: [*members, ("saved/versioo", b"")]).replace(b"versioo", b"version")
EMPTIED = rezipped(GOOD, lambda members: [(name, b"" if name.endswith("pkl") else member) for name, member in members])
BROKEN = {
    "a member listed twice": (TWICE, "lists a member twice"),
    "a member that says to be huge": (with_sizes(GOOD, 2**32 - 2), "lists more bytes than it has"),
    "an unknown byte order": (torch_zip({"w": WHOLE}, byteorder=b"middle"), "neither little nor big"),
    "a pickle past any state dict": (torch_zip({"w": WHOLE, "x": "x" * 2**24}), "data.pkl is longer"),
    "an empty pickle": (EMPTIED, "ends too early"),
}
FOREIGN = {
    "nothing": (b"", "neither"),
    "text": (b"import torch", "neither"),
    "a bare pickle": (pickle.dumps({}, 2), "neither"),
    "the format of the first releases": (bytes(257) + b"ustar\0", "a tar file, as PyTorch's first releases wrote them; load it with"),
    "another zip": (rezipped(GOOD, lambda members: members[1:]), "no data.pkl"),
    "two in one": (rezipped(GOOD, lambda members: [*members, ("other/data.pkl", b"")]), "no data.pkl"),
    "a data.pkl deeper down": (rezipped(GOOD, lambda members: [("a/" + name, member) for name, member in members]), "no data.pkl"),
    "compressed": (rezipped(GOOD, list, zipfile.ZIP_DEFLATED), "compressed"),
}


DEEP = Raw(b"\x80\2]" + b"".join(b")" + b"q%ch%c\x86" % (n, n) * 60 + b"a" for n in (0, 1)) + b".")
BROKEN |= {
    "another version": (torch_stream({"w": WHOLE}, version=1002), "not those of torch.save"),
    "a storage of no tensor": (torch_stream({"w": WHOLE}, {"0": TWELVE, "1": TWELVE}), "list of storages"),
    "a storage not listed": (torch_stream({"w": WHOLE}, names=[]), "list of storages"),
    "a storage listed twice": (torch_stream({"w": WHOLE}, names=["0", "0"]), "list of storages"),
    "a list of numbers": (torch_stream({"w": WHOLE}, names=[0]), "list of storages"),
    "a list that would take for ever to sort": (torch_stream({"w": WHOLE}, names=DEEP), "list of storages"),
    "a list that lies outside": (torch_stream({"w": WHOLE}, names=Raw(b"\x80\2NQ.")), "not callable"),
    "a storage of another length": (torch_stream({"w": WHOLE}, {"0": TWELVE[:9]}), "not as long as"),
    "a storage past the end": (OLD[:-1], "do not end where"),
    "a storage past any end": (torch_stream({"w": floats(0, *ONE, 2**62)})[:-56] + struct.pack("<q", 2**62), ""),
    "more than the storages": (OLD + b"\0", "do not end where"),
    "a storage of two lengths": (torch_stream({"w": WHOLE, "v": floats(0, *ONE, 13)}), "in two ways"),
    "a storage of two dtypes": (torch_stream({"w": WHOLE, "v": tensor(stored("IntStorage", "0", 12), 0, *ONE)}), "in two ways"),
    "a part past its storage": (torch_stream({"w": floats(0, *ONE, 12, ("1", 7, 6))}), "a part of a storage reaches"),
    "a part that begins before it": (torch_stream({"w": floats(0, *ONE, 12, ("1", -1, 6))}), "whole numbers from 0 on"),
    "a part of a negative size": (torch_stream({"w": floats(0, *ONE, 12, ("1", 4, -1))}), "whole numbers from 0 on"),
    "a part in a wrong form": (torch_stream({"w": floats(0, *ONE, 12, 4)}), ""),
    "a tensor past its part": (torch_stream({"w": floats(0, (7,), (1,), 12, ("1", 4, 6))}), "beyond its storage"),
    "pickles past any state dict": (torch_stream({"w": WHOLE, "x": "x" * 2**24}), "ends too early"),
}


@pytest.mark.parametrize(("content", "part"), FOREIGN.values(), ids=FOREIGN)
def test_any_other_file_is_refused(content, part, read, fails_with):
    with fails_with("weights.pth", part):
        read(content)


def test_our_own_checkpoint_a_folder_and_nothing_are_refused(tmp_path, fails_with):
    save_checkpoint(tmp_path / "checkpoint.npz", {"weights": {"w": TWELVE}}, {})
    with fails_with("checkpoint.npz", "not one of torch.save"):
        read_state_dict(tmp_path / "checkpoint.npz")
    for path in (tmp_path, tmp_path / "none.pth"):
        with fails_with(path, "no such file", "give a .pth or .safetensors file"):
            read_state_dict(path)


def test_a_file_cut_short_anywhere_is_refused(outcome):
    assert {outcome(content[:length]) for content in (GOOD, OLD) for length in range(len(content))} == {"refused"}


@pytest.mark.parametrize("flip", [1, 32, 255])
def test_a_spoilt_byte_anywhere_changes_nothing_or_is_refused(flip, read, outcome):
    whole = bits(read(GOOD))
    for at in range(flip % 3, len(GOOD), 3):
        content = bytearray(GOOD)
        content[at] ^= flip
        assert outcome(bytes(content)) in (whole, "refused"), at


def test_a_spoilt_byte_before_1_6_changes_no_more_than_what_is_described(read, outcome):
    """The format has no checksum, so a damaged number, shape or name is not noticed. Damage to the file's structure is."""
    whole, described = bits(read(OLD)), OLD.index(old_program(TREE))
    free = {*range(described, described + len(old_program(TREE))), *range(len(OLD) - TWELVE.nbytes, len(OLD))}
    for at, flip in itertools.product(range(len(OLD)), (1, 32, 255)):
        result = outcome(OLD[:at] + bytes([OLD[at] ^ flip]) + OLD[at + 1 :])
        assert at in free or result in (whole, "refused"), at


def test_a_spoilt_list_of_members_does_not_hide_the_byte_order(outcome):
    """Big-endian numbers read as little-endian ones would be wrong without an error."""
    content = torch_zip({"w": WHOLE}, {"0": TWELVE.astype(">f4")}, byteorder=b"big")
    at = content.rindex(b"byteorder")
    assert outcome(content[:at] + b"b" + content[at + 1 :]) == bits({"w": TWELVE.reshape(3, 4)})
    assert outcome(content[:at] + b"c" + content[at + 1 :]) == "refused"


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_pickle_changed_at_will_is_arrays_or_one_line(outcome, data):
    make, *more = data.draw(st.sampled_from([(torch_zip,), (torch_stream, None)]))
    program = bytearray(pickled(TREE | {"epoch": [3]}, *more))
    for _ in range(data.draw(st.integers(1, 3))):
        program[data.draw(st.integers(0, len(program) - 1))] = data.draw(st.integers(0, 255))
    outcome(make(Raw(program)))


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line(content, reason, read, fails_with):
    with fails_with("weights.pth", "damaged, cut short or hostile (", reason):
        read(content)


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
