"""From a wrong result to a sentence: an error, a wrong shape, a known mistake, the sign, a factor, or else the oracle's words."""

import copy
import warnings

import numpy as np

CLOSE = 1e-6  # how near a result is to that of a mistake, as a part of its largest entry


def diagnose(exercise, function):
    """Say what is wrong with a reader's function.

    Parameters
    ----------
    exercise : Exercise
    function : callable

    Returns
    -------
    str or None
        One or two sentences; None if nothing is wrong.
    """
    results = []
    for case in exercise.cases:
        result, fault = _call(exercise, function, case)
        if fault:
            return fault
        results.append(result)
    expected = [_call(exercise, exercise.answer, case)[0] for case in exercise.cases]
    of_a_kind = _fault_of_kind(results, expected)
    words = None if of_a_kind else _oracles_words(exercise, function)
    if not of_a_kind and not words:
        return None
    known = _known_mistake(exercise, results)
    return known or of_a_kind or _sign_or_factor(exercise, results, expected) or words


def named(function):
    """Return the name of a reader's function, for a sentence."""
    name = getattr(function, "__name__", type(function).__name__)
    return "your function" if name == "<lambda>" else name


def without_a_body(function):
    """Return the sentence for a function that returned None."""
    return f"{named(function)} returned None. Write its body, end it with `return ...`, and run this cell again."


def _call(exercise, function, case):
    """The parts of the result of a case, a list of arrays; and a sentence if there is none."""
    arguments = copy.deepcopy(case)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = exercise.apply(function, *arguments)
        except Exception as error:
            remedy = ". If another cell defines it, run that cell first." if type(error) is NameError else ""
            return None, f"Calling {named(function)}({exercise.takes}) raised {type(error).__name__}: {_one_line(error)}{remedy}"
    if result is None:
        return None, without_a_body(function)
    changed = [name for name, a, b in zip(exercise.names, arguments, case, strict=False) if not _same(a, b)]
    if changed:
        return None, f"{named(function)} changes its argument {changed[0]} in place. Make a new array instead."
    try:
        return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))], None
    except (ValueError, TypeError):
        return None, f"{named(function)} returned a {type(result).__name__} that does not become an array."


def _one_line(error):
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or ["it says nothing more"])[0]


def _same(a, b):
    """Whether an argument is still what it was; only arrays can be changed by accident."""
    return not isinstance(a, np.ndarray) or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _fault_of_kind(results, expected):
    """A sentence if a result has too few parts, a wrong shape, or entries that are no finite numbers."""
    for found, right in zip(results, expected, strict=True):
        if len(found) != len(right):
            return f"It should return {_things(right)}; it returned {_things(found)}."
        for k, (part, good) in enumerate(zip(found, right, strict=True)):
            which = f"result {k + 1}" if len(right) > 1 else "the result"
            if part.dtype.kind not in "fiub":
                return f"The dtype of {which} is {part.dtype}; it should hold numbers, {good.dtype}."
            if part.shape != good.shape:
                return f"The shape of {which} is {part.shape}; it should be {good.shape}.{_of_shape(part, good)}"
            if not np.isfinite(part).all() and np.isfinite(good).all():
                return f"{which.capitalize()} holds nan or infinity: is there a division by zero, or a root of a negative number?"
            if good.dtype.kind == "f" and part.dtype.kind != "f" and not np.array_equal(part, good):
                return f"The dtype of {which} is {part.dtype}; it should be {good.dtype}. Are fractions rounded away?"
    return None


def _things(parts):
    """The number of results in words."""
    return "one result" if len(parts) == 1 else f"a tuple of {len(parts)} results"


def _of_shape(part, good):
    """A hint on a wrong shape."""
    if part.size == good.size and part.ndim == good.ndim:
        return " The axes are in another order."
    if part.size == good.size:
        return " The entries are as many: is an axis of length 1 too many, or missing (keepdims)?"
    return " Is a sum or a mean taken over the wrong axes?" if part.ndim != good.ndim else ""


def _oracles_words(exercise, function):
    """What the oracle says, or None if it is content."""
    inputs = []

    def noted(*arguments):
        inputs[:] = arguments
        return function(*arguments)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            exercise.oracle(noted)
        except AssertionError as error:
            return f"It is not {exercise.gives}. This test fails: {_one_line(error)}."
        except Exception as error:
            numbers = [f"{name} = {value}" for name, value in zip(exercise.names, inputs, strict=False) if isinstance(value, int | float)]
            return f"With {', '.join(numbers) or 'other inputs'} {named(function)} raised {type(error).__name__}: {_one_line(error)}"
    return None


def _known_mistake(exercise, results):
    """The sentence of the mistake that gives these very results."""
    for sentence, mistaken in exercise.mistakes.items():
        theirs = [_call(exercise, mistaken, case)[0] for case in exercise.cases]
        if all(_equal(found, wrong) for found, wrong in zip(results, theirs, strict=True)):
            return sentence
    return None


def _equal(found, wrong):
    """Whether two results are the same to rounding."""
    if len(found) != len(wrong) or any(a.shape != b.shape or a.dtype.kind not in "fiub" for a, b in zip(found, wrong, strict=True)):
        return False
    return all(
        np.allclose(a, b, rtol=CLOSE, atol=CLOSE * min(1.0, np.abs(np.nan_to_num(b)).max(initial=0.0)), equal_nan=True)
        for a, b in zip(found, wrong, strict=True)
    )


def _sign_or_factor(exercise, results, expected):
    """A sentence if all results are wrong by the sign or by one factor each; None if all are right."""
    ratios = [_ratio(found, right) for found, right in zip(results, expected, strict=True)]
    if None in ratios or all(abs(ratio - 1) < CLOSE for ratio in ratios):
        return None
    if all(abs(ratio + 1) < CLOSE for ratio in ratios):
        return "The sign is wrong: the result is right up to a factor of -1."
    for name, values in _factors(exercise):
        for power, times in ((1, "{} times"), (-1, "1 / {} times")):
            for sign, word in ((1, ""), (-1, ", and the sign is wrong")):
                if all(abs(ratio - sign * value**power) < CLOSE * abs(ratio) for ratio, value in zip(ratios, values, strict=True)):
                    return f"Right up to a factor: the result is {times.format(name)} what it should be{word}."
    if max(ratios) - min(ratios) < CLOSE * abs(max(ratios)):
        return f"Right up to a factor: the result is {ratios[0]:.6g} times what it should be."
    if all(sum(part.size for part in found) == 1 for found in results):
        return None  # any single number is a multiple of the right one
    told = " and ".join(f"{ratio:.4g}" for ratio in ratios[:2])
    return f"Right up to a factor, which differs from case to case ({told}): is it a letter that is forgotten or taken twice?"


def _ratio(found, right):
    """The one number by which all parts of a result are too large, or None."""
    found, right = (np.concatenate([np.ravel(part).astype(float) for part in parts]) for parts in (found, right))
    if not (right.size and np.isfinite(right).all() and abs(right).max() > 0):
        return None
    ratio = float(found @ right / (right @ right))
    return ratio if ratio and np.allclose(found, ratio * right, rtol=CLOSE, atol=CLOSE * abs(ratio * right).max()) else None


def _factors(exercise):
    """(name, its value in each case) of the factors that are easily forgotten: 2, and functions of the arguments."""
    yield "2", [2.0] * len(exercise.cases)
    for k, name in enumerate(exercise.names):
        values = [case[k] for case in exercise.cases]
        if all(isinstance(value, int | float) and value > 0 for value in values):
            values = [float(value) for value in values]
            yield name, values
            yield f"{name}^2", [value**2 for value in values]
            yield f"sqrt({name})", [value**0.5 for value in values]
            if max(values) < 1:
                yield f"(1 - {name})", [1 - value for value in values]
                yield f"sqrt(1 - {name})", [(1 - value) ** 0.5 for value in values]
        if all(isinstance(value, np.ndarray) and value.ndim for value in values):
            yield f"the number of entries of {name}", [float(value.size) for value in values]
            yield f"the length of {name}", [float(len(value)) for value in values]
