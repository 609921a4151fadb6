"""A network: a function of weights and images that is called again and again with arrays of the same shapes."""

import contextlib
import contextvars
import functools

RUNNER = contextvars.ContextVar("runner", default=None)  # set by `kernels.fast`: f(forward, weights, arrays, settings) -> the same result


def replayable(forward):
    """Mark a function as a network, which `fast` may replay; see `kernels.replay`.

    Parameters
    ----------
    forward : callable
        forward(weights, *arrays, **settings) -> an array, a Tensor, or a list of arrays. It calls functions of NumPy and primitives. Which
        ones may depend on the shapes of its arguments, not on their entries. It writes to no argument, has no other result, and makes no
        plain copy of an argument by np.array, np.asarray or np.ascontiguousarray: a replay would take the copy for a constant.

    Returns
    -------
    callable
        The same function; inside `fast` its calls may be replayed.
    """

    @functools.wraps(forward)
    def call(weights, *arrays, **settings):
        return (RUNNER.get() or as_written)(forward, weights, arrays, settings)

    return call


def as_written(forward, weights, arrays, settings):
    """Run a network; the RUNNER that never replays."""
    return forward(weights, *arrays, **settings)


@contextlib.contextmanager
def without_replays():
    """Run networks as they are written in this block, inside `fast`, too."""
    token = RUNNER.set(as_written)
    try:
        yield
    finally:
        RUNNER.reset(token)
