"""From images and a noise predictor to anomaly maps: the reconstruction chain, the guided chain, the mask from it, and MDPS."""

import dataclasses
from collections.abc import Callable
from typing import Any

from mdps_ref.backend import array_module
from mdps_ref.data.files import digest
from mdps_ref.errors import InputError
from mdps_ref.job.chains import one_after_another, run_chains, with_guided
from mdps_ref.job.images import check_images
from mdps_ref.job.maps import AnomalyMaps, InMemory
from mdps_ref.kernels import fast
from mdps_ref.nn.unet import unet
from mdps_ref.posterior.mask import mask_threshold, suspected
from mdps_ref.scoring.features import file_of_weights, joined, make_features, unet_features
from mdps_ref.scoring.whitening import whitened


@dataclasses.dataclass(frozen=True)
class Detection:
    """What the three chains gave for the same images.

    Parameters
    ----------
    reconstruction, guided, mdps : Maps, or what else `keep` makes of them
        No guidance and no mask; guidance without a mask; MDPS under the mask. With `masked` False, `guided` and `mdps` are the same
        Maps: one guided chain, with MDPS's settings, is the result.
    mask_threshold : float or None
        A pixel is suspected if its guided anomaly map exceeds it. None without a mask.
    """

    reconstruction: Any
    guided: Any
    mdps: Any
    mask_threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A noise predictor as the chains use it.

    Parameters
    ----------
    predict_noise : callable
        predict_noise(x_t, t) -> eps, for arrays and Tensors x_t (N, H, W, C) and integers t (N).
    features : callable
        features(images) -> list of arrays (N, h, w, C).
    xp : module
        The array module to compute with: NumPy or CuPy.
    """

    predict_noise: Callable
    features: Callable
    xp: Any


def make_extractor(config, xp):
    """Load the ImageNet network whose features `config` compares; return None if it compares the noise predictor's own alone."""
    if config.extractor is None:
        return None
    return make_features(config.extractor, config.feature_weights, config.feature_layers, xp, config.feature_size)


def extractor_digest(config):
    """Return the SHA-256 of the extractor's file of weights; None without one."""
    return digest(file_of_weights(config.extractor, config.feature_weights)) if config.extractor else None


def make_model(weights, config, extractor=None, whitening=()):
    """Make the Model of these weights.

    Parameters
    ----------
    weights : dict of str to array
        On the device to compute on.
    config : Config
    extractor : callable, optional
        features(images) -> list of arrays (N, h, w, C), instead of the ImageNet network that `config` names, or of the noise predictor's
        own.
    whitening : sequence of arrays, (C, C)
        From `fit_whitening`; one for each layer of the features, where their distance is Mahalanobis's.
    """
    network, xp = config.unet(), array_module(*weights.values())
    own, other = unet_features(weights, network, config.feature_timestep), extractor or make_extractor(config, xp)
    features = joined(own, other) if other and config.features.startswith("unet+") else other or own
    if config.feature_distance == "mahalanobis":
        features = whitened(features, whitening, xp)
    return Model(lambda x_t, t: unet(weights, x_t, t, network), features, xp)


def needs_test_maps(config):
    """Return whether the test images themselves set the mask's threshold (row "mask"), so that `detect` goes before `calibrate`."""
    return config.masked and config.mask_threshold is None and config.resolved_rules.threshold_from_test is not None


def calibrate(model, good_images, config, threshold=None, keep=InMemory, make_maps=one_after_another):
    """Set the mask's threshold from held-out good images, and score them with MDPS under that mask.

    Parameters
    ----------
    model : Model
    good_images : array, (N, H, W, C), in [-1, 1]
        On the host; or images in files, `images.StoredImages`.
    config : Config
    threshold : float, optional
        The mask's threshold, if it is known already: that of `detect`, where the test images set it. The default is
        `config.mask_threshold`, and without that a threshold that `config.mask_share` of the good pixels exceed.
    keep : callable
        keep(chain_name) -> what keeps the Maps of a chain, such as InMemory.
    make_maps : callable
        As for `detect`.

    Returns
    -------
    threshold : float or None
        None without a mask.
    scores : array, (N)

    Raises
    ------
    InputError
        If `check_images` refuses the images, or the test images have to set the threshold and it is not given.
    """
    good_images = check_images(good_images, config.image_size)
    known = config.mask_threshold if threshold is None else threshold
    if known is None and needs_test_maps(config):
        raise InputError(
            f"under rules {config.rules!r} the test images set the mask's threshold: detect first and give its mask_threshold, "
            'or set mask_threshold, or set rules_except to "mask"'
        )

    def threshold_of(guided):
        return mask_threshold(AnomalyMaps(guided, len(good_images)), config.mask_share) if known is None else known

    with fast():
        _, mdps, threshold = guided_and_mdps(model, good_images, config, threshold_of, keep, make_maps)
    return threshold, mdps.result().score


def detect(model, images, config, threshold=None, keep=InMemory, make_maps=one_after_another):
    """Run the reconstruction chain, the guided chain, and MDPS under the mask.

    An image's result depends only on its pixels, the weights and the settings. The released rules add its batch
    (`config.batch_size` images, in this order) and, for the mask's threshold, all images.

    Parameters
    ----------
    model : Model
    images : array, (N, H, W, C), in [-1, 1]
        On the host; or images in files, `images.StoredImages`.
    config : Config
    threshold : float, optional
        The mask's threshold, from `calibrate`. Without it, `config.mask_threshold` or the test images must set the threshold.
    keep : callable
        keep(chain_name) -> what keeps the Maps of a chain, such as InMemory.
    make_maps : callable
        Takes the place of `chains.one_after_another`, for example `cluster_chains.chains_on_cluster(...)`.

    Returns
    -------
    Detection

    Raises
    ------
    InputError
        If `check_images` refuses the images, or the mask has no threshold.
    """
    images = check_images(images, config.image_size)
    known = config.mask_threshold if threshold is None else threshold
    from_test = config.resolved_rules.threshold_from_test
    if config.masked and known is None and from_test is None:
        raise InputError("the mask has no threshold: give the one that calibrate returns, or set mask_threshold")

    def threshold_of(guided):
        return from_test(AnomalyMaps(guided, len(images)), config.mask_lambda) if known is None else known

    with fast():
        reconstruction = run_chains(model, images, config, "reconstruction", keep=keep, make_maps=make_maps)
        guided, mdps, threshold = guided_and_mdps(model, images, config, threshold_of, keep, make_maps)
    results = {id(kept): kept.result() for kept in (reconstruction, guided, mdps)}
    return Detection(*(results[id(kept)] for kept in (reconstruction, guided, mdps)), threshold)


def guided_and_mdps(model, images, config, threshold_of, keep=InMemory, make_maps=one_after_another):
    """Run the guided chain, make the mask from its maps, and run MDPS under it.

    Parameters
    ----------
    model, images, config, keep, make_maps
        As for `detect`.
    threshold_of : callable
        threshold_of(guided) -> float, of what keeps the guided Maps.

    Returns
    -------
    guided, mdps
        What keeps their Maps.
    threshold : float or None
        None without a mask.
    """
    if not config.masked:
        mdps = run_chains(model, images, config, "mdps", keep=keep, make_maps=make_maps)
        return mdps, mdps, None
    guided = run_chains(model, images, config, "guided", keep=keep, make_maps=make_maps)
    threshold = threshold_of(guided)
    change = (lambda part, maps: with_guided(maps, guided.anomaly(part), config)) if config.guided_weight else None
    mdps = run_chains(model, images, config, "mdps", lambda part: suspected(guided.anomaly(part), threshold), keep, make_maps, change)
    return guided, mdps, threshold
