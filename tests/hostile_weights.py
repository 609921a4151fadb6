"""Hostile and broken files of weights, by kind: what is wrong, its bytes, and what the message says about it.

Each table is of (content, said) or (a function of the format, said). Nothing large is made before it is asked for.
"""

import json
import pickle
import struct

from hostile_zips import ARRAYS, NPYS, OWN, PLAIN, ZIPS
from weight_files import (
    TWELVE,
    WHOLE,
    Call,
    Name,
    Outside,
    Raw,
    as_zip64,
    entry,
    floats,
    npy,
    patch,
    pickled,
    safetensors,
    signed,
    stored,
    tensor,
    torch_stream,
    torch_zip,
    unzipped,
    with_list,
    zipped,
)


def untyped(raw, dtype):
    """A tensor of four numbers over a storage of bytes."""
    return Call("torch._utils _rebuild_tensor_v3", raw, 0, (4,), (1,), False, None, dtype)


ONE = ((1,), (1,))
BYTES = Outside("storage", Name("torch.storage UntypedStorage"), "0", "cpu", 48)
FEW = Outside("storage", Name("torch.storage UntypedStorage"), "0", "cpu", 15)
NEGATIVE = Call("torch._utils _rebuild_tensor_v2", stored("FloatStorage", "0", 12), 0, *ONE, False, None, {"neg": True})
VALUES = {  # in a pickle of torch.save: (the value, what is said about it)
    "a stride too far": (floats(0, (3, 4), (5, 1)), "beyond its storage"),
    "a row too many": (floats(0, (4, 4), (4, 1)), "beyond its storage"),
    "an offset too far": (floats(1, (3, 4), (4, 1)), "beyond its storage"),
    "one number past the end": (floats(12, (), ()), "beyond its storage"),
    "one of no numbers": (floats(0, *ONE, size=0), "no storage '0' of 0"),
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
    "a size of 1,200 digits": (floats(0, (2**62,) * 64, (0,) * 64), "would take"),
    "a size past what a computer counts with": (floats(0, (2**64,), (0,)), "whole numbers from 0 on"),
    "a stride that comes round again": (floats(0, (5,), (2**62,)), "beyond its storage"),
    "no numbers, and yet too many": (floats(0, (0, 2**62, 2**62), (1, 1, 1)), ""),
    "one number repeated to a terabyte": (floats(0, (2**38,), (0,)), "would take"),
    "a storage said to be longer than it is": (floats(0, (13,), (1,), size=13), "no storage '0' of 13 numbers of float32"),
    "a storage said to be shorter than it is": (floats(0, (11,), (1,), size=11), "no storage '0' of 11"),
    "a storage of a negative size": (floats(0, *ONE, size=-1), "whole numbers from 0 on"),
    "a storage that is missing": (tensor(stored("FloatStorage", "7", 12), 0, *ONE), "no storage '7'"),
    "a storage above its folder": (tensor(stored("FloatStorage", "../data.pkl", 12), 0, *ONE), "no storage '../data.pkl'"),
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
    "bytes too few for the dtype": (untyped(FEW, Name("torch float32")), "no storage '0' of 15"),
    "bytes read as a word": (untyped(BYTES, "object"), "not a storage"),
    "bytes read as a list": (untyped(BYTES, [1]), "not a storage"),
    "a tensor of too little": (Call("torch._utils _rebuild_tensor_v2", stored("FloatStorage", "0", 12)), ""),
    "a dictionary made with arguments": ([WHOLE, Call("collections OrderedDict", [((), 1)])], ""),
    "attributes for a tensor": (Raw(pickled(WHOLE) + pickled({"__class__": 1}) + b"b"), "has a StoredTensor where"),
    "a call of a storage": (Call("torch FloatStorage", 10**12), "something that is not a function"),
    "one number repeated to 4 GiB": (floats(0, (2**30,), (0,)), "would take"),
    "rows that overlap to 4 GiB": (floats(0, (2**28, 4), (0, 1)), "would take"),
    "a number of 10,000 digits": (floats(0, (10**10000,), (1,)), "instruction"),
    "a huge number as a key": ({2**61 - 1: 1}, "huge number as a key"),
    "a fraction as a key": ({0.5: 1}, "a float where"),
    "nothing as a key": ({None: 1}, "a NoneType where"),
    "a name that is no text": (Raw(b"))\x93"), "a tuple where"),
    "an unknown name": (Call("os system", "touch sprung"), "asks for os.system"),
    "an unknown name not called": (Name("builtins eval"), "asks for builtins.eval"),
    "a name with escape codes": (Name("os \x1b[2J\x07" + "b" * 10**5), "os.\\x1b[2J\\x07bb"),
    "a storage's name with escape codes": (
        tensor(stored("FloatStorage", "\x1b]0;x\x07\n" + "x" * 10**5, 12), 0, *ONE),
        "'\\x1b]0;x\\x07\\n",
    ),
    "complex numbers": (Name("torch ComplexFloatStorage"), "asks for torch.ComplexFloatStorage"),
    "a sparse tensor": (Call("torch._utils _rebuild_sparse_tensor", WHOLE), "asks for torch._utils._rebuild_sparse_tensor"),
    "the loader itself": (Call("torch load", "x"), "asks for torch.load"),
    "a dictionary with a factory": (Call("collections defaultdict", Name("builtins list")), "asks for collections.defaultdict"),
    "a sign yet to be changed": (NEGATIVE, "resolve_neg()"),
    "half a pickle": (Raw(b"(" + pickled(WHOLE)), ""),
}

OLD = torch_stream({"w": WHOLE, "b": floats(3, (2, 2), (1, 3)), "epoch": 3})
DEEP = Raw(b"\x80\2]" + b"".join(b")" + b"q%ch%c\x86" % (n, n) * 60 + b"a" for n in (0, 1)) + b".")
PROMISED = torch_stream({"w": floats(0, (2**20,), (1,), 2**20)}, {"0": TWELVE[:0]})[:-8] + struct.pack("<q", 2**20)
STREAMS = {  # (bytes, what is said about them)
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
    "pickles past any state dict": (torch_stream({"w": WHOLE, "x": "x" * 2**22}), "ends too early"),
    "a storage that is empty": (torch_stream({"w": floats(0, (2**20,), (1,), 2**20)}, {"0": TWELVE[:0]}), "not as long as"),
    "2^20 numbers told twice, none there": (PROMISED, "do not end where"),
    "an unknown name beside the tree": (torch_stream({"w": WHOLE}, about=Raw(b"\x80\2cos\nsystem\n.")), "asks for os.system"),
}

PROGRAMS = {  # pickles that cost much: (a function that makes the program, what is said about it)
    "4 MiB of lists": (lambda: b"]" * (2**22 - 2**10), "instructions"),
    "4 MiB of dictionaries": (lambda: b"}" * (2**22 - 2**10), "instructions"),
    "4 MiB of marks": (lambda: b"(" * (2**22 - 2**10), "instructions"),
    "lists in lists": (lambda: b"]" * 2**20 + b"a" * 2**20, "instructions"),
    "a tuple of a tuple, a million times": (lambda: b")" + b"\x85" * 2**21, "instructions"),
    "16 MiB of lists": (lambda: b"]" * 2**24, ""),
    "16 MiB of one string": (lambda: b"X" + struct.pack("<L", 2**24) + bytes(2**24), ""),
    "a string said to have 4 GiB": (lambda: b"X\xff\xff\xff\xffab", "ends too early"),
    "200,000 keys of one hash": (lambda: keys(lambda n: n * (2**61 - 1)), "huge number as a key"),
    "200,000 fractions of few hashes": (lambda: keys(lambda n: n * 2.0**61), "a float where"),
    "numbers of 2,000 bits as keys": (lambda: keys(lambda n: 2**2000 + n), ""),
}


def keys(number):
    """A dictionary with 200,000 keys."""
    return b"}(" + b"".join(pickled(number(n)) + b"N" for n in range(1, 200_001)) + b"u"


TREE = {"w": WHOLE, "b": floats(3, (2, 2), (1, 3)), "epoch": 3}
GOOD = dict(sorted(unzipped(torch_zip(TREE, byteorder=b"little")).items(), key=lambda member: member[0].endswith("/0")))  # the numbers last
GOOD = zipped(GOOD)
ABOUTS = {  # what our own file says about itself: (bytes or None, what is said)
    "missing": (None, "other members"),
    "empty": (b"", ""),
    "no JSON": (b"step 5", ""),
    "a list": (b"[1, 2]", "no JSON object"),
    "a number": (b"5", "no JSON object"),
    "NaN": (b'{"loss": NaN}', "number NaN"),
    "infinite": (b'{"loss": -Infinity}', "number -Infinity"),
    "a name twice": (b'{"step": 1, "step": 2}', "a name twice"),
    "too deep": (b'{"a":' * 10**5, ""),
    "a number of 10,000 digits": (b'{"a": %s}' % (b"9" * 10**4), "digits"),
    "no UTF-8": (b'{"a": "\xff"}', "utf-8"),
    "a pickle": (pickle.dumps({}), ""),
    "5 MiB": (b'{"a": "%s"}' % (b"a" * 5 * 2**20), "longer than"),
}

NAMES = {  # of members of our own file: (name, what is said)
    "no group": ("w.npy", "other members"),
    "a group without a name": ("/w.npy", "other members"),
    "a name without an array": ("ema/.npy", "other members"),
    "no array": ("ema/w.txt", "other members"),
    "escape codes": ("ema/\x1b[2J\x07.npy", "\\x1b[2J\\x07"),
    "two lines": ("ema/a\r\x0bb.npy", "\\r\\x0bb"),
    "10,000 letters": ("ema/" + "x" * 10**4 + ".npy", "at most 200 characters"),
}

W = entry("F32", [2], 0, 8)
SAFETENSORS = {
    "a header longer than the file": (struct.pack("<Q", 2**63) + b"{}", "header is longer than the file"),
    "a header of 60 MB": (lambda: struct.pack("<Q", 60_000_000) + b'{"a": "' + bytes(60_000_000), "longer than"),
    "a header of 4 MiB of lists": (lambda: safetensors(b'{"a": [%s[]]}' % (b"[]," * (2**22 // 3 - 9))), ""),
    "no header": (b"\2" + bytes(7) + b"{", ""),
    "a header that is no object": (safetensors(b"{"), ""),
    "a header too deep": (safetensors(b'{"a":' * 10**5), ""),
    "a header that is no UTF-8": (safetensors(b'{"\xff": 1}'), "utf-8"),
    "a name twice": (safetensors(b'{"w": %b, "w": %b}' % ((json.dumps(W).encode(),) * 2), bytes(8)), "a name twice"),
    "an entry that is a number": (safetensors({"w": 1}), ""),
    "an entry that is null": (safetensors({"w": None}), ""),
    "an entry without a shape": (safetensors({"w": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "shape"),
    "an entry without a dtype": (safetensors({"w": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "dtype"),
    "an entry without offsets": (safetensors({"w": {"dtype": "F32", "shape": [2]}}, bytes(8)), "data_offsets"),
    "a shape of another length": (safetensors({"w": W | {"shape": [3]}}, bytes(8)), "gaps, overlaps or wrong"),
    "a negative shape": (safetensors({"w": W | {"shape": [-2, -1]}}, bytes(8)), "whole numbers from 0 on"),
    "a shape of fractions": (safetensors({"w": W | {"shape": [2.0]}}, bytes(8)), "whole numbers from 0 on"),
    "a shape of truth": (safetensors({"w": entry("F32", [True], 0, 4)}, bytes(4)), "whole numbers from 0 on"),
    "a shape without end": (safetensors({"w": W | {"shape": [2**60] * 10**5}}, bytes(8)), "whole numbers from 0 on"),
    "a shape past what a computer counts with": (safetensors({"w": W | {"shape": [2**64, 0]}}, bytes(8)), "whole numbers from 0 on"),
    "a shape that is a number": (safetensors({"w": W | {"shape": 2}}, bytes(8)), ""),
    "a hole": (safetensors({"w": W, "v": entry("F32", [1], 12, 16)}, bytes(16)), "gaps"),
    "an overlap": (safetensors({"w": W, "v": entry("F32", [1], 4, 8)}, bytes(8)), "overlaps"),
    "one place for two": (safetensors({"w": W, "v": W}, bytes(8)), "overlaps"),
    "offsets turned round": (safetensors({"w": W | {"data_offsets": [8, 0]}}, bytes(8)), "gaps"),
    "offsets beyond the file": (safetensors({"w": entry("F32", [2**40], 0, 2**42)}, bytes(8)), "another number of bytes"),
    "negative offsets": (safetensors({"w": W | {"data_offsets": [-8, 0]}}, bytes(8)), "whole numbers from 0 on"),
    "offsets that are fractions": (safetensors({"w": W | {"data_offsets": [0, 8.0]}}, bytes(8)), "whole numbers from 0 on"),
    "offsets that are words": (safetensors({"w": W | {"data_offsets": "08"}}, bytes(8)), ""),
    "three offsets": (safetensors({"w": W | {"data_offsets": [0, 8, 8]}}, bytes(8)), "gaps"),
    "too many bytes": (safetensors({"w": W}, bytes(9)), "another number of bytes"),
    "too few bytes": (safetensors({"w": W}, bytes(7)), "another number of bytes"),
    "metadata of NaN": (safetensors(b'{"__metadata__": {"loss": NaN}, "w": %b}' % json.dumps(W).encode(), bytes(8)), "number NaN"),
    "metadata that are a list": (safetensors({"__metadata__": [], "w": W}, bytes(8)), ""),
    "metadata of numbers": (safetensors({"__metadata__": {"step": 1}, "w": W}, bytes(8)), "metadata"),
    "a dtype that NumPy has not": (
        safetensors({"w": entry("F8_E4M3", [8], 0, 8)}, bytes(8)),
        "'F8_E4M3', which cannot be read; save it again as F32",
    ),
    "a dtype with escape codes": (safetensors({"w": W | {"dtype": "\x1b[2J" + "x" * 10**4}}, bytes(8)), "\\x1b[2J"),
    "a dtype that is a list": (safetensors({"w": W | {"dtype": []}}, bytes(8)), ""),
    "a name with escape codes": (safetensors({"\x1b[2J\n": W}, bytes(8)), "\\x1b[2J\\n"),
    "a name of 10,000 letters": (safetensors({"x" * 10**4: W}, bytes(8)), "at most 200 characters"),
}

OTHERS = {  # files that hold no state dict
    "nothing": (b"", "neither"),
    "text": (b"import torch", "neither"),
    "a bare pickle": (pickle.dumps({}, 2), "neither"),
    "the format of the first releases": (bytes(257) + b"ustar\0", "a tar file, as PyTorch's first releases wrote them; load it with"),
    "a zip of text": (zipped({"readme.txt": b"hello"}), "no data.pkl"),
    "an empty zip": (zipped({}), "neither"),
    "our own file": (signed(OWN), "no end"),
    "two in one": (zipped({**unzipped(GOOD), "other/data.pkl": b""}), "no data.pkl"),
    "a data.pkl deeper down": (zipped({f"a/{name}": member for name, member in unzipped(GOOD).items()}), "no data.pkl"),
    "a comment that is not there": (patch(GOOD, len(GOOD) - 2, "<H", 5), "no end"),
    "an unknown byte order": (torch_zip({"w": WHOLE}, byteorder=b"middle"), "neither little nor big"),
    "an empty pickle": (zipped({**unzipped(GOOD), "saved/data.pkl": b""}), "ends too early"),
    "a pickle past any state dict": (torch_zip({"w": WHOLE, "x": "x" * 2**22}), "data.pkl is longer"),
    "a storage that is empty": (torch_zip({"w": floats(0, (2**20,), (1,), 2**20)}, {"0": b""}), "no storage '0' of 1048576"),
    "a storage with a byte too few": (torch_zip({"w": WHOLE}, {"0": TWELVE.tobytes()[:-1]}), "no storage '0' of 12"),
    "a storage with a byte too many": (torch_zip({"w": WHOLE}, {"0": TWELVE.tobytes() + b"0"}), "no storage '0' of 12"),
    "an optimiser's storage that is empty": (
        torch_zip({"model": {"w": WHOLE}, "optimiser": [tensor(stored("FloatStorage", "1", 2**20), 0, *ONE)]}, {"0": TWELVE, "1": b""}),
        "no storage '1'",
    ),
    "an array's name with escape codes": (torch_zip({"\x1b[2J\n": WHOLE}), "\\x1b[2J\\n"),
    "an entry with escape codes": (torch_zip({"\x1b[2J\n" + "x" * 10**4: 1}), "\\x1b[2J\\n"),
    "a name of 10,000 letters": (torch_zip({"x" * 10**4: WHOLE}), "at most 200 characters"),
    "a million members": (
        lambda: as_zip64(with_list(zipped({"a/b": b""}), lambda entries: entries * 10**6), count=10**6),
        "lists 1000000 members",
    ),
}


def every_kind():
    """Yield (name of the kind, reader, content or a function that makes it, what the message says)."""
    for kind, (value, said) in VALUES.items():
        yield f"zip: {kind}", "state dict", torch_zip({"good": WHOLE, "w": value}), said
        yield f"stream: {kind}", "state dict", torch_stream({"good": WHOLE, "w": value}), ""
    for kind, (program, said) in PROGRAMS.items():
        yield f"zip: {kind}", "state dict", lambda program=program: torch_zip(Raw(program())), said
        yield f"stream: {kind}", "state dict", lambda program=program: torch_stream(Raw(program())), ""
    for kind, (change, said) in ZIPS.items():
        yield f"zip: {kind}", "state dict", lambda change=change: change(GOOD, "saved/data/0"), said
        yield f"own: {kind}", "checkpoint", lambda change=change: signed(change(OWN, "ema/b.npy")), said
        yield f"keras: {kind}", "keras", lambda change=change: change(PLAIN, "ema/b.npy"), said
    for kind, (content, said) in NPYS.items():
        yield f"own: an array of {kind}", "checkpoint", signed(zipped({**unzipped(OWN), "ema/b.npy": content})), said
        yield f"keras: an array of {kind}", "keras", zipped({**ARRAYS, "ema/b.npy": content}), said
    for kind, (content, said) in ABOUTS.items():
        yield f"own: about {kind}", "checkpoint", signed(zipped({"about.json": content, **ARRAYS} if content is not None else ARRAYS)), said
    for kind, (name, said) in NAMES.items():
        yield f"own: named by {kind}", "checkpoint", signed(zipped({"about.json": b"{}", name: npy(TWELVE)})), said
    for kind in ("escape codes", "two lines", "10,000 letters"):
        name, said = NAMES[kind]
        yield f"keras: named by {kind}", "keras", zipped({name: npy(TWELVE)}), said
    for table, before in ((STREAMS, "stream"), (SAFETENSORS, "safetensors"), (OTHERS, "zip")):
        for kind, (content, said) in table.items():
            yield f"{before}: {kind}", "state dict", content, said
