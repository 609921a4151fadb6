"""Threads that share an iterator, and buffers that are handed out again."""

import itertools
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from mdps_ref.kernels import buffers, fast, threads
from mdps_ref.kernels.buffers import ALIGNMENT, empty
from mdps_ref.kernels.threads import LIMIT, bands_of, in_threads, pieces, single_threaded_blas, slices_of


@pytest.fixture
def several():
    """several(count): share work among so many threads, until the test ends."""
    tokens = []
    yield lambda count: tokens.append(LIMIT.set(count))
    for token in tokens:
        LIMIT.reset(token)


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_every_part_is_done_once(limit, monkeypatch):
    """In free-threaded Python, too, where a list's own iterator fails this test."""
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 7)
    done = []

    def work(parts):
        for part in parts:
            done.append(part)

    with fast(limit):
        in_threads(work, range(30_000))
    assert sorted(done) == list(range(30_000))


def test_threads_take_turns_at_the_parts():
    """A generator that two threads enter at once raises ValueError."""

    def slow():
        for part in range(20):
            time.sleep(1e-3)
            yield part

    shared, taken = threads._Shared(slow()), []
    both = [threading.Thread(target=lambda: taken.extend(shared)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(taken) == list(range(20))


def test_parts_run_at_once(monkeypatch, several):
    """Two parts that wait for each other end only if two threads have them."""
    several(2)
    monkeypatch.setattr(threads, "_HELPERS", threads._Helpers(1))
    meeting = threading.Barrier(2, timeout=30)
    in_threads(lambda parts: [meeting.wait() for _ in parts], range(2))


def test_too_little_to_share_stays_with_the_caller(monkeypatch, several):
    several(2)
    monkeypatch.setattr(threads, "_HELPERS", None)
    done = []
    in_threads(done.extend, range(5), seconds=1e-5)
    assert done == list(range(5))
    with pytest.raises(AttributeError):
        in_threads(done.extend, range(5), seconds=1.0)


@pytest.mark.parametrize("in_caller", [True, False])
def test_an_error_in_any_thread_comes_out(in_caller, monkeypatch, several):
    """Both threads have a part before either goes on."""
    several(2)
    monkeypatch.setattr(threads, "_HELPERS", threads._Helpers(1))
    caller, both = threading.current_thread(), threading.Barrier(2)

    def work(parts):
        for _ in parts:
            both.wait(30)
            if (threading.current_thread() is caller) == in_caller:
                raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        in_threads(work, range(2))


def test_an_error_comes_out_once_the_others_have_ended(monkeypatch, several):
    """The caller breaks off while its helper is at work."""
    several(2)
    monkeypatch.setattr(threads, "_HELPERS", threads._Helpers(1))
    caller, begun, ended = threading.current_thread(), threading.Event(), []

    def work(parts):
        for at in parts:
            if threading.current_thread() is caller:
                assert begun.wait(30)
                raise ValueError("broken")
            begun.set()
            time.sleep(0.05)
            ended.append(at)

    with pytest.raises(ValueError, match="broken"):
        in_threads(work, range(2))
    assert len(ended) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(several):
    """A fork takes over no thread but its caller's: waiting for the others' would never end."""
    several(2)
    in_threads(list, range(2))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        in_threads(list, range(2))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_helper_keeps_off_its_callers_core(monkeypatch):
    """On a pretend system of three cores: told once for each core that the caller is on, whatever the helper did before."""
    told, core = [], [1]
    monkeypatch.setattr(threads, "_current_core", lambda: core[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: told.append(cores), raising=False)
    helpers = threads._Helpers(1)
    for at in (1, 1, 1, 2, 2):
        core[0] = at
        helpers.submit(list, ()).result()
    assert told == [{0, 2}, {0, 1}]


def test_where_the_system_forbids_that_work_goes_on(monkeypatch):
    def forbidden(*_):
        raise PermissionError("not here")

    monkeypatch.setattr(threads, "_current_core", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    helpers = threads._Helpers(1)
    assert [helpers.submit(list, parts).result() for parts in ("ab", "c")] == [["a", "b"], ["c"]]


def test_side_by_side_blas_has_one_thread_and_the_lock_changes_hands_quickly():
    def state():
        return [library["num_threads"] for library in single_threaded_blas.libraries()], sys.getswitchinterval()

    before = state()
    with single_threaded_blas:
        inside = state()
        with single_threaded_blas:
            assert state() == inside
        assert state() == inside
    assert state() == before
    assert set(inside[0]) <= {1} and inside[1] == pytest.approx(threads.SWITCH_INTERVAL)


def test_bands_cover_every_line_of_every_image():
    for images, lines, most in itertools.product((1, 3), (1, 4, 7), (0, 1, 3, 8, 100)):
        visits = np.zeros((images, lines))
        for band in bands_of(images, lines, most):
            assert visits[band].size <= max(1, most)
            visits[band] += 1
        assert (visits == 1).all()


def test_pieces_are_one_or_an_even_number_and_cover_all():
    assert [len(pieces(count, 4)) for count in (0, 1, 2, 3, 4, 8, 9, 16, 17)] == [1, 1, 1, 2, 2, 2, 4, 4, 6]
    for count in range(1, 40):
        sizes = [part.stop - part.start for part in pieces(count, 4)]
        assert sum(sizes) == count and max(sizes) <= 4 and max(sizes) - min(sizes) <= 1


def test_blocks():
    assert slices_of(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert slices_of(0, 2) == []


@pytest.fixture
def pooled(monkeypatch):
    """Small arrays come from the pool, too."""
    monkeypatch.setattr(buffers, "SMALL_BYTES", 0)


def test_a_buffer_is_used_again_once_it_is_free(pooled):
    def where(shape, dtype):
        return empty(shape, dtype).ctypes.data

    with fast():
        places = [where((3, 4), np.float32), where((4, 3), np.float32), where((6,), np.float64)]
        other = where((3, 5), np.float32)
    assert len(set(places)) == 1 and other not in places


def test_a_buffer_that_is_held_is_not(pooled):
    with fast():
        held = empty((3, 4), np.float32)[1:].T
        held[...] = 7
        for _ in range(3):
            empty((3, 4), np.float32)[...] = 0
        empty((3, 4), np.float32)[...] = 0
    assert (held == 7).all()


def test_there_may_be_no_entries(pooled):
    with fast():
        assert empty((0, 4), np.float32).shape == (0, 4)


def test_an_array_outlives_its_pool(pooled):
    with fast():
        kept = empty((1000,), np.float32)
        kept[...] = 1
    others = [np.zeros(1000, np.float32) for _ in range(10)]
    assert kept.sum() == 1000 and others


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4), ()])
def test_buffers_are_aligned(shape, pooled):
    with fast():
        array = empty(shape, np.float64)
    assert array.shape == shape and array.dtype == np.float64 and array.ctypes.data % ALIGNMENT == 0


def test_threads_never_share_a_buffer(monkeypatch, pooled):
    """Four threads fill their buffers, and read them only when all are full."""
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 4)
    monkeypatch.setattr(threads, "_HELPERS", threads._Helpers(3))
    wrong, full = [], threading.Barrier(4)

    def work(parts):
        for at in parts:
            mine = empty((1000,), np.float64)
            mine[...] = at
            full.wait(30)
            wrong.extend(mine[mine != at])

    with fast():
        in_threads(work, range(500))
    assert wrong == []


def test_where_no_thread_can_be_started_there_is_one_core(monkeypatch):
    """As in a browser; elsewhere there is at least one core."""
    assert threads._cores() == threads.CORES >= 1

    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert threads._cores() == 1
