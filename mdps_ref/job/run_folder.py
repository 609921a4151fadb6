"""The folder of a run: a new one or one to go on with, and the tables and maps in it."""

import csv
import dataclasses
import io
import json
import pathlib

from PIL import Image

from mdps_ref.data.files import whole_file, write_text
from mdps_ref.data.pixels import image_size
from mdps_ref.errors import InputError
from mdps_ref.scoring.metrics import exceeds


def open_run_folder(out, resume, name):
    """Return the folder to run in, without creating anything.

    Parameters
    ----------
    out : str or None
        The folder. None means a new one, runs/<name>.
    resume : bool
        Go on with the run in `out`.
    name : str

    Raises
    ------
    InputError
        If `out` holds files and is not to be resumed, or is to be resumed and holds no run.
    """
    if out is None:
        if resume:
            raise InputError("--resume needs --out FOLDER, the run folder to go on with")
        return _new_folder(name)
    folder = pathlib.Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder to --out")
    has_files = folder.is_dir() and any(folder.iterdir())
    if has_files and not resume:
        raise InputError(f"{folder}: already holds files; add --resume to go on with that run, or give another folder to --out")
    if resume and not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no run to resume (no config.json); leave --resume out to start one")
    return folder


def write_config(folder, config):
    """Write the settings to config.json in `folder`."""
    write_json(folder / "config.json", dataclasses.asdict(config))


def write_scores(path, items, scores, threshold):
    """Write a CSV with one row an image: its path in the category's folder, its defect, its score, and 1 if it is flagged, else 0.

    Parameters
    ----------
    path : Path
    items : sequence of Item, N
    scores : array, (N)
    threshold : float
        An image is flagged if its score exceeds it.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["path", "defect", "score", "flagged"])
    for item, score, flagged in zip(items, scores, exceeds(scores, threshold), strict=True):
        rows.writerow([item.name + item.path.suffix, item.defect, f"{score:.8g}", int(flagged)])
    write_text(path, table.getvalue())


def write_maps(folder, items, maps):
    """Write each anomaly map as a float32 TIFF at its image's own size, as MVTec AD's evaluation code reads them.

    Parameters
    ----------
    folder : Path
        The map of an item is `<folder>/<name>.tiff`, such as `<folder>/test/dent/003.tiff`.
    items : sequence of Item, N
    maps : array, (N, H, W)
    """
    for item, anomaly in zip(items, maps, strict=True):
        image = Image.fromarray(anomaly.astype("float32")).resize(image_size(item.path), Image.Resampling.BILINEAR)
        with whole_file(folder / f"{item.name}.tiff") as handle:
            image.save(handle, format="TIFF")


def write_json(path, content):
    """Write `content` as readable JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def _new_folder(name):
    """Return runs/<name>, or runs/<name>-2, runs/<name>-3, ... : the first that does not exist."""
    number = 1
    while True:
        folder = pathlib.Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
        number += 1
