"""One thread on each core, each working on blocks that fit its cache.

NumPy releases Python's lock inside its loops and products, so plain threads run at the same time. Two things would spoil that. BLAS
splits every product among threads of its own, which then wait for ours. And a thread that comes back from a loop may wait 5 ms for
Python's lock, longer than most of our operations take. Inside `single_threaded_blas` neither happens.
"""

import contextlib
import contextvars
import ctypes
import math
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy  # noqa: F401 (the controller below knows only BLAS libraries that are loaded already, and NumPy loads its own)
from threadpoolctl import OpenBLASController, ThreadpoolController


def _starts_threads():
    """Whether the system starts a second thread, found out by asking for one; in a browser it does not."""
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return False
    return True


def _cores():
    """How many threads can work at the same time."""
    if not _starts_threads():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


CORES = _cores()
WORTH_SHARING = 1e-3  # seconds of work; below, waking a thread and handing Python's lock to and fro takes what the second thread saves
SWITCH_INTERVAL = 2e-4  # seconds after which a thread that waits for Python's lock is given it
PER_PRODUCT, PER_ENTRY = 8e-12, 1e-9  # seconds for a multiplication and addition in a matrix product; for an entry worked on in cache
LIMIT = contextvars.ContextVar("threads", default=1)  # how many threads share work; `fast` sets it


class _SingleThreadedBlas:
    """While any block holds this, NumPy's BLAS runs on one thread, and Python's lock changes hands quickly."""

    def __init__(self):
        self._blas, self._lock, self._holders, self._undo = ThreadpoolController(), threading.Lock(), 0, None

    def __enter__(self):
        with self._lock:
            if self._holders == 0:
                self._undo = contextlib.ExitStack()
                _unclaim()
                limits = self._blas.limit(limits=1, user_api="blas")
                for step in (_unclaim, limits.restore_original_limits, _unclaim):
                    self._undo.callback(step)
                interval = sys.getswitchinterval()
                self._undo.callback(sys.setswitchinterval, interval)
                sys.setswitchinterval(min(interval, SWITCH_INTERVAL))
            self._holders += 1

    def __exit__(self, *_):
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._undo.close()

    def keep_whole_in_forks(self):
        """Let a process fork only while no thread is entering or leaving."""
        os.register_at_fork(before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release)

    def libraries(self):
        """Return threadpoolctl's dictionary about each BLAS library that is held."""
        return [library for library in self._blas.info() if library["user_api"] == "blas"]


def _unclaim():
    """Let any thread set how many threads BLAS has. threadpoolctl lets only the first that asked; here another may be the last to leave."""
    OpenBLASController.clear_controlling_thread(force=True)


single_threaded_blas = _SingleThreadedBlas()


class _Helpers:
    """The threads beside the caller's, kept off the caller's core where the system allows that (Linux).

    Left alone, Linux may wake a thread on the core of the thread that woke it, where it waits for milliseconds beside an idle core.
    """

    def __init__(self, count):
        self._pool = ThreadPoolExecutor(count, "blocks", self._enter)
        self._threads, self._core = [], None

    def submit(self, work, parts):
        """Start work(parts) in one of the threads, in a copy of the caller's context; return its Future."""
        core = _current_core and _current_core()
        if core != self._core:
            self._core = core
            with contextlib.suppress(OSError):  # some sandboxes forbid it
                self._keep_off(core)
        return self._pool.submit(contextvars.copy_context().run, work, parts)

    def _keep_off(self, core):
        cores = os.sched_getaffinity(0)
        for thread in self._threads:
            os.sched_setaffinity(thread, cores - {core} or cores)

    def _enter(self):
        self._threads.append(threading.get_native_id())
        self._core = None


_current_core = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def _start():
    """Make the helping threads; again in a forked process, which inherits none of them."""
    global _HELPERS
    _HELPERS = _Helpers(max(1, CORES - 1))


_start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start)
    single_threaded_blas.keep_whole_in_forks()


class _Shared:
    """An iterator that threads share. In free-threaded Python a list's own iterator may leave a part out, or give it to two threads."""

    def __init__(self, parts):
        self._parts, self._lock = iter(parts), threading.Lock()

    def __iter__(self):
        return self

    def __next__(self):
        with self._lock:
            return next(self._parts)


def in_threads(work, parts, seconds=math.inf):
    """Call work(parts) in every thread, with one iterator over `parts` that all threads share.

    Parameters
    ----------
    work : callable
        Loops over the iterator that it is given. What a part computes must not depend on the thread that takes it.
    parts : iterable
    seconds : float
        An estimate of the time on one thread. Work that is too short to be worth sharing stays with the caller.
    """
    parts = list(parts)
    helpers = min(LIMIT.get(), len(parts)) - 1 if seconds > WORTH_SHARING else 0
    if helpers < 1:
        work(iter(parts))
        return
    shared = _Shared(parts)
    others = [_HELPERS.submit(work, shared) for _ in range(helpers)]
    try:
        work(shared)
    finally:
        wait(others)
    for other in others:
        other.result()


def slices_of(count, size):
    """Return slices of length `size` that cover range(count); the last may be shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def pieces(count, most):
    """Split range(count) into an even number of slices of at most `most`; one slice if count <= most / 2.  Two threads then end at once."""
    return even_shares(count, 2 * math.ceil(count / (2 * most)) if count > most / 2 else 1)


def even_shares(count, number):
    """Return `number` slices that cover range(count); their lengths differ by at most 1."""
    return [slice(count * at // number, count * (at + 1) // number) for at in range(number)]


def bands_of(images, lines, most):
    """Return pairs of slices (images, lines) of at most `most` lines each: lines of one image, or all lines of several images."""
    most = max(1, most)
    if most < lines:
        return [(slice(i, i + 1), part) for i in range(images) for part in slices_of(lines, most)]
    return [(part, slice(0, lines)) for part in slices_of(images, most // max(1, lines))]
