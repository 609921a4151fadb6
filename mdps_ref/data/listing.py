"""List images to score: files, folders of any depth, or the test images of a category."""

import collections
import dataclasses
import pathlib

from mdps_ref.data.files import SPECIAL, is_special
from mdps_ref.data.findings import Findings
from mdps_ref.data.layout import SUFFIXES, entries, is_category, is_image_name
from mdps_ref.errors import InputError, reason_of, shown

TABLES = ("scores.csv", "scores.jsonl")  # beside the other names they mark a folder of results, whose maps are no photographs
BESIDE_TABLES = ("call.json", "metrics.json")


@dataclasses.dataclass(frozen=True)
class Listed:
    """An image to score.

    Parameters
    ----------
    path : pathlib.Path
    name : str
        Unique among those listed together: the path below the folder that was given, with "/" and suffix.
    """

    path: pathlib.Path
    name: str


def list_images(paths, findings=None):
    """List the images in files and folders. No image is opened.

    Parameters
    ----------
    paths : sequence of path-like
        A file of any name is taken as an image. A folder is searched with all folders below, except for folders of scores. Of a
        category, in MVTec AD's or BTAD's layout, the test images alone are listed.
    findings : Findings, optional
        Takes note of what is not read.

    Returns
    -------
    list of Listed
        In the order of `paths`; those of a folder sorted by name. Where two given folders hold images of one name, the names of their
        images begin with the folder's own.

    Raises
    ------
    InputError
        If a path does not exist, is or holds a FIFO, socket or device of an image's name, or cannot be read; if there is no image; if an
        image is given twice; or if two images have one name, that of their folder before it.
    """
    findings = Findings() if findings is None else findings
    paths = [pathlib.Path(path) for path in paths]
    groups = [_group(path, findings) for path in paths]
    count = collections.Counter(image.name for group in groups for image in group)
    for index, (path, group) in enumerate(zip(paths, groups, strict=True)):
        if any(count[image.name] > 1 for image in group):
            own = path.resolve().name if path.is_dir() else path.resolve().parent.name
            groups[index] = [Listed(image.path, f"{own}/{image.name}") for image in group]
    images = [image for group in groups for image in group]
    if (again := _twice(image.path.parent.resolve() / image.path.name for image in images)) is not None:
        raise InputError(f"{shown(again)}: is given twice, by itself or in a folder; leave one of the paths out")
    if (name := _twice(image.name for image in images)) is not None:
        raise InputError(f"{shown(name)}: is the name of two images; give a folder above both")
    if not images:
        places = ", ".join(shown(path) for path in paths) or "no path was given"
        raise InputError(f"{places}: no images there{_of_category(paths)}; give images or folders of images ({', '.join(SUFFIXES)})")
    return images


def _twice(names):
    """The first of the names that is there more than once, or None."""
    return next((name for name, times in collections.Counter(names).items() if times > 1), None)


def _of_category(paths):
    """Say what is read of a category, if there is one among the paths."""
    return " (of a category the folder test alone is read)" if any(map(is_category, paths)) else ""


def _group(path, findings):
    """The images that one given path stands for."""
    if path.is_dir():
        return sorted(_below(path, findings), key=lambda image: image.name)
    _check_ordinary(path)
    return [Listed(path, path.name)]


def _below(top, findings):
    """The images in a folder and the folders below, in any order. A folder that links lead to twice is read once."""
    waiting, seen = [top], set()
    while waiting:
        folder = waiting.pop()
        about = folder.stat()
        if (about.st_dev, about.st_ino) in seen:
            findings.add("folder that a link leads to again, read once", folder)
            continue
        seen.add((about.st_dev, about.st_ino))
        folders, files = entries(folder)
        if folder != top and _holds_results({path.name for path in files}):
            findings.add("folder of scores and their maps, not read", folder)
            continue
        if is_category(folder):
            findings.add("folder of a category, of which the test images alone are read", folder)
            waiting += [folder / "test"] if (folder / "test").is_dir() else []
            continue
        waiting += folders
        for path in files:
            if is_image_name(path):
                _check_ordinary(path, broken_links=True)
                yield Listed(path, path.relative_to(top).as_posix())
            else:
                findings.add("file of a suffix that is not read", path)


def _holds_results(names):
    """Whether a folder of these files is one of a run, or of scores."""
    return not names.isdisjoint(TABLES) and not names.isdisjoint(BESIDE_TABLES)


def _check_ordinary(path, broken_links=False):
    """Refuse what is no file. A broken link in a folder is left to the reader of images."""
    try:
        special = is_special(path)
    except OSError as error:
        if broken_links:
            return
        raise InputError(f"{shown(path)}: could not be read ({reason_of(error)}); give images or folders of images") from error
    if special:
        raise InputError(f"{shown(path)}: {SPECIAL}")
