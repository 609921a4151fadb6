"""Is one run better than another on the same test images, beyond chance? `python -m mdps_ref.compare RUN OTHER` prints a table."""

import argparse
import csv
import pathlib
import sys

import numpy as np
from PIL import Image

from mdps_ref.command import command_line
from mdps_ref.data.folders import read_category
from mdps_ref.data.masks import load_mask
from mdps_ref.data.opening import opened
from mdps_ref.data.pixels import image_size
from mdps_ref.errors import InputError, reason_of, shown
from mdps_ref.job.config import make_config
from mdps_ref.job.evaluate import RESAMPLES
from mdps_ref.job.image_digests import check_data
from mdps_ref.job.run_folder import cell, read_json
from mdps_ref.job.settings_file import read_settings
from mdps_ref.scoring.intervals import bins_of, interval, paired_difference, resampled, tally, tally_in_bins

MOST_SIDE = 512  # pixels a side that maps are compared at; larger ones take much memory, and a map has no finer detail
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
        "their difference with its paired bootstrap interval. The maps are compared at the images' own size, up to 512 x 512 pixels.",
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
    print(changed_settings(one.settings, other.settings), flush=True)
    print(table(compared(one, other)))


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
    files : dict of str to (str, str)
        The SHA-256 of each test image and of its mask, "" without one, by the image's path in the category's folder.

    Raises
    ------
    InputError
        If the folder holds no results, or an image is not as it was in the run.
    """

    def __init__(self, folder):
        for name in RESULTS:
            if not (folder / name).exists():
                raise InputError(f"{shown(folder)}: holds no results ({name} is missing); give the folder of a run that has ended")
        self.folder, self.settings = folder, read_settings(folder / "config.json")
        config = make_config(self.settings)
        category = read_category(config.data or folder / "synthetic", config.category)
        check_data(folder, category)
        rows, digests = _rows(folder / "scores.csv"), read_json(folder / "data.json")
        self._items = [item for item in (*category.train, *category.test) if _path(item) in rows]
        self.scores = np.array([rows[_path(item)] for item in self._items])
        self._maps = folder / "maps" / config.category
        self.files = {}
        for item in self._items:
            of = (path.relative_to(category.root).as_posix() if path else None for path in (item.path, item.mask_path))
            self.files[_path(item)] = tuple(digests.get(path, "") for path in of)

    @property
    def labels(self):
        """Whether each test image shows a defect, (N) bool."""
        return np.array([item.is_anomalous for item in self._items])

    def truths(self):
        """Return the true mask of each test image, a square like its map; None for a defect without a mask."""
        return [_true_mask(item) for item in self._items]

    def maps(self):
        """Yield the anomaly map of each test image, as a square: its side is the image's longer one, MOST_SIDE at most."""
        for item in self._items:
            path = self._maps / f"{item.name}.tiff"
            with opened(path) as stored:
                yield np.asarray(stored.resize((_side(stored.size),) * 2, Image.Resampling.BILINEAR))


def check_alike(one, other):
    """Raise InputError unless both runs have the same test images, with the same masks, of both kinds."""
    for path in sorted(one.files.keys() | other.files.keys()):
        if one.files.get(path) != other.files.get(path):
            both = path in one.files and path in other.files
            reason = f"{shown(path)} {'or its mask is another file' if both else 'is a test image of one run alone'}"
            raise InputError(f"{shown(other.folder)}: {reason}; compare it with a run on the same test images")
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


def table(metrics):
    """Return the lines of what `compared` found, for the terminal."""
    lines = [" " * 14 + "".join(f"{title:26}" for title in ("RUN", "OTHER", "OTHER less RUN"))]
    for name, (one, other, difference) in metrics.items():
        sign = "+" if difference.low > 0 else "-" if difference.high < 0 else " "
        cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" if value == value else "-" for value, low, high in (one, other, difference)]
        lines.append(f"{name:14}{cells[0]:26}{cells[1]:26}{cells[2]} {sign}".rstrip())
    lines.append("+ higher, - lower beyond chance (paired 95 % interval, resampled over the test images)")
    return "\n".join(lines)


def _rows(path):
    """The image scores in scores.csv by the image's path."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            return {row["path"]: float(row["score"]) for row in csv.DictReader(handle)}
    except OSError as error:
        raise InputError(f"{shown(path)}: could not be read ({reason_of(error)}); restore it, or run anew") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{shown(path)}: holds no table of scores; restore it, or run anew") from error


def _path(item):
    """An image's path, as scores.csv has it."""
    return cell(item.name + item.path.suffix)


def _true_mask(item):
    size = image_size(item.path)
    if not item.is_anomalous:
        return np.zeros((_side(size),) * 2, bool)
    return load_mask(item.mask_path, _side(size), size) if item.mask_path else None


def _side(size):
    return min(max(size), MOST_SIDE)


if __name__ == "__main__":
    sys.exit(main())
