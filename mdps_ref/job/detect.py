"""From images and a noise predictor to anomaly maps: the reconstruction chain, the guided chain, the mask from it, and MDPS."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm

from mdps_ref.backend import array_module, to_device, to_host
from mdps_ref.data.images import centre_crop
from mdps_ref.errors import InputError
from mdps_ref.job.images import check_images
from mdps_ref.kernels import fast
from mdps_ref.nn.unet import unet
from mdps_ref.posterior.mask import mask_threshold, suspected
from mdps_ref.posterior.sampler import prior_denoiser
from mdps_ref.scoring.difference import absolute_difference, difference_map
from mdps_ref.scoring.features import make_features, unet_features
from mdps_ref.scoring.image_score import IMAGE_SCORES, mean_and_spread

CHAINS_AT_ONCE = 16  # image-sample pairs in one pass of the network: enough to keep its products large


@dataclasses.dataclass(frozen=True)
class Maps:
    """What one chain gave for N images, on the host.

    Parameters
    ----------
    x_0 : array, (N, H, W, C)
        The first posterior sample.
    difference : array, (N, H, W)
        |x_0 - y| in pixel values ([-1, 1]), mean over channels and samples.
    anomaly, spread : array, (N, H, W)
        Mean and standard deviation of the n anomaly maps.
    score : array, (N)
        The anomaly score of each image.
    suspected : array, (N, H, W)
        The mask that the chain ran under, 1 = suspected; all 1 without a mask.
    """

    x_0: np.ndarray
    difference: np.ndarray
    anomaly: np.ndarray
    spread: np.ndarray
    score: np.ndarray
    suspected: np.ndarray


@dataclasses.dataclass(frozen=True)
class Detection:
    """What the three chains gave for the same images.

    Parameters
    ----------
    reconstruction, guided, mdps : Maps
        No guidance and no mask; guidance without a mask; MDPS under the mask. With `masked` False, `guided` and `mdps` are the same
        Maps: one guided chain, with MDPS's settings, is the result.
    mask_threshold : float or None
        A pixel is suspected if its guided anomaly map exceeds it. None without a mask.
    """

    reconstruction: Maps
    guided: Maps
    mdps: Maps
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
    """Load the feature extractor that `config` names; return None for the noise predictor's own features."""
    return None if config.features == "unet" else make_features(config.features, config.feature_weights, config.feature_layers, xp)


def make_model(weights, config, extractor=None):
    """Make the Model of these weights.

    Parameters
    ----------
    weights : dict of str to array
        On the device to compute on.
    config : Config
    extractor : callable, optional
        features(images) -> list of arrays (N, h, w, C). Without it the features are those that `config` names.
    """
    network, xp = config.unet(), array_module(*weights.values())
    features = extractor or make_extractor(config, xp) or unet_features(weights, network, config.feature_timestep)
    return Model(lambda x_t, t: unet(weights, x_t, t, network), features, xp)


def needs_test_maps(config):
    """Return whether the test images themselves set the mask's threshold (row "mask"), so that `detect` goes before `calibrate`."""
    return config.masked and config.mask_threshold is None and config.resolved_rules.threshold_from_test is not None


def calibrate(model, good_images, names, config, threshold=None, side=None):
    """Set the mask's threshold from held-out good images, and score them with MDPS under that mask.

    Parameters
    ----------
    model : Model
    good_images : array, (N, H, W, C), in [-1, 1]
        On the host.
    names : list of str
        One name an image; a name keys its image's noise.
    config : Config
    threshold : float, optional
        The mask's threshold, if it is known already: that of `detect`, where the test images set it. The default is
        `config.mask_threshold`, and without that a threshold that `config.mask_share` of the good pixels exceed.
    side : int, optional
        Score only the central side x side pixels.

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
    good_images = check_images(good_images, config.image_size, names)
    known = config.mask_threshold if threshold is None else threshold
    if known is None and needs_test_maps(config):
        raise InputError(
            f"under rules {config.rules!r} the test images set the mask's threshold: detect first and give its mask_threshold, "
            'or set mask_threshold, or set rules_except to "mask"'
        )

    def threshold_of(maps):
        return mask_threshold(maps, config.mask_share) if known is None else known

    with fast():
        _, mdps, threshold = guided_and_mdps(model, good_images, names, config, threshold_of)
    return threshold, centre(mdps, side or config.image_size, config).score


def detect(model, images, names, config, threshold=None):
    """Run the reconstruction chain, the guided chain, and MDPS under the mask.

    An image's result depends only on its pixels, its name, the weights and the settings. The released rules add its batch
    (`config.batch_size` images, in this order) and, for the mask's threshold, all images.

    Parameters
    ----------
    model : Model
    images : array, (N, H, W, C), in [-1, 1]
        On the host.
    names : list of str
        One name an image; a name keys its image's noise.
    config : Config
    threshold : float, optional
        The mask's threshold, from `calibrate`. Without it, `config.mask_threshold` or the test images must set the threshold.

    Returns
    -------
    Detection

    Raises
    ------
    InputError
        If `check_images` refuses the images, or the mask has no threshold.
    """
    images = check_images(images, config.image_size, names)
    known = config.mask_threshold if threshold is None else threshold
    from_test = config.resolved_rules.threshold_from_test
    if config.masked and known is None and from_test is None:
        raise InputError("the mask has no threshold: give the one that calibrate returns, or set mask_threshold")

    def threshold_of(maps):
        return from_test(maps, config.mask_lambda) if known is None else known

    with fast():
        reconstruction = run_chains(model, images, names, config, "reconstruction")
        return Detection(reconstruction, *guided_and_mdps(model, images, names, config, threshold_of))


def guided_and_mdps(model, images, names, config, threshold_of):
    """Run the guided chain, make the mask from its maps, and run MDPS under it.

    Parameters
    ----------
    model, images, names, config
        As for `detect`.
    threshold_of : callable
        threshold_of(maps) -> float, of the guided anomaly maps (N, H, W).

    Returns
    -------
    guided, mdps : Maps
    threshold : float or None
        None without a mask.
    """
    if not config.masked:
        mdps = run_chains(model, images, names, config, "mdps")
        return mdps, mdps, None
    guided = run_chains(model, images, names, config, "guided")
    threshold = threshold_of(guided.anomaly)
    return guided, run_chains(model, images, names, config, "mdps", suspected(guided.anomaly, threshold)), threshold


def centre(maps, side, config):
    """Return the Maps of the central side x side pixels, with the scores of the centre alone."""
    if side == maps.anomaly.shape[1]:
        return maps
    arrays = {field.name: getattr(maps, field.name) for field in dataclasses.fields(Maps) if field.name != "score"}
    cropped = {name: centre_crop(array, side) for name, array in arrays.items()}
    return Maps(**cropped, score=IMAGE_SCORES[config.image_score](cropped["anomaly"]))


def run_chains(model, images, names, config, chain_name, mask=None):
    """Run n chains an image and make their maps, with a progress bar.

    Parameters
    ----------
    model, images, names, config
        As for `detect`.
    chain_name : {"reconstruction", "guided", "mdps"}
        Chooses start and strength, and names the random streams.
    mask : array, (N, H, W, 1), optional
        1 = suspected.

    Returns
    -------
    Maps
    """
    batched = config.resolved_rules.share_batches
    at_once = config.batch_size if batched else max(1, CHAINS_AT_ONCE // config.samples)
    parts = []
    with tqdm.tqdm(total=len(images), unit="image", desc=chain_name, mininterval=1.0) as bar:
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            parts.append(_maps(model, images[part], names[part], config, chain_name, None if mask is None else mask[part]))
            bar.update(len(images[part]))
    return Maps(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Maps)))


def _maps(model, images, names, config, chain_name, mask):
    """Return the Maps of a few images, whose chains share each pass of the network."""
    rules = config.resolved_rules
    y = to_device(images, model.xp)
    mask = None if mask is None else to_device(mask, model.xp)
    chain = _chain(model.predict_noise, config, rules, chain_name, images.shape[1:])
    x_0 = rules.sample(chain, y, mask, names, range(config.samples), config.seed, chain_name)
    settings = {"pixel_weight": config.pixel_weight, "sigma": config.blur * images.shape[1], "fuse": rules.fuse}
    anomaly, spread = mean_and_spread(
        model.xp.stack([difference_map(sample, y, model.features, **settings) for sample in x_0.swapaxes(0, 1)], axis=1)
    )
    if not np.isfinite(to_host(anomaly)).all():
        raise InputError(f"{names[0]} or an image near it: the chain gave nan; train longer, or with a lower learning_rate")
    return Maps(
        x_0=to_host(x_0[:, 0]),
        difference=to_host(absolute_difference(x_0, y[:, None]).mean(axis=1)),
        anomaly=to_host(anomaly),
        spread=to_host(spread),
        score=to_host(IMAGE_SCORES[config.image_score](anomaly)),
        suspected=np.ones(images.shape[:3], images.dtype) if mask is None else to_host(mask)[..., 0],
    )


def _chain(predict_noise, config, rules, chain_name, shape):
    """Return chain(y, mask, draw) -> x_0, with the settings of the chain of this name; without strength there is no guide."""
    start = config.guided_start if chain_name == "guided" else config.mdps_start
    strength = {"reconstruction": 0.0, "guided": config.guided_strength, "mdps": config.mdps_strength}[chain_name]
    weight, timesteps, guide = rules.weight(strength, shape), rules.timesteps(start, config.stride), rules.guides[config.guidance]

    def chain(y, mask, draw):
        denoise = guide(predict_noise, y, weight, mask) if weight else prior_denoiser(predict_noise)
        return rules.chain(denoise, y, mask, start, timesteps, draw, ddim_eta=config.ddim_eta)

    return chain
