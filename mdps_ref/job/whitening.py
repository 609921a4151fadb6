"""The whitening of a run's features: fitted to training images that are not held out, and to their reconstructions."""

import dataclasses

import numpy as np

from mdps_ref.backend import to_device
from mdps_ref.job.chains import draw_all
from mdps_ref.scoring.whitening import SecondMoments
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint

MOST_IMAGES = 32  # that the whitening is fitted to
AT_ONCE = 4  # images whose features are compared at once: of whole images they are large


def images_to_fit(good_images):
    """Choose the images to fit to: evenly spaced, as (M, H, W, C) on the host.

    Parameters
    ----------
    good_images : array, (N, H, W, C), or StoredImages
        Not the held-out ones: these set the thresholds, and have no part in it.
    """
    count = len(good_images)
    return good_images[np.unique(np.linspace(0, count - 1, min(count, MOST_IMAGES)).round().astype(int))]


def chain_to_fit(config):
    """Return the Config and the name of the chain that reconstructs the images: one sample each, of the guided chain if there is a mask."""
    return dataclasses.replace(config, samples=1), "guided" if config.masked else "mdps"


def fit_whitening(extract, images, samples, xp):
    """Fit the whitening of an extractor's layers.

    Parameters
    ----------
    extract : callable
        extract(images) -> list of arrays (N, h, w, C).
    images : array, (M, H, W, C)
    samples : array, (M, 1, H, W, C)
        Their reconstructions.
    xp : module
        The array module to compute with.

    Returns
    -------
    tuple of arrays, (C, C)
        One a layer.

    Raises
    ------
    InputError
        If features are not finite.
    """
    moments = SecondMoments()
    for start in range(0, len(images), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        moments.add(extract(to_device(samples[some, 0], xp)), extract(to_device(images[some], xp)))
    return moments.whitening()


def whitening_of_run(model, good_images, config, path, draw_batches=None):
    """Fit the whitening of a run's features, or read it, if this run has fitted it before.

    Parameters
    ----------
    model : Model
        Its features are not whitened.
    good_images : as for `images_to_fit`
    config : Config
    path : Path
        The file that keeps it.
    draw_batches : callable, optional
        See `chains.draw_all`.

    Returns
    -------
    tuple of arrays, (C, C)
    """
    if not path.exists():
        images = images_to_fit(good_images)
        samples = draw_all(model, images, *chain_to_fit(config), draw_batches=draw_batches)
        keep_whitening(path, fit_whitening(model.features, images, samples, model.xp))
    return of_group(load_checkpoint(path)[0])


def keep_whitening(path, whitening):
    """Write the file that `whitening_of_run` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, as_group(whitening), {})


def as_group(whitening):
    """Return a whitening as a group of `save_checkpoint`."""
    return {"whitening": {f"{layer}": matrix for layer, matrix in enumerate(whitening)}}


def of_group(groups):
    """Return the whitening among the groups that `load_checkpoint` read; () if there is none."""
    return tuple(matrix for _, matrix in sorted(groups.get("whitening", {}).items(), key=lambda item: (len(item[0]), item[0])))
