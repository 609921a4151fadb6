"""Checkpoints: dictionaries of arrays, and a line of JSON about them, in one .npz that is written whole or not at all."""

import json
import pathlib

import numpy as np

from mdps_ref.errors import InputError
from mdps_ref.files import whole_file


def save_checkpoint(path, groups, about):
    """Write {group: {name: host array}} and the JSON-able dictionary `about` to `path`.

    The same arrays give the same bytes.  Raises: InputError if the disk is full or the folder not writable; the old file stays.
    """
    arrays = {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}
    with whole_file(path) as handle:
        np.savez(handle, about=np.array(json.dumps(about, sort_keys=True)), **arrays)


def load_checkpoint(path):
    """The groups and the `about` that `save_checkpoint` wrote.  Nothing in the file is executed.

    Raises: InputError that names the file if it is missing, cut short, or no checkpoint of this project.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give the checkpoint.npz of a run folder")
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            groups = {}
            for key in archive.files:
                group, slash, name = key.partition("/")
                if slash:
                    groups.setdefault(group, {})[name] = archive[key]
    except Exception as error:  # the readers of zip, npy and JSON raise a dozen kinds for a broken file
        reason = type(error).__name__
        raise InputError(f"{path}: not a whole checkpoint of mdps_ref ({reason}); give the checkpoint.npz of a run folder") from error
    return groups, about
