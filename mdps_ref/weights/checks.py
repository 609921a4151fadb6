"""What every reader of weights checks: names, JSON and finite numbers."""

import collections
import contextlib
import json

import numpy as np

from mdps_ref.errors import MOST_LISTED, InputError, reason_of, shown

LONGEST_NAME = 200  # characters; the authors' longest name has 41
LONGEST_REASON = 150  # characters


@contextlib.contextmanager
def telling_damage(path, message):
    """Turn what goes wrong while a file of weights is read into an InputError that names the file.

    Parameters
    ----------
    path : path-like
    message : str
        What is said of a damaged file, with {reason} in it. The readers of zip, pickle and JSON raise many types of error for one.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except PermissionError as error:
        raise InputError(f"{path}: could not be read ({reason_of(error)}); give a file that can be") from error
    except MemoryError as error:
        raise InputError(f"{path}: did not fit into memory; end other programs; or replace it, if it should be small") from error
    except Exception as error:
        reason = shown(error, LONGEST_REASON) or type(error).__name__
        raise InputError(f"{path}: {message.format(reason=reason)}") from error


def listed(names):
    """Return the first five names, quoted, and the count of the others."""
    names = list(names)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(f"'{shown(name, 40)}'" for name in names[:MOST_LISTED]) + more or "none"


def check_names(names):
    """Check that arrays have names that a terminal can show: no control characters, not too long.

    Raises
    ------
    InputError
    """
    strange = [name for name in names if not name.isprintable() or len(name) > LONGEST_NAME]
    if strange:
        raise InputError(f"has arrays of strange names: {listed(strange)}; use printable names of at most {LONGEST_NAME} characters")


def check_finite(arrays):
    """Check that arrays hold finite numbers only.

    Parameters
    ----------
    arrays : dict of str to array

    Raises
    ------
    InputError
        The message names the first five arrays that do not, and counts the others. It does not name the file.
    """
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise InputError(f"holds values that are not finite, in {listed(bad)}; fetch the file again, or train again")


def strict_json(text):
    """Parse JSON in which no object has a name twice, and no number is NaN or infinite.

    Parameters
    ----------
    text : bytes
        In UTF-8.

    Raises
    ------
    ValueError or RecursionError
    """
    return json.loads(text.decode(), object_pairs_hook=without_repetition, parse_constant=_no_number)


def without_repetition(pairs):
    """Return the dictionary of a JSON object's pairs.

    Raises
    ------
    ValueError
        If a name stands twice.
    """
    counts = collections.Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        raise ValueError(f"it has a name twice: '{shown(counts.most_common(1)[0][0], 40)}'")
    return dict(pairs)


def _no_number(constant):
    """NaN and Infinity are no JSON."""
    raise ValueError(f"its JSON has the number {constant}")
