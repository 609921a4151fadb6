"""SIGINT and SIGTERM: finish the step at hand, keep what was done, and stop."""

import contextlib
import contextvars
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_requested = []  # the signal that asked to stop, if one has
_ALSO = contextvars.ContextVar("also", default=lambda: False)  # whether something else than a signal asks to stop


class Interrupted(Exception):
    """A signal asked to stop, and what was done so far is kept.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __reduce__(self):
        return Interrupted, (self.number,)

    @property
    def exit_status(self):
        """128 + the signal's number, as shells have it."""
        return 128 + self.number


@contextlib.contextmanager
def stopping_at_the_next_step():
    """Inside the block the first SIGINT or SIGTERM only asks to stop, see `stop_if_asked`; the second has its usual effect."""

    def ask(number, frame):
        _requested.append(number)
        restore()

    earlier = {}

    def restore():
        for number, handler in earlier.items():
            signal.signal(number, handler)

    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        earlier |= {number: signal.signal(number, ask) for number in SIGNALS}
        if earlier[signal.SIGINT] == signal.SIG_DFL:  # a killed process would leave its lock
            earlier[signal.SIGINT] = signal.default_int_handler
    try:
        yield
    finally:
        restore()
        _requested.clear()


@contextlib.contextmanager
def also_stopping_if(asked):
    """Inside the block `asked() -> bool` can ask to stop, as SIGTERM does."""
    token = _ALSO.set(asked)
    try:
        yield
    finally:
        _ALSO.reset(token)


def asked_to_stop():
    """Return whether a signal, or what `also_stopping_if` names, has asked to stop."""
    return bool(_requested) or _ALSO.get()()


def interruptible(function):
    """Return a function that does the same, but stops before a call if a signal has asked to."""

    def stopping(*arguments):
        stop_if_asked()
        return function(*arguments)

    return stopping


def stop_if_asked():
    """Stop here if `asked_to_stop`.

    Raises
    ------
    Interrupted
    """
    if asked_to_stop():
        raise Interrupted(_requested[0] if _requested else signal.SIGTERM)
