"""Is one run better than another on the same test images, beyond chance? `python -m mdps_ref.compare RUN OTHER` prints a table."""

import argparse
import csv
import pathlib
import sys

import numpy as np
from PIL import Image

from mdps_ref.command import command_line
from mdps_ref.data.files import digest
from mdps_ref.data.folders import read_category
from mdps_ref.data.masks import load_mask
from mdps_ref.data.opening import opened
from mdps_ref.data.pixels import find_white, image_size
from mdps_ref.errors import InputError, reason_of, shown
from mdps_ref.job.config import Config, make_config
from mdps_ref.job.evaluate import RESAMPLES
from mdps_ref.job.run_folder import PLAN, cell, read_json
from mdps_ref.job.settings_file import read_settings
from mdps_ref.scoring.intervals import bins_of, interval, paired_difference, resampled, tally, tally_in_bins

MOST_SIDE = 512  # pixels a side that maps are compared at; larger ones take much memory
FEWEST = 5  # good and defective images; with fewer, resamples are too much alike to tell what is chance
RESULTS = ("config.json", "data.json", "scores.csv", "maps")


def main(argv=None):
    """Run the command line `argv`.

    Returns
    -------
    int
        The exit status: 0; 2 after an error, told in one line on standard error; 130 or 143 if SIGINT or SIGTERM stopped it.
    """
    return command_line(run, parser().parse_args(argv), at_once=True)


def parser():
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.compare",
        description="Say whether one run is better than another on the same test images: image AUROC, pixel AUROC and AUPRO of both, and "
        "their difference with its paired bootstrap interval. Whole maps are compared, as squares of the image's longer side, of 512 "
        "pixels at most.",
        epilog="example: python -m mdps_ref.compare runs/washer-64 runs/washer-64-2",
        allow_abbrev=False,
    )
    p.add_argument("run", metavar="RUN", help="the folder of a run that has ended")
    p.add_argument("other", metavar="OTHER", help="the folder of another one, on the same test images")
    return p


def run(args):
    """Compare the runs that the parsed `args` name; print the settings in which they differ, and the table."""
    one, other = Results(pathlib.Path(args.run)), Results(pathlib.Path(args.other))
    check_alike(one, other)
    metrics, enough = compared(one, other), min(np.bincount(one.labels, minlength=2)) >= FEWEST
    print(changed_settings(one.settings, other.settings))
    print(table(metrics, enough), flush=True)


class Results:
    """The scores and the maps of a run that has ended, and the files that it looked at.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    settings : dict
    scores : array, (N)
        Image scores of the test images.
    files : dict of str to tuple of str
        The SHA-256 of each test image, and of its mask if there is one, by the image's path in the category's folder.

    Raises
    ------
    InputError
        If the folder holds no results, or an image is not as it was in the run.
    """

    def __init__(self, folder):
        _check_holds_results(folder)
        self.folder, self.settings = folder, read_settings(folder / "config.json")
        config = make_config(self.settings)
        try:
            category = read_category(config.data or folder / "synthetic", config.category)
        except InputError as error:
            moved = f"python -m mdps_ref.run --resume --out {shown(folder)} --data DIR"
            raise InputError(f"{error}; if the images were moved, give their folder to {moved} first") from None
        rows = _rows(folder / "scores.csv")
        self._items = [item for item in (*category.train, *category.test) if _path(item) in rows]
        if gone := sorted(rows.keys() - set(map(_path, self._items))):
            raise InputError(f"{shown(category.root)}: has no longer the image {shown(gone[0])} of the run in {shown(folder)}; restore it")
        self.scores = np.array([rows[_path(item)] for item in self._items])
        self._maps = folder / "maps" / config.category
        self._white = find_white([item.path for item in category.train])
        self.files = _files(folder, category.root, self._items)

    @property
    def labels(self):
        """Whether each test image shows a defect, (N) bool."""
        return np.array([item.is_anomalous for item in self._items])

    def truths(self):
        """Return the true mask of each test image, a square like its map; None for a defect without a mask."""
        return [_true_mask(item, self._white) for item in self._items]

    def maps(self):
        """Yield the anomaly map of each test image, as a square: its side is the image's longer one, MOST_SIDE at most."""
        for item in self._items:
            path = self._maps / f"{item.name}.tiff"
            if not path.is_file():
                raise InputError(f"{shown(path)}: is missing; restore it, or run anew")
            with opened(path) as stored:
                yield np.asarray(stored.resize((_side(stored.size),) * 2, Image.Resampling.BILINEAR))


def _check_holds_results(folder):
    """Raise InputError unless a run has ended in the folder."""
    if (folder / PLAN).is_file():
        raise InputError(
            f"{shown(folder)}: holds the runs of all categories; give the folder of one of them, such as {shown(folder / 'NAME')}"
        )
    for name in RESULTS:
        if not (folder / name).exists():
            raise InputError(f"{shown(folder)}: holds no results ({name} is missing); give the folder of a run that has ended")


def _files(folder, root, items):
    """The SHA-256 of each image and its mask.  Raises: InputError if one is not what it was in the run in `folder`."""
    known, files = read_json(folder / "data.json"), {}
    for item in items:
        found = {path: digest(path) for path in (item.path, item.mask_path) if path}
        for path, its_digest in found.items():
            if known.get(path.relative_to(root).as_posix()) != its_digest:
                raise InputError(f"{shown(path)}: is not what it was in the run in {shown(folder)}; restore it, or run anew")
        files[_path(item)] = tuple(found.values())
    return files


def check_alike(one, other):
    """Raise InputError unless both runs have the same test images, with the same masks, of both kinds."""
    kinds = [run.settings.get("category", Config.category) for run in (one, other)]
    if kinds[0] != kinds[1]:
        raise InputError(f"{shown(other.folder)}: is a run on {kinds[1]!r}, not on {kinds[0]!r}; compare runs on the same test images")
    for path in sorted(one.files.keys() | other.files.keys()):
        if one.files.get(path) != other.files.get(path):
            whose, both = other if path in other.files else one, path in one.files and path in other.files
            reason = "or its mask is another file than in the first run" if both else "is a test image of this run alone"
            raise InputError(f"{shown(whose.folder)}: {shown(path)} {reason}; compare runs on the same test images")
    if one.labels.all() or not one.labels.any():
        kind = "defective" if one.labels.all() else "good"
        raise InputError(f"{shown(one.folder)}: its test images are all {kind}; a comparison needs both kinds")


def compared(one, other):
    """Compare two runs on the same resamples of their test images.

    Parameters
    ----------
    one, other : Results

    Returns
    -------
    dict of str to (Interval, Interval, Interval)
        For image AUROC, pixel AUROC and AUPRO: of `one`; of `other`; and of `other` less `one`.
    """
    counts = resampled(len(one.labels), RESAMPLES, strata=one.labels)
    before, after = _statistics(one), _statistics(other)
    return {
        name: (interval(before[name], counts), interval(after[name], counts), paired_difference(after[name], before[name], counts))
        for name in before
    }


def _statistics(results):
    maps, truths = list(results.maps()), results.truths()
    pixels = tally_in_bins(*bins_of(np.concatenate([m.ravel() for m in maps])), truths, maps)
    return {"image auroc": tally(results.labels, results.scores).auroc, "pixel auroc": pixels.auroc, "aupro": pixels.aupro}


def changed_settings(one, other):
    """Return a line for each setting that differs, with both values; settings that a run measures, `tails`, are left out."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name) and name != "tails"]
    lines = [f"{name}: {shown(one.get(name), 40)} | {shown(other.get(name), 40)}" for name in names]
    return "\n".join(lines or ["the settings are alike"])


def table(metrics, enough=True):
    """Return the lines of what `compared` found, for the terminal; with marks, if there are `enough` images to tell what is chance."""
    lines = [" " * 14 + "".join(f"{title:26}" for title in ("RUN", "OTHER", "OTHER less RUN"))]
    for name, (one, other, difference) in metrics.items():
        sign = "+" if enough and difference.low > 0 else "-" if enough and difference.high < 0 else ""
        cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" if value == value else "-" for value, low, high in (one, other, difference)]
        lines.append(f"{name:14}{cells[0]:26}{cells[1]:26}{cells[2]} {sign}".rstrip())
    few = f"no mark says what is beyond chance: there are fewer than {FEWEST} good or defective test images"
    lines.append("+ higher, - lower beyond chance (paired 95 % interval, resampled over the test images)" if enough else few)
    return "\n".join(lines)


def _rows(path):
    """The image scores in scores.csv by the image's path."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as handle:  # as `write_scores` writes odd names
            rows = {row["path"]: float(row["score"]) for row in csv.DictReader(handle)}
    except OSError as error:
        raise InputError(f"{shown(path)}: could not be read ({reason_of(error)}); restore it, or run anew") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{shown(path)}: holds no table of scores; restore it, or run anew") from error
    if not rows or not np.isfinite(list(rows.values())).all():
        raise InputError(f"{shown(path)}: holds {'a score that is no finite number' if rows else 'no scores'}; restore it, or run anew")
    return rows


def _path(item):
    """An image's path, as scores.csv has it."""
    return cell(item.name + item.path.suffix)


def _true_mask(item, white):
    size = image_size(item.path)
    if not item.is_anomalous:
        return np.zeros((_side(size),) * 2, bool)
    return load_mask(item.mask_path, _side(size), size, white=white) if item.mask_path else None


def _side(size):
    return min(max(size), MOST_SIDE)


if __name__ == "__main__":
    sys.exit(main())
