"""The folders of a data set, and one message for those who have them otherwise."""

import itertools

from mdps_ref.errors import InputError, reason_of, shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp")
LAYOUTS = {"mvtec": "good", "btad": "ok"}  # the name of the folder of good images
TREE = (
    "expected DIR/NAME/train/good/*.png and, where there are images to test on, DIR/NAME/test/good/*.png, DIR/NAME/test/<defect>/*.png "
    "and, where there are masks, DIR/NAME/ground_truth/<defect>/<image>_mask.png"
)
MOST_SEARCHED = 1000  # folders, for the one that was meant
_LITTER = ("thumbs.db", "desktop.ini")  # files that Windows leaves in folders of images


def entries(folder):
    """List what a folder holds.

    Parameters
    ----------
    folder : pathlib.Path
        It may be missing; both lists are then empty.

    Returns
    -------
    folders, files : list of pathlib.Path
        Sorted by name, without hidden ones. A broken link counts as a file, so that reading it raises an error.

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    try:
        found = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
        found = [path for path in found if not path.name.startswith(".") and path.name.lower() not in _LITTER]
        return [path for path in found if path.is_dir()], [path for path in found if not path.is_dir()]
    except OSError as error:
        raise InputError(f"{shown(folder)}: could not be read ({reason_of(error)}); give a folder that can be") from error


def is_image_name(path):
    """Return True if the file's suffix is one of SUFFIXES, in either case."""
    return path.suffix.lower() in SUFFIXES


def image_files(folder, findings):
    """List a folder's image files, and note what is not read.

    Parameters
    ----------
    folder : pathlib.Path
    findings : Findings

    Returns
    -------
    list of pathlib.Path
        Sorted by name.
    """
    folders, files = entries(folder)
    for path in files:
        if not is_image_name(path):
            findings.add("file of a suffix that is not read", path)
    for path in folders:
        findings.add("folder below, not read", path)
    return [path for path in files if is_image_name(path)]


def layout_of(root):
    """Find the layout of a category's folder.

    Parameters
    ----------
    root : pathlib.Path

    Returns
    -------
    {"mvtec", "btad"}

    Raises
    ------
    InputError
        If there is neither, or both: "good" or "ok" would be taken for a defect. If "good" or "ok" is written with capitals.
    """
    below = {part: [folder.name for folder in entries(root / part)[0]] for part in ("train", "test")}
    for part, names in below.items():
        for name in names:
            if name not in LAYOUTS.values() and name.lower() in LAYOUTS.values():
                raise InputError(
                    f"{shown(root / part / name)}: would be taken for a defect; rename it to {name.lower()}, or merge it into that"
                )
    found = [layout for layout, good in LAYOUTS.items() if any(good in names for names in below.values())]
    if not found:
        raise wrong_layout(root, "has neither train/good (MVTec AD's layout) nor train/ok (BTAD's)", root.name)
    if len(found) > 1:
        raise InputError(f"{shown(root)}: mixes folders good (MVTec AD's layout) and ok (BTAD's) in train and test; keep to one of them")
    return found[0]


def is_category(folder):
    """Return True if a folder has training images of a category."""
    return any((folder / "train" / good).is_dir() for good in LAYOUTS.values())


def wrong_layout(place, fault, category=None):
    """Make the error for folders that are not as expected: it draws the tree, and names the folder to give if it is near.

    Parameters
    ----------
    place : pathlib.Path
        The folder that was looked into.
    fault : str
    category : str, optional
        The category that was looked for. Without it no folder is named: `place` is the right one.

    Returns
    -------
    InputError
    """
    near = _near(place, category) if category else None
    here = f"; here give --data {shown(near.parent)} --category {shown(near.name)}" if near else ""
    _, files = entries(place)
    loose = sum(map(is_image_name, files))
    lie = f"; {loose} images lie in {shown(place)} itself, so move the good ones into train/good" if loose and not near else ""
    return InputError(f"{shown(place)}: {fault}; {TREE} (--data DIR --category NAME){here}{lie}")


def _near(place, category):
    """The folder of a category one or two levels up or down, if there is one: of that name, else one that cannot be confused."""
    place = place.resolve()
    up = [place, *itertools.islice(place.parents, 2)]
    below = entries(place)[0][:MOST_SEARCHED]
    further = itertools.islice((child for folder in below for child in entries(folder)[0]), MOST_SEARCHED)
    found = [folder for folder in itertools.chain(up, further, below) if is_category(folder)]
    named = [folder for folder in found if folder.name == category]
    beside = found if len(found) == 1 else [folder for folder in found if folder not in below]
    return next(iter(named + beside), None)
