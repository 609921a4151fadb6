"""A recording makes the same calls again: each kind of call, with new entries in the arrays that it reads, against NumPy itself."""

import threading

import numpy as np
import pytest

from mdps_ref.kernels.buffers import POOL, empty
from mdps_ref.kernels.recording import NotRecordable, Recorded, Recording

pytestmark = pytest.mark.kernels_as_they_are


def filled_in(x):
    """A buffer that is filled by an index, and added to in one."""
    y = empty((2, *x.shape), x.dtype)
    y[0] = x
    y[1, :, ::2] = 3
    y[1, :, 1::2] = x[:, 1::2]
    y[1] += x
    return y


def in_place(x):
    y = x * 2.0
    y += x
    np.tanh(y, out=y)
    return y


COMPUTATIONS = {
    "ufuncs": lambda x: 0.5 * x + np.exp(x) - x**2,
    "a number in front": lambda x: 2.0 - 1 / (3.0 + x * x),
    "in place": in_place,
    "filled in": filled_in,
    "a product": lambda x: x @ x.T,
    "sums": lambda x: x.sum(axis=0, keepdims=True) + x.mean(axis=1, keepdims=True),
    "all summed": lambda x: np.add.reduce(x, axis=(0, 1)) * x,
    "maxima": lambda x: x.max(axis=-1, keepdims=True) * x,
    "sums of another dtype": lambda x: np.add.reduce(x, axis=0, dtype=np.float64),
    "einsum": lambda x: np.einsum("ij,ij->j", x, x),
    "einsum into memory": lambda x: np.einsum("ij,ij->i", x, x, out=empty((len(x),), x.dtype)),
    "clipped in place": lambda x: np.clip(1.0 * x, -0.5, 0.5, out=2.0 * x),
    "joined": lambda x: np.concatenate([x, 2.0 * x], axis=-1),
    "stacked": lambda x: np.stack([x, -x]),
    "a border": lambda x: np.pad(x, ((1, 0), (0, 2))),
    "views": lambda x: np.expand_dims(x[1:, ::-1].T, 0).swapaxes(0, 2) + np.broadcast_to(x[0, 0:1], (1,)),
    "a shape that copies": lambda x: x.T.reshape(-1) * 2.0,
    "a shape that does not": lambda x: x.reshape(-1, 2)[1:] * 2.0,
    "another dtype": lambda x: x.astype(np.float64) / 3,
    "a copy": lambda x: x.copy() + x.T.copy().T,
    "the argument itself": lambda x: x[:, 1:],
}


def recorded(compute, x):
    """The argument, the result, and the calls of compute(x), recorded."""
    recording = Recording()
    argument = recording.empty(x.shape, x.dtype)
    argument.view(np.ndarray)[...] = x
    token = POOL.set(recording)
    try:
        result = compute(argument)
    finally:
        POOL.reset(token)
    return argument.view(np.ndarray), result.view(np.ndarray), recording.take_calls(), recording


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("compute", COMPUTATIONS.values(), ids=COMPUTATIONS)
def test_calls_made_again_give_what_numpy_gives_for_the_new_entries(compute):
    argument, result, calls, _ = recorded(compute, normal(1, 4, 6))
    np.testing.assert_array_equal(result, compute(normal(1, 4, 6)))
    for seed in (2, 3):
        argument[...] = normal(seed, 4, 6)
        for function, arguments in calls:
            function(*arguments)
        expected = compute(normal(seed, 4, 6))
        assert result.dtype == expected.dtype and result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)


def test_an_array_of_the_callers_is_read_where_it_lies():
    weight = normal(5, 6)
    argument, result, calls, _ = recorded(lambda x: x * weight.view(Recorded), normal(1, 4, 6))
    weight += 1
    for function, arguments in calls:
        function(*arguments)
    np.testing.assert_array_equal(result, argument * weight)


def test_memory_that_was_let_go_is_used_again():
    def long(x):
        for _ in range(50):
            x = x * 0.5 + 1.0
        return x

    argument, result, calls, recording = recorded(long, normal(1, 64, 64))
    assert len(calls) == 100 and sum(recording._sizes) <= 4 * argument.nbytes
    argument[...] = normal(2, 64, 64)
    for function, arguments in calls:
        function(*arguments)
    np.testing.assert_array_equal(result, long(normal(2, 64, 64)))


REFUSED = {
    "a truth": lambda x: x + 1.0 if x[0, 0:1] > 0 else x,
    "a number": lambda x: x * float(x.sum()),
    "one entry": lambda x: x * x[0, 0],
    "an index that copies": lambda x: x[[0, 2]] * 2.0,
    "a mask": lambda x: x[x > 0],
    "two results": lambda x: np.modf(x)[0],
    "an accumulation": lambda x: np.add.accumulate(x),
    "repeated": lambda x: x.repeat(2, axis=0),
}


@pytest.mark.parametrize("compute", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_made_again_is_refused(compute):
    with pytest.raises(NotRecordable):
        recorded(compute, normal(1, 4, 6))


def test_another_threads_calls_are_refused():
    caught = []

    def elsewhere(x):
        def work():
            token = POOL.set(recording)
            try:
                np.multiply(x, 2.0, out=x)
            except NotRecordable as error:
                caught.append(error)
            finally:
                POOL.reset(token)

        recording = POOL.get()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x

    recorded(elsewhere, normal(1, 4, 6))
    assert len(caught) == 1


def test_a_recorded_array_is_of_no_use_outside():
    with pytest.raises(NotRecordable, match="outside"):
        Recording().empty((3,), np.float32) + 1.0
