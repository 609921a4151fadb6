"""Find images and their masks in folders, in the layout of MVTec AD [1]_ or of BTAD [2]_.

    <data_dir>/<category>/train/good/000.png                             BTAD: train/ok/0000.bmp
                          test/good/000.png, test/<defect>/000.png             test/ok/0000.bmp, test/ko/0000.bmp
                          ground_truth/<defect>/000_mask.png                   ground_truth/ko/0000.png

The name of the folder of good images tells the layout. A file may have any suffix in `layout.SUFFIXES`. The name of a mask may end in
"_mask". There may be nothing to test on.

References
----------
.. [1] P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "MVTec AD - A comprehensive real-world dataset for unsupervised anomaly
       detection", CVPR 2019.
.. [2] P. Mishra, R. Verk, D. Fornasier, C. Piciarelli, G. L. Foresti, "VT-ADL: A vision transformer network for image anomaly
       detection and localization", ISIE 2021.
"""

import dataclasses
import pathlib

from mdps_ref.backend import random_stream
from mdps_ref.data.findings import Findings
from mdps_ref.data.layout import LAYOUTS, SUFFIXES, entries, image_files, is_image_name, layout_of, wrong_layout
from mdps_ref.errors import InputError, shown

GOOD = "good"


@dataclasses.dataclass(frozen=True)
class Item:
    """An image file of a category.

    Parameters
    ----------
    path : pathlib.Path
    name : str
        Path inside the category's folder, with "/" and without suffix: "test/colour/003".
        It decides, with the seed, whether the image is held out.
    defect : str
        Name of the image's folder. GOOD for an image without a defect, in both layouts.
    mask_path : pathlib.Path or None
        File that marks the anomalous pixels, if there is one.
    """

    path: pathlib.Path
    name: str
    defect: str
    mask_path: pathlib.Path | None

    @property
    def is_anomalous(self):
        """True if the image shows a defect."""
        return self.defect != GOOD


@dataclasses.dataclass(frozen=True)
class Category:
    """One kind of object or texture.

    Parameters
    ----------
    root : pathlib.Path
        The category's folder.
    name : str
    layout : {"mvtec", "btad"}
    train, test : tuple of Item
        Sorted by folder and file name. `test` is empty if there is no folder of that name, or nothing in it.
    """

    root: pathlib.Path
    name: str
    layout: str
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def read_category(data_dir, category, findings=None):
    """List the images of a category. No image is opened.

    Parameters
    ----------
    data_dir : path-like
        The folder that holds the categories.
    category : str
    findings : Findings, optional
        Takes note of what is not read, and of images and masks that have no partner.

    Returns
    -------
    Category

    Raises
    ------
    InputError
        If the folder, the category or its training images are missing; if what the test folder holds is no images; if its folders mix
        the two layouts; if two images differ in the suffix alone; or if an image has two masks.
    """
    findings = Findings() if findings is None else findings
    data_dir = pathlib.Path(data_dir)
    if not data_dir.is_dir():
        raise InputError(f"{shown(data_dir)}: no such data folder; give the folder that holds the categories")
    categories = [folder.name for folder in entries(data_dir)[0]]
    if category not in categories:
        raise wrong_layout(data_dir, f"has no category {category!r}; there are {_listed(categories)}", category)
    root = data_dir / category
    layout = layout_of(root)
    good = LAYOUTS[layout]
    kinds = [folder.name for folder in entries(root / "test")[0]]
    train = _items(root, "train", good, good, findings)
    test = tuple(item for folder in kinds for item in _items(root, "test", folder, good, findings))
    _note_strays(root, good, kinds, findings)
    if not train:
        raise wrong_layout(root, f"has no images in train/{good} ({', '.join(SUFFIXES)}){_not_read(root, good, kinds)}")
    if not test and _holds_something(root / "test"):
        fault = f"has a folder test, but no images in test/{good} or test/<defect> ({', '.join(SUFFIXES)}); put some there, or remove it"
        raise wrong_layout(root, fault + _not_read(root, good, kinds))
    return Category(root, category, layout, train, test)


def split_held_out(items, share, seed):
    """Split good images into some to train on and some to calibrate on. Each part gets at least one image.

    Each image's name gives it a random number, and the images with the smallest numbers are held out. So the split does not depend on
    the order of the items.

    Parameters
    ----------
    items : sequence of Item
    share : float in (0, 1)
        Share of the images to hold out.
    seed : int

    Returns
    -------
    train, held_out : tuple of Item, tuple of Item
        In the order of `items`.

    Raises
    ------
    InputError
        If the share is out of range, or there are fewer than two images.
    """
    if not 0 < share < 1:
        raise InputError(f"held-out share {share} cannot be used; choose one between 0 and 1")
    if len(items) < 2:
        raise InputError(f"good images to split: {len(items)}; at least 2 are needed, one to train on and one to hold out")
    count = min(max(round(share * len(items)), 1), len(items) - 1)
    drawn = sorted(items, key=lambda item: random_stream(seed, "held out", item.name).random())
    held_out = {item.name for item in drawn[:count]}
    return tuple(item for item in items if item.name not in held_out), tuple(item for item in items if item.name in held_out)


def _not_read(root, good, kinds):
    """What lies in a category and is not read, for the end of a message."""
    findings = Findings(root)
    for folder in (f"train/{good}", *(f"test/{kind}" for kind in kinds)):
        image_files(root / folder, findings)
    _note_strays(root, good, kinds, findings)
    return "; ".join(["", *findings.lines()])


def _holds_something(folder):
    """Return whether there are files in a folder, or anything in the folders below."""
    folders, files = entries(folder)
    return bool(files) or any(any(entries(below)) for below in folders)


def _listed(names, limit=20):
    """At most `limit` names in one line, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more


def _items(root, part, folder, good, findings):
    """The images in `<root>/<part>/<folder>`, sorted by file name. `good` is the folder of images without a defect."""
    masks = _masks(root / "ground_truth" / folder, findings) if part == "test" else {}
    items = {}
    for path in image_files(root / part / folder, findings):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in items:
            raise InputError(f"{shown(path)}: differs from {shown(items[name].path.name)} in the suffix alone; remove or rename one")
        mask = masks.pop(path.stem, None)
        if folder == good and mask:
            findings.add("mask of a good image, not used", mask)
        elif folder != good and not mask:
            findings.add("image with a defect and no mask, left out of the pixel metrics", path)
        items[name] = Item(path, name, GOOD if folder == good else folder, mask if folder != good else None)
    for mask in masks.values():
        findings.add("mask of no image, not used", mask)
    return tuple(items.values())


def _masks(folder, findings):
    """The masks in `folder`, by the stem of their image's file name."""
    masks = {}
    for path in image_files(folder, findings):
        stem = path.stem.removesuffix("_mask")
        if stem in masks:
            raise InputError(f"{shown(path)}: is a second mask of one image, beside {shown(masks[stem].name)}; remove one")
        masks[stem] = path
    return masks


def _note_strays(root, good, kinds, findings):
    """Note images and folders that lie where the layout has none."""
    parts = {"train": [good], "test": kinds, "ground_truth": kinds}
    for part, known in {".": parts, **parts}.items():
        folders, files = entries(root / part)
        for path in folders:
            if path.name not in known:
                findings.add("folder that is not read", path)
        for path in filter(is_image_name, files):
            findings.add("image beside the folders, not read", path)
