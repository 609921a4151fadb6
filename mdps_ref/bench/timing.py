"""Measuring: two functions in turns, the machine's peak, memory in a fresh process, and the exponent of a growth."""

import contextlib
import functools
import multiprocessing
import pathlib
import statistics
import time

import numpy as np

from mdps_ref.autograd.network import RUNNER
from mdps_ref.autograd.ops import matmul
from mdps_ref.kernels import fast
from mdps_ref.kernels.replay import CALLS_BEFORE, Replays
from mdps_ref.kernels.threads import single_threaded_blas

PAUSE = 0.02  # seconds before each turn, in which the other side's threads stop spinning
TURN = 0.01  # seconds that a turn's counted calls take at least
BUDGET = 2.0  # seconds a row and number of threads, if a turn had but one call
PAIRS = (3, 25)  # at least and at most


def timed(call, inside=contextlib.nullcontext):
    """Return the wall time of a call among others of its kind, in seconds.

    The first call of a turn wakes threads and fills caches, so it is not counted: asleep, PyTorch's threads make a call of a quarter of
    a millisecond take up to ten.  inside: makes the context in which the calls run.
    """
    time.sleep(PAUSE)
    with inside():
        call()
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < TURN:
            call()
            count += 1
        return (time.perf_counter() - start) / count


def in_turns(ours, theirs=None, threads=None, budget=BUDGET):
    """Time both in turns: median times, and the median of theirs / ours pair by pair; None for what is not there.

    Ours run inside `fast(threads)`, and networks are recorded before: what is timed are replays, as in the steps of a chain or of a
    training.  The first pair is not counted.
    """
    calls = [(ours, functools.partial(fast, threads))] + ([] if theirs is None else [(theirs,)])
    token = RUNNER.set(Replays())  # for all turns
    try:
        with fast(threads):
            for _ in range(CALLS_BEFORE):
                ours()
        pair = [timed(*call) for call in calls]
        count = min(max(PAIRS[0], round(budget / sum(pair))), PAIRS[1])
        pairs = [[timed(*call) for call in calls] for _ in range(count)]
    finally:
        RUNNER.reset(token)
    times = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return (times[0], None, None) if theirs is None else (*times, statistics.median(b / a for a, b in pairs))


def blas():
    """Name NumPy's BLAS and the processor that its kernels are for; OPENBLAS_CORETYPE, for one, may hold it to an older processor's."""
    known = single_threaded_blas.libraries()
    return (
        "; ".join(f"{x['internal_api']} {x['version']}, kernels for {x.get('architecture', 'this processor')}" for x in known) or "unknown"
    )


def large_side(side=2048, seconds=0.5):
    """Return the side of a large matrix product, halved until it takes less than so many seconds; in a browser 2048 take half a minute."""
    call = _product(256)
    call()
    start = time.perf_counter()
    call()
    estimate = (time.perf_counter() - start) * (side / 256) ** 3
    while side > 256 and estimate > seconds:
        side, estimate = side // 2, estimate / 8
    return side


def sgemm_peak(threads, side):
    """Return the GFLOP/s of a float32 product of two matrices (side, side), the best of five."""
    call = _product(side)
    with fast(threads):
        return 2e-9 * side**3 / min(timed(call) for _ in range(5))


def _product(side):
    a = np.random.default_rng(0).standard_normal((side, side), np.float32)
    return lambda: matmul(a, a)


def growth(make_call, sizes):
    """Fit the exponent p of time ~ size^p to the best times of make_call(size)()."""
    seconds = []
    for size in sizes:
        call = make_call(size)
        seconds.append(min(timed(call) for _ in range(3)))
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def starts_processes():
    """Return whether the system starts a second process, found out by asking for one that ends at once."""
    process = multiprocessing.get_context("spawn").Process(target=int)
    try:
        process.start()
    except (ImportError, OSError):
        return False
    process.join()
    return True


def peak_memory(make_call):
    """Return the most MiB that a fresh process uses to set up and run a call twice, beyond what importing took; None if unknown.

    make_call() -> the call; it must be importable, since it crosses to the other process.  Memory of a team's other members is not counted.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_peak, args=(make_call, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        child.join()


def _send_peak(make_call, sender):
    """In the child: run twice and send the peak."""
    before = _high_water()
    with fast():
        call = make_call()
        call()
        call()
    after = _high_water()
    sender.send(None if after is None else after - before)


def _high_water():
    """The process's largest resident memory so far in MiB, where Linux tells; this one, unlike getrusage's, starts anew with exec."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return None
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
