"""Checkpoints: groups of arrays and a line of JSON about them, in one .npz file."""

import json
import pathlib

import numpy as np

from mdps_ref.data.files import whole_file
from mdps_ref.errors import InputError


def save_checkpoint(path, groups, about):
    """Write a checkpoint. The same arrays give the same bytes.

    Parameters
    ----------
    path : path-like
    groups : dict of str to dict of str to host array
        {group: {name: array}}. The file holds each array under "group/name".
    about : dict
        Anything that JSON can hold.

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written to. An older file at `path` then stays.
    """
    arrays = {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}
    with whole_file(path) as handle:
        np.savez(handle, about=np.array(json.dumps(about, sort_keys=True)), **arrays)


def load_checkpoint(path):
    """Read a checkpoint. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    groups, about : dict, dict
        As given to `save_checkpoint`.

    Raises
    ------
    InputError
        If the file is missing, cut short, or not a checkpoint of this project.
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
    except Exception as error:  # the readers of zip, npy and JSON raise many types of error for a damaged file
        reason = type(error).__name__
        raise InputError(f"{path}: not a whole checkpoint of mdps_ref ({reason}); give the checkpoint.npz of a run folder") from error
    return groups, about
