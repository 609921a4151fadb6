"""What more cores would give, by counting: how a step is cut into pieces, how often work changes hands, and what only one thread does.

No machine with many cores is needed. Pieces of one large image do not depend on the number of threads: each is timed once, on one thread,
and the busiest of n threads follows. A batch is shared by processes: n of them are started, however few cores there are, and their
processor time is read, not the time on the clock. Hand-overs to threads are charged one after another, which is more than they cost. That
cores share memory, and threads Python's lock, is left out, which makes real speeds lower.
"""

import contextlib
import functools
import heapq
import math
import statistics
import time
from typing import NamedTuple
from unittest import mock

from mdps_ref.autograd.network import without_replays
from mdps_ref.bench import rows
from mdps_ref.bench.profile import Clock
from mdps_ref.errors import InputError
from mdps_ref.job import train
from mdps_ref.kernels import attention, blocks, convolution, depthwise, fast, normalisation, table, winograd
from mdps_ref.kernels.processes import CAN_FORK, Team
from mdps_ref.kernels.replay import CALLS_BEFORE
from mdps_ref.kernels.threads import WORTH_SHARING, even_shares, in_threads

CORES = (1, 2, 4, 8, 16)
STEPS = ("guided step, small, 16", "training step", "guided step, released")  # beginnings of the names of the rows that are counted
CALLS = 5  # of a step that processes share
HANDOVERS = 200  # that are timed
SHARING = (attention, blocks, convolution, depthwise, normalisation, winograd)  # modules that call in_threads
HEADER = f"{'':44}{'cores':>7}{'hand-overs':>12}{'largest piece':>15}{'serial':>9}{'times faster':>14}"


class Count(NamedTuple):
    """What counting gives for a number of cores.

    handovers: how often, in a step, another thread or process is given work.  largest: the work of the busiest one, as a share of what is
    shared; at least 1 / cores.  serial: what only the caller does, as a share of the step on one core.  speed: times that of one core.
    """

    cores: int
    handovers: int
    largest: float
    serial: float
    speed: float


def all_counts(only=""):
    """Yield the name, and a Count for each of CORES, of each row of STEPS whose name begins with `only`.

    Raises
    ------
    InputError
        If processes cannot be forked.
    """
    if not CAN_FORK:
        raise InputError("--scaling: this system forks no processes, which are what is counted; count on Linux")
    for row in rows.rows():
        if row.name.startswith(STEPS) and row.name.startswith(only):
            make_call = functools.partial(getattr(rows, row.setup), *row.arguments)
            images = row.arguments[1]
            yield row.name, (team_counts(make_call, images) if images > 1 else thread_counts(make_call()))


def line(name, count):
    """A Count as a line below HEADER."""
    return f"{name:44}{count.cores:>7}{count.handovers:>12}{count.largest:>15.1%}{count.serial:>9.1%}{count.speed:>14.2f}"


def thread_counts(call):
    """Count a step whose operations are shared by threads.

    Parameters
    ----------
    call : callable
        The step.

    Returns
    -------
    list of Count
    """
    with fast(threads=1), without_replays():
        call()
        with recorded() as shared:
            start = time.thread_time()
            call()
            whole = time.thread_time() - start
    return predicted(whole, shared, handover_seconds())


def predicted(whole, shared, handover):
    """Predict from one thread's times.

    Parameters
    ----------
    whole : float
        Seconds of the step.
    shared : list of lists of float
        The seconds of each part of each operation that is worth sharing.
    handover : float
        Seconds until another thread has begun and been waited for.

    Returns
    -------
    list of Count
    """
    work, counts = math.fsum(map(math.fsum, shared)), []
    for cores in CORES:
        busiest = math.fsum(busiest_thread(parts, cores) for parts in shared)
        handovers = sum(min(cores, len(parts)) - 1 for parts in shared)
        seconds = whole - work + busiest + handovers * handover
        counts.append(Count(cores, handovers, busiest / work, (whole - work) / whole, whole / seconds))
    return counts


def busiest_thread(parts, threads):
    """Return the seconds of the busiest of some threads, each of which takes the next part when it is free, as `in_threads` does it."""
    loads = [0.0] * threads
    for part in parts:
        heapq.heapreplace(loads, loads[0] + part)
    return max(loads)


@contextlib.contextmanager
def recorded():
    """Inside `fast(threads=1)`: a list that grows by the seconds of all parts of each operation that more threads would share."""
    shared = []

    def record(work, parts, seconds=math.inf):
        parts, marks = list(parts), []

        def marked():
            for part in parts:
                marks.append(time.thread_time())
                yield part
            marks.append(time.thread_time())

        work(marked())
        if seconds > WORTH_SHARING and len(parts) > 1:
            shared.append([end - start for start, end in zip(marks, marks[1:], strict=False)])

    with contextlib.ExitStack() as undo:
        for module in SHARING:
            undo.enter_context(mock.patch.object(module, "in_threads", record))
        yield shared


def handover_seconds():
    """Return the time in which a second thread is given nothing to do and waited for: the median of some."""
    seconds = []
    with fast(threads=2):
        for _ in range(HANDOVERS):
            start = time.perf_counter()
            in_threads(list, range(2))
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def team_counts(make_call, images):
    """Count a step whose images are shared by a team of processes.

    Parameters
    ----------
    make_call : callable
        make_call() -> the step.
    images : int
        More than 1.

    Returns
    -------
    list of Count
    """
    times, counts = [team_seconds(make_call, min(cores, images)) for cores in CORES], []
    whole = sum(times[0])
    for cores, (serial, own) in zip(CORES, times, strict=True):
        shares = [part.stop - part.start for part in even_shares(images, min(cores, images))]
        busiest = own * max(shares) / shares[0]  # the caller's share is the first
        counts.append(Count(cores, len(shares) - 1, busiest / times[0][1], serial / whole, whole / (serial + busiest)))
    return counts


def team_seconds(make_call, members):
    """Run a step with so many processes; return the processor seconds of the caller outside its share of the images, and in it."""
    clock, steps = Clock(time.thread_time), []
    with contextlib.ExitStack() as undo:

        def team(work, count):
            return undo.enter_context(Team(clock.timed(work, "share"), count))

        for module in (rows, train):
            undo.enter_context(mock.patch.object(module, "Team", team))
        undo.enter_context(mock.patch.object(table, "CORES", members))
        undo.enter_context(fast(members))
        call = make_call()
        for _ in range(CALLS_BEFORE):
            call()
        for _ in range(CALLS):
            before = dict(clock.stop())
            call()
            after = clock.stop()
            steps.append([after[kind] - before[kind] for kind in ("rest", "share")])
    return [statistics.median(column) for column in zip(*steps, strict=True)]
