"""The pickle machine agrees with Python's own on plain values, and no program makes it do anything that is not in its table."""

import datetime
import io
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdps_ref.weights.pickle_machine import PickleMachine

words = st.text(max_size=300)
keys = words | st.integers(-(2**31), 2**31) | st.booleans()
numbers = st.integers(-(2**900), 2**900) | st.floats(allow_nan=False) | st.booleans() | st.none()
trees = st.recursive(
    numbers | words,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.lists(inner, max_size=5).map(tuple),
    max_leaves=20,
)


def run(program, allowed=None, persistent=None):
    """Run a program."""
    return PickleMachine(io.BytesIO(program), allowed or {}, persistent).run()


@settings(deadline=None, max_examples=40)
@given(trees, st.integers(2, 4))
def test_plain_values_are_those_of_pythons_own_machine(tree, protocol):
    shared = {"twice": [tree, tree], "long": list(range(300)), "words": [str(index) for index in range(300)]}  # more than 255 memos
    assert repr(run(pickle.dumps(shared, protocol))) == repr(shared)  # repr tells True from 1, and -0.0 from 0.0


def test_what_is_shared_in_the_pickle_is_shared_afterwards():
    inner = [1]
    first, second = run(pickle.dumps([inner, inner], protocol=2))
    assert first is second


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_one_after_another_are_read_from_one_handle(protocol):
    program = io.BytesIO(b"".join(pickle.dumps(value, protocol) for value in ({"a": [1.5]}, ("b",))) + b"the rest")
    assert [PickleMachine(program, {}, None).run() for _ in range(2)] == [{"a": [1.5]}, ("b",)]
    assert program.read() == b"the rest"


@pytest.mark.parametrize("protocol", [2, 4])
def test_allowed_names_are_called_and_no_others(protocol, fails_with):
    program = pickle.dumps(datetime.timedelta(1), protocol)
    name = "datetime.timedelta"
    assert run(program, {name: lambda *parts: ["called", *parts]}) == ["called", 1, 0, 0]
    with fails_with(f"asks for {name},", "was not run", "save model.state_dict()"):
        run(program, {"os.system": print})


def test_a_name_is_told_on_one_line_whatever_it_is(fails_with):
    with fails_with("asks for a\\x1b[2J.bbbb"):
        run(b"ca\x1b[2J\n" + b"b" * 10**6 + b"\n.")


def test_what_lies_outside_is_asked_for():
    assert run(b"(K\1K\2tQ.", persistent=lambda told: ["outside", told]) == ["outside", (1, 2)]


def test_attributes_of_a_dictionary_are_dropped():
    """PyTorch pickles a state dict with its version as an attribute."""
    assert run(b"}(K\1K\2u}(K\3K\4ub.") == {1: 2}


DAMAGED = {
    "nothing": (b"", "ends too early"),
    "no end": (b"N", "ends too early"),
    "cut inside a number": (b"J\0\0", "ends too early"),
    "cut inside a string": (b"X\5\0\0\0ab", "ends too early"),
    "a string of 4 GiB": (b"X\xff\xff\xff\xffab.", "ends too early"),
    "a string that is no text": (b"X\1\0\0\0\xff.", "codec"),
    "an unknown instruction": (b"\xff.", "instruction b'.xff'"),
    "an instruction that makes an object": (b")\x81.", "instruction"),
    "an empty stack": (b".", "pop from empty"),
    "a tuple of too little": (b"N\x86.", "pop from empty"),
    "a mark never set": (b"Nt.", "pop from empty"),
    "a memo never put": (b"h\7.", "7"),
    "a call of a number": (b"K\1)R.", "not a function"),
    "a call of a name in quotes": (b"X\7\0\0\0builtin)R.", "not a function"),
    "a call with a list": (b"cm\nf\n]R.", "a list where"),
    "a call with too much": (b"cm\nf\n(K\1K\2tR.", "arguments"),
    "a name over half a line": (b"cm\nf", "ends too early"),
    "half a name": (b"cm\nhal", "ends too early"),
    "a name that is no text": (b"K\1K\2\x93.", "a int where"),
    "a tuple as a key": (b"})Ns.", "a tuple where"),
    "a list as a key": (b"}]Ns.", "a list where"),
    "a key without a value": (b"}(K\1u.", "zip"),
    "items into a list": (b"](K\1K\2u.", "a list where"),
    "entries into a dictionary": (b"}(K\1K\2e.", "a dict where"),
    "entries into a tuple": (b")K\1a.", "a tuple where"),
    "attributes of a number": (b"K\1}b.", "a int where"),
    "attributes of a list": (b"]}b.", "a list where"),
}


@pytest.mark.parametrize(("program", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_program_raises(program, reason):
    with pytest.raises((ValueError, LookupError, TypeError), match=reason):
        run(program, {"m.f": lambda: None})


def test_a_memo_of_a_huge_number_costs_nothing():
    assert run(b"K\5r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.") == (5, 5)


def test_depth_has_no_limit():
    """The machine never walks through nested lists deeper than Python's stack, or tuples too deep to hash."""
    value, depth = run(b"]" * 10**4 + b"a" * (10**4 - 1) + b"."), 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == 10**4 - 1
    assert run(b"}K\1)" + b"q\0h\0\x86" * 10**4 + b"s.").keys() == {1}


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_program_does_more_than_raise_what_the_reader_catches(program):
    try:
        run(b"\x80\2" + program + b".", {"m.f": dict})
    except Exception as error:
        assert not isinstance(error, MemoryError | RecursionError)
