"""Files are written whole or not at all."""

import contextlib
import os
import pathlib

from mdps_ref.errors import InputError


@contextlib.contextmanager
def whole_file(path):
    """Open `path` for writing bytes; it appears, or is replaced, only once the block has ended without an error.

    The bytes go to `<name>.part` beside it first. A reader, or a process killed at any moment, sees the old file or the new one.
    Raises: InputError if the folder cannot be written to or the disk is full; the half-written part is removed.
    """
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: could not be written ({reason}); free space there or choose another folder") from error
    finally:
        with contextlib.suppress(OSError):  # there may be no such file, and no such folder
            part.unlink()


def write_text(path, text):
    """Write `text` as UTF-8 to `path`, whole or not at all; what is no UTF-8 in the name of a file keeps its bytes."""
    with whole_file(path) as handle:
        handle.write(text.encode(errors="surrogateescape"))
