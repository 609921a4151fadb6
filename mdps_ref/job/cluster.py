"""Score batches on a Dask cluster: a batch is a task, and its rows come back in order, whatever dies meanwhile."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import logging
import pathlib
import platform
import tempfile
import time
from concurrent.futures import CancelledError

from mdps_ref.backend import find_backend, to_device, to_host
from mdps_ref.data.listing import Listed
from mdps_ref.errors import InputError, shown
from mdps_ref.job.detector import Detector
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.progress import say
from mdps_ref.job.scoring_session import load, score_batch
from mdps_ref.kernels import fast
from mdps_ref.kernels.threads import CORES

try:
    import dask
    import distributed
    from distributed.comm import CommClosedError
except ImportError as error:
    raise InputError('a cluster needs Dask, which is not installed; install it with: pip install -e ".[cluster]"') from error

AHEAD = 4  # batches under way for each thread of the workers: they keep busy while the oldest batch is waited for
SECONDS_TO_CONNECT = 20
SECONDS_TO_COUNT = 5  # between two counts of the workers, which come and go
SECONDS_TO_LOOK = 0.5  # between two looks for a signal, and for a scheduler or workers that are gone
SAME = ("python", "dask", "distributed", "numpy", "scipy", "pillow", "mdps_ref")  # versions that client and workers have in common
DEAF_TO_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # the terminal sends it to all; the command decides
KILLER = "each process that scored it was killed; give the workers more memory, or repair the image"


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
        If no scheduler answers.
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
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it tells with a traceback, the command tells in one line
    try:
        client = distributed.Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--cluster {shown(address)}: no scheduler answers ({reason}); start one with `dask scheduler`") from error
    with client:
        yield client


def on_cluster(client, threads=1, backend="auto"):
    """Return the `score_batches` of `scoring_session.score_files` that scores on a cluster.

    Each batch is scored by one process, as one process scores it on one machine with one thread. So the bytes do not depend on the
    number of workers, on their threads, on their order, or on deaths among them.

    Parameters
    ----------
    client : distributed.Client
    threads : int
        How many threads share the work on a batch.
    backend : {"numpy", "cupy", "auto"}
        Array module; "auto" lets each worker use the GPU that it finds. A GPU's results agree with a processor's to rounding.
    """

    def score_batches(detector, batches, with_maps):
        host = dataclasses.replace(detector, weights={name: to_host(array) for name, array in detector.weights.items()})
        yield from _Session(client, _Work(host, threads, backend, with_maps), batches).results()

    return score_batches


@dataclasses.dataclass(frozen=True)
class _Work:
    """What every worker gets once."""

    host_detector: Detector
    threads: int
    backend: str
    with_maps: bool

    @functools.cached_property
    def detector(self):
        """The detector on the worker's device."""
        xp = find_backend(self.backend)
        weights = {name: to_device(array, xp) for name, array in self.host_detector.weights.items()}
        return dataclasses.replace(self.host_detector, weights=weights)


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A batch as it is sent.

    sizes: of the files, by name; None for a file that cannot be found.  contents: their bytes, or None where workers see the files.
    left_out: why an image is not to be read, by name.
    """

    images: list
    sizes: dict
    contents: dict | None
    left_out: dict


class _Unseen(Exception):
    """A worker does not see an image."""


def _score(work, shard):
    """In a worker: the rows and maps of a batch."""
    if shard.contents is None and _sizes(shard.images) != shard.sizes:
        raise _Unseen
    with fast(work.threads, forks=False), tempfile.TemporaryDirectory() as folder:
        images = shard.images
        if shard.contents is not None:
            images = [_written(pathlib.Path(folder, str(at)), image, shard.contents) for at, image in enumerate(images)]
        try:
            return score_batch(work.detector, images, work.with_maps, shard.left_out)
        except InputError as error:
            raise InputError(f"on {platform.node()}: {error}") from None


def _sizes(images):
    """The size of each image's file, by its name; None if it cannot be found."""
    sizes = {}
    for image in images:
        try:
            sizes[image.name] = image.path.stat().st_size
        except OSError:
            sizes[image.name] = None
    return sizes


def _written(folder, image, contents):
    """The image as a file in a new folder, if it was sent."""
    path = folder / image.path.name
    if image.name in contents:
        folder.mkdir()
        path.write_bytes(contents[image.name])
    return Listed(path, image.name)


class _Session:
    """The batches of one call, on their way to the workers and back."""

    def __init__(self, client, work, batches):
        self._client, self._work, self._batches = client, work, iter(batches)
        self._waiting = collections.deque()  # (batch, future), from the oldest on
        with _told():
            _wait_for_a_worker(client)
            _check_versions(client)
            self._detector = self._sent(_kept, work)
            client.replicate([self._detector])
        self._by_bytes, self._most, self._count_again = None, 0, 0.0

    def results(self):
        """Yield (rows, maps) of each batch, in order."""
        with _told():
            while True:
                self._send_more()
                if not self._waiting:
                    return
                batch, future = self._waiting.popleft()
                try:
                    yield self._result(future, batch)
                except distributed.KilledWorker:
                    yield self._without_killers(batch)

    def _send_more(self):
        """Keep a bounded number of batches under way, so that memory does not grow with the number of images."""
        if time.monotonic() >= self._count_again:
            self._most = AHEAD * max(1, sum(self._client.nthreads().values()))
            self._count_again = time.monotonic() + SECONDS_TO_COUNT
        for batch in itertools.islice(self._batches, max(0, self._most - len(self._waiting))):
            self._waiting.append((batch, self._submitted(batch)))

    def _submitted(self, images, left_out=None):
        """Send some images to be scored together; return the future."""
        images = [Listed(image.path.absolute(), image.name) for image in images]
        if self._by_bytes is None:
            self._by_bytes = self._unseen(images)
        contents, left_out = {} if self._by_bytes else None, dict(left_out or {})
        for image in images if self._by_bytes else ():
            try:
                contents[image.name] = image.path.read_bytes()
            except OSError:
                left_out[image.name] = load(self._work.host_detector, image)[1]
        return self._sent(_score, self._detector, _Shard(images, _sizes(images), contents, left_out))

    def _sent(self, function, *arguments):
        """Send a task. Weights and images may be large, which Dask would warn of."""
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            return self._client.submit(function, *arguments, pure=False)

    def _unseen(self, images):
        """Return whether a worker does not see these images where they are, and say so."""
        blind = [address for address, sizes in self._client.run(_sizes, images).items() if sizes != _sizes(images)]
        if blind:
            say(f"images are sent to the workers: {len(blind)} of them, {blind[0]} first, do not see {shown(images[0].path.parent)}")
        return bool(blind)

    def _result(self, future, images, left_out=None):
        """Wait for what some images give; send them anew, with their bytes, if their worker does not see them."""
        while True:
            self._wait([future])
            try:
                return future.result()
            except _Unseen:
                self._by_bytes = True
            future = self._submitted(images, left_out)

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

    def _without_killers(self, images):
        """Score a batch whose workers were killed: find the images that do it, by halves, and leave them out."""
        say(f"processes were killed that scored {shown(images[0].name)} and the {len(images) - 1} images after it; trying them in parts")
        self._wait([future for _, future in self._waiting])  # from here on no other batch can kill a worker
        left_out = {}
        while True:
            others = [image for image in images if image.name not in left_out]
            killers = [image for half in _halves(others) for image in self._killers(half)]
            left_out |= {image.name: KILLER for image in killers}
            try:
                return self._result(self._submitted(images, left_out), images, left_out)
            except distributed.KilledWorker:
                if not killers:
                    raise InputError(
                        f"{shown(images[0].name)} and the {len(images) - 1} images after it kill the processes that score them together, "
                        "and none does alone; give the workers more memory"
                    ) from None

    def _killers(self, images):
        """Return those of some images that kill a worker by themselves."""
        try:
            self._result(self._submitted(images), images)
        except distributed.KilledWorker:
            return images if len(images) == 1 else [image for half in _halves(images) for image in self._killers(half)]
        return []


def _kept(work):
    """In a worker: keep what all batches need. As the result of a task it is made anew if its last worker dies."""
    return work


def _halves(images):
    """Cut a list in two; one image is one half."""
    middle = (len(images) + 1) // 2
    return [half for half in (images[:middle], images[middle:]) if half]


@contextlib.contextmanager
def _told():
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
    """Raise InputError if a version differs from that on the client."""
    found = client.get_versions(packages=SAME[1:])
    for address, there in {"the scheduler": found["scheduler"], **found["workers"]}.items():
        for name in SAME:
            here, version = found["client"]["packages"][name], there["packages"].get(name)
            if version != here:
                raise InputError(f"{address}: has {name} {version or 'not'}, and the client has {here}; install the same version on both")
