"""A gradient checker that a constant cotangent cannot fool: use it on the pullbacks that you derive yourself."""

import numpy as np

from mdps_ref.autograd.tape import Tensor, pull_back, value_of
from mdps_ref.backend import array_module, to_device, to_host


def check_pullback(f, args, *, seed=0, step=1e-6, tolerance=1e-6):
    """Compare the pullbacks of f with central differences, for one random cotangent.

    With a cotangent of ones, errors that sum to zero cancel: a softmax with the pullback 0 passes. With a random cotangent they do not.

    Parameters
    ----------
    f : callable
        A function made of primitives. It is called 2 x (entries of args) + 1 times.
    args : list of arrays, float64
    seed : int
        Of the cotangent.
    step, tolerance : float
        The step of the differences, and the largest allowed error, as a part of max(1, largest slope).

    Returns
    -------
    float
        The largest error.

    Raises
    ------
    AssertionError
        If an error is too large; it names the worst argument and entry.
    TypeError
        If an array is not float64.
    """
    if any(arg.dtype != np.float64 for arg in args):
        raise TypeError(f"central differences need float64, got {', '.join(str(arg.dtype) for arg in args)}")
    tensors = [Tensor(arg) for arg in args]
    y = f(*tensors)
    u = np.random.default_rng(seed).standard_normal(value_of(y).shape)
    pulled = pull_back(y, to_device(u, array_module(value_of(y))), tensors)
    slopes = [central_differences(f, args, k, u, step) for k in range(len(args))]
    scale = max(1.0, *(abs(slope).max(initial=0.0) for slope in slopes))
    errors = [abs(slope - (0.0 if g is None else to_host(g))) / scale for g, slope in zip(pulled, slopes, strict=True)]
    worst = int(np.argmax([error.max(initial=0.0) for error in errors]))
    entry = tuple(int(i) for i in np.unravel_index(errors[worst].argmax(), errors[worst].shape))
    if not errors[worst][entry] <= tolerance:
        slope = slopes[worst][entry]
        raise AssertionError(
            f"pullback to argument {worst} is off by {errors[worst][entry]:.2e} at entry {entry}, where the slope is {slope:.6g}"
        )
    return float(errors[worst][entry])


def central_differences(f, args, k, u, step):
    """Return <u, df / d args[k][entry]> for every entry of argument k.  Shapes: u as f(*args) -> as args[k], on the host."""
    slopes = np.zeros(args[k].shape)
    for entry in np.ndindex(args[k].shape):
        up, down = args[k].copy(), args[k].copy()
        up[entry] += step
        down[entry] -= step
        difference = f(*args[:k], up, *args[k + 1 :]) - f(*args[:k], down, *args[k + 1 :])
        slopes[entry] = (u * to_host(difference)).sum() / (2 * step)
    return slopes
