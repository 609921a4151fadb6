"""Score images from files with a detector, a batch at a time: a row an image as it is done, in memory that does not grow."""

import csv
import dataclasses
import io
import json

import numpy as np

from mdps_ref.data.images import load_image
from mdps_ref.data.pixels import image_size
from mdps_ref.errors import InputError, shown
from mdps_ref.job.detect import images_at_once
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.progress import progress, speaking
from mdps_ref.job.run_folder import cell, check_name, write_map

COLUMNS = ("path", "score", "flagged", "unsure", "left_out")


@dataclasses.dataclass(frozen=True)
class Row:
    """What is said of one image.

    Parameters
    ----------
    path : str
        The image's name: its path in the folder that was given.
    score : float or None
        None if the image was left out.
    flagged, unsure : bool or None
        Whether the score exceeds the threshold; whether the posterior samples disagree about that, see `detector.Scores`.
    left_out : str
        Why the image could not be scored; "" if it was.
    """

    path: str
    score: float | None = None
    flagged: bool | None = None
    unsure: bool | None = None
    left_out: str = ""

    def as_csv(self):
        """Return the row as a line of CSV, without a line break inside."""
        line = io.StringIO()
        score = "" if self.score is None else f"{self.score:.8g}"
        cells = (cell(shown(self.path)), score, _digit(self.flagged), _digit(self.unsure), cell(self.left_out))
        csv.writer(line, lineterminator="\n").writerow(cells)
        return line.getvalue()

    def as_json(self):
        """Return the row as a line of JSON."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def _digit(decision):
    return "" if decision is None else str(int(decision))


class RowFile:
    """A table on the disk, a line a row, that grows as rows are done; or rows on standard output.

    Parameters
    ----------
    path : Path
    as_json : bool
        Lines of JSON; otherwise CSV, which begins with the names of its columns.
    """

    def __init__(self, path, as_json):
        self.path, self._as_json = path, as_json
        self._head = "" if as_json else ",".join(COLUMNS) + "\n"

    def resume(self, batch, names):
        """Keep the rows of whole batches, and return how many images they are of.

        Parameters
        ----------
        batch : int
            Images in a batch.
        names : list of str
            The names of all images.

        Raises
        ------
        InputError
            If a row is of another image than the one in its place.
        """
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.is_file() else []
        head = [self._head.encode().rstrip(b"\n")] if self._head else []
        lines = lines[len(head) :] if lines[: len(head)] == head else []
        for line, name in zip(lines, names, strict=False):
            if not line.startswith(self._beginning(name)):
                raise InputError(f"{self.path}: its rows are of other images, from {shown(name)} on; give another folder to --out")
        done = len(lines) if len(lines) == len(names) else len(lines) // batch * batch
        self._write("wb", b"".join(line + b"\n" for line in (*head, *lines[:done])))
        return done

    def _beginning(self, name):
        row = Row(name)
        return (row.as_json().split('", "score"')[0] if self._as_json else row.as_csv().rpartition(",,,,")[0]).encode()

    def append(self, rows):
        """Append rows. A kill after this returns does not lose them."""
        self._write("ab", "".join(row.as_json() if self._as_json else row.as_csv() for row in rows).encode())

    def _write(self, mode, content):
        try:
            with open(self.path, mode) as handle:
                handle.write(content)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"{self.path}: could not be written ({reason}); free space there or choose another folder") from error


class RowStream(RowFile):
    """Rows on a stream, such as standard output."""

    def __init__(self, stream, as_json):
        super().__init__(None, as_json)
        self._stream = stream
        self._stream.write(self._head)

    def append(self, rows):
        """Write rows, and flush."""
        self._stream.write("".join(row.as_json() if self._as_json else row.as_csv() for row in rows))
        self._stream.flush()


def score_files(detector, images, table, keep=lambda image, scores, i: None, done=0):
    """Score images from files.

    Parameters
    ----------
    detector : Detector
    images : list of Listed
        As `data.folders.list_images` gives them.
    table : RowFile
    keep : callable
        keep(image, scores, i) keeps what is wanted beside the row of an image: entry i of these Scores. It is called before the row
        is written, so that a row means that all is there.
    done : int
        Images whose rows are in the table already.

    Yields
    ------
    Row
        Of every image that was not done, once it is in the table.

    Raises
    ------
    InputError
        If a file cannot be written.
    Interrupted
        If a signal asked to stop; the batches that were finished are in the table.
    """
    batch = images_at_once(detector.config)
    with progress(len(images), "image", "scoring", done) as bar:
        for start in range(done, len(images), batch):
            rows = _score_batch(detector, images[start : start + batch], keep)
            table.append(rows)
            yield from rows
            bar.update(len(rows))
            stop_if_asked()


def _score_batch(detector, images, keep):
    """Return the rows of a few images."""
    rows, loaded = {}, []
    for image in images:
        try:
            check_name(image.path)
            loaded.append((image, load_image(image.path, detector.config.image_size, detector.white, detector.config.fit)))
        except InputError as error:
            rows[image.name] = Row(image.name, left_out=shown(error))
    if loaded:
        with speaking("quiet"):  # its chains are too short to tell of
            scores = detector.score(np.stack([pixels for _, pixels in loaded]), [image.name for image, _ in loaded])
        for i, (image, _) in enumerate(loaded):
            keep(image, scores, i)
            rows[image.name] = Row(image.name, float(scores.score[i]), bool(scores.flagged[i]), bool(scores.unsure[i]))
    return [rows[image.name] for image in images]


def keep_map(folder, fit):
    """Return a `keep` for `score_files` that writes each anomaly map to <folder>/<name of the image>.tiff."""

    def keep(image, scores, i):
        write_map(folder / f"{image.name}.tiff", scores.anomaly[i], image_size(image.path), fit)

    return keep
