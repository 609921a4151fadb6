"""Settings in a JSON file."""

import collections
import json
import pathlib

from mdps_ref.errors import InputError
from mdps_ref.job.config import checked


def _without_repeats(pairs):
    """Return the pairs of a JSON object as a dictionary; raise ValueError if a key is there twice."""
    for name, times in collections.Counter(name for name, _ in pairs).items():
        if times > 1:
            raise ValueError(f"{name!r} is given {times} times")
    return dict(pairs)


def read_settings(path):
    """Read a JSON file of settings into a dictionary.

    Raises
    ------
    InputError
        With the file's name, if it is missing, is no JSON object, gives a setting twice, or holds one that `checked` refuses.
    """
    path = pathlib.Path(path)
    try:
        settings = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repeats)  # Windows writes a byte-order mark
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON file of settings ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f'{path}: settings must be one JSON object, such as {{"samples": 8}}')
    try:
        return checked(settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
