"""What a long run says while it works: stages by name, and a bar, or a plain line every half minute where no terminal is."""

import contextlib
import contextvars
import sys
import time

import tqdm

LEVELS = ("quiet", "normal", "verbose")
SECONDS_BETWEEN_LINES = 30
LEVEL = contextvars.ContextVar("level", default="normal")
STAGE = contextvars.ContextVar("stage", default="")


@contextlib.contextmanager
def speaking(level):
    """Set how much is said inside the block.

    Parameters
    ----------
    level : {"quiet", "normal", "verbose"}
    """
    token = LEVEL.set(level)
    try:
        yield
    finally:
        LEVEL.reset(token)


@contextlib.contextmanager
def stage(name, seconds):
    """Name the stage of all progress in the block, and note its wall time as seconds[name].

    Parameters
    ----------
    name : str
    seconds : dict of str to float
    """
    token, start = STAGE.set(name), time.perf_counter()
    try:
        yield
    finally:
        STAGE.reset(token)
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
    say(f"{name}: {seconds[name]:.1f} s", "verbose")


def say(line, level="normal"):
    """Print a line on standard error if at least this much is to be said; a closed or missing standard error is no reason to stop."""
    if LEVELS.index(LEVEL.get()) >= LEVELS.index(level) and sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            print(line.encode("utf-8", "replace").decode(), file=sys.stderr, flush=True)


def progress(total, unit, label, done=0):
    """Return a context whose `update(count)` and `note(text)` tell how far a piece of work has come.

    Parameters
    ----------
    total, done : int
        In units.
    unit : str
        Such as "image".
    label : str
        The name of the work; the stage, if there is one, stands before it.
    """
    label = ": ".join(dict.fromkeys(filter(None, (STAGE.get(), label))))
    if LEVEL.get() == "quiet" or not sys.stderr:
        return _Lines(total, unit, label, done, float("inf"))
    if _is_terminal(sys.stderr):
        return _Bar(total=total, initial=done, unit=unit, desc=label, mininterval=1.0)
    return _Lines(total, unit, label, done, SECONDS_BETWEEN_LINES)


def _is_terminal(stream):
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


class _Bar(tqdm.tqdm):
    """A bar on a terminal."""

    def note(self, text):
        self.set_postfix_str(text, refresh=False)


class _Lines:
    """A plain line every so many seconds."""

    def __init__(self, total, unit, label, done, seconds):
        self.total, self.unit, self.label, self.done, self.seconds = total, unit, label, done, seconds
        self.first, self.noted = done, ""
        self.begun = self.told = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def note(self, text):
        self.noted = text

    def update(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.told >= self.seconds:
            self.told = now
            left = (self.total - self.done) * (now - self.begun) / max(1, self.done - self.first)
            minutes = f"about {left / 60:.0f} min left" if left >= 60 else "less than a minute left" if left else ""
            parts = [f"{self.label}: {self.done} of {self.total} {self.unit}s", self.noted, minutes]
            say(", ".join(filter(None, parts)))
