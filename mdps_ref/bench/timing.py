"""Measuring: two functions in turns, the machine's peak, memory in a fresh process, and the exponent of a growth."""

import contextlib
import multiprocessing
import pathlib
import statistics
import time

import numpy as np

from mdps_ref.kernels.blocks import product
from mdps_ref.kernels.threads import SIDE_BY_SIDE, at_most

PAUSE = 0.02  # seconds before each turn, in which the other side's threads stop spinning
TURN = 0.01  # seconds that a turn's counted calls take at least
BUDGET = 2.0  # seconds a row and number of threads, if a turn had but one call
PAIRS = (3, 25)  # at least and at most
NOTHING = contextlib.nullcontext()


def timed(call, inside=NOTHING):
    """Wall time of a call among others of its kind, in seconds: the first of a turn, which wakes threads and fills caches, is not counted.

    Asleep, PyTorch's threads make a call of a quarter of a millisecond take up to ten.
    """
    time.sleep(PAUSE)
    with inside:
        call()
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < TURN:
            call()
            count += 1
        return (time.perf_counter() - start) / count


def in_turns(ours, theirs=None):
    """Median times of both, and the median of theirs / ours pair by pair; None for what is not there.

    A pair is run first, uncounted.  Ours hold SIDE_BY_SIDE for the whole turn, as training and sampling hold it.
    """
    calls = [(ours, SIDE_BY_SIDE)] if theirs is None else [(ours, SIDE_BY_SIDE), (theirs, NOTHING)]
    pair = [timed(*call) for call in calls]
    count = min(max(PAIRS[0], round(BUDGET / sum(pair))), PAIRS[1])
    pairs = [[timed(*call) for call in calls] for _ in range(count)]
    times = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return (times[0], None, None) if theirs is None else (*times, statistics.median(b / a for a, b in pairs))


def blas():
    """NumPy's BLAS in words, with the processor whose kernels it uses: OPENBLAS_CORETYPE, say, may hold it to an old one's."""
    known = SIDE_BY_SIDE.libraries()
    return (
        "; ".join(f"{x['internal_api']} {x['version']}, kernels for {x.get('architecture', 'this processor')}" for x in known) or "unknown"
    )


def sgemm_peak(threads, side=2048):
    """GFLOP/s of a large float32 matrix product, the best of some."""
    a = np.random.default_rng(0).standard_normal((side, side), np.float32)
    with at_most(threads):
        return 2e-9 * side**3 / min(timed(lambda: product(a, a)) for _ in range(5))


def growth(make_call, sizes):
    """The exponent p of time ~ size^p, fitted to the best times of make_call(size)()."""
    seconds = []
    for size in sizes:
        call = make_call(size)
        seconds.append(min(timed(call) for _ in range(3)))
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def peak_memory(make_call):
    """MiB that a fresh process needs, at its highest, to set up and run a call twice, beyond what importing took; None if unknown.

    make_call() -> the call; importable, as it crosses to the other process.
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
