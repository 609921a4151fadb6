"""The images of a run: read from their folders, kept decoded on the disk, and checked where they come in from Python."""

import collections
import dataclasses
import pathlib

import numpy as np

from mdps_ref.data.findings import Findings
from mdps_ref.data.folders import read_category, split_held_out
from mdps_ref.data.images import centre_crop, load_image
from mdps_ref.data.masks import load_mask
from mdps_ref.data.pixels import find_white, image_depth, image_size
from mdps_ref.data.synthetic import check_request, write_category
from mdps_ref.errors import InputError
from mdps_ref.job.image_digests import check_data, note_copies
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.progress import progress, say
from mdps_ref.job.records import Records
from mdps_ref.job.run_folder import WORK, check_name, write_config
from mdps_ref.kernels.processes import Team, members

SYNTHETIC = {"size": 128, "train": 100, "test_good": 12, "per_defect": 4}
TESTED_SHARE = 0.1  # of the training images, where there are no others to test on


class StoredImages(Records):
    """Images in a file, float32 in [-1, 1], which take the place of an array (N, size, size, 3): an index or a slice reads just those.

    Parameters
    ----------
    path : path-like
        What it holds already is dropped.
    size : int
        Pixels a side.
    """

    def __init__(self, path, size):
        super().__init__(path, (np.dtype("<f4"), (size, size, 3)), anew=True)


class StoredMasks:
    """True masks in a file, in the order of the test images: an index or a slice gives arrays (side, side) bool, None without a mask."""

    def __init__(self, path, side):
        self._records = Records(path, [("known", "?"), ("mask", "?", (side, side))], anew=True)

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        rows = self._records[index]
        return _mask_of(rows) if rows.shape == () else [_mask_of(row) for row in rows]

    def append(self, mask):
        """Append a mask, or None."""
        row = np.zeros(1, self._records.dtype)
        if mask is not None:
            row["known"], row["mask"] = True, mask
        self._records.append(row)


def _mask_of(row):
    return row["mask"] if row["known"] else None


@dataclasses.dataclass(frozen=True)
class RunImages:
    """All images of a run, on the host, in [-1, 1].

    Parameters
    ----------
    train, held_out, test : StoredImages
    items : tuple of Item
        The test images' files and defects.
    truths : StoredMasks
        The true masks of the judged centre. All False for a good image; None for a defect without a mask.
    side : int
        Side, in pixels, of the centre that is scored and judged.
    findings : Findings
        What was set aside, or read by a rule that the user should know.
    white : int or None
        The value of white in 16-bit files that do not tell it, if the training images show that it is below 65535.
    sizes : set of (int, int)
        Widths and heights of the image files, in pixels.
    depths : Counter
        The number of image files of each depth, such as "8-bit colour".
    test_from_train : bool
        Whether the test images were taken away from the training images, because there were no others.
    """

    train: StoredImages
    held_out: StoredImages
    test: StoredImages
    items: tuple
    truths: StoredMasks
    side: int
    findings: Findings
    white: int | None
    sizes: set
    depths: collections.Counter
    test_from_train: bool

    @property
    def test_names(self):
        """The names of the test images."""
        return [item.name for item in self.items]

    @property
    def defects(self):
        """The kind of each test image: a defect, or "good"."""
        return [item.defect for item in self.items]


def read_images(config, folder, weights=None):
    """Read all images of a run, so that a broken one is found before any work is done, and write config.json and data.json.

    Without `config.data` the synthetic set is drawn into `folder` first. Its config.json is written before the drawing, so that an
    interrupted drawing can be resumed; a resumed run writes it last. A category without test images is tested on some of its training
    images.

    Parameters
    ----------
    config : Config
    folder : Path
        Of the run.
    weights : path-like, optional
        The run's file of trained weights. Its SHA-256 goes into data.json, too.

    Returns
    -------
    RunImages

    Raises
    ------
    InputError
        If the category cannot be drawn or read, or has too few images, or if its files are not those that the run in `folder` used.
    """
    root, resumed = config.data or folder / "synthetic", (folder / "config.json").is_file()
    if not config.data:
        check_request(config.category, SYNTHETIC["size"])
        if not resumed:
            write_config(folder, config)
        write_category(root, config.category, seed=config.seed, each=_in_processes, **SYNTHETIC)
    findings = Findings(pathlib.Path(root, config.category))
    category = read_category(root, config.category, findings)
    _check_strict(config, category, findings)  # here and once more before the images are decoded, which may take minutes
    (folder / WORK).mkdir(parents=True, exist_ok=True)  # a data.json beside it is a run's
    note_copies(category, check_data(folder, category, weights), findings)
    _check_strict(config, category, findings)
    images = _decoded(category, config, folder / WORK, findings)
    for line in told(images, config):
        say(line)
    _check_strict(config, category, findings)
    if config.data or resumed:
        write_config(folder, config)
    return images


def _check_strict(config, category, findings):
    """Raise InputError if anything was found that `strict` does not allow."""
    if config.strict and findings:
        raise InputError(f"{category.root}: strict allows none of these: {'; '.join(findings.lines())}; mend them, or leave strict out")


def _in_processes(work, items):
    """Call work(item) for each item, shared among the processes of `fast`."""
    count = members(len(items))
    with Team(lambda some: [work(item) for item in some], count) as team:
        team([(items[number::count],) for number in range(count)])


def told(images, config):
    """Return lines that say what images a run has, and what was set aside.

    Parameters
    ----------
    images : RunImages
    config : Config

    Returns
    -------
    list of str
    """
    defective = sum(item.is_anomalous for item in images.items)
    training = "for training (not done: the run takes trained weights)" if config.weights else "to train on"
    good = f"{len(images.train)} good image{'s' * (len(images.train) != 1)} {training}"
    counts = f"{good}, {len(images.held_out)} held out, {len(images.items)} to test ({defective} with a defect)"
    size = f"{config.image_size} x {config.image_size} pixels" + (", letterboxed" if config.fit == "letterbox" else "")
    taken = f"no test images, so the test is on {len(images.items)} of the good images in train, chosen by the seed and not trained on"
    white = [f"16-bit images: white is {images.white}, as the training images show"] if images.white else []
    depths = [depth if len(images.depths) == 1 else f"{count} of {depth}" for depth, count in sorted(images.depths.items())]
    own = [f"{width} x {height}" for width, height in sorted(images.sizes, key=lambda size: (size[0] * size[1], size))]
    own = own[0] if len(own) == 1 else f"{len(own)} sizes from {own[0]} to {own[-1]}"
    return [
        f"{counts}, of {own} pixels, resized to {size}; depth: {', '.join(depths)}",
        *([taken] if images.test_from_train else []),
        *white,
        *images.findings.lines(),
    ]


def _decoded(category, config, work, findings):
    """Return the RunImages of a category, decoded into files in the folder `work`."""
    train_items, held_out_items, test_items = _split(category, config)
    white, side = find_white([item.path for item in (*train_items, *held_out_items)]), judged_side(config, category.layout)
    train, held_out, test = (StoredImages(work / name, config.image_size) for name in ("train", "held_out", "test"))
    truths, items, sizes = StoredMasks(work / "masks", side), [], set()
    depths = collections.Counter()

    def image(item):
        check_name(item.path)
        return load_image(item.path, config.image_size, white, config.fit)[None]

    def image_and_mask(item):
        return image(item), true_mask(item, config, side, white, findings)

    def keep(part, item, pixels):
        part.append(pixels)
        sizes.add(image_size(item.path))
        depths[image_depth(item.path)] += 1

    for item, pixels in _readable(train_items, image, "training images", config, findings):
        keep(train, item, pixels)
    for item, pixels in _readable(held_out_items, image, "held-out images", config, findings):
        keep(held_out, item, pixels)
    for item, (pixels, mask) in _readable(test_items, image_and_mask, "test images", config, findings):
        keep(test, item, pixels)
        truths.append(mask)
        items.append(item)
    for part, label in ((train, "training image"), (held_out, "held-out image"), (test, "test image")):
        if not len(part):
            raise InputError(f"{category.root}: no {label} could be read; replace the broken ones")
    return RunImages(train, held_out, test, tuple(items), truths, side, findings, white, sizes, depths, not category.test)


def _split(category, config):
    """Return the Items to train on, to hold out and to test; InputError if there are too few."""
    train, test = category.train, category.test
    uses = ["to train on", "to hold out"] + ([] if test else ["to test, as there are no others"])
    if len(train) < len(uses):
        raise InputError(f"{category.root}: good images in train: {len(train)}; at least {len(uses)} are needed: {', '.join(uses)}")
    if not test:
        train, test = split_held_out(train, TESTED_SHARE, config.seed)
    return *split_held_out(train, config.held_out, config.seed), test


def _readable(items, read, label, config, findings):
    """Yield (item, read(item)) with a progress bar. With `skip_bad` an item that cannot be read is left out and counted."""
    with progress(len(items), "image", label) as bar:
        for item in items:
            stop_if_asked()
            try:
                yield item, read(item)
            except InputError as error:
                if not config.skip_bad:
                    raise InputError(f"{error}{'' if config.strict else '; or add --skip-bad'}") from None
                say(f"set aside: {error}")
                findings.add("image set aside, unusable or with an unusable mask", item.path)
            bar.update(1)


def judged_side(config, layout):
    """Return the side, in pixels, of the centre of each image that is scored and judged; `layout` is "mvtec" or "btad".

    Raises: InputError if the image score says nothing of so few pixels.
    """
    side = round(config.image_size * config.resolved_rules.judged_share[layout])
    config.check_judged_side(side)
    return side


def true_mask(item, config, side, white=None, findings=None):
    """Return the centre of an image's true mask.

    Parameters
    ----------
    item : Item
    config : Config
    side : int
        Pixels a side of the centre.
    white : int, optional
        See `data.images.load_image`.
    findings : Findings, optional
        Counts masks that were read by a rule that the user should know.

    Returns
    -------
    array, (side, side) bool, or None
        All False for a good image; None for a defect without a mask.
    """
    if not item.is_anomalous:
        return np.zeros((side, side), bool)
    if not item.mask_path:
        return None
    size, shrink = image_size(item.path), config.resolved_rules.shrink_mask
    mask = load_mask(item.mask_path, config.image_size, size, shrink, white, config.fit, findings)
    return centre_crop(mask[None], side)[0]


def check_images(images, size):
    """Check images that come from Python, and return them as float32.

    Parameters
    ----------
    images : array, (N, size, size, 3), in [-1, 1]
        NumPy array, float32 or float64. StoredImages were checked when they were read.
    size : int
        The config's image size.

    Returns
    -------
    array, (N, size, size, 3) float32

    Raises
    ------
    InputError
        That says what to do, such as `images / 127.5 - 1` for values from 0 to 255.
    """
    if isinstance(images, StoredImages):
        return images
    if not isinstance(images, np.ndarray):
        raise InputError(f"images are of type {type(images).__name__}; give a NumPy array of shape (N, {size}, {size}, 3)")
    scaled = "images / 127.5 - 1 brings 0 .. 255 to [-1, 1]"
    if images.dtype not in (np.float32, np.float64):
        raise InputError(f"images have dtype {images.dtype}; they must be float32 in [-1, 1]: {scaled}")
    if images.ndim == 3:
        raise InputError(f"images have shape {images.shape}, which is one image without a batch axis; give images[None]")
    if images.shape[1:] != (size, size, 3):
        raise InputError(f"images have shape {images.shape}; this config wants (N, {size}, {size}, 3)")
    if not len(images):
        raise InputError("there are no images; give at least one")
    if not np.isfinite(images).all():
        raise InputError("images hold nan or infinite values; they must lie in [-1, 1]")
    if abs(images).max() > 1:
        raise InputError(f"images hold values from {images.min():g} to {images.max():g}; they must lie in [-1, 1]: {scaled}")
    return images.astype(np.float32, copy=False)
