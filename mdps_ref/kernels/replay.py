"""Replay: the second time that a network gets arguments of the same shapes, its calls of NumPy are noted; later they are just repeated.

A small network spends half of its time in Python: it looks up twins, cuts views, asks for buffers, and all that comes out the same at
every step. `recording.py` keeps the calls of NumPy alone. A replay copies the arguments into the recording's memory, makes the calls in a
loop of two lines, and copies the result. The weights are read where they lie, so a step of training is seen.

The third time both ways run. Only if they agree in every bit, the replay takes over.
"""

import contextlib
import threading
import weakref

import numpy as np

from mdps_ref.autograd.network import RUNNER
from mdps_ref.autograd.tape import Node, Tensor, pull_back, value_of
from mdps_ref.kernels.buffers import POOL
from mdps_ref.kernels.recording import NotRecordable, Recorded, Recording

LARGEST = 2**17  # entries of all images together; with more, Python's share is small, and the memory of a recording large
CALLS_BEFORE = 3  # that are computed before the first replay
KEPT = 4  # recordings at most; with more the oldest is dropped


class Replays:
    """The networks that run inside a block of `fast`: the RUNNER of `autograd.network`."""

    def __init__(self):
        self._replays, self._lock = {}, threading.Lock()

    def __call__(self, forward, weights, arrays, settings):
        leaves = [*weights.values(), *arrays]
        values = [value_of(leaf) for leaf in leaves]
        suits = all(type(value) is np.ndarray for value in values) and sum(a.size for a in values[len(weights) :]) <= LARGEST
        if not suits or not self._lock.acquire(blocking=False):  # another thread may run a network, too
            return forward(weights, *arrays, **settings)
        try:
            return self._replay(forward, weights, leaves, values, settings)(leaves, values)
        finally:
            self._lock.release()

    def _replay(self, forward, weights, leaves, values, settings):
        """The _Replay for these weights and settings, and for arguments like these."""
        names, count = list(weights), len(weights)
        wrapped = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        like = [(value.shape, value.dtype) for value in values[count:]]
        key = forward, *settings.items(), *names, *map(id, values[:count]), *like, *wrapped
        replay = self._replays.pop(key, None)
        if replay is None:

            def compute(leaves):
                return forward(dict(zip(names, leaves, strict=False)), *leaves[count:], **settings)

            replay = _Replay(forward.__name__, compute, values[:count], wrapped)
        self._replays[key] = replay  # behind all others: the first is the one that was not used for longest
        if len(self._replays) > KEPT:
            del self._replays[next(iter(self._replays))]
        return replay


class _Replay:
    """A network with given weights, for arguments of given shapes: computed, recorded, compared, and then replayed.

    compute(leaves) runs the network; leaves are all its arrays, first the weights. wrapped: the places of Tensors among them.
    """

    def __init__(self, name, compute, weights, wrapped):
        self._name, self._compute, self._weights, self._wrapped = name, compute, weights, wrapped
        self._run, self._waiting = _Replay._first, _nothing

    def __call__(self, leaves, values):
        if self._waiting() is not None:  # an earlier result, for its pullback, which needs the program's memory
            return self._compute(leaves)
        return self._run(self, leaves, values)

    def _first(self, leaves, values):
        self._run = _Replay._second
        return self._compute(leaves)

    def _second(self, leaves, values):
        """Record."""
        self._program = _Program(self._compute, len(self._weights), self._wrapped)
        try:
            results = self._program.record(values)
        except NotRecordable:
            self._run = _Replay._never
            return self._compute(leaves)
        if self._wrapped:
            return self._tensor(results, leaves, values, self._recorded)
        self._run = _Replay._third
        return results

    def _recorded(self, g):
        try:
            cotangents = self._program.record_pullback(g)
        except NotRecordable:
            self._run = _Replay._never
            return None
        self._run = _Replay._third
        return cotangents

    def _third(self, leaves, values):
        """Compute, and compare with the replay."""
        tensors = self._wrap(values)
        output = self._compute(tensors)
        same = _alike(_arrays_in(output), _as_list(self._program.replay(values)))
        self._run = _Replay._later if same else _Replay._never
        if not self._wrapped:
            return output

        def compared(g):
            expected = _cotangents(output, g, [tensors[i] for i in self._wrapped])
            if not (same and _alike(expected, self._program.replay_pullback(g))):
                self._run = _Replay._never
            return expected

        return self._tensor(output.value, leaves, values, compared)

    def _later(self, leaves, values):
        results = self._program.replay(values)
        return self._tensor(results, leaves, values, self._program.replay_pullback) if self._wrapped else results

    def _never(self, leaves, values):
        self._program = None
        return self._compute(leaves)

    def _wrap(self, values):
        return [Tensor(value) if i in self._wrapped else value for i, value in enumerate(values)]

    def _tensor(self, y, leaves, values, pullback):
        """y, with a pullback for once. Where that gives None, and when it is asked again, all is computed anew."""
        unused = [pullback]

        def pulled(g):
            cotangents = unused.pop()(g) if unused else None
            self._waiting = _nothing
            if cotangents is None:
                tensors = self._wrap(values)
                cotangents = _cotangents(self._compute(tensors), g, [tensors[i] for i in self._wrapped])
            return cotangents

        self._waiting = weakref.ref(pulled)
        return Tensor(y, Node(self._name, [leaves[i].node for i in self._wrapped], pulled))


class _Program:
    """The calls of a network's forward pass, and of its pullback to the wrapped arguments, in memory of their own."""

    def __init__(self, compute, weights, wrapped):
        self._compute, self._count, self._wrapped, self._recording = compute, weights, wrapped, Recording()

    def record(self, values):
        """Compute the network's result, and note the calls."""
        leaves = [value.view(Recorded) for value in values[: self._count]]
        leaves += [self._copied(value) for value in values[self._count :]]
        self._leaves = [Tensor(leaf) if i in self._wrapped else leaf for i, leaf in enumerate(leaves)]
        with self._recording_it():
            self._output = self._compute(self._leaves)
        if self._wrapped and not isinstance(self._output, Tensor):
            raise NotRecordable("a result that depends on nothing that was wrapped")
        self._arguments, self._results = _plain(leaves[self._count :]), _plain(_arrays_in(self._output))
        self._forward, self._one = self._recording.take_calls(), not isinstance(self._output, list)
        if not self._wrapped:
            self._leaves = self._output = None
        return self._copies(self._results)

    def record_pullback(self, g):
        """Compute the cotangents of the wrapped arguments, and note the calls."""
        cotangent = self._copied(g)
        with self._recording_it():
            cotangents = _cotangents(self._output, cotangent, [self._leaves[i] for i in self._wrapped])
        self._leaves = self._output = None
        (self._cotangent,), self._cotangents = _plain([cotangent]), _plain(cotangents)
        self._pullback = self._recording.take_calls()
        return [to.copy() for to in self._cotangents]

    def replay(self, values):
        for argument, value in zip(self._arguments, values[self._count :], strict=True):
            np.copyto(argument, value)
        for function, arguments in self._forward:
            function(*arguments)
        return self._copies(self._results)

    def replay_pullback(self, g):
        np.copyto(self._cotangent, g)
        for function, arguments in self._pullback:
            function(*arguments)
        return [to.copy() for to in self._cotangents]

    def _copied(self, value):
        """A copy in the recording's memory."""
        copy = self._recording.empty(value.shape, value.dtype)
        np.copyto(copy.view(np.ndarray), value)
        return copy

    def _copies(self, results):
        return results[0].copy() if self._one else [result.copy() for result in results]

    @contextlib.contextmanager
    def _recording_it(self):
        settings = {POOL: self._recording, RUNNER: None}
        tokens = [(variable, variable.set(value)) for variable, value in settings.items()]
        try:
            yield
        finally:
            for variable, token in tokens:
                variable.reset(token)


def _nothing():
    return None


def _cotangents(output, g, inputs):
    """The cotangents of `inputs`, with zeros for one that the output does not depend on."""
    pulled = pull_back(output, g, inputs, last=True)
    return [np.zeros_like(tensor.value) if to is None else to for to, tensor in zip(pulled, inputs, strict=True)]


def _as_list(output):
    return output if isinstance(output, list) else [output]


def _arrays_in(output):
    """The arrays of a network's result: a Tensor, an array, or a list of arrays."""
    return [value_of(y) for y in _as_list(output)]


def _plain(arrays):
    return [array.view(np.ndarray) for array in arrays]


def _alike(expected, found):
    """Whether arrays agree in every bit."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(expected, found, strict=True))
