"""A network: a function of weights and images that is called again and again on arrays of the same shapes."""

import contextlib
import contextvars
import functools

RUNNER = contextvars.ContextVar("runner", default=None)  # set by `kernels.fast`: f(forward, weights, arrays, settings) -> the same result


def network(forward):
    """Let `fast` decide how a network is run.

    Parameters
    ----------
    forward : callable
        forward(weights, *arrays, **settings) -> array or Tensor. What it does must depend on the shapes of its arguments alone.

    Returns
    -------
    callable
        The same function; inside `fast` its calls may be repeated from a recording, see `kernels.replay`.
    """

    @functools.wraps(forward)
    def call(weights, *arrays, **settings):
        run = RUNNER.get()
        return run(forward, weights, arrays, settings) if run else forward(weights, *arrays, **settings)

    return call


@contextlib.contextmanager
def without_replays():
    """Run networks as they are written each time, inside `fast`, too."""
    token = RUNNER.set(None)
    try:
        yield
    finally:
        RUNNER.reset(token)
