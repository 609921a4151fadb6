"""All exercises in one table, and `check`, which judges a reader's function in words."""

import difflib

import numpy as np

from mdps_ref.autograd.check import check_pullback
from mdps_ref.check import chain, guidance, maps, metrics, noise, posterior, pullbacks, reverse
from mdps_ref.check.diagnosis import diagnose, named, without_a_body

ROOMS = (noise, reverse, posterior, guidance, chain, maps, metrics, pullbacks)  # E01 to E24, then primitives
EXERCISES = {name: exercise for room in ROOMS for name, exercise in room.EXERCISES.items()}


def exercises():
    """List what `check` knows.

    Returns
    -------
    dict of str to str
        The name of each exercise, and what the reader's function takes and returns.
    """
    return {name: f"f({exercise.takes}) returns {exercise.gives}" for name, exercise in EXERCISES.items()}


def check(name, function, *arrays):
    """Judge a function that you wrote, and print what is right or wrong with it.

    Parameters
    ----------
    name : str
        One of `exercises()`, such as "E07" or "softmax pullback"; or "primitive", for a primitive of your own.
    function : callable
        It is called with the arguments that `exercises()[name]` names, by position.
    *arrays : arrays of float64
        For "primitive" alone: arguments at which its pullbacks are compared with central differences.

    Returns
    -------
    bool
        Whether the function is right. A wrong function never raises.

    Examples
    --------
    >>> check("E12", lambda y, x_t, alpha_bar_t: (x_t - alpha_bar_t * y) / (1 - alpha_bar_t) ** 0.5)
    E12: not yet. Multiply y by sqrt(alpha_bar_t), not by alpha_bar_t.
    False
    """
    fault, praise = _judge(name, function, arrays)
    print(f"{name}: {'not yet. ' + fault if fault else 'right. ' + praise}")
    return not fault


def _judge(name, function, arrays):
    """What is wrong, or None; and what to say if nothing is."""
    if not callable(function):
        return f"Give the function itself, without brackets behind its name; this is {named(function)!r}.", ""
    if name == "primitive":
        return _judge_primitive(function, arrays)
    if name not in EXERCISES:
        near = difflib.get_close_matches(str(name), EXERCISES, n=3, cutoff=0.4)
        return f"There is no such exercise. {'Near it: ' + ', '.join(near) + '. ' if near else ''}See mdps_ref.check.exercises().", ""
    exercise = EXERCISES[name]
    return diagnose(exercise, function), f"{named(function)} agrees with {' '.join(exercise.oracle.__doc__.split())}"


def _judge_primitive(function, arrays):
    """The same for a reader's own primitive, by `check_pullback`."""
    if not arrays:
        return 'Give its arguments, too: check("primitive", f, x, ...).', ""
    try:
        unwritten = _unwritten_part(function, arrays)
        if unwritten:
            return unwritten, ""
        error = check_pullback(function, list(arrays))
    except AssertionError as wrong:
        return f"The {wrong}.", ""
    except Exception as error:
        return f"{named(function)} raised {type(error).__name__}: {error}", ""
    return None, f"The pullbacks of {named(function)} agree with central differences; the largest error is {error:.1e}."


def _unwritten_part(function, arrays):
    """A sentence if a primitive returns None, or if one of its pullbacks is no function of g or returns None."""
    y = function(*arrays)
    if y is None:
        return without_a_body(function)
    for k, pullback in enumerate(getattr(function, "pullbacks", ())):
        pull = pullback and pullback(y, *arrays)
        if pullback and not callable(pull):
            return f"The pullback to argument {k} must be a function of g, not {type(pull).__name__}: did you forget an inner `lambda g:`?"
        if pullback and pull(np.ones_like(y)) is None:
            return f"The pullback to argument {k} returned None. End it with `return ...`."
    return None
