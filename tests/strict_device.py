"""A pretend CuPy over NumPy: its arrays refuse what CuPy's refuse, so a device bug shows without a GPU.

Refused: implicit conversion to NumPy, NumPy functions, mixing with host arrays or NumPy scalars, host arrays as indices. The module
offers only the functions that the library calls on `xp`; a test checks against CuPy, where it is installed, that it has them all.
"""

import operator

import numpy as np

__version__ = "pretend"
FUNCTIONS = (
    "broadcast_to clip concatenate empty exp expand_dims log matmul maximum minimum ones ones_like pad repeat "
    "sort sqrt stack tanh where zeros zeros_like"
).split()
METHODS = "all astype copy max mean min repeat reshape std sum swapaxes transpose".split()
BINARY = "add sub mul truediv pow matmul floordiv mod lt le gt ge eq ne".split()
IN_PLACE = "iadd isub imul itruediv".split()


class ndarray:
    """An array that holds its values on the other side of `get`."""

    __slots__ = ("_values",)
    __hash__ = None

    def __init__(self, values):
        self._values = values

    def get(self):
        return self._values.copy()

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion to a NumPy array is not allowed; use get()")

    def __array_ufunc__(self, ufunc, *args, **kwargs):
        raise TypeError(f"np.{ufunc.__name__} on a device array")

    def __array_function__(self, function, *args):
        raise TypeError(f"np.{function.__name__} on a device array")

    def __getitem__(self, index):
        return wrapped(self._values[_inner(index)])

    def __setitem__(self, index, value):
        self._values[_inner(index)] = _inner(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (wrapped(row) for row in self._values)

    def __neg__(self):
        return wrapped(-self._values)

    def __abs__(self):
        return wrapped(abs(self._values))

    def __float__(self):
        return float(self._values)

    def __bool__(self):
        return bool(self._values)


def asarray(array):
    """The way onto the device: host and device arrays alike."""
    return array if isinstance(array, ndarray) else ndarray(np.array(array))


def wrapped(result):
    """NumPy's result as device arrays."""
    if isinstance(result, list | tuple):
        return [wrapped(part) for part in result]
    return ndarray(np.asarray(result)) if isinstance(result, np.ndarray | np.generic) else result


def _inner(argument):
    """An argument's values.  Raises: TypeError for what lives on the host."""
    if isinstance(argument, ndarray):
        return argument._values
    if isinstance(argument, np.ndarray | np.generic):
        raise TypeError(f"a host {type(argument).__name__} meets a device array")
    if isinstance(argument, list | tuple):
        return type(argument)(_inner(part) for part in argument)
    return argument


def _method(name):
    def call(self, *args, **kwargs):
        return wrapped(getattr(self._values, name)(*map(_inner, args), **kwargs))

    return call


def _binary(name, turned=False):
    f = getattr(operator, name)

    def call(self, other):
        if getattr(type(other), "__array_ufunc__", True) is None:
            return NotImplemented
        ours, theirs = self._values, _inner(other)
        return wrapped(f(theirs, ours) if turned else f(ours, theirs))

    return call


def _in_place(name):
    f = getattr(operator, name)

    def call(self, other):
        f(self._values, _inner(other))
        return self

    return call


def _function(name):
    f = getattr(np, name)

    def call(*args, **kwargs):
        return wrapped(f(*map(_inner, args), **{key: _inner(value) for key, value in kwargs.items()}))

    return call


for _name in "shape dtype ndim size".split():
    setattr(ndarray, _name, property(lambda self, name=_name: getattr(self._values, name)))
ndarray.T = property(lambda self: wrapped(self._values.T))
for _name in METHODS:
    setattr(ndarray, _name, _method(_name))
for _name in BINARY:
    setattr(ndarray, f"__{_name}__", _binary(_name))
    setattr(ndarray, f"__r{_name}__", _binary(_name, turned=True))
for _name in IN_PLACE:
    setattr(ndarray, f"__{_name}__", _in_place(_name))
for _name in FUNCTIONS:
    globals()[_name] = _function(_name)


class add:
    """The one universal function with an `at` that the library calls."""

    @staticmethod
    def at(array, index, values):
        np.add.at(array._values, _inner(index), _inner(values))


ndarray.__module__ = "strict_device"
