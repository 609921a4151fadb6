"""Tasks on a Dask cluster: sent a bounded number at a time, and answered in order, whatever dies meanwhile."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import logging
import platform
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from mdps_ref.backend import find_backend, to_device, to_host
from mdps_ref.errors import InputError, shown
from mdps_ref.job.detect import extractor_digest
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.progress import say, speaking
from mdps_ref.kernels import fast
from mdps_ref.kernels.threads import CORES
from mdps_ref.scoring.features import file_of_weights

try:
    import dask
    import distributed
    from distributed.comm import CommClosedError
except ImportError as error:
    raise InputError('a cluster needs Dask, which is not installed; install it with: pip install -e ".[cluster]"') from error

AHEAD = 4  # tasks under way for each thread of the workers: they keep busy while the oldest task is waited for
SECONDS_TO_CONNECT = 20
SECONDS_TO_COUNT = 5  # between two counts of the workers, which come and go
SECONDS_TO_LOOK = 0.5  # between two looks for a signal, and for a scheduler or workers that are gone
SAME = ("python", "dask", "distributed", "numpy", "scipy", "pillow", "mdps_ref")  # versions that client and workers have in common
DEAF_TO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # the terminal sends it to all; the command decides


@contextlib.contextmanager
def connected(address, threads=1):
    """Connect to a cluster for the time of the block.

    Parameters
    ----------
    address : str
        A scheduler's, such as tcp://HOST:8786; or "local": worker processes on this machine, for the time of the block.
    threads : int
        How many threads a local worker has the use of: there is a worker for each so many cores.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        If no scheduler answers, or a version differs there from that on the client.
    """
    if address == "local":
        with (
            dask.config.set({"distributed.worker.profile.enabled": False}),  # sampling our threads' stacks takes a tenth of the time
            distributed.LocalCluster(
                n_workers=max(1, CORES // threads),
                threads_per_worker=1,
                dashboard_address="localhost:0",
                silence_logs=logging.CRITICAL,
                preload=[DEAF_TO_CTRL_C],
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    for name in ("distributed", "distributed.client"):  # what they tell with tracebacks, the command tells in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--cluster {shown(address)}: no scheduler answers ({reason}); start one with `dask scheduler`") from error
    with client:
        with scheduler_loss_in_one_line():
            _check_versions(client)
        yield client


@dataclasses.dataclass(frozen=True)
class Work:
    """What the tasks of a session share. It is sent to the workers once.

    Parameters
    ----------
    make : callable
        make(weights, xp) -> what the tasks need, such as a Model, from weights on the device of the array module xp. It is called once
        in each worker.
    weights : dict of str to array
    threads : int
        How many threads share the work on a task. They do not change its bytes.
    backend : {"numpy", "cupy", "auto"}
        Array module; "auto" lets each worker use the GPU that it finds. A GPU's results agree with a processor's to rounding.
    """

    make: Callable
    weights: dict
    threads: int
    backend: str

    @functools.cached_property
    def made(self):
        """What `make` made on this worker's device."""
        xp = find_backend(self.backend)
        return self.make({name: to_device(array, xp) for name, array in self.weights.items()}, xp)

    def __getstate__(self):
        """What is sent from one worker to another: nothing that lives on a device."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass
class Task:
    """A function that is called in a worker, function(work.made, *arguments), and the future of its result."""

    function: Callable
    arguments: tuple
    future: Any = None


class Session:
    """Tasks that share their Work, on their way to the workers and back.

    Parameters
    ----------
    client : distributed.Client
    work : Work

    Raises
    ------
    InputError
        From this and all methods: if the scheduler is lost, or a worker's version differs from the client's. A result counts only if
        the versions of its worker were compared, also if that worker came later.
    """

    def __init__(self, client, work):
        self._client, self._waiting = client, collections.deque()
        self._most, self._count_again = 0, 0.0
        host = dataclasses.replace(work, weights={name: to_host(array) for name, array in work.weights.items()})
        with scheduler_loss_in_one_line():
            _wait_for_a_worker(client)
            self._compared = _check_versions(client)
            self._work = self._sent(_kept, host)
            client.replicate([self._work])

    def submit(self, function, *arguments):
        """Send a Task, and return it."""
        task = Task(function, arguments)
        with scheduler_loss_in_one_line():
            self._send(task)
        return task

    def in_order(self, pieces, submit):
        """Keep a bounded number of tasks under way, so that memory does not grow with the number of pieces.

        Parameters
        ----------
        pieces : iterable
        submit : callable
            submit(piece) -> Task

        Yields
        ------
        piece, Task
            From the first on. `result` waits for it.
        """
        pieces = iter(pieces)
        self._waiting.clear()
        with scheduler_loss_in_one_line():
            while True:
                if time.monotonic() >= self._count_again:
                    self._most = AHEAD * max(1, sum(self._client.nthreads().values()))
                    self._count_again = time.monotonic() + SECONDS_TO_COUNT
                for piece in itertools.islice(pieces, max(0, self._most - len(self._waiting))):
                    self._waiting.append((piece, submit(piece)))
                if not self._waiting:
                    return
                yield self._waiting.popleft()

    def result(self, task):
        """Wait for a Task; return its result, or raise what it raised.

        Raises
        ------
        distributed.KilledWorker
            If its workers were killed, again and again.
        """
        with scheduler_loss_in_one_line():
            while True:
                self._wait([task.future])
                try:
                    address, result = task.future.result()
                except (InputError, Again, distributed.KilledWorker, CancelledError):
                    raise
                except Exception:
                    _check_versions(self._client)  # another version may be the reason
                    raise
                if address not in self._compared:
                    self._compared |= _check_versions(self._client)
                if address in self._compared:
                    return result
                self._send(task)  # its worker has gone again, so nobody knows its versions

    def wait_for_others(self):
        """Wait until all tasks have ended that `in_order` has sent and not yielded."""
        with scheduler_loss_in_one_line():
            self._wait([task.future for _, task in self._waiting])

    def _send(self, task):
        task.future = self._sent(_called, task.function, self._work, *task.arguments)

    def _sent(self, function, *arguments):
        """Send a function. Weights and images may be large, which Dask would warn of."""
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            return self._client.submit(function, *arguments, pure=False)

    def _wait(self, futures):
        """Wait until some futures have ended, a signal asks to stop, or the scheduler is gone."""
        while not all(future.done() for future in futures):
            stop_if_asked()
            try:
                distributed.wait(futures, timeout=SECONDS_TO_LOOK)
            except TimeoutError:
                if self._client.status != "running":
                    raise CancelledError from None
                _wait_for_a_worker(self._client)


def check_extractor(config, expected):
    """In a worker: raise InputError if its file of the extractor's weights has another SHA-256 than the client's file, `expected`."""
    if extractor_digest(config) != expected:
        file = file_of_weights(config.extractor, config.feature_weights)
        raise InputError(f"{file}: other weights than the client's; install the same file on both")


class Again(Exception):
    """Raised in a worker: the task has to be sent in another form."""


def _called(function, work, *arguments):
    """In a worker: its address, and the result of a task."""
    try:
        with fast(work.threads, forks=False), speaking("quiet"):
            return distributed.get_worker().address, function(work.made, *arguments)
    except InputError as error:
        raise InputError(f"on {platform.node()}: {error}") from None


def _kept(work):
    """In a worker: keep what all tasks need. As the result of a task it is made anew if its last worker dies."""
    return work


@contextlib.contextmanager
def scheduler_loss_in_one_line():
    """Turn the loss of the scheduler into one line."""
    try:
        yield
    except (CancelledError, CommClosedError) as error:
        raise InputError("the connection to the scheduler is lost; start it again if need be, and go on with --resume") from error


def _wait_for_a_worker(client):
    """Return once there is a worker. A cluster may start its first ones late, and new ones after the last has died."""
    if not client.nthreads():
        say(f"no worker is there; waiting for one (dask worker {client.scheduler.address} starts one)", "quiet")
        while not client.nthreads():
            stop_if_asked()
            time.sleep(SECONDS_TO_LOOK)


def _check_versions(client):
    """Return the addresses of the workers.  Raises: InputError if a version there differs from that on the client."""
    found = client.get_versions(packages=SAME[1:])
    for address, there in {"the scheduler": found["scheduler"], **found["workers"]}.items():
        for name in SAME:
            here, version = found["client"]["packages"][name], there["packages"].get(name)
            if version != here:
                raise InputError(f"{address}: has {name} {version or 'not'}, and the client has {here}; install the same version on both")
    return set(found["workers"])
