"""Read pickles that need not be trusted.

A pickle is a program for a small stack machine. Python's own machine imports every name that the program gives and calls it, so a
pickle can run any code. The machine here looks names up in a table that its caller gives, and calls nothing else. It sets no
attributes, and takes only strings and small integers as dictionary keys, since thousands of other keys can have one hash. It knows the
instructions that `torch.save` writes (protocols 2 to 4), and stops after MOST_INSTRUCTIONS.

References: the comments in the standard library's `pickletools` define every instruction.
"""

import pickle
import struct

from mdps_ref.errors import InputError, shown

MOST_INSTRUCTIONS = 2**20  # enough for 40,000 tensors; a hostile instruction may take 300 bytes of memory
LARGEST_KEY = 2**31  # smaller integers have hashes of their own


class PickleMachine:
    """A stack machine for one pickle.

    Parameters
    ----------
    program : binary file
        Positioned at the beginning of the pickle.
    allowed : dict of str to object
        What the pickle may use, by "module.name": functions, which it may call, and plain values.
    persistent : callable
        Takes a persistent id, the pickle's description of an object outside of it, and returns that object.
    """

    def __init__(self, program, allowed, persistent):
        self.program, self.allowed, self.persistent = program, allowed, persistent
        self.stack, self.below, self.memo = [], [], {}  # below: the stacks that lie under the marks still open

    def run(self):
        """Run the program, and leave the file at its end, where another pickle may begin.

        Returns
        -------
        object
            Dictionaries, lists, tuples and plain values, and what the allowed names stand for.

        Raises
        ------
        InputError
            If the program uses a name that is not allowed. The message says the name.
        ValueError, LookupError or TypeError
            If the program is damaged, or too long.
        """
        count = 0
        while (opcode := self.take(1)) != pickle.STOP:
            if (count := count + 1) > MOST_INSTRUCTIONS:
                raise ValueError(f"its pickle has more than {MOST_INSTRUCTIONS} instructions")
            if opcode not in _INSTRUCTIONS:
                raise ValueError(f"its pickle has the instruction {opcode!r}, which torch.save does not write")
            _INSTRUCTIONS[opcode](self)
        return self.pop()

    def take(self, count):
        """Read the next `count` bytes of the program."""
        content = self.program.read(count)
        if len(content) < count:
            raise ValueError("its pickle ends too early")
        return content

    def number(self, layout):
        """Read the next number of the program; `layout` is a format of `struct`."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, layout):
        """Read the next string of the program, which stands behind its length."""
        return self.take(self.number(layout)).decode()

    def line(self):
        """Read the program up to the end of the line."""
        content = self.program.readline()
        if not content.endswith(b"\n"):  # half a name must not be reported as a name that is not allowed
            raise ValueError("its pickle ends too early")
        return content[:-1].decode()

    def push(self, value):
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self):
        """Take the topmost value off the stack."""
        return self.stack.pop()

    def tuple_of(self, count):
        """Take the topmost `count` values off the stack, as a tuple."""
        return tuple(reversed([self.pop() for _ in range(count)]))

    def open_mark(self):
        """Set a mark: begin a new stack on top of the current one."""
        self.below.append(self.stack)
        self.stack = []

    def close_mark(self):
        """Take off all values above the last mark, as a list."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def put(self, index):
        """Remember the topmost value under a number."""
        self.memo[index] = self.stack[-1]

    def set_items(self, pairs):
        """Enter key, value, key, value ... into the topmost value, a dictionary."""
        target = _expect(dict, self.stack[-1])
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(_expect(str | int, key), int) and abs(key) > LARGEST_KEY:
                raise ValueError("its pickle has a huge number as a key")
            target[key] = value

    def append(self, values):
        """Append values to the topmost value, a list."""
        _expect(list, self.stack[-1]).extend(values)

    def look_up(self, module, name):
        """Return what an allowed name stands for."""
        full = f"{_expect(str, module)}.{_expect(str, name)}"
        if full not in self.allowed:
            raise InputError(f"asks for {shown(full)}, which no state dict needs, so it was not run; torch.save model.state_dict() alone")
        return self.allowed[full]

    def call(self, arguments):
        """Take the topmost function off the stack and call it."""
        function = self.pop()
        if not callable(function):  # everything callable on the stack comes from the table
            raise ValueError("its pickle calls something that is not a function")
        return function(*_expect(tuple, arguments))

    def drop_attributes(self):
        """Take off the attributes that the pickle would set on a dictionary, such as the version of a module's state dict."""
        self.pop()
        _expect(dict, self.stack[-1])


def _expect(kind, value):
    """Return `value` if it is of this kind."""
    if not isinstance(value, kind):
        raise ValueError(f"its pickle has a {type(value).__name__} where none is allowed")
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
