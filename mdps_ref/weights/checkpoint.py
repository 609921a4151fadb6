"""Checkpoints: groups of arrays and JSON about them, in one .npz file with a checksum.

The file is a zip archive without compression: `about.json`, then a member `group/name.npy` for each array, so `np.load` reads it, too.
The archive's comment is the SHA-256, in hexadecimal digits, of the whole file with zeros in place of these digits. It covers all names,
dtypes, shapes and numbers, and everything else: a file in which one bit has changed is refused.
"""

import hashlib
import json
import os
import pathlib
import re
import zipfile

from mdps_ref.data.files import whole_file
from mdps_ref.errors import InputError
from mdps_ref.weights.checks import strict_json, telling_damage
from mdps_ref.weights.npz import npy, read_npz
from mdps_ref.weights.stored_zip import StoredZip

ABOUT = "about.json"
LONGEST_ABOUT = 2**22  # bytes
DIGITS = 64


def save_checkpoint(path, groups, about):
    """Write a checkpoint. The same arrays give the same bytes.

    Parameters
    ----------
    path : path-like
    groups : dict of str to dict of str to host array
        {group: {name: array}}, of floats, integers or bools. The file holds each array as "group/name.npy". No group's name has a "/".
    about : dict
        Anything that JSON can hold.

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written to. An older file at `path` then stays.
    ValueError or TypeError
        If `about` or an array is something that the file cannot hold.
    """
    with whole_file(path) as handle:
        summed = _Summed(handle)
        with zipfile.ZipFile(summed, "w") as archive:
            archive.comment = b"0" * DIGITS
            archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about, sort_keys=True, allow_nan=False))  # a ZipInfo has a fixed date
            for group, members in groups.items():
                for name, array in members.items():
                    archive.writestr(zipfile.ZipInfo(f"{group}/{name}.npy"), npy(array))
        handle.seek(-DIGITS, os.SEEK_END)
        handle.write(summed.sum.hexdigest().encode())


def load_checkpoint(path, wanted="checkpoint.npz of a run folder"):
    """Read a checkpoint, at a cost that the size of the file bounds. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like
    wanted : str
        The file that the user should give, for the message.

    Returns
    -------
    groups, about : dict, dict
        As given to `save_checkpoint`, without groups that hold no array.

    Raises
    ------
    InputError
        If the file is missing, cut short, changed since it was written, or not a checkpoint of this project.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give the {wanted}")
    with telling_damage(path, f"not a whole checkpoint of mdps_ref ({{reason}}); give the {wanted}"):
        with open(path, "rb") as handle:
            _check_sum(handle)
            return _read(StoredZip(handle, comment=DIGITS))


class _Summed:
    """A file that sums up what is written. It cannot go back, so zipfile writes every byte once."""

    def __init__(self, handle):
        self.handle, self.sum = handle, hashlib.sha256()

    def write(self, content):
        """Write, and add to the sum."""
        self.sum.update(content)
        return self.handle.write(content)

    def flush(self):
        """Pass the bytes on."""
        self.handle.flush()


def _check_sum(handle):
    """Compare the file with its checksum."""
    left = handle.seek(0, os.SEEK_END) - DIGITS
    handle.seek(max(left, 0))
    told, found = handle.read(), hashlib.sha256()
    if not re.fullmatch(b"[0-9a-f]{%d}" % DIGITS, told):
        raise ValueError("cut short, or written by another program: it has no checksum")
    handle.seek(0)
    while part := handle.read(min(left, 2**20)):
        found.update(part)
        left -= len(part)
    found.update(b"0" * DIGITS)
    if found.hexdigest().encode() != told:
        raise ValueError("changed since it was written: its checksum does not agree")


def _read(archive):
    """The groups and what is said about them."""
    strange = [name for name in archive.sizes if name != ABOUT and not re.fullmatch(r"[^/]+/.+\.npy", name)]
    if ABOUT not in archive.sizes or strange:
        raise ValueError(f"it has other members than {ABOUT} and group/name.npy")
    if archive.sizes[ABOUT] > LONGEST_ABOUT:
        raise ValueError(f"its {ABOUT} is longer than {LONGEST_ABOUT} bytes")
    about, groups = strict_json(archive.read(ABOUT)), {}
    if not isinstance(about, dict):
        raise ValueError(f"its {ABOUT} is no JSON object")
    for key, array in read_npz(archive).items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array
    return groups, about
