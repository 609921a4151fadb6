"""From images and a noise predictor to anomaly maps: the reconstruction chain, the guided chain, the mask from it, and MDPS."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mdps_ref.backend import array_module, to_device, to_host
from mdps_ref.errors import InputError
from mdps_ref.job.images import check_images
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.maps import InMemory, Maps
from mdps_ref.job.progress import progress
from mdps_ref.kernels import fast
from mdps_ref.nn.unet import unet
from mdps_ref.posterior.mask import mask_threshold, suspected
from mdps_ref.posterior.sampler import prior_denoiser
from mdps_ref.scoring.difference import absolute_difference, difference_map
from mdps_ref.scoring.features import make_features, unet_features
from mdps_ref.scoring.image_score import IMAGE_SCORES, mean_and_spread, pooled_mean_and_spread

CHAINS_AT_ONCE = 16  # image-sample pairs in one pass of the network: enough to keep its products large


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
    """Load the feature extractor that `config` names; return None for the noise predictor's own features."""
    if config.features == "unet":
        return None
    return make_features(config.features, config.feature_weights, config.feature_layers, xp, config.feature_size)


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


def calibrate(model, good_images, names, config, threshold=None, keep=InMemory):
    """Set the mask's threshold from held-out good images, and score them with MDPS under that mask.

    Parameters
    ----------
    model : Model
    good_images : array, (N, H, W, C), in [-1, 1]
        On the host; or images in files, `images.StoredImages`.
    names : list of str
        One name an image; a name keys its image's noise.
    config : Config
    threshold : float, optional
        The mask's threshold, if it is known already: that of `detect`, where the test images set it. The default is
        `config.mask_threshold`, and without that a threshold that `config.mask_share` of the good pixels exceed.
    keep : callable
        keep(chain_name) -> what keeps the Maps of a chain, such as InMemory.

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

    def threshold_of(guided):
        return mask_threshold(guided.anomaly(slice(None)), config.mask_share) if known is None else known

    with fast():
        _, mdps, threshold = guided_and_mdps(model, good_images, names, config, threshold_of, keep)
    return threshold, mdps.result().score


def detect(model, images, names, config, threshold=None, keep=InMemory):
    """Run the reconstruction chain, the guided chain, and MDPS under the mask.

    An image's result depends only on its pixels, its name, the weights and the settings. The released rules add its batch
    (`config.batch_size` images, in this order) and, for the mask's threshold, all images.

    Parameters
    ----------
    model : Model
    images : array, (N, H, W, C), in [-1, 1]
        On the host; or images in files, `images.StoredImages`.
    names : list of str
        One name an image; a name keys its image's noise.
    config : Config
    threshold : float, optional
        The mask's threshold, from `calibrate`. Without it, `config.mask_threshold` or the test images must set the threshold.
    keep : callable
        keep(chain_name) -> what keeps the Maps of a chain, such as InMemory.

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

    def threshold_of(guided):
        return from_test(guided.anomaly(slice(None)), config.mask_lambda) if known is None else known

    with fast():
        reconstruction = run_chains(model, images, names, config, "reconstruction", keep=keep)
        guided, mdps, threshold = guided_and_mdps(model, images, names, config, threshold_of, keep)
    results = {id(kept): kept.result() for kept in (reconstruction, guided, mdps)}
    return Detection(*(results[id(kept)] for kept in (reconstruction, guided, mdps)), threshold)


def guided_and_mdps(model, images, names, config, threshold_of, keep=InMemory):
    """Run the guided chain, make the mask from its maps, and run MDPS under it.

    Parameters
    ----------
    model, images, names, config, keep
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
        mdps = run_chains(model, images, names, config, "mdps", keep=keep)
        return mdps, mdps, None
    guided = run_chains(model, images, names, config, "guided", keep=keep)
    threshold = threshold_of(guided)
    mdps = run_chains(model, images, names, config, "mdps", lambda part: suspected(guided.anomaly(part), threshold), keep)
    return guided, mdps, threshold


def images_at_once(config):
    """Return how many images share each pass of the network."""
    return config.batch_size if config.resolved_rules.share_batches else max(1, CHAINS_AT_ONCE // config.samples)


def run_chains(model, images, names, config, chain_name, mask_of=None, keep=InMemory):
    """Run n chains an image and keep their maps, with a progress bar. Images that an earlier process finished are left out.

    Parameters
    ----------
    model, images, names, config, keep
        As for `detect`.
    chain_name : {"reconstruction", "guided", "mdps"}
        Chooses start and strength, and names the random streams.
    mask_of : callable, optional
        mask_of(part) -> the mask of the images in a slice, (n, H, W, 1), 1 = suspected.

    Returns
    -------
    What `keep` made, with the Maps of all images

    Raises
    ------
    Interrupted
        If a signal asked to stop; the batches that were finished are kept.
    """
    at_once, kept = images_at_once(config), keep(chain_name)
    done = min(kept.done, len(images))
    with progress(len(images), "image", f"{chain_name} chain", done) as shown:
        for start in range(done, len(images), at_once):
            part = slice(start, min(start + at_once, len(images)))
            kept.add(batch_maps(model, images[part], names[part], config, chain_name, mask_of and mask_of(part)))
            shown.update(part.stop - part.start)
            stop_if_asked()
    return kept


def batch_maps(model, images, names, config, chain_name, mask=None):
    """Run n chains for each of a few images, which share each pass of the network, and make their Maps.

    Where the mask of an image is empty, Eq. (10) makes every sample the image itself: no chain is run, and its maps are 0.

    Parameters
    ----------
    model, images, names, config, chain_name
        As for `run_chains`.
    mask : array, (n, H, W, 1), optional
        1 = suspected.

    Returns
    -------
    Maps

    Raises
    ------
    InputError
        If a map is not finite.
    """
    if mask is None or not config.resolved_rules.keeps_normal_pixels:
        return _maps(model, images, names, config, chain_name, mask)
    drawn = mask.any(axis=(1, 2, 3))
    maps = _unchanged(images, config)
    if drawn.any():
        some = _maps(
            model, images[drawn], [name for name, wanted in zip(names, drawn, strict=True) if wanted], config, chain_name, mask[drawn]
        )
        for field in dataclasses.fields(Maps):
            getattr(maps, field.name)[drawn] = getattr(some, field.name)
    return maps


def _unchanged(images, config):
    """Return the Maps of images whose samples are the images themselves."""
    zeros = np.zeros(images.shape[:3], images.dtype)
    score = IMAGE_SCORES[config.image_score](zeros)
    return Maps(images.copy(), zeros.copy(), zeros.copy(), zeros.copy(), score, zeros)


def _maps(model, images, names, config, chain_name, mask):
    """Return the Maps of a few images. Their samples are drawn and compared a few at a time, so memory does not grow with n."""
    rules, at_once = config.resolved_rules, max(1, CHAINS_AT_ONCE // len(images))
    y = to_device(images, model.xp)
    mask = None if mask is None else to_device(mask, model.xp)
    chain = _chain(model.predict_noise, config, rules, chain_name, images.shape[1:])
    settings = {"pixel_weight": config.pixel_weight, "sigma": config.blur * images.shape[1], "fuse": rules.fuse}
    moments, first, difference = None, None, 0.0
    for start in range(0, config.samples, at_once):
        numbers = range(start, min(start + at_once, config.samples))
        x_0 = rules.sample(chain, y, mask, names, numbers, config.seed, chain_name)
        maps = model.xp.stack([difference_map(sample, y, model.features, **settings) for sample in x_0.swapaxes(0, 1)], axis=1)
        moments = pooled_mean_and_spread(moments, (len(numbers), *mean_and_spread(maps)))
        first = x_0[:, 0] if first is None else first
        difference = difference + absolute_difference(x_0, y[:, None]).sum(axis=1)
    _, anomaly, spread = moments
    if not np.isfinite(to_host(anomaly)).all():
        raise InputError(f"{names[0]} or an image near it: the chain gave nan; train longer, or with a lower learning_rate")
    return Maps(
        x_0=to_host(first),
        difference=to_host(difference / config.samples),
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

    def interruptible(x_t, t):
        stop_if_asked()
        return predict_noise(x_t, t)

    def chain(y, mask, draw):
        denoise = guide(interruptible, y, weight, mask) if weight else prior_denoiser(interruptible)
        return rules.chain(denoise, y, mask, start, timesteps, draw, ddim_eta=config.ddim_eta)

    return chain
