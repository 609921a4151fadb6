"""Where a step's time goes: products, norms and activations, copies, sums, the update of the weights, and what is left for Python.

Nothing in `kernels/` holds a clock. `profiled` puts timed functions in the place of some functions for the length of a block. A clock
charges each moment to the innermost of these that is running, and to "rest" where none is, so the parts add up to the whole. A step is
computed each time, not replayed: a replay leaves out most of the rest, and the functions that are timed.
"""

import collections
import contextlib
import functools
import time
from unittest import mock

import numpy as np

from mdps_ref.autograd import attention, norm, ops
from mdps_ref.autograd.network import without_replays
from mdps_ref.autograd.tape import REPLACEMENTS
from mdps_ref.bench import rows
from mdps_ref.job import train
from mdps_ref.kernels import blocks, convolution, fast, winograd

KINDS = {
    "products": "matrix products (BLAS)",
    "norms": "norms and activations",
    "copies": "copies",
    "sums": "sums of cotangents",
    "update": "update of the weights",
    "rest": "Python, and the shortest calls",
}
FUNCTIONS = (  # (where its name stands, its name, its kind)
    (np, "matmul", "products"),
    (ops, "silu", "norms"),
    (blocks.Padded, "lines", "copies"),
    (winograd, "_copied", "copies"),
    (winograd, "_in_one_piece", "copies"),
    (convolution, "_add_shifted", "copies"),
    (train, "clip_by_global_norm", "update"),
    (train, "adam_step", "update"),
    (train, "ema_step", "update"),
)
TWINS = {  # primitive: the kind of its twin, forward and back
    norm.group_norm: "norms",
    norm.group_norm_silu: "norms",
    attention.self_attention: "norms",
    ops.concatenate: "copies",
    ops.upsample2: "copies",
    ops.mean_pool2: "copies",
    ops.add: "sums",
    ops.sum: "sums",
}
STEPS = ("guided step", "training step")  # beginnings of the names of the rows that are profiled
CALLS = (3, 50)  # at least and at most
BUDGET = 1.0  # seconds for the calls of a row


class Clock:
    """Charges each moment to one kind.

    Parameters
    ----------
    now : callable
        now() -> seconds.
    """

    def __init__(self, now=time.perf_counter):
        self.seconds = collections.defaultdict(float)
        self._now, self._running, self._since = now, ["rest"], now()

    def _charge(self):
        """Charge the time since the last call to what has been running."""
        now = self._now()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, function, kind):
        """Return the function, with its time charged to `kind`, less that of timed functions that it calls."""

        @functools.wraps(function)
        def call(*args, **settings):
            self._charge()
            self._running.append(kind)
            try:
                return function(*args, **settings)
            finally:
                self._charge()
                self._running.pop()

        return call

    def stop(self):
        """Charge what is left, and return the seconds of each kind."""
        self._charge()
        return self.seconds


@contextlib.contextmanager
def profiled(clock):
    """Inside `fast`: charge the time of the block to the kinds of a clock."""
    replace = REPLACEMENTS.get()

    def timed_twin(primitive, values, static):
        rule = replace(primitive, values, static)
        return _timed_rule(rule, clock, TWINS[primitive]) if rule and primitive in TWINS else rule

    token = REPLACEMENTS.set(timed_twin)
    try:
        with contextlib.ExitStack() as undo:
            for place, name, kind in FUNCTIONS:
                undo.enter_context(mock.patch.object(place, name, clock.timed(getattr(place, name), kind)))
            undo.enter_context(mock.patch.object(convolution, "_patches", _timed_patches(convolution._patches, clock)))
            yield
    finally:
        REPLACEMENTS.reset(token)


def _timed_rule(rule, clock, kind):
    """A twin's rule, and the pullback that it returns, both timed. What the pullback yields is computed before it returns."""

    def timed(*args):
        y, pullback = rule(*args)
        return y, clock.timed(lambda g: list(pullback(g)), kind)

    return clock.timed(timed, kind)


def _timed_patches(patches, clock):
    """`convolution._patches`, with the function that it returns timed: it copies."""
    return lambda *args: clock.timed(patches(*args), "copies")


def profile(call):
    """Split the time of a call on one thread.

    Parameters
    ----------
    call : callable
        Takes no argument.

    Returns
    -------
    dict, kind -> float
        Seconds of one call, the mean of some.
    """
    with fast(threads=1), without_replays():
        call()
        start = time.perf_counter()
        call()
        count = min(max(CALLS[0], round(BUDGET / (time.perf_counter() - start))), CALLS[1])
        clock = Clock()
        with profiled(clock):
            for _ in range(count):
                call()
        seconds = clock.stop()
        return {kind: seconds[kind] / count for kind in KINDS}


def profiles(only=""):
    """Yield the name and the profile of each row of STEPS whose name begins with `only`."""
    for row in rows.rows():
        if row.name.startswith(STEPS) and row.name.startswith(only):
            yield row.name, profile(getattr(rows, row.setup)(*row.arguments))


def lines(name, seconds, width=40):
    """Yield a profile as text: its name, a bar of `width` letters, and the share of each kind."""
    whole = sum(seconds.values())
    yield f"{name}: {1000 * whole:.1f} ms"
    ends = np.round(width * np.cumsum([0.0, *seconds.values()]) / whole).astype(int)
    yield "  " + "".join(kind[0] * (end - start) for kind, start, end in zip(seconds, ends, ends[1:], strict=False))
    yield "  " + ", ".join(f"{kind} {part / whole:.0%}" for kind, part in seconds.items() if part)
