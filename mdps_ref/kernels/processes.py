"""A team of processes, each with a share of the images: the whole network, or a whole chain, runs in each on its own.

Threads take turns at Python itself, so they help only where single calls of NumPy are long, which takes large images. Processes do not
wait for each other at all. They are forked: each begins as a copy of the caller and knows all that the caller knows, the weights among
it, without a byte being sent. What is sent is a share's arguments and its result. `shared_copies` makes arrays that all of them see.
"""

import contextlib
import contextvars
import ctypes
import gc
import math
import mmap
import os
import pickle
import signal
import sys
import traceback
import warnings
import weakref
from multiprocessing import Pipe

import numpy as np

from mdps_ref.errors import InputError, ProcessKilled
from mdps_ref.kernels.buffers import ALIGNMENT
from mdps_ref.kernels.threads import LIMIT

# Apple's BLAS does not work in a forked process. A browser may have os.fork, which fails there; but it starts no thread, so `fast` allows
# one core, and no team has a second member.
CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"
FORKS = contextvars.ContextVar("forks", default=CAN_FORK)  # whether a team may fork; `fast` can forbid it
DIES_WITH_PARENT = 1  # Linux's prctl option: which signal a process gets when its parent dies
_CONNECTIONS = weakref.WeakSet()  # of all teams of this process to their members: a new member closes its copies of them


def members(shares):
    """Return how many processes to share a piece of work among: 1 outside of `fast`, and where no process can or may be forked.

    Parameters
    ----------
    shares : int
        Into how many shares the work can be cut.
    """
    return max(1, min(shares, LIMIT.get())) if FORKS.get() else 1


class Team:
    """Processes that call one function at the same time, each with arguments of its own.

    Parameters
    ----------
    work : callable
        work(*arguments) -> result, which must be picklable. It is called in the members as they were when the team was made.
    count : int
        The number of members, the calling process among them. The threads of `fast` are shared out among them.
    """

    def __init__(self, work, count):
        self._work, self._threads, self._others = work, max(1, LIMIT.get() // count), []
        try:
            for _ in range(count - 1):
                self._others.append(self._fork())
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __call__(self, shares):
        """Call work(*share) for each share, the first here, each other one in a process of its own.

        Parameters
        ----------
        shares : list of tuple
            One for each member.

        Returns
        -------
        list
            The results, in the order of the shares.

        Raises
        ------
        ProcessKilled
            If a process was killed, for example for want of memory; the team has ended. What work raises in a member is raised here. If
            it raises in the calling process, the team has ended.
        """
        try:
            own, answers = self._all(shares)
        except BaseException:
            self.close()  # the others' answers to this call would be taken for those to the next
            raise
        for _, error in answers:
            if error is not None:
                raise error
        return [own, *(result for result, _ in answers)]

    def _all(self, shares):
        """The result of the share that is done here, and the members' (result, error)."""
        with _telling_a_death():
            for (_, connection), share in zip(self._others, shares[1:], strict=True):
                connection.send(share)
        token = LIMIT.set(self._threads)
        try:
            own = self._work(*shares[0])
        finally:
            LIMIT.reset(token)
        with _telling_a_death():
            return own, [connection.recv() for _, connection in self._others]

    def close(self):
        """End the other processes, whatever they do."""
        for pid, connection in self._others:
            connection.close()
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # gone, where this process was started to ignore SIGCHLD
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._others = []

    def _fork(self):
        ours, theirs = Pipe()
        sys.stdout and sys.stdout.flush()
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads: the member takes no lock that one of them may hold
            pid = _forked()
        if pid == 0:
            try:
                self._serve(theirs, parent)
            finally:
                os._exit(0)
        theirs.close()
        _CONNECTIONS.add(ours)
        return pid, ours

    def _serve(self, connection, parent):
        """In a member: answer calls until the caller closes the connection or dies."""
        for number in (signal.SIGINT, signal.SIGTERM):  # a terminal, or a job scheduler, sends them to all; the caller decides
            signal.signal(number, signal.SIG_IGN)
        _die_with_parent(parent)
        for inherited in list(_CONNECTIONS):
            inherited.close()
        gc.freeze()  # what the parent left to be collected may hold files, which are closed in the next line
        _close_all_but(connection.fileno())
        LIMIT.set(self._threads)
        while True:
            try:
                share = connection.recv()
            except EOFError:
                return
            try:
                answer = pickle.dumps((self._work(*share), None))
            except Exception as error:  # it is raised in the caller
                answer = pickle.dumps((None, _as_sent(error)))
            connection.send_bytes(answer)


def _as_sent(error):
    """Return an exception, with its traceback as a note; or, where it would not arrive as it is, one that holds its traceback as text."""
    error.add_note("In a process of the team:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever the exception's own class raises
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


@contextlib.contextmanager
def _telling_a_death():
    """Make a ProcessKilled of the errors of a connection whose other process has died; which error depends on what it had read."""
    try:
        yield
    except (EOFError, OSError):
        raise ProcessKilled(
            "a process of the team was killed, for want of memory perhaps; if that happens again, use --threads 1"
        ) from None


def _forked():
    """Fork.  Raises: InputError if the system has no room for another process."""
    try:
        return os.fork()
    except OSError as error:
        raise InputError(f"no second process could be started ({error.strerror}); try again with --threads 1") from None


def _die_with_parent(parent):
    """Ask the system to kill this process when its parent dies, where it can (Linux); end at once if that has happened already."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _close_all_but(kept):
    """Close all files but the standard streams and one: a lock on a file is held until all copies of its descriptor are closed."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def shared_copies(arrays):
    """Copy arrays into memory that a team's members share: what one writes, all read.

    Parameters
    ----------
    arrays : dict of str to host array

    Returns
    -------
    dict of str to array
    """
    sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays.values()]
    memory = mmap.mmap(-1, max(1, sum(sizes)))
    copies, start = {}, 0
    for (name, array), size in zip(arrays.items(), sizes, strict=True):
        copies[name] = np.frombuffer(memory, array.dtype, math.prod(array.shape), start).reshape(array.shape)
        copies[name][...] = array
        start += size
    return copies
