"""The digests of all images of a run or a scoring: neither goes on where an image was replaced."""

import numpy as np

from mdps_ref.data.files import Unreadable, digest
from mdps_ref.errors import InputError, shown
from mdps_ref.job.records import Records
from mdps_ref.job.run_folder import read_json, write_json

WEIGHTS = "weights"  # the key of the file of weights in data.json


def check_data(folder, category, weights=None):
    """Compare the files that a run uses with those in its data.json; without data.json write it.

    Parameters
    ----------
    folder : Path
        Of the run.
    category : Category
    weights : path-like, optional
        The run's file of trained weights. Without one those in data.json are not looked at.

    Returns
    -------
    dict of str to str
        The SHA-256 of each file, by its path in the category's folder; "" of one that cannot be read.

    Raises
    ------
    InputError
        That names the first file that was replaced, added or taken away since the run began.
    """
    path, found = folder / "data.json", _digests(category) | ({WEIGHTS: digest(weights)} if weights else {})
    if not path.is_file():
        write_json(path, found)
        return found
    known = read_json(path)
    if not weights:
        known.pop(WEIGHTS, None)
    for name in sorted(known.keys() | found.keys()):
        if known.get(name) != found.get(name):
            change = "was added" if name not in known else "is missing" if name not in found else "was replaced"
            file = weights if name == WEIGHTS else category.root / name
            remedy = "take it away" if name not in known else "restore it"
            raise InputError(f"{file}: {change} since the run in {folder} began; {remedy}, or start a new run")
    return found


def note_copies(category, digests, findings):
    """Note images of a category that are the same file as another one.

    A test image that was trained on says little. If copies of a training image are held out, the thresholds are too low. If one file is a
    good and a defective test image, one of the two labels is wrong.

    Parameters
    ----------
    category : Category
    digests : dict of str to str
        From `check_data`.
    findings : Findings
    """

    def digest_of(item):
        return digests[item.path.relative_to(category.root).as_posix()]

    trained, tested = set(), set()
    for item in filter(digest_of, category.train):
        if digest_of(item) in trained:
            findings.add("image in train, there more than once", item.path)
        trained.add(digest_of(item))
    for item in filter(digest_of, category.test):
        if digest_of(item) in trained:
            findings.add("image in test, in train as well", item.path)
        if digest_of(item) in tested:
            findings.add("image in test, there more than once", item.path)
        tested.add(digest_of(item))


def _digests(category):
    """Return the SHA-256 of every file of a category that a run uses, by its path in the category's folder; "" of an unreadable one."""
    items = (*category.train, *category.test)
    paths = [path for item in items for path in (item.path, item.mask_path) if path]
    return {path.relative_to(category.root).as_posix(): _digest_of_run(path) for path in paths}


def _digest_of_run(path):
    """The SHA-256 of a file; "" of one that cannot be read: the reader of images sets that aside, or stops there."""
    try:
        return digest(path)
    except Unreadable:
        return ""


class ImageDigests(Records):
    """The SHA-256 of image files, in a file that grows with the table of their scores; "" of one that cannot be read.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path):
        super().__init__(path, "S64")

    def note(self, images):
        """Append the digests of the next images, a list of Listed."""
        self.append(np.array([_digest_of_scored(image) for image in images], self.dtype))

    def resume(self, images):
        """Keep the digests of these images alone, which have their rows already.

        Parameters
        ----------
        images : list of Listed
            At most as many as there are digests.

        Raises
        ------
        InputError
            If an image is not the one that was scored.
        """
        for image, known in zip(images, self[: len(images)], strict=True):
            if _digest_of_scored(image) != known:
                raise InputError(
                    f"{shown(image.path)}: was changed since its row was written; restore it to go on, or score into another --out"
                )
        self.truncate(len(images))


def _digest_of_scored(image):
    try:
        return digest(image.path).encode()
    except InputError:  # its row says why it was left out
        return b""
