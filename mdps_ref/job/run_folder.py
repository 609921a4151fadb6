"""The folder of a run: claimed by one process at a time, a new one or one to go on with; and the tables and maps in it."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import shutil

from PIL import Image

from mdps_ref.data.files import whole_file, write_text
from mdps_ref.data.images import map_at_image_size
from mdps_ref.errors import InputError, reason_of, shown
from mdps_ref.job.lock import held_lock
from mdps_ref.scoring.metrics import exceeds

# Names that no file of a user has: these are removed.
WORK = "mdps_ref-work"  # decoded images and what the chains gave so far; removed when the run has ended
LOCK = "mdps_ref-lock"

CALL = "call.json"  # in a folder of scores: what was asked for
PLAN = "categories.json"  # in a folder of runs: the settings of each run, as they were asked for
LONGEST_NAME = 255  # bytes, on the usual file systems
RESULTS = ("scores.csv", "metrics.json", "detector.npz", "report.html", "maps", "figures")  # what follows from the trained weights


@contextlib.contextmanager
def claimed(out, resume, name, holds="config.json"):
    """Claim the folder to run in, for this process alone.

    Parameters
    ----------
    out : str or None
        The folder. None means a new one, runs/<name>.
    resume : bool
        Go on with the run in `out`.
    name : str
    holds : str
        The file that a folder to be resumed has.

    Yields
    ------
    Path
        The folder, which exists. If the block fails before that file is there, what it wrote is removed.

    Raises
    ------
    InputError
        If `out` holds files and is not to be resumed, is to be resumed and holds no run, or another process works in it.
    """
    folder, made = _new_folder(name) if out is None else _wanted_folder(out, resume, holds)
    try:
        with held_lock(folder / LOCK, f"{folder}: another run is working in this folder; wait for it, or give another folder to --out"):
            check_run_folder(folder, resume, holds)
            try:
                yield folder
            finally:
                if not (folder / holds).is_file():
                    _remove_leftovers(folder)
    finally:
        _remove_empty(made)


@contextlib.contextmanager
def folder_for_scores(out, resume):
    """Claim the folder `out` for the scores of new images, for this process alone; it is made if need be, and removed if left empty.

    Raises
    ------
    InputError
        If it holds scores and is not to be resumed, or holds other files, or another process works in it.
    """
    folder = pathlib.Path(out)
    _refuse_a_file(folder)
    if LOCK not in _names_in(folder):  # with one, the process that holds it is to be told of first
        _check_folder_for_scores(folder, resume)
    made = _make_all(folder)
    try:
        with held_lock(folder / LOCK, f"{folder}: another process is scoring into this folder; wait for it, or give another one to --out"):
            _check_folder_for_scores(folder, resume)
            yield
    finally:
        _remove_empty(made)


def _check_folder_for_scores(folder, resume):
    """Raise InputError if the folder holds other files than scores, or scores that are not to go on."""
    names = _names_in(folder) - {LOCK}
    if CALL in names and not resume:
        raise InputError(f"{folder}: holds scores already; add --resume to go on there, or give another folder to --out")
    if names and CALL not in names:
        raise InputError(f"{folder}: holds other files than scores; give another folder to --out")


def check_run_folder(folder, resume, holds="config.json"):
    """Raise InputError if the folder holds files and is not to be resumed, or is to be resumed and holds no run."""
    _refuse_a_file(folder)
    names = _names_in(folder)
    if resume and holds not in names:
        raise InputError(f"{folder}: {_what_else(folder, holds)}")
    if not resume and others_in(folder):
        raise InputError(f"{folder}: already holds files; {_how_to_go_on(names)}give another folder to --out")


def _what_else(folder, holds):
    """Say what to do with a folder that holds no run of the kind that is to be resumed."""
    names = others_in(folder)
    if PLAN in names:
        return "holds the runs of all categories; add --category all"
    if "config.json" in names:
        return "holds the run of one category; leave --category all out"
    if names:
        return f"holds other files and no run (no {holds}); give the folder of a run to --out"
    return f"holds no run to resume (no {holds}); leave --resume out to start one"


def _how_to_go_on(names):
    """Say how to go on with the run that a folder holds; "" if it holds none."""
    if PLAN in names:
        return "add --category all --resume to go on with the runs of all categories, or "
    return "add --resume to go on with that run, or " if "config.json" in names else ""


def _names_in(folder):
    """Return the names in a folder; none if there is no folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def others_in(folder):
    """Return the names in a folder other than those of a run that ended before it had read its images."""
    names = _names_in(folder)
    return {name for name in names - _leftovers(names) if not name.endswith(".part")}


def _leftovers(names):
    """What a run that ended before it had read its images leaves; its data.json is beside its other files."""
    return {WORK, LOCK} | ({"data.json"} if WORK in names else set())


def _refuse_a_file(folder):
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder to --out")


def check_still_there(folder):
    """Raise InputError if the folder, which this process has claimed, was removed while it worked. What was written since is removed.

    If its lock alone is gone, the files of a run, which has a config.json, stay.
    """
    if (folder / LOCK).is_file():
        return
    if (folder / "config.json").is_file():
        raise InputError(f"{folder / LOCK}: was removed while the run worked, so another run may have begun there; go on with --resume")
    remove_results(folder)
    _remove_leftovers(folder)
    raise InputError(f"{folder}: was removed while the run worked; start it again")


def _wanted_folder(out, resume, holds):
    """Return the folder `out`, made if need be, and the folders that were made."""
    folder = pathlib.Path(out)
    check_run_folder(folder, resume, holds)
    return folder, _make_all(folder)


def _make_all(folder):
    """Make a folder and those above it, and return those that were made."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    _make(folder, parents=True, exist_ok=True)
    return made


def _remove_empty(folders):
    """Remove the folders that are empty. In a browser rmdir also removes a folder that is not."""
    for path in folders:
        with contextlib.suppress(OSError):  # it is gone, or another process has put something in
            if not any(path.iterdir()):
                path.rmdir()


def _new_folder(name):
    """Make runs/<name>, or runs/<name>-2, runs/<name>-3, ... : the first that does not exist. Return it, and the folders made."""
    _refuse_a_file(pathlib.Path("runs"))
    _make(pathlib.Path("runs"), exist_ok=True)
    number = 1
    while True:
        folder = pathlib.Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            _make(folder)
            return folder, [folder]
        except FileExistsError:
            number += 1


def _make(folder, **how):
    """Make a folder; an OSError other than FileExistsError becomes an InputError that names it."""
    try:
        folder.mkdir(**how)
    except FileExistsError:
        raise
    except OSError as error:
        raise InputError(f"{folder}: could not be made ({reason_of(error)}); give another folder to --out") from error


def _remove_leftovers(folder):
    """Remove what a run without config.json left."""
    if (folder / WORK).is_dir():
        with contextlib.suppress(OSError):
            (folder / "data.json").unlink(missing_ok=True)
        shutil.rmtree(folder / WORK, ignore_errors=True)


def remove_results(folder):
    """Remove what a run found with its trained weights, before it trains them further."""
    for name in RESULTS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


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
        rows.writerow([cell(item.name + item.path.suffix), cell(item.defect), f"{score:.8g}", int(flagged)])
    write_text(path, table.getvalue())


def cell(name):
    """Return a name as a cell that no spreadsheet takes for a formula: after a ' if it begins with =, +, -, @, a tab or a return."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def check_name(path):
    """Raise InputError if an image's file name is so long that the files named after it cannot be written."""
    longest = LONGEST_NAME - len(os.fsencode(".tiff.part"))
    if len(os.fsencode(pathlib.PurePath(path).name)) > longest:
        raise InputError(f"{shown(path)}: its name is too long for the name of its map; shorten it to {longest} bytes")


def write_map(path, anomaly, own_size, fit):
    """Write an anomaly map as a float32 TIFF at its image's own size, as MVTec AD's evaluation code reads them.

    Parameters
    ----------
    path : Path
        Such as maps/bottle/test/dent/003.tiff.
    anomaly : array, (size, size)
    own_size : tuple of int
        (width, height) of the image.
    fit : {"stretch", "letterbox"}
        How the image was made a square.
    """
    image = Image.fromarray(map_at_image_size(anomaly, own_size, fit).astype("float32"))
    with whole_file(path) as handle:
        image.save(handle, format="TIFF")


def read_json(path):
    """Read a JSON object that `write_json` wrote.

    Raises
    ------
    InputError
        If the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: could not be read ({type(error).__name__}); restore it, or begin anew in another folder") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; restore it, or begin anew in another folder")
    return content


def write_json(path, content):
    """Write `content` as readable JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")
