"""NumPy or CuPy: a function takes the array module from its arguments, and random numbers are drawn on the host.

No other module names a device. A function calls `array_module` on its arguments. Data enters a device through `to_device` and leaves
it through `to_host`, and in no other way.
"""

import hashlib
import importlib
import sys

import numpy as np

from mdps_ref.errors import InputError

BACKENDS = ("numpy", "cupy", "auto")


def array_module(*arrays):
    """Return the array module, NumPy or CuPy, that the arrays belong to.

    Parameters
    ----------
    *arrays : array or number
        Python numbers go with both modules. Numbers alone give NumPy.

    Raises
    ------
    TypeError
        If host and device arrays are mixed, or an argument is neither an array nor a number.
    """
    if all(isinstance(a, np.ndarray) for a in arrays):  # the most frequent case comes first, for speed
        return np
    names = sorted({_package(a) for a in arrays if not isinstance(a, int | float)})
    if len(names) > 1:
        raise TypeError(f"arrays of {' and '.join(names)} are mixed; move them with to_device or to_host first")
    module = sys.modules[names[0]] if names else np
    if not hasattr(module, "ndarray"):
        raise TypeError(f"expected arrays, got {', '.join(sorted({type(a).__name__ for a in arrays}))}")
    return module


def _package(array):
    """The name of the package that an array belongs to."""
    return "numpy" if isinstance(array, np.ndarray) else type(array).__module__.partition(".")[0]


def find_backend(name):
    """Return the array module of a backend.

    Parameters
    ----------
    name : {"numpy", "cupy", "auto"}
        "auto" is CuPy if it is installed and finds a GPU, and NumPy otherwise.

    Raises
    ------
    InputError
        If the name is unknown, or if it is "cupy" and CuPy is not installed or finds no GPU.
    """
    if name not in BACKENDS:
        raise InputError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if name == "numpy":
        return np
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises many types for a missing driver, library or device
        if name == "auto":
            return np
        lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]  # CuPy frames its message with lines of =
        reason = lines[0] if lines else type(error).__name__
        raise InputError(f"backend 'cupy': {reason}; install the cuda12 or cuda13 extra on a machine with a GPU, or use numpy") from error
    return cupy


def to_device(array, xp):
    """Move an array to the device of an array module.

    Parameters
    ----------
    array : array
        From the host or from that device.
    xp : module
        NumPy or CuPy.

    Returns
    -------
    array of `xp`, with the same shape and dtype
    """
    return xp.asarray(array)


def to_host(array):
    """Move an array of NumPy or CuPy to the host, as a NumPy array."""
    return array if array_module(array) is np else array.get()


def image_key(image):
    """Return the key of an image's random streams: a hash of its pixels, rounded to 256 levels.

    So a photograph gets the same random numbers, and the same score, under any name and in any folder.

    Parameters
    ----------
    image : array, (H, W, C), in [-1, 1]
        On the host.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hashlib.sha256(np.round(127.5 * (image + 1)).astype(np.int16, order="C")).hexdigest()[:16]


def random_stream(seed, stream, image="", sample=0):
    """Return the random generator of one stream of numbers, one image and one posterior sample.

    The generator is Philox, and its key is a hash of the four arguments. So the numbers do not depend on the backend, on the image's
    place in a batch, or on the other images.

    Parameters
    ----------
    seed : int
    stream : str
        What the numbers are for: "training", for example, or the name of a chain.
    image : str
        Key of the image, such as that of `image_key`.
    sample : int
        Index of the posterior sample.

    Returns
    -------
    numpy.random.Generator
        It draws on the host, whatever the backend.

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    digest = hashlib.sha256(repr((int(seed), stream, image, int(sample))).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))
