"""An exact quantile of more numbers than the memory holds: they are read a few at a time, once for every 16 bits of a number."""

import math

import numpy as np

from mdps_ref.backend import to_host

DIGIT = 16  # bits that one reading decides


def upper_quantile(parts, share):
    """Return the smallest of the given numbers for which at least `share` of the other numbers are no larger.

    It is `numpy.quantile(numbers, share, method="higher")`, to the bit. One reading counts how often each beginning of a number
    occurs; the next one looks only at numbers with the right beginning. So the memory is that of one part and 2^16 counts.

    Parameters
    ----------
    parts : iterable of array, float16, float32 or float64
        All of one dtype, without nan. It is gone through several times, so it is no generator.
    share : float, 0 .. 1

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `parts` can be gone through only once, or they are not floats of one dtype.
    ValueError
        If there are no numbers.
    """
    check_read_again(parts)
    count, dtypes = 0, set()
    for part in parts:
        count, dtypes = count + part.size, dtypes | {part.dtype}
    if not count:
        raise ValueError("there are no numbers, so no quantile of them")
    dtype = next(iter(dtypes))
    if len(dtypes) > 1 or dtype.kind != "f":
        raise TypeError(f"the numbers must be floats of one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    rank, beginning = math.ceil((count - 1) * share), 0
    for shift in range(8 * dtype.itemsize - DIGIT, -1, -DIGIT):
        counts = np.zeros(2**DIGIT, np.int64)
        for part in parts:
            keys = keys_of(to_host(part)) >> shift
            alike = keys[keys >> DIGIT == beginning]
            counts += np.bincount((alike & (2**DIGIT - 1)).astype(np.int64), minlength=2**DIGIT)
        below = np.cumsum(counts)
        digit = int(np.searchsorted(below, rank, side="right"))
        rank -= int(below[digit - 1]) if digit else 0
        beginning = beginning << DIGIT | digit
    return float(values_of(np.array([beginning], f"u{dtype.itemsize}"))[0])


def check_read_again(parts):
    """Raise TypeError if `parts` can be gone through only once."""
    if iter(parts) is parts:
        raise TypeError("the numbers are read several times; give an array or a list of arrays, not a generator")


def keys_of(values):
    """Return unsigned integers in the order of floats.

    Parameters
    ----------
    values : array of float
        Without nan.

    Returns
    -------
    array of unsigned integers of as many bits, (N)
        The bits of positive floats above those of negative ones, which are turned over. -0 and 0 have one key.
    """
    values = np.ravel(values) + values.dtype.type(0)  # makes -0 and 0 one value
    bits = values.view(f"u{values.itemsize}")
    return np.where(bits >> 8 * values.itemsize - 1, ~bits, bits | _sign(bits))


def values_of(keys):
    """Return the floats, (N), of the unsigned integers that `keys_of` makes of them."""
    return np.where(keys & _sign(keys), keys ^ _sign(keys), ~keys).view(f"f{keys.itemsize}")


def _sign(bits):
    """The bit that tells the sign."""
    return bits.dtype.type(1 << 8 * bits.itemsize - 1)
