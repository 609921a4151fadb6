"""One thread a core, each on blocks that fit its cache.

NumPy lets go of Python's lock inside its loops and products, so plain threads run at once. Two things would spoil it. BLAS splits every
single product among threads of its own, which then wait for ours. And a thread back from a loop waits for Python's lock up to 5 ms,
longer than most of our operations take, if the other keeps finding it free first. Inside `SIDE_BY_SIDE` neither happens.
"""

import contextlib
import ctypes
import math
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy  # noqa: F401 (the controller below knows the BLAS that is loaded by then, and NumPy brings it)
from threadpoolctl import ThreadpoolController

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
WORTH_SHARING = 2.5e-4  # seconds; waking a thread, and handing Python's lock to and fro, takes a fourth of that
PATIENCE = 2e-4  # seconds after which a thread that waits for Python's lock is given it
PER_PRODUCT, PER_ENTRY = 8e-12, 1e-9  # seconds for a multiplication and addition in a matrix product; for an entry worked on in cache
_limits = [CORES]


class _SideBySide:
    """While any block holds this, NumPy's BLAS runs on one thread, and Python's lock changes hands quickly."""

    def __init__(self):
        self._blas, self._lock, self._blocks, self._undo = ThreadpoolController(), threading.Lock(), 0, None

    def __enter__(self):
        with self._lock:
            if self._blocks == 0:
                self._undo = contextlib.ExitStack()
                self._undo.enter_context(self._blas.limit(limits=1, user_api="blas"))
                patience = sys.getswitchinterval()
                self._undo.callback(sys.setswitchinterval, patience)
                sys.setswitchinterval(min(patience, PATIENCE))
            self._blocks += 1

    def __exit__(self, *_):
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                self._undo.close()

    def keep_whole_in_forks(self):
        """Fork only while no thread is in the midst of entering or leaving."""
        os.register_at_fork(before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release)

    def libraries(self):
        """What is known of the BLAS that is held: a dictionary a library, as threadpoolctl gives them."""
        return [library for library in self._blas.info() if library["user_api"] == "blas"]


SIDE_BY_SIDE = _SideBySide()


class _Helpers:
    """The threads beside the caller's, kept off the core that the caller runs on, where the system can do that (Linux).

    Left to itself Linux may wake a thread on the core of the one that woke it, where it waits for milliseconds while another is idle.
    """

    def __init__(self, count):
        self._pool = ThreadPoolExecutor(count, "blocks", self._enter)
        self._threads, self._core = [], None

    def submit(self, work, parts):
        """A Future of work(parts) in one of the threads."""
        core = _current_core and _current_core()
        if core != self._core:
            self._core = core
            with contextlib.suppress(OSError):  # some sandboxes forbid it
                self._keep_off(core)
        return self._pool.submit(work, parts)

    def _keep_off(self, core):
        cores = os.sched_getaffinity(0)
        for thread in self._threads:
            os.sched_setaffinity(thread, cores - {core} or cores)

    def _enter(self):
        self._threads.append(threading.get_native_id())
        self._core = None


_current_core = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def _start():
    """Make the helping threads; again in a forked process, which takes over none of them."""
    global _HELPERS
    _HELPERS = _Helpers(max(1, CORES - 1))


_start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start)
    SIDE_BY_SIDE.keep_whole_in_forks()


@contextlib.contextmanager
def at_most(threads):
    """Inside the block, work is split among at most so many threads."""
    _limits.append(min(threads, CORES))
    try:
        yield
    finally:
        _limits.pop()


def in_threads(work, parts, seconds=math.inf):
    """Call work(parts) in every thread, with one iterator over `parts` that all share: who is done takes the next part.

    `work` loops over what it is given, and sets up before the loop what its thread needs. What a part gives must not depend on who
    takes it, so that results do not depend on the number of threads.
    seconds: what it all takes about on one thread; too little to share stays with the caller.
    A caller with much work holds SIDE_BY_SIDE itself, as a Workspace does, so that it is not set up anew each time.
    """
    parts = list(parts)
    shared = iter(parts)
    helpers = min(_limits[-1], len(parts)) - 1 if seconds > WORTH_SHARING else 0
    with SIDE_BY_SIDE:
        others = [_HELPERS.submit(work, shared) for _ in range(helpers)]
        try:
            work(shared)
        finally:
            wait(others)
        for other in others:
            other.result()


def blocks(count, size):
    """Slices of `size` that cover range(count), the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def pieces(count, most):
    """Slices that cover range(count): an even number of them, so that two threads end together, of at most `most`; one if half that do."""
    number = 2 * math.ceil(count / (2 * most)) if count > most / 2 else 1
    return [slice(count * at // number, count * (at + 1) // number) for at in range(number)]


def bands_of(images, lines, most):
    """(images, lines), slices that cover them all, of at most so many lines each: some of one image's, or all of some images'."""
    most = max(1, most)
    if most < lines:
        return [(slice(i, i + 1), part) for i in range(images) for part in blocks(lines, most)]
    return [(part, slice(0, lines)) for part in blocks(images, most // max(1, lines))]
