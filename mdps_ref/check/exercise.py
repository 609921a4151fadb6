"""What an exercise is: a task, an oracle that judges a reader's function, and the mistakes that it knows by name."""

import dataclasses
from collections.abc import Callable

import numpy as np


def apply(function, *arguments):
    """Call the reader's function with the arguments of a case."""
    return function(*arguments)


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function that a reader writes, and all that is needed to judge it.

    Parameters
    ----------
    takes : str
        The names of its arguments, separated by commas.
    gives : str
        What it returns, as the end of the sentence "It returns ...".
    answer : callable
        The library's function, or one made of it.
    oracle : callable
        oracle(function) raises an AssertionError, in words, if the function is wrong. It is made of closed forms, twins in loops and
        identities, and does not call the answer. Its docstring goes on with "It agrees with ...".
    cases : list of tuples
        Arguments on which wrong results are compared with those of the mistakes.
    mistakes : dict of str to callable
        A sentence that names a mistake, and the function with this mistake.
    apply : callable
        apply(function, *arguments) -> result, where calling the function is not enough.
    """

    takes: str
    gives: str
    answer: Callable
    oracle: Callable
    cases: list
    mistakes: dict
    apply: Callable = apply

    @property
    def names(self):
        """The names of the arguments, a list of str."""
        return [name.strip() for name in self.takes.split(",")]


def agree(found, expected, words, tolerance=1e-8):
    """Compare two results, entry by entry.

    Parameters
    ----------
    found, expected : array, or what becomes an array
    words : str
        What is wrong if they differ.
    tolerance : float
        The largest difference that is allowed, as a part of the largest of the expected entries and 1.

    Raises
    ------
    AssertionError
        If the shapes or the entries differ. It names the first wrong entry.
    """
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape:
        raise AssertionError(f"{words}: the shape is {found.shape}, expected {expected.shape}")
    wrong = ~(abs(found - expected) <= tolerance * max(1.0, abs(expected).max(initial=0.0))) & (found != expected)
    if wrong.any():
        entry = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = f" at entry {entry}" if entry else ""
        raise AssertionError(f"{words}: found {found[entry]:.6g}{where}, expected {expected[entry]:.6g}")


def without_a_term(terms):
    """Make the two mistakes that each term of a sum allows: it is forgotten, or its sign is turned.

    Parameters
    ----------
    terms : dict of str to callable
        The name of each term, and the term as a function of the exercise's arguments. Their sum is the right result.

    Returns
    -------
    dict of str to callable
    """

    def total(*arguments, weights):
        return sum(weight * term(*arguments) for weight, term in zip(weights, terms.values(), strict=True) if weight)

    mistakes = {}
    for k, name in enumerate(terms):
        for weight, sentence in ((0, f"The term {name} is missing."), (-1, f"The term {name} has the wrong sign.")):
            weights = [weight if i == k else 1 for i in range(len(terms))]
            mistakes[sentence] = lambda *arguments, weights=weights: total(*arguments, weights=weights)
    return mistakes


def normal(*shape, seed=0):
    """Standard normal numbers that are the same at every call.

    Returns
    -------
    array of `shape`, float64
    """
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


# Arguments of many exercises
IMAGES = [normal(2, 3, 3, 2, seed=seed) for seed in range(3)]
MASK = (normal(2, 3, 3, 1, seed=7) > 0).astype(float)
STEPS = [(0.7, 0.9), (0.2, 0.6)]  # alpha_bar of t and of s
LEVELS = [level for level, _ in STEPS]
