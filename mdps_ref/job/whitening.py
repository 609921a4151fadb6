"""The whitening of a run's features: fitted to good images that trained the network, and to their reconstructions."""

import dataclasses

import numpy as np

from mdps_ref.backend import to_device
from mdps_ref.job.chains import CHAINS_AT_ONCE, images_at_once
from mdps_ref.scoring.whitening import Covariance
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint

MOST_IMAGES = 32  # that the whitening is fitted to


def fitted_images(good_images):
    """Choose the images to fit to: evenly spaced, as (M, H, W, C) on the host.

    Parameters
    ----------
    good_images : array, (N, H, W, C), or StoredImages
        They trained the network. So the held-out ones, which set the thresholds, have no part in it.
    """
    count = len(good_images)
    return good_images[np.unique(np.linspace(0, count - 1, min(count, MOST_IMAGES)).round().astype(int))]


def fitted_chain(config):
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
    """
    covariance = Covariance()
    for start in range(0, len(images), CHAINS_AT_ONCE):
        some = slice(start, start + CHAINS_AT_ONCE)
        covariance.add(extract(to_device(samples[some, 0], xp)), extract(to_device(images[some], xp)))
    return covariance.whitening()


def whitening_of_run(model, good_images, config, path, draw_batches):
    """Fit the whitening of a run's features, or read it, if this run has fitted it before.

    Parameters
    ----------
    model : Model
        Its features are not whitened.
    good_images : as for `fitted_images`
    config : Config
    path : Path
        The file that keeps it.
    draw_batches : callable
        draw_batches(model, batches, config, chain_name) yields the samples of each batch.

    Returns
    -------
    tuple of arrays, (C, C)
    """
    if not path.exists():
        images, (chain, name) = fitted_images(good_images), fitted_chain(config)
        parts = [images[start : start + images_at_once(chain)] for start in range(0, len(images), images_at_once(chain))]
        samples = np.concatenate(list(draw_batches(model, ((part, None) for part in parts), chain, name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, as_group(fit_whitening(model.features, images, samples, model.xp)), {})
    return of_group(load_checkpoint(path)[0])


def as_group(whitening):
    """Return a whitening as a group of `save_checkpoint`."""
    return {"whitening": {f"{layer}": matrix for layer, matrix in enumerate(whitening)}}


def of_group(groups):
    """Return the whitening among the groups that `load_checkpoint` read; () if there is none."""
    return tuple(matrix for _, matrix in sorted(groups.get("whitening", {}).items(), key=lambda item: (len(item[0]), item[0])))
