"""Runs of all categories: a run folder for each, in one folder, and a table of their results."""

import csv
import io
import pathlib

from mdps_ref.data.files import write_text
from mdps_ref.data.layout import entries
from mdps_ref.data.synthetic import DEFECTS
from mdps_ref.errors import InputError, shown
from mdps_ref.job.progress import say
from mdps_ref.job.run_folder import cell, read_json

ALL = "all"  # the category that means each
COLUMNS = ("image_auroc", "pixel_auroc", "aupro", "good_difference", "defect_difference", "contrast")


def category_names(data):
    """Return the names of all categories, sorted: the folders of `data` with a folder train; without `data` the synthetic ones.

    Raises
    ------
    InputError
        If there is none, or if a category is called "all".
    """
    if not data:
        return sorted(DEFECTS)
    folders = entries(pathlib.Path(data))[0]
    names = [folder.name for folder in folders if (folder / "train").is_dir()]
    if not names:
        raise InputError(f"{shown(data)}: holds no category, a folder with a folder train; give the folder that holds the categories")
    if ALL in names:
        raise InputError(f"{shown(pathlib.Path(data, ALL))}: --category all means each category; rename this folder")
    others = [folder.name for folder in folders if folder.name not in names]
    if others:
        say(f"no category, as they have no folder train: {', '.join(map(shown, others))}")
    return names


def one_by_one(run_category):
    """Return run_each(jobs), which does runs in this process.

    Parameters
    ----------
    run_category : callable
        run_category(config, folder) does a run, or goes on with it.

    Returns
    -------
    callable
        Of jobs, an iterable of (name, config, folder), it yields (name, reason): why the run failed, or None.
    """

    def run_each(jobs):
        for name, config, folder in jobs:
            say(f"category {shown(name)}:")
            try:
                run_category(config, folder)
                yield name, None
            except (InputError, OSError) as error:
                yield name, str(error)

    return run_each


def results(folder, names, reasons):
    """Gather MDPS's metrics of all runs.

    Parameters
    ----------
    folder : Path
        That holds the run folders.
    names : iterable of str
    reasons : dict of str to str
        Why runs failed.

    Returns
    -------
    dict of str to dict
        {name: {column: number, or None}}; None for a run that failed.
    """
    metrics = {name: read_json(folder / name / "metrics.json")["mdps"] for name in names if name not in reasons}
    return {name: metrics.get(name) and {column: metrics[name][column] for column in COLUMNS} for name in names}


def write_results(path, rows):
    """Write what `results` gathered as a CSV; the numbers of a run that failed are left empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["category", *COLUMNS])
    for name, row in rows.items():
        values = [row and row[column] for column in COLUMNS]
        table.writerow([cell(name), *("" if value is None else f"{value:.8g}" for value in values)])
    write_text(path, text.getvalue())


def table_of(rows):
    """Return the COLUMNS of chains or categories as lines for the terminal.

    Parameters
    ----------
    rows : dict of str to dict
        {name: {column: number, or None}}; None for a run that failed.

    Returns
    -------
    str
    """
    width = max(len(shown(name)) for name in rows)
    heads = [f"  {column.replace('_', ' '):>9}" for column in COLUMNS]
    lines = [" " * width + "".join(heads)]
    for name, row in rows.items():
        values = [row[column] for column in COLUMNS] if row else ["failed"]
        words = [value if isinstance(value, str) else "-" if value is None else f"{value:.4f}" for value in values]
        lines.append(f"{shown(name):{width}}" + "".join(f"{word:>{len(head)}}" for word, head in zip(words, heads, strict=False)))
    return "\n".join(lines)
