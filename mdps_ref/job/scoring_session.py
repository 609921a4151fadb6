"""Score images from files with a detector, a batch at a time: a row an image once its batch is done, in memory that does not grow."""

import csv
import dataclasses
import io
import json

import numpy as np

from mdps_ref.data.files import naming
from mdps_ref.data.images import load_image
from mdps_ref.data.pixels import image_size
from mdps_ref.errors import InputError, printable, shown
from mdps_ref.job.chains import images_at_once
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.progress import progress, speaking
from mdps_ref.job.run_folder import cell, check_name, write_map

HEAD = "path,score,flagged,unsure,left_out\n"


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

    @property
    def label(self):
        """The path as a table shows it: whole, on one line, and no formula for a spreadsheet."""
        return cell(printable(self.path))


def lines_of(rows, as_json):
    """Write rows, a line each: JSON, or CSV."""
    if as_json:
        return "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in rows:
        score = "" if row.score is None else f"{row.score:.8g}"
        table.writerow([row.label, score, _digit(row.flagged), _digit(row.unsure), cell(row.left_out)])
    return text.getvalue()


def _digit(decision):
    return "" if decision is None else str(int(decision))


class RowStream:
    """Rows on a stream, such as standard output.

    Parameters
    ----------
    stream : text file
    as_json : bool
        Lines of JSON; otherwise CSV, which begins with the names of its columns.
    """

    remedy = "mend it, and score again"

    def __init__(self, stream, as_json):
        self._stream, self._as_json = stream, as_json
        stream.write("" if as_json else HEAD)

    def append(self, rows):
        """Write rows, and flush."""
        self._stream.write(lines_of(rows, self._as_json))
        self._stream.flush()


class RowFile:
    """Rows in a file that grows as they are done, in the form of a RowStream.

    Parameters
    ----------
    path : Path
    as_json : bool
    """

    remedy = "mend it, and go on with --resume"

    def __init__(self, path, as_json):
        self.path, self._as_json = path, as_json

    def resume(self, batch, names, most=None):
        """Keep the rows of whole batches, so that the next batch is made up as in an unbroken run.

        Parameters
        ----------
        batch : int
            Images in a batch.
        names : list of str
            The names of all images.
        most : int, optional
            The largest number of rows to keep.

        Returns
        -------
        list of Row
            Those that are kept.

        Raises
        ------
        InputError
            If an image was added or taken away, or the images are in another order.
        """
        content = self.path.read_bytes() if self.path.is_file() else b""
        lines = content.decode(errors="replace").split("\n")[:-1]  # a kill may have torn the last line
        head = [] if self._as_json else [HEAD.rstrip("\n")]
        lines = lines[len(head) :]
        rows = [self._parsed(line) for line in lines]  # also those that are written again belong to these images
        self._check_images([row.path for row in rows], [name if self._as_json else Row(name).label for name in names])
        lines = lines[:most]
        done = len(lines) if len(lines) == len(names) else len(lines) // batch * batch
        kept = "".join(line + "\n" for line in (*head, *lines[:done])).encode()
        with naming(self.path), open(self.path, "ab") as handle:
            whole = content.startswith(kept)
            handle.truncate(len(kept) if whole else 0)
            handle.write(b"" if whole else kept)
        return rows[:done]

    def _check_images(self, done, given):
        """Raise InputError unless the labels of the rows that are done are the first of the labels that are given."""
        if done == given[: len(done)]:
            return
        here, before = set(given), set(done)
        gone = next((label for label in done if label not in here), None)
        added = next((label for label in given[: len(done)] if label not in before), None)
        if gone is not None:
            change = f"{shown(gone)} is missing, and has a row; put it back to go on, or score into another --out"
        elif added is not None:
            change = f"{shown(added)} was added since the scoring began; take it out to go on, and score it into another --out"
        else:
            change = "the images are in another order than its rows; give them as before, or score into another --out"
        raise InputError(f"{self.path}: {change}")

    def _parsed(self, line):
        """The Row in a line; InputError if there is none."""
        try:
            if self._as_json:
                return Row(**json.loads(line))
            path, score, flagged, unsure, left_out = next(csv.reader([line]))
            return Row(path, float(score) if score else None, flagged == "1", unsure == "1", left_out)
        except (TypeError, ValueError, StopIteration):
            raise InputError(f"{self.path}: holds lines that are no rows of scores; give another folder to --out") from None

    def append(self, rows):
        """Append rows. A kill after this returns does not lose them."""
        with naming(self.path), open(self.path, "ab") as handle:
            handle.write(lines_of(rows, self._as_json).encode())


def score_files(detector, images, table, keep=None, done=0, score_batches=None, note=lambda images: None, strict=False):
    """Score images from files.

    Parameters
    ----------
    detector : Detector
    images : list of Listed
        As `data.listing.list_images` gives them.
    table : RowFile or RowStream
    keep : callable, optional
        keep(image, anomaly) keeps what is wanted beside the row of an image: its anomaly map, (size, size). It is called before the row
        is written, so that a row means that all is there.
    done : int
        Images whose rows are in the table already.
    score_batches : callable, optional
        Takes the place of `one_after_another`, for example `cluster_scoring.on_cluster(...)`.
    note : callable
        note(images) is called with the images of a batch before their rows are written.
    strict : bool
        Stop at the first image that cannot be scored, before anything of its batch is kept. So once it is mended, its batch is scored.

    Yields
    ------
    Row
        Of every image that was not done, once it is in the table.

    Raises
    ------
    InputError
        If a file cannot be written, or an image cannot be scored and `strict` is set.
    Interrupted
        If a signal asked to stop; the batches that were finished are in the table.
    """
    size = images_at_once(detector.config)
    batches = [images[start : start + size] for start in range(done, len(images), size)]
    scored = (score_batches or one_after_another)(detector, batches, keep is not None)
    with progress(len(images), "image", "scoring", done) as bar:
        for batch, (rows, maps) in zip(batches, scored, strict=True):
            if strict:
                check_none_left_out(rows, table.remedy)
            for image, anomaly in zip(batch, maps, strict=True):
                if anomaly is not None:
                    keep(image, anomaly)
            note(batch)
            table.append(rows)
            yield from rows
            bar.update(len(rows))
            stop_if_asked()


def check_none_left_out(rows, remedy):
    """Raise InputError if an image was left out; the message names it and ends with the remedy."""
    for row in rows:
        if row.left_out:
            raise InputError(f"--strict: {shown(row.path)}: {row.left_out}; {remedy}")


def one_after_another(detector, batches, with_maps):
    """Score batches of images in this process.

    Parameters
    ----------
    detector : Detector
    batches : sequence of lists of Listed
    with_maps : bool

    Yields
    ------
    rows, maps
        Of each batch, in their order, as `score_batch` returns them.
    """
    for batch in batches:
        yield score_batch(detector, batch, with_maps)


def score_batch(detector, images, with_maps, left_out=None):
    """Score a few images from files, which share each pass of the network.

    Parameters
    ----------
    detector : Detector
    images : list of Listed
    with_maps : bool
    left_out : dict of str to str, optional
        Why an image is not to be read, by its name.

    Returns
    -------
    rows : list of Row
    maps : list of array, (size, size), or None
        One an image; None without a score, or if no maps are wanted.
    """
    loaded, left_out = {}, dict(left_out or {})
    for image in images:
        if image.name not in left_out:
            pixels, reason = load(detector, image)
            (loaded if pixels is not None else left_out)[image.name] = pixels if pixels is not None else reason
    rows, maps = {name: Row(name, left_out=reason) for name, reason in left_out.items()}, {}
    if loaded:
        with speaking("quiet"):  # its chains are too short to tell of
            scores = detector.score(np.stack(list(loaded.values())))
        for i, name in enumerate(loaded):
            rows[name] = Row(name, float(scores.score[i]), bool(scores.flagged[i]), bool(scores.unsure[i]))
            maps[name] = scores.anomaly[i] if with_maps else None
    return [rows[image.name] for image in images], [maps.get(image.name) for image in images]


def load(detector, image):
    """Read an image as a detector wants it.

    Parameters
    ----------
    detector : Detector
    image : Listed

    Returns
    -------
    pixels : array, (size, size, 3), in [-1, 1], or None
    reason : str
        Why there are no pixels.
    """
    try:
        check_name(image.path)
        return load_image(image.path, detector.config.image_size, detector.white, detector.config.fit), ""
    except InputError as error:
        return None, shown(str(error).removeprefix(f"{shown(image.path)}: "))  # the row names the image


def keep_map(folder, fit):
    """Return a `keep` for `score_files` that writes each anomaly map to <folder>/<name of the image>.tiff."""

    def keep(image, anomaly):
        write_map(folder / f"{image.name}.tiff", anomaly, image_size(image.path), fit)

    return keep
