"""Write files whole or not at all, and tell which file could not be written."""

import contextlib
import hashlib
import os
import pathlib
import stat

from mdps_ref.errors import InputError, reason_of, shown

SPECIAL = "is a FIFO, socket or device, not an ordinary file; remove it"


class Unreadable(InputError):
    """A file cannot be opened or read."""


@contextlib.contextmanager
def naming(path):
    """Turn an OSError inside the block into an InputError that names the file being written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: could not be written ({reason_of(error)}); free space there or choose another folder") from error


def is_special(path):
    """Return True for a FIFO, a socket or a device: opening a FIFO waits for a writer, and a device may never end.

    Raises
    ------
    OSError
        If there is nothing at the path.
    """
    mode = os.stat(path).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def digest(path):
    """Return the SHA-256 of a file's bytes, in hexadecimal digits.

    Raises
    ------
    InputError
        If it is a FIFO, a socket or a device.
    Unreadable
        If the file cannot be read.
    """
    try:
        if is_special(path):
            raise InputError(f"{shown(path)}: {SPECIAL}")
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable(f"{shown(path)}: could not be read ({reason_of(error)}); replace or remove it") from error


@contextlib.contextmanager
def whole_file(path):
    """Open a file for writing bytes. It appears, or replaces the old file, when the block ends without an error.

    The bytes first go to `<name>.part` in the same folder. So a reader sees the old file or the new one, even if the process is killed.

    Parameters
    ----------
    path : path-like
        Missing folders are made.

    Yields
    ------
    binary file

    Raises
    ------
    InputError
        If the folder cannot be written to or the disk is full. The `.part` file is removed.
    """
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # the file, or its folder, may not exist
            part.unlink()


def write_text(path, text):
    """Write text as UTF-8, whole or not at all. File names in it that are not UTF-8 keep their bytes.

    Raises
    ------
    InputError
        As in `whole_file`.
    """
    with whole_file(path) as handle:
        handle.write(text.encode(errors="surrogateescape"))
