"""NumPy or CuPy: the array module is taken from the arrays themselves, and random numbers are drawn on the host.

Nothing above this floor names a device. A function asks `array_module` about its arguments; data enters a device through
`to_device` and leaves it through `to_host`, at the edges only.
"""

import hashlib
import importlib
import sys

import numpy as np

from mdps_ref.errors import InputError

BACKENDS = ("numpy", "cupy", "auto")


def array_module(*arrays):
    """NumPy or CuPy, whichever made the arrays.  Python numbers go with either and say nothing.

    Raises: TypeError that names both if host and device arrays are mixed, and one that names the type of what is no array.
    """
    if all(type(a) is np.ndarray for a in arrays):  # by far the most frequent answer, so the quickest
        return np
    names = sorted({type(a).__module__.partition(".")[0] for a in arrays if not isinstance(a, int | float)})
    if len(names) > 1:
        raise TypeError(f"arrays of {' and '.join(names)} are mixed; move them with to_device or to_host first")
    module = sys.modules[names[0]] if names else np
    if not hasattr(module, "ndarray"):
        raise TypeError(f"expected arrays, got {', '.join(sorted({type(a).__name__ for a in arrays}))}")
    return module


def find_backend(name):
    """The array module for `name`: "numpy", "cupy", or "auto" for CuPy where it has a GPU and NumPy elsewhere.

    Raises: InputError if CuPy is asked for and is not installed or finds no GPU, or if the name is none of the three.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if name == "numpy":
        return np
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own kinds for a missing driver, library or device
        if name == "auto":
            return np
        told = [line.strip() for line in str(error).splitlines() if line.strip(" =")]  # CuPy rules a line of = above its message
        reason = told[0] if told else type(error).__name__
        raise InputError(f"backend 'cupy': {reason}; install the cuda12 or cuda13 extra on a machine with a GPU, or use numpy") from error
    return cupy


def to_device(array, xp):
    """`array` (from the host, or already there) as an array of the module `xp`, dtype kept."""
    return xp.asarray(array)


def to_host(array):
    """`array` as a NumPy array.  The one way off the device."""
    return array if array_module(array) is np else array.get()


def random_stream(seed, purpose, image="", sample=0):
    """A random generator of its own for one purpose, one image (by name) and one posterior sample.

    Drawn on the host with Philox (Salmon et al. 2011), whose key is a hash of the four, so every backend sees the same noise,
    and an image's noise does not change with its place in a batch or with the other images.
    """
    digest = hashlib.sha256(repr((int(seed), purpose, image, int(sample))).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))
