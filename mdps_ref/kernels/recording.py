"""A recording: the calls of NumPy that a computation makes, and the memory that they work on, so that they can be made again.

An array of the class `Recorded` notes the calls of NumPy that it takes part in. Taking a view is not noted: at a replay the array has the
same memory, so the view that was made while recording still fits. What cannot be noted raises NotRecordable.
"""

import functools
import threading
from typing import NamedTuple

import numpy as np

from mdps_ref.kernels.buffers import POOL, Pool

ABOUT_SHAPES = (np.may_share_memory, np.ndim, np.result_type, np.shape, np.shares_memory, np.size)  # these read shapes and types alone
MOST_MEMORY = 2**29  # bytes of all recordings together: half a gigabyte
UNSAFE = {"casting": "unsafe"}  # as an array's own assignment casts


class NotRecordable(Exception):
    """A computation did what a recording cannot repeat."""


class _Place(NamedTuple):
    """Where an array lies: its buffer's identity, the offset in bytes, and what else makes a view."""

    buffer: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype


class Recording(Pool):
    """Calls of NumPy, and a pool of memory for them alone.

    A call's arrays are noted as places, so until `take_calls` the recording holds none of them. Memory that the computation lets go is
    therefore used again while it is recorded, as in any other pool; the same calls in the same order then can use the same memory.
    """

    def __init__(self):
        super().__init__()
        self.memory, self._calls, self._addresses, self._thread = 0, [], {}, threading.get_ident()

    def empty(self, shape, dtype):
        """Return a Recorded array of any content.  Raises: NotRecordable in another thread than the first, or for Python's objects."""
        self._check_thread()
        if np.dtype(dtype).hasobject:
            raise NotRecordable("an array of objects")
        return self.in_buffer(shape, dtype).view(Recorded)

    def note(self, function, arguments, settings):
        """Note a call of a function with plain arrays.  Raises: NotRecordable in another thread than the first."""
        self._check_thread()
        self._calls.append((function, _changed(np.ndarray, self._placed, arguments), _changed(np.ndarray, self._placed, settings)))

    def copy(self, to, values):
        """Copy values to an array, and note that."""
        arguments = plain(to), _changed(Recorded, plain, values)
        self.note(np.copyto, arguments, UNSAFE)
        np.copyto(*arguments, **UNSAFE)

    def take_calls(self):
        """Return the calls noted since the last time, as a list of (function, positional arguments)."""
        calls, self._calls = self._calls, []
        buffers = {id(buffer): buffer for buffer in self._buffers}
        made = ((function, *_changed(_Place, functools.partial(_array, buffers), arguments)) for function, *arguments in calls)
        return [(functools.partial(function, **settings) if settings else function, arguments) for function, arguments, settings in made]

    def _check_thread(self):
        if threading.get_ident() != self._thread:
            raise NotRecordable("work that is shared among threads: their calls have no order")

    def _insert(self, at, size):
        self.memory += size
        if self.memory > MOST_MEMORY:
            raise NotRecordable("much memory")
        super()._insert(at, size)
        self._addresses[id(self._buffers[at])] = _address(self._buffers[at])

    def _placed(self, array):
        """The _Place of an array in this memory; any other array itself."""
        root = array
        while (base := getattr(root, "base", None)) is not None:
            root = base
        start = self._addresses.get(id(root))
        return array if start is None else _Place(id(root), _address(array) - start, array.shape, array.strides, array.dtype)


class Recorded(np.ndarray):
    """An array that notes calls in the Recording in use."""

    def __array_ufunc__(self, ufunc, method, *arguments, out=None, **settings):
        if method not in ("__call__", "reduce") or ufunc.nout > 1:
            raise NotRecordable(f"{ufunc.__name__}.{method}")
        given = {name: value for name, value in settings.items() if value is not np._NoValue and not (name == "where" and value is True)}
        return _call_and_note(ufunc if method == "__call__" else ufunc.reduce, arguments, given, out[0] if out else None)

    def __array_function__(self, function, _, arguments, settings):
        given = {name: value for name, value in settings.items() if name != "out"}
        return _call_and_note(function, arguments, given, settings.get("out"))

    def __getitem__(self, index):
        return self._view(plain(self)[index])

    def __setitem__(self, index, value):
        target = plain(self._view(plain(self)[index]))
        if not (isinstance(value, np.ndarray) and _is_same(target, value)):  # a[i] += b ends with a[i] = a[i]
            _recording().copy(target, value)

    def reshape(self, *shape):
        view = plain(self).reshape(*shape)
        in_place = not view.size or np.may_share_memory(view, plain(self))
        return view.view(Recorded) if in_place else self.copy().reshape(*shape)

    def copy(self):
        return self.astype(self.dtype)

    def astype(self, dtype):
        y = _recording().empty(self.shape, dtype)
        _recording().copy(y, self)
        return y

    def _view(self, view):
        """A view of this array as a Recorded one.  Raises: NotRecordable for a copy or a number."""
        if not isinstance(view, np.ndarray) or view.size and not np.may_share_memory(view, plain(self)):
            raise NotRecordable("an index that copies")
        return view.view(Recorded)


def _refused(name):
    def refuse(*_, **__):
        raise NotRecordable(f"a recorded array's {name}")

    return refuse


_NUMBERS = "__bool__ __complex__ __contains__ __float__ __index__ __int__ item tolist tobytes".split()
_COPIES = "argmax argmin argsort choose compress cumprod cumsum dot fill flat flatten nonzero partition put ravel repeat".split()
_COPIES += "round searchsorted sort take trace".split()
for _name in (*_NUMBERS, *_COPIES):
    setattr(Recorded, _name, _refused(_name))


def _recording():
    """The Recording in use.  Raises: NotRecordable outside of it."""
    pool = POOL.get()
    if not isinstance(pool, Recording):
        raise NotRecordable("a recorded array outside of its recording")
    return pool


def _call_and_note(function, arguments, settings, out):
    """Call a function of NumPy, and note the call unless its result is a view. A new result gets memory of the recording."""
    recording = _recording()
    arguments, settings = _changed(Recorded, plain, arguments), _changed(Recorded, plain, settings)
    if out is not None:
        function, arguments, settings = _writing(function, arguments, settings, plain(out), takes_out=True)
        recording.note(function, arguments, settings)
        function(*arguments, **settings)
        return out
    result = function(*arguments, **settings)
    if function in ABOUT_SHAPES:
        return result
    if not isinstance(result, np.ndarray | np.generic):
        raise NotRecordable(f"the result of {function.__name__}")
    if isinstance(result, np.ndarray) and result.base is not None and _shares_memory(result, arguments):
        return result.view(Recorded)
    out = recording.empty(result.shape, result.dtype)
    np.copyto(plain(out), result)
    takes_out = isinstance(function, np.ufunc) or getattr(function, "__name__", "") == "reduce"
    recording.note(*_writing(function, arguments, settings, plain(out), takes_out))
    return out


def _writing(function, arguments, settings, out, takes_out):
    """A call that writes to `out` what a call returns: (function, arguments, settings)."""
    if isinstance(function, np.ufunc):
        return function, (*arguments, out), settings  # NumPy reads `out` faster by position
    return (function, arguments, settings | {"out": out}) if takes_out else (_copy_result, (function, out, arguments, settings), {})


def _shares_memory(result, arguments):
    """Whether a new array is a view of one among a function's arguments."""
    sources = []
    _changed(np.ndarray, sources.append, arguments)
    return any(np.may_share_memory(result, source) for source in sources)


def _copy_result(function, out, arguments, settings):
    np.copyto(out, function(*arguments, **settings))


def _changed(kind, change, value):
    """A value, or lists, tuples and dictionaries of values, with all values of a kind changed."""
    form = type(value)
    if form is tuple or form is list:
        return form([_changed(kind, change, entry) for entry in value])
    if form is dict:
        return {name: _changed(kind, change, entry) for name, entry in value.items()}
    return change(value) if isinstance(value, kind) else value


def plain(array):
    return array.view(np.ndarray)


def _address(array):
    return array.__array_interface__["data"][0]


def _array(buffers, place):
    return np.ndarray(place.shape, place.dtype, buffers[place.buffer], place.offset, place.strides)


def _is_same(a, b):
    return (_address(a), a.shape, a.strides) == (_address(b), b.shape, b.strides)
