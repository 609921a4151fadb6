"""Images and masks from folders in the layout of MVTec AD (Bergmann et al. 2019).

<data_dir>/<category>/train/good/000.png
                      test/good/000.png, test/<defect>/000.png
                      ground_truth/<defect>/000_mask.png
"""

import contextlib
import dataclasses
import pathlib
import warnings

import numpy as np
from PIL import Image

from mdps_ref.backend import random_stream
from mdps_ref.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
SMALLEST_SIDE = 8
GOOD = "good"


@dataclasses.dataclass(frozen=True)
class Item:
    """One image of a category, not yet loaded.

    path: its file.
    name: its path inside the category folder, "/" between the parts, no suffix ("test/colour/003"): keys its random stream.
    defect: the folder it lies in, "good" for a normal image.
    mask_path: the file that marks its anomalous pixels, None if there is none.
    """

    path: pathlib.Path
    name: str
    defect: str
    mask_path: pathlib.Path | None

    @property
    def is_anomalous(self):
        """Whether the image shows a defect."""
        return self.defect != GOOD


@dataclasses.dataclass(frozen=True)
class Category:
    """One kind of object or texture: its folder, its name, and the items of its two sets, sorted by defect and file name."""

    root: pathlib.Path
    name: str
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def read_category(data_dir, category):
    """The items in `<data_dir>/<category>`; no image is opened.

    Raises: InputError if the folder, the category, its training images or its test images are missing, or two images of a folder
    differ in the suffix alone.
    """
    data_dir = pathlib.Path(data_dir)
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such data folder; give the folder that holds the categories")
    categories = _folders(data_dir)
    if category not in categories:
        raise InputError(f"{data_dir}: has no category {category!r}; there are {_listed(categories)}")
    root = data_dir / category
    train = _items(root, "train", GOOD)
    test = tuple(item for defect in _folders(root / "test") for item in _items(root, "test", defect))
    for items, folder in ((train, "train/good"), (test, "test/<defect>")):
        if not items:
            raise InputError(f"{root}: has no images in {folder}; put some there ({', '.join(SUFFIXES)})")
    return Category(root, category, train, test)


def split_held_out(items, share, seed):
    """Good images to train on and good images to calibrate on: (train, held_out), each with at least one, in the order of `items`.

    An image is held out if the number drawn under its own name is among the smallest, so the order of `items` does not matter.
    Range: share in (0, 1).  Raises: InputError if the share is outside, or there are fewer than two images.
    """
    if not 0 < share < 1:
        raise InputError(f"held-out share {share} cannot be used; choose one between 0 and 1")
    if len(items) < 2:
        raise InputError(f"good images to split: {len(items)}; at least 2 are needed, one to train on and one to hold out")
    count = min(max(round(share * len(items)), 1), len(items) - 1)
    drawn = sorted(items, key=lambda item: random_stream(seed, "held out", item.name).random())
    held_out = {item.name for item in drawn[:count]}
    return tuple(item for item in items if item.name not in held_out), tuple(item for item in items if item.name in held_out)


def load_image(path, size):
    """The image in `path` as a square of `size` pixels a side, whatever its aspect ratio; grey is repeated to three channels.

    Resized in float by Pillow's bicubic filter, whose support grows with the reduction (antialiasing), so 16-bit grey keeps its depth.
    Alpha is dropped, not composited. 16 bits a channel of colour arrive as 8 (Pillow), and an EXIF orientation is not applied.
    Shapes: -> (size, size, 3) float32.  Range: [-1, 1]; what the filter overshoots is clipped.
    Raises: InputError if the file is no whole image, is smaller than 8 pixels a side, or has values outside its mode's range.
    """
    unit = _unit_pixels(path)
    height, width, channels = unit.shape
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(f"{path}: is {width} x {height} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed")
    planes = [Image.fromarray(unit[:, :, c] * 2 - 1).resize((size, size), Image.Resampling.BICUBIC) for c in range(channels)]
    image = np.stack(planes, axis=-1).clip(-1, 1)
    return np.repeat(image, 3, axis=-1) if channels == 1 else image


def load_images(items, size, progress=iter):
    """The images of `items`, one after the other; `progress` wraps the iteration (tqdm, say).

    Shapes: N items -> (N, size, size, 3) float32.  Range: [-1, 1].  Raises: as `load_image`.
    """
    images = np.empty((len(items), size, size, 3), np.float32)
    for image, item in zip(images, progress(items), strict=True):
        image[:] = load_image(item.path, size)
    return images


def load_mask(path, size, image_size):
    """The ground-truth mask in `path`, True where anomalous: where any channel but alpha is above 0.

    Resized to its nearest neighbours, so no value is made up between normal and anomalous.
    Shapes: image_size (width, height) of the image it belongs to -> (size, size) bool.
    Raises: InputError if the file is no whole image, or has another size than its image.
    """
    anomalous = (_unit_pixels(path) > 0).any(axis=-1)
    height, width = anomalous.shape
    if (width, height) != tuple(image_size):
        raise InputError(f"{path}: is {width} x {height} pixels, but its image {image_size[0]} x {image_size[1]}; expected one size")
    return np.asarray(Image.fromarray(anomalous.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)) > 0


def image_size(path):
    """(width, height) of the image in `path`, from the file's header alone.  Raises: InputError if that cannot be read."""
    with _opened(path) as image:
        return image.size


def _folders(folder):
    """The names of the folders in `folder`, sorted, hidden ones left out; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(names, limit=20):
    """At most `limit` of the names in one line, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more


def _items(root, part, defect):
    """The images in `<root>/<part>/<defect>`, sorted by file name.  Raises: InputError if two differ in the suffix alone."""
    folder = root / part / defect
    files = [path for path in folder.iterdir() if _is_image_file(path)] if folder.is_dir() else []
    items = {}
    for path in sorted(files, key=lambda path: path.name):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in items:
            raise InputError(f"{path}: differs from {items[name].path.name} in the suffix alone; remove or rename one")
        items[name] = Item(path, name, defect, _mask_path(root, defect, path.stem))
    return tuple(items.values())


def _is_image_file(path):
    """Whether the name is an image's.  A link that leads nowhere counts, so that loading it says so."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _mask_path(root, defect, stem):
    """The mask of a defective image, `<stem>_mask.png` or `<stem>.png`; None where there is none."""
    paths = [root / "ground_truth" / defect / name for name in (f"{stem}_mask.png", f"{stem}.png")]
    return next((path for path in paths if defect != GOOD and path.is_file()), None)


@contextlib.contextmanager
def _opened(path):
    """The Pillow image in `path`.  Raises: InputError for whatever Pillow raises until the block ends."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; what spoils the pixels is raised
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds for a broken file
        broken = f"truncated, or not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
        reason = (getattr(error, "strerror", None) or "").lower() or broken
        raise InputError(f"{path}: could not be read ({reason}); replace or remove it") from error


def _unit_pixels(path):
    """The pixels of the image in `path`, black 0 and white 1.

    Shapes: -> (height, width, 1 or 3) float32.  Raises: InputError if the file, its mode or its values cannot be used.
    """
    with _opened(path) as image:
        image.load()
    mode = image.mode
    if mode not in MODES:
        raise InputError(f"{path}: has the Pillow mode {mode}, which is not supported; save it as grey or RGB")
    if mode == "F" or mode.startswith("I"):
        unit = _checked_range(np.asarray(image), 1 if mode == "F" else 65535, path)[:, :, None]
    elif mode == "L":
        unit = np.asarray(image, np.float32)[:, :, None] / 255
    else:
        opaque = image.convert("RGBA").convert("RGB")  # Pillow warns at a palette with transparent colours on the direct way
        unit = np.asarray(opaque, np.float32) / 255
    return unit


def _checked_range(values, largest, path):
    """`values` from 0 to `largest` brought to [0, 1] as float32.  Raises: InputError if one is nan or outside."""
    if np.isnan(values).any():
        raise InputError(f"{path}: holds nan; expected values from 0 to {largest}")
    if values.min() < 0 or values.max() > largest:
        raise InputError(f"{path}: holds values from {values.min()} to {values.max()}; expected 0 to {largest}")
    return values.astype(np.float32) / largest
