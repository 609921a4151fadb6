"""Pickles read without trust: a pickle is a program for a small stack machine, and this machine can do no harm.

Python's own machine looks up any name of any module and calls what it finds, which is how a pickle runs code. This one looks a
name up in a table that its caller gives, and nowhere else; it calls nothing that is not in the table, sets no attributes, and
uses nothing but numbers and strings as keys. It knows the instructions that `torch.save` writes (protocols 2 to 4).
Source: the standard library's `pickletools`, whose comments define every instruction.
"""

import pickle
import struct

from mdps_ref.errors import InputError


class PickleMachine:
    """Runs `program`, a binary handle, with the names in `allowed`; `persistent` answers for what it says is stored outside itself.

    allowed: {"module.name": a function that may be called, or a plain value}.  persistent: function of one value.
    """

    def __init__(self, program, allowed, persistent):
        self.program, self.allowed, self.persistent = program, allowed, persistent
        self.stack, self.below, self.memo = [], [], {}  # below: the stacks under each mark that is still open

    def run(self):
        """What the pickle describes, of dictionaries, lists, tuples, plain values, and what the allowed names give.

        The handle is left where the pickle ends, so that another machine can run the next one.
        Raises: InputError that names the first name outside the table; ValueError and its like for a damaged program.
        """
        while (opcode := self.take(1)) != pickle.STOP:
            if opcode not in _INSTRUCTIONS:
                raise ValueError(f"instruction {opcode!r} of a pickle, which torch.save does not write")
            _INSTRUCTIONS[opcode](self)
        return self.pop()

    def take(self, count):
        """The next `count` bytes of the program."""
        content = self.program.read(count)
        if len(content) < count:
            raise ValueError("its pickle ends too early")
        return content

    def number(self, layout):
        """The next number of the program, laid out as `struct` says."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, layout):
        """The next string of the program, after its length."""
        return self.take(self.number(layout)).decode()

    def line(self):
        """The program up to the end of its line."""
        content = self.program.readline()
        if not content.endswith(b"\n"):  # half a name would be told as one that was asked for
            raise ValueError("its pickle ends too early")
        return content[:-1].decode()

    def push(self, value):
        """Put `value` on the stack."""
        self.stack.append(value)

    def pop(self):
        """The topmost value, taken off."""
        return self.stack.pop()

    def tuple_of(self, count):
        """The topmost `count` values, taken off, as a tuple."""
        return tuple(reversed([self.pop() for _ in range(count)]))

    def open_mark(self):
        """Begin a stack of its own, for a run of values."""
        self.below.append(self.stack)
        self.stack = []

    def close_mark(self):
        """All values since the last mark, taken off."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def put(self, index):
        """Remember the topmost value under a number."""
        self.memo[index] = self.stack[-1]

    def set_items(self, pairs):
        """Enter key, value, key, value ... into the dictionary on top."""
        target = _expect(dict, self.stack[-1])
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[_expect(str | int | float | None, key)] = value

    def append(self, values):
        """Append to the list on top."""
        _expect(list, self.stack[-1]).extend(values)

    def look_up(self, module, name):
        """What the table has for a name.  Raises: InputError that says the name if there is nothing."""
        full = f"{module}.{name}"
        if full not in self.allowed:
            told = repr(full[:100]).strip("'")
            raise InputError(f"asks for {told}, which no state dict needs, and was not run; save model.state_dict() alone and give that")
        return self.allowed[full]

    def call(self, arguments):
        """The topmost function of the table, taken off, and called."""
        function = self.pop()
        if not callable(function):  # nothing callable comes onto the stack but from the table
            raise ValueError("its pickle calls what is no function")
        return function(*_expect(tuple, arguments))

    def drop_attributes(self):
        """Forget the attributes that would be set on a dictionary (a module's state dict has its version there)."""
        self.pop()
        _expect(dict, self.stack[-1])


def _expect(kind, value):
    """`value`, if it is of this kind."""
    if not isinstance(value, kind):
        raise ValueError(f"its pickle has a {type(value).__name__} where there cannot be one")
    return value


_INSTRUCTIONS = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.FRAME: lambda m: m.take(8),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.BINUNICODE: lambda m: m.push(m.text("<I")),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.text("<B")),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE1: lambda m: m.push(m.tuple_of(1)),
    pickle.TUPLE2: lambda m: m.push(m.tuple_of(2)),
    pickle.TUPLE3: lambda m: m.push(m.tuple_of(3)),
    pickle.MARK: lambda m: m.open_mark(),
    pickle.TUPLE: lambda m: m.push(tuple(m.close_mark())),
    pickle.SETITEM: lambda m: m.set_items(m.tuple_of(2)),
    pickle.SETITEMS: lambda m: m.set_items(m.close_mark()),
    pickle.APPEND: lambda m: m.append(m.tuple_of(1)),
    pickle.APPENDS: lambda m: m.append(m.close_mark()),
    pickle.BINPUT: lambda m: m.put(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.put(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.BINGET: lambda m: m.push(m.memo[m.number("<B")]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("<I")]),
    pickle.GLOBAL: lambda m: m.push(m.look_up(m.line(), m.line())),
    pickle.STACK_GLOBAL: lambda m: m.push(m.look_up(*m.tuple_of(2))),
    pickle.REDUCE: lambda m: m.push(m.call(m.pop())),
    pickle.BUILD: lambda m: m.drop_attributes(),
    pickle.BINPERSID: lambda m: m.push(m.persistent(m.pop())),
}
