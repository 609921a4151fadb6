"""Replay: a network's calls of NumPy are recorded once; from the fourth call of the network on, only these are made again.

A small network spends half of its time in Python: it looks up twins, cuts views and asks for buffers, and at every step all of that comes
out the same. A replay copies the arguments into the recording's memory, makes the recorded calls in a short loop, and returns a copy of the
result. Weights are not copied: a replay reads the network's own arrays, so it uses weights that training has just changed.

The first call computes. The second is recorded, see `recording.py`; that takes up to five times as long. The third computes and replays,
and only if both agree in every bit the replay takes over. An argument's cotangents from inside the network are added up before those from
outside; where the network uses an argument twice, the last bit may differ from a run without replays.
"""

import collections
import contextlib
import threading
import warnings
import weakref

import numpy as np

from mdps_ref.autograd.network import RUNNER, as_written
from mdps_ref.autograd.tape import Node, Tensor, pull_back, users_first, value_of
from mdps_ref.kernels.buffers import POOL
from mdps_ref.kernels.recording import MOST_MEMORY, NotRecordable, Recorded, Recording, plain

LARGEST = 2**17  # entries of all images together; with more, Python's share is small, and the memory of a recording large
CALLS_BEFORE = 3  # that are computed before the first replay
ATTEMPTS = 4  # calls that record or compare, at most; one that is not pulled back is lost, and in the end the network is only computed
DROPPED = 1000  # networks that are known not to be worth another recording
KEPT = 4  # recordings at most, with their weights, in MOST_MEMORY; beyond, the one that was not used for longest is dropped


class Replays:
    """The networks that run inside a block of `fast`: the RUNNER of `autograd.network`."""

    def __init__(self):
        self._replays, self._dropped, self._lock = {}, collections.deque(maxlen=DROPPED), threading.Lock()

    def __call__(self, forward, weights, arrays, settings):
        leaves = [*weights.values(), *arrays]
        values = [value_of(leaf) for leaf in leaves]
        suits = type(weights) is dict and _suits(values, len(weights))
        if not suits or not self._lock.acquire(blocking=False):  # another thread may run a network, too
            return forward(weights, *arrays, **settings)
        try:
            return self._replay(forward, weights, leaves, values, settings)(leaves, values)
        finally:
            self._drop()
            self._lock.release()

    def _replay(self, forward, weights, leaves, values, settings):
        """The _Replay for these weights and settings, and for arguments like these; the network itself, if a setting has no hash."""
        names, count = list(weights), len(weights)
        wrapped = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

        def compute(leaves):
            return forward(dict(zip(names, leaves[:count], strict=True)), *leaves[count:], **settings)

        like = [(value.shape, value.dtype) for value in values[count:]]
        exactly = [(name, type(value), value) for name, value in settings.items()]
        key = forward, *exactly, *names, *map(id, values[:count]), *like, *wrapped
        try:
            hash(key)
        except TypeError:
            return lambda leaves, _: compute(leaves)
        replay = self._replays.pop(key, None) or _Replay(forward.__name__, compute, values[:count], wrapped, self._lock)
        if hash(key) in self._dropped:
            replay.give_up()
        self._replays[key] = replay  # behind all others
        return replay

    def _drop(self):
        """Drop what was not used for longest. It is not recorded again: for networks in rotation that would cost more than it saves."""
        while len(self._replays) > KEPT or sum(replay.memory for replay in self._replays.values()) > MOST_MEMORY:
            key = next(iter(self._replays))
            del self._replays[key]
            self._dropped.append(hash(key))


class _Replay:
    """A network with given weights, for arguments of given shapes: computed, recorded, compared, and then replayed.

    compute(leaves) runs the network; leaves are all its arrays, first the weights. wrapped: the places of Tensors among them. lock: is held
    by who calls this, and by who uses the program for a pullback.
    """

    def __init__(self, name, compute, weights, wrapped, lock):
        self._name, self._compute, self._weights, self._wrapped, self._lock = name, compute, weights, wrapped, lock
        self._next, self._program, self._attempts, self._results, self._waiting = _Replay._first, None, 0, 0, _nothing

    def __call__(self, leaves, values):
        if self._waiting() is not None:  # an earlier result may still be pulled back, which needs the program's memory
            return self._compute(leaves)
        if self._next in (_Replay._record, _Replay._compare):
            self._attempts += 1
        if self._attempts > ATTEMPTS:
            self.give_up()
        self._results += 1  # from here on the program's memory belongs to this result
        return self._next(self, leaves, values)

    @property
    def memory(self):
        """Bytes of the recording."""
        return self._program.memory if self._program else 0

    def give_up(self):
        """Compute from now on."""
        self._next, self._program, self._attempts = _Replay._run, None, 0

    def _first(self, leaves, values):
        self._next = _Replay._record
        return self._run(leaves, values)

    def _run(self, leaves, values):
        return self._compute(leaves)

    def _record(self, leaves, values):
        self._program = _Program(self._compute, len(self._weights), self._wrapped)
        try:
            results = self._program.record(values)
        except Exception:  # NotRecordable, or what the network raises where it is computed, too
            self.give_up()
            return self._compute(leaves)
        if self._wrapped:
            return self._tensor(results, leaves, values, self._record_pullback)
        self._next = _Replay._compare
        return results

    def _record_pullback(self, g):
        if self._next is _Replay._compare:  # it is recorded already
            return self._program.replay_pullback(g)
        try:
            cotangents = self._program.record_pullback(g)
        except Exception:
            self.give_up()
            return None
        self._next = _Replay._compare
        return cotangents

    def _compare(self, leaves, values):
        """Compute and replay, and compare. An argument that is the same as before is changed for that: it would hide a constant."""
        others, is_changed = self._program.changed(values)
        output, pullback = self._agreeing(others, is_changed)
        if output is None:
            self.give_up()
            return self._compute(leaves)
        if self._wrapped:
            y = value_of(self._compute(leaves) if is_changed else output)
            return self._tensor(y, leaves, values, lambda g: self._compare_pullback(g, pullback, is_changed))
        self._next = _Replay._replay
        return self._compute(leaves) if is_changed else output

    def _agreeing(self, values, is_changed):
        """The network's output and its pullback, if the replay agrees; else None twice."""
        with _quiet(is_changed), contextlib.suppress(*((Exception,) if is_changed else ())):  # changed arguments may not suit the network
            output, pullback = self._graph(values, self._program.reached)
            if _alike(_arrays_in(output), _as_list(self._program.replay(values))):
                return output, pullback
        return None, None

    def _compare_pullback(self, g, pullback, is_changed):
        with _quiet(is_changed), contextlib.suppress(*((Exception,) if is_changed else ())):
            expected = pullback(g)
            if _alike(expected, self._program.replay_pullback(g)):
                self._next = _Replay._replay
                return None if is_changed else expected
        self.give_up()
        return None

    def _replay(self, leaves, values):
        results = self._program.replay(values)
        return self._tensor(results, leaves, values, self._program.replay_pullback) if self._wrapped else results

    def _tensor(self, y, leaves, values, pullback):
        """y as a Tensor. Its pullback uses the program until there is a later result; after that, all is computed anew.

        pullback(g): the cotangents, or None to compute them.
        """
        number, reached, count = self._results, self._program.reached, len(self._weights)
        values = [*values[:count], *(argument.copy() for argument in values[count:])]

        def pulled(g):
            cotangents = None
            if type(g) is np.ndarray and g.dtype == y.dtype and self._lock.acquire(blocking=False):
                try:
                    if number == self._results and self._program is not None:
                        cotangents = pullback(g)
                        self._waiting = _nothing
                finally:
                    self._lock.release()
            return self._graph(values, reached)[1](g) if cotangents is None else cotangents

        self._waiting = weakref.ref(pulled)
        return Tensor(y, Node(self._name, [leaves[i].node for i in reached], pulled))

    def _graph(self, values, reached):
        """Run the network on Tensors; return the output, and its pullback to the `reached` arguments."""
        tensors = [Tensor(value) if i in self._wrapped else value for i, value in enumerate(values)]
        output = self._compute(tensors)
        return output, lambda g: pull_back(output, g, [tensors[i] for i in reached])


class _Program:
    """The calls of a network's forward pass, and of its pullback, in memory of their own.

    The pullback's calls leave the memory of the forward pass as it is, so a pullback can be repeated.

    Attributes
    ----------
    reached : list of int
        Those of the wrapped arguments that the output depends on.
    """

    def __init__(self, compute, weights, wrapped):
        self._compute, self._count, self._wrapped, self._recording = compute, weights, wrapped, Recording()

    def record(self, values):
        """Compute the network's result, and record that.  Raises: NotRecordable."""
        leaves = [value.view(Recorded) for value in values[: self._count]]
        leaves += [self._copied_in(value) for value in values[self._count :]]
        self._leaves = [Tensor(leaf) if i in self._wrapped else leaf for i, leaf in enumerate(leaves)]
        with self._in_use():
            self._output = self._compute(self._leaves)
        self._check_output()
        nodes = {id(node) for node in users_first(self._output.node)} if self._wrapped else ()
        self.reached = [i for i in self._wrapped if id(self._leaves[i].node) in nodes]
        self._arguments = [plain(leaf) for leaf in leaves[self._count :]]
        self._results = [plain(y) for y in _arrays_in(self._output)]
        self._forward, self._is_list = self._recording.take_calls(), isinstance(self._output, list)
        if not self._wrapped:
            self._leaves = self._output = None
        return self._copies_out()

    def _check_output(self):
        """Raises: NotRecordable for what cannot be given back alike: a number, a tuple, an array that should be a Tensor."""
        kind = Tensor if self._wrapped else np.ndarray
        fits = all(isinstance(y, kind) for y in _as_list(self._output)) and not (self._wrapped and isinstance(self._output, list))
        if not fits or any(y.ndim == 0 or not y.flags.c_contiguous for y in _arrays_in(self._output)):
            raise NotRecordable("the kind of result")

    def record_pullback(self, g):
        """Compute the cotangents of the reached arguments, and record that.  Raises: NotRecordable."""
        cotangent = self._copied_in(g)
        with self._in_use():
            cotangents = pull_back(self._output, cotangent, [self._leaves[i] for i in self.reached], last=True)
        self._leaves = self._output = None
        self._cotangent, self._cotangents = plain(cotangent), [plain(to) for to in cotangents]
        self._pullback = self._recording.take_calls()
        return [to.copy() for to in self._cotangents]

    def replay(self, values):
        for argument, value in zip(self._arguments, values[self._count :], strict=True):
            np.copyto(argument, value)
        for function, arguments in self._forward:
            function(*arguments)
        return self._copies_out()

    def replay_pullback(self, g):
        np.copyto(self._cotangent, g)
        for function, arguments in self._pullback:
            function(*arguments)
        return [to.copy() for to in self._cotangents]

    def changed(self, values):
        """Return values of which each argument differs from the last time's, and whether one had to be changed for that."""
        alike = [_alike([new], [old]) for new, old in zip(values[self._count :], self._arguments, strict=True)]
        arguments = [np.roll(a, 1) if is_alike else a for a, is_alike in zip(values[self._count :], alike, strict=True)]
        return [*values[: self._count], *arguments], any(alike)

    @property
    def memory(self):
        """Bytes of the recording."""
        return self._recording.memory

    def _copied_in(self, value):
        copy = self._recording.empty(value.shape, value.dtype)
        np.copyto(plain(copy), value)
        return copy

    def _copies_out(self):
        copies = [result.copy() for result in self._results]
        return copies if self._is_list else copies[0]

    @contextlib.contextmanager
    def _in_use(self):
        """Note the calls of the block."""
        settings = {POOL: self._recording, RUNNER: as_written}
        tokens = [(variable, variable.set(value)) for variable, value in settings.items()]
        try:
            yield
        finally:
            for variable, token in tokens:
                variable.reset(token)


def _suits(values, count):
    """Whether all arrays, the first `count` of them weights, are on the host, and the others small and in C's order."""
    arguments = values[count:]
    return (
        all(type(value) is np.ndarray for value in values)
        and sum(argument.size for argument in arguments) <= LARGEST
        and all(argument.flags.c_contiguous for argument in arguments)
    )


@contextlib.contextmanager
def _quiet(is_quiet):
    """If is_quiet: the block warns of nothing."""
    if not is_quiet:
        yield
        return
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _nothing():
    return None


def _as_list(output):
    return output if isinstance(output, list) else [output]


def _arrays_in(output):
    """The arrays of a network's result: a Tensor, an array, or a list of arrays."""
    return [value_of(y) for y in _as_list(output)]


def _alike(expected, found):
    """Whether arrays agree in every bit."""
    return all((a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in zip(expected, found, strict=True))
