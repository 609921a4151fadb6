"""A lock that one process holds, and that the system frees when the process ends, however it ends."""

import contextlib
import os

from mdps_ref.errors import InputError, reason_of
from mdps_ref.job.progress import say

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _lock(handle):
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
else:

    def _lock(handle):
        if hasattr(fcntl, "flock"):  # a browser has none, and only one process
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Taken(InputError):
    """Another process holds the lock."""


@contextlib.contextmanager
def held_lock(path, taken):
    """Hold a lock file inside the block, and remove it afterwards.

    Parameters
    ----------
    path : Path
    taken : str
        The message if another process holds it.

    Raises
    ------
    Taken
        With that message.
    InputError
        If the file cannot be made.
    """
    try:
        handle = open(path, "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"{path}: could not be written ({reason_of(error)}); make its folder writable, or give another to --out"
        ) from error
    with handle:
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            raise Taken(taken) from None
        except OSError as error:
            say(f"{path}: this file system has no locks ({error.strerror}), so start no second run in this folder")
        if not _is_at(path, handle):
            raise Taken(taken)  # its holder removed it between our opening and our locking
        try:
            yield
        finally:
            if _is_at(path, handle):  # a user may have removed it, and another process may hold a new one
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_at(path, handle):
    """Whether the file at a path is the one that is open."""
    return path.exists() and os.stat(path).st_ino == os.fstat(handle.fileno()).st_ino
