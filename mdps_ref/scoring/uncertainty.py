"""Do the least certain decisions hold the wrong ones? The share of wrong decisions that is left when the least certain are set aside."""

import numpy as np


def errors_left(wrong, doubt):
    """Error rate of the decisions that stay while the most doubtful ones are set aside, one after the other.

    Parameters
    ----------
    wrong : array of bool, (N)
        Whether each decision is wrong; N is 1 or more.
    doubt : array, (N)
        Larger is less certain.

    Returns
    -------
    array, (N)
        With 0, 1, ..., N - 1 decisions set aside. Decisions of equal doubt are set aside in random order: the rates are the expected ones.

    References
    ----------
    R. El-Yaniv, Y. Wiener, "On the foundations of noise-free selective classification", JMLR 11, 2010: the risk-coverage curve.
    """
    _, group = np.unique(-np.asarray(doubt, np.float64), return_inverse=True)  # from the most doubtful on
    expected = (np.bincount(group, wrong) / np.bincount(group))[np.sort(group)]
    return np.cumsum(expected[::-1])[::-1] / np.arange(len(expected), 0, -1)


def least_certain(count, share=0.1):
    """Return how many of `count` decisions are this share: at least 1, and fewer than all where there are two or more.

    Parameters
    ----------
    count : int, 1 or more
    share : float, in (0, 1)

    Returns
    -------
    int
    """
    return min(max(1, round(share * count)), count - 1)
