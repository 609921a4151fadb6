"""Score batches of image files on a cluster: a batch is a task, and its rows come back in order, whatever dies meanwhile."""

import dataclasses
import functools
import pathlib
import tempfile

import distributed

from mdps_ref.data.listing import Listed
from mdps_ref.errors import InputError, shown
from mdps_ref.job.cluster import Again, Session, Work, check_extractor
from mdps_ref.job.detect import extractor_digest
from mdps_ref.job.progress import say
from mdps_ref.job.scoring_session import load, score_batch

KILLER = "each process that scored it was killed; give the workers more memory, or repair the image"


def on_cluster(client, threads=1, backend="auto"):
    """Return the `score_batches` of `scoring_session.score_files` that scores on a cluster.

    Each batch is scored by one process, as one process scores it on one machine with one thread. So the bytes do not depend on the
    number of workers, on their threads, on their order, or on deaths among them.

    Parameters
    ----------
    client : distributed.Client
    threads, backend
        See `cluster.Work`.
    """

    def score_batches(detector, batches, with_maps):
        make = functools.partial(_on_device, dataclasses.replace(detector, weights={}), extractor_digest(detector.config))
        work = Work(make, detector.weights, threads, backend)
        yield from _Scoring(Session(client, work), client, detector, with_maps).of(batches)

    return score_batches


def _on_device(detector, digest, weights, xp):
    """In a worker: the detector with its weights."""
    check_extractor(detector.config, digest)
    return dataclasses.replace(detector, weights=weights)


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


def _score(detector, shard, with_maps):
    """In a worker: the rows and maps of a batch.  Raises: Again if it does not see an image."""
    if shard.contents is None and _sizes(shard.images) != shard.sizes:
        raise Again
    with tempfile.TemporaryDirectory() as folder:
        images = shard.images
        if shard.contents is not None:
            images = [_written(pathlib.Path(folder, str(at)), image, shard.contents) for at, image in enumerate(images)]
        return score_batch(detector, images, with_maps, shard.left_out)


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


class _Scoring:
    """Batches of images, as tasks of a Session."""

    def __init__(self, session, client, detector, with_maps):
        self._session, self._client, self._detector, self._with_maps = session, client, detector, with_maps
        self._by_bytes = None

    def of(self, batches):
        """Yield (rows, maps) of each batch, in order."""
        for batch, task in self._session.in_order(batches, self._submitted):
            try:
                yield self._result(task, batch)
            except distributed.KilledWorker:
                yield self._without_killers(batch)

    def _submitted(self, images, left_out=None):
        """Send some images to be scored together; return the Task."""
        images = [Listed(image.path.absolute(), image.name) for image in images]
        if self._by_bytes is None:
            self._by_bytes = self._unseen(images)
        contents, left_out = {} if self._by_bytes else None, dict(left_out or {})
        for image in images if self._by_bytes else ():
            try:
                contents[image.name] = image.path.read_bytes()
            except OSError:
                left_out[image.name] = load(self._detector, image)[1]
        return self._session.submit(_score, _Shard(images, _sizes(images), contents, left_out), self._with_maps)

    def _unseen(self, images):
        """Return whether a worker does not see these images where they are, and say so."""
        blind = [address for address, sizes in self._client.run(_sizes, images).items() if sizes != _sizes(images)]
        if blind:
            say(f"images are sent to the workers: {len(blind)} of them, {blind[0]} first, do not see {shown(images[0].path.parent)}")
        return bool(blind)

    def _result(self, task, images, left_out=None):
        """Wait for what some images give; send them anew, with their bytes, if their worker does not see them."""
        while True:
            try:
                return self._session.result(task)
            except Again:
                self._by_bytes = True
            task = self._submitted(images, left_out)

    def _without_killers(self, images):
        """Score a batch whose workers were killed: find the images that do it, by halves, and leave them out."""
        say(f"processes were killed that scored {_named(images)}; trying them in parts")
        self._session.wait_for_others()  # from here on no other batch can kill a worker
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
                        f"{_named(images)} kill the processes that score them together, and none does alone; give the workers more memory"
                    ) from None

    def _killers(self, images):
        """Return those of some images that kill a worker by themselves."""
        try:
            self._result(self._submitted(images), images)
        except distributed.KilledWorker:
            return images if len(images) == 1 else [image for half in _halves(images) for image in self._killers(half)]
        return []


def _named(images):
    """The images of a batch, for a sentence."""
    more = len(images) - 1
    return shown(images[0].name) + (f" and the {more} image{'s' * (more > 1)} after it" if more else "")


def _halves(images):
    """Cut a list in two; one image is one half."""
    middle = (len(images) + 1) // 2
    return [half for half in (images[:middle], images[middle:]) if half]
