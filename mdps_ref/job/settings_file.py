"""Settings in a JSON file."""

import json
import pathlib

from mdps_ref.errors import InputError, reason_of
from mdps_ref.job.config import checked
from mdps_ref.weights.checks import without_repetition


def read_settings(path):
    """Read a JSON file of settings into a dictionary.

    Raises
    ------
    InputError
        With the file's name, if it is missing, is no JSON object, gives a setting twice, or holds one that `checked` refuses.
    """
    path = pathlib.Path(path)
    try:
        settings = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=without_repetition
        )  # Windows writes a byte-order mark
    except OSError as error:
        raise InputError(f"{path}: could not be read ({reason_of(error)}); give a JSON file of settings") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON file of settings ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f'{path}: settings must be one JSON object, such as {{"samples": 8}}')
    try:
        return checked(settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
