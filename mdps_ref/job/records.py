"""A file of records, all of one NumPy dtype, that only grows: what a long run has finished so far, and images that memory need not hold."""

import os
import pathlib
import zlib

import numpy as np

from mdps_ref.data.files import naming


class Records:
    """A sequence of records in a file. An index, a slice or an array of indices reads just those records.

    A record is written in one piece with its checksum. After a kill or a power cut the file therefore begins with whole records;
    opening it drops what follows them.

    Parameters
    ----------
    path : path-like
        Made, with its folders, if it does not exist.
    dtype : numpy dtype
    anew : bool
        Drop what the file holds, unread.

    Raises
    ------
    InputError
        If the file cannot be made or written, for instance because the disk is full.
    """

    def __init__(self, path, dtype, anew=False):
        self.path = pathlib.Path(path)
        self.dtype = np.dtype(dtype)
        self._row = np.dtype([("record", self.dtype), ("checksum", "<u4")])
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            self._length = 0 if anew else self._whole()
            os.truncate(self.path, self._length * self._row.itemsize)

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            return self._read(start, max(stop - start, 0))[::step] if step > 0 else self[np.arange(start, stop, step)]
        wanted = np.arange(self._length)[index]
        rows = [self._read(i, 1) for i in np.atleast_1d(wanted)]
        return np.concatenate(rows or [np.empty(0, self.dtype)]).reshape(wanted.shape + self.dtype.shape)

    def append(self, records):
        """Append an array of records. A kill after this returns does not lose them.

        Raises
        ------
        InputError
            If they cannot be written. The file then holds what it held before.
        """
        rows = np.zeros(len(records), self._row)
        rows["record"] = records
        rows["checksum"] = [_checksum(row) for row in rows["record"]]
        with naming(self.path):
            try:
                with open(self.path, "ab") as handle:
                    handle.write(rows.tobytes())
            except OSError:
                os.truncate(self.path, self._length * self._row.itemsize)
                raise
        self._length += len(records)

    def truncate(self, length):
        """Keep only the first `length` records."""
        self._length = min(self._length, length)
        with naming(self.path):
            os.truncate(self.path, self._length * self._row.itemsize)

    def _read(self, start, count):
        with naming(self.path), open(self.path, "rb") as handle:
            handle.seek(start * self._row.itemsize)
            return np.frombuffer(handle.read(count * self._row.itemsize), self._row)["record"].copy()

    def _whole(self):
        """Return how many records the file begins with whose checksums are right."""
        with open(self.path, "rb") as handle:
            count = 0
            while len(data := handle.read(self._row.itemsize)) == self._row.itemsize:
                row = np.frombuffer(data, self._row)[0]
                if row["checksum"] != _checksum(row["record"]):
                    break
                count += 1
        return count


def _checksum(record):
    return zlib.crc32(record.tobytes())
