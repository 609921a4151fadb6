"""Find images and their masks in folders, in the layout of MVTec AD [1]_ or of BTAD [2]_.

    <data_dir>/<category>/train/good/000.png                             BTAD: train/ok/0000.bmp
                          test/good/000.png, test/<defect>/000.png             test/ok/0000.bmp, test/ko/0000.bmp
                          ground_truth/<defect>/000_mask.png                   ground_truth/ko/0000.png

The name of the folder of good images tells the layout. A file may have any suffix in SUFFIXES. The name of a mask may end in "_mask".

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
from mdps_ref.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
GOOD = "good"
LAYOUTS = {"mvtec": "good", "btad": "ok"}  # the name of the folder of good images


@dataclasses.dataclass(frozen=True)
class Item:
    """An image file of a category.

    Parameters
    ----------
    path : pathlib.Path
    name : str
        Path inside the category's folder, with "/" and without suffix: "test/colour/003". The image's random streams depend on it.
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
        Sorted by folder and file name.
    """

    root: pathlib.Path
    name: str
    layout: str
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def read_category(data_dir, category):
    """List the images of a category. No image is opened.

    Parameters
    ----------
    data_dir : path-like
        The folder that holds the categories.
    category : str

    Returns
    -------
    Category

    Raises
    ------
    InputError
        If the folder, the category, its training images or its test images are missing; if its folders mix the two layouts; if two
        images differ in the suffix alone; or if an image has two masks.
    """
    data_dir = pathlib.Path(data_dir)
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such data folder; give the folder that holds the categories")
    categories = _folders(data_dir)
    if category not in categories:
        raise InputError(f"{data_dir}: has no category {category!r}; there are {_listed(categories)}")
    root = data_dir / category
    layout = _layout(root)
    good = LAYOUTS[layout]
    train = _items(root, "train", good, good)
    test = tuple(item for folder in _folders(root / "test") for item in _items(root, "test", folder, good))
    for items, place in ((train, f"train/{good}"), (test, "test/<defect>")):
        if not items:
            raise InputError(f"{root}: has no images in {place}; put some there ({', '.join(SUFFIXES)})")
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


def _folders(folder):
    """The sorted names of the visible folders in `folder`; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(names, limit=20):
    """At most `limit` names in one line, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more


def _layout(root):
    """The layout of a category's folder. A folder with both layouts is an error: "good" or "ok" would be taken for a defect."""
    found = [layout for layout, good in LAYOUTS.items() if any((root / part / good).is_dir() for part in ("train", "test"))]
    if not found:
        raise InputError(f"{root}: has neither train/good (MVTec AD's layout) nor train/ok (BTAD's); put images without a defect in one")
    if len(found) > 1:
        raise InputError(f"{root}: mixes folders good (MVTec AD's layout) and ok (BTAD's) in train and test; keep to one of them")
    return found[0]


def _items(root, part, folder, good):
    """The images in `<root>/<part>/<folder>`, sorted by file name. `good` is the folder of images without a defect."""
    masks = _masks(root / "ground_truth" / folder) if folder != good else {}
    items = {}
    for path in _image_files(root / part / folder):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in items:
            raise InputError(f"{path}: differs from {items[name].path.name} in the suffix alone; remove or rename one")
        items[name] = Item(path, name, GOOD if folder == good else folder, masks.get(path.stem))
    return tuple(items.values())


def _image_files(folder):
    """The image files in `folder`, sorted by name; none if it does not exist."""
    return sorted(filter(_is_image_file, folder.iterdir()), key=lambda path: path.name) if folder.is_dir() else []


def _is_image_file(path):
    """True if the name is that of an image. A broken link counts, so that loading it raises an error."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _masks(folder):
    """The masks in `folder`, by the stem of their image's file name."""
    masks = {}
    for path in _image_files(folder):
        stem = path.stem.removesuffix("_mask")
        if stem in masks:
            raise InputError(f"{path}: is a second mask of one image, beside {masks[stem].name}; remove one")
        masks[stem] = path
    return masks
