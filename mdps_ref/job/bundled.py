"""Weights that come with the package, for the synthetic categories: a run without arguments shows a full report without training."""

import pathlib

from mdps_ref.errors import InputError
from mdps_ref.job.train import TRAINING

FOLDER = pathlib.Path(__file__).parents[1] / "bundled"
BUNDLED = "bundled"  # the value of the setting `weights`
# Few network calls, and no choice of features, so that a report is there soon.
SETTINGS = {"image_size": 64, "guided_start": 300, "mdps_start": 300, "stride": 50, "samples": 1, "features": "unet"}
FREE = {"data", "category", "seed", "skip_bad"}  # settings of the training that do not ask for another network


def with_bundled(settings, category):
    """Merge: settings that suit the bundled weights < these settings, if nothing in them asks for other images or another network.

    Parameters
    ----------
    settings : dict
    category : str
        The one that the run would have.

    Returns
    -------
    dict
    """
    asks = settings.get("data") or settings.keys() & ({*TRAINING, "train_steps"} - FREE)
    if asks or not _file(category).is_file():
        return settings
    return {"weights": BUNDLED} | SETTINGS | settings


def weights_file(config):
    """Return the file of weights that a Config names.

    Raises
    ------
    InputError
        If it asks for bundled weights of a category that has none.
    """
    if config.weights != BUNDLED:
        return config.weights
    if not _file(config.category).is_file():
        there = ", ".join(sorted(path.stem.removesuffix("-64") for path in FOLDER.glob("*.npz")))
        raise InputError(f"weights is 'bundled', but no weights for {config.category!r} come with the package; there are {there}")
    return _file(config.category)


def _file(category):
    return FOLDER / f"{category}-64.npz"
