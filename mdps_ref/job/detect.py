"""From images and a noise predictor to anomaly maps: stage 1, the mask, stage 2, and plain reconstruction beside them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm

from mdps_ref.kernels.buffers import Workspace
from mdps_ref.backend import array_module, to_device, to_host
from mdps_ref.data.folders import centre_crop
from mdps_ref.diffusion.schedule import released_timesteps, visited_timesteps
from mdps_ref.errors import InputError
from mdps_ref.nn.unet import unet
from mdps_ref.posterior.guidance import guidance_weight
from mdps_ref.posterior.mask import mask_threshold, released_threshold, suspected
from mdps_ref.posterior.sampler import posterior_samples
from mdps_ref.released.rules import RULES
from mdps_ref.scoring.difference import absolute_difference, difference_map
from mdps_ref.scoring.features import make_features, unet_features
from mdps_ref.scoring.image_score import IMAGE_SCORES, mean_and_spread

CHAINS_AT_ONCE = 16  # image-sample pairs in one pass of the network: enough to keep its products large


@dataclasses.dataclass(frozen=True)
class Maps:
    """What one kind of chain gave for N images, on the host.

    x_0: the first posterior sample (N, H, W, C).  difference: mean over samples of |x_0 - y| (N, H, W), in pixel values ([-1, 1]).
    anomaly: the mean of the n anomaly maps (N, H, W).  spread: their standard deviation.  score: one number an image (N).
    suspected: the mask the chains ran under (N, H, W), 1 = suspected; all 1 where there was none.
    """

    x_0: np.ndarray
    difference: np.ndarray
    anomaly: np.ndarray
    spread: np.ndarray
    score: np.ndarray
    suspected: np.ndarray


@dataclasses.dataclass(frozen=True)
class Detection:
    """What three kinds of chain gave for the same images: plain reconstruction, guidance without a mask, and MDPS under the mask.

    mask_threshold: above which a stage-1 map makes a pixel suspected.  Without a mask it is None, and `stage1` and `masked` are the
    same Maps: one guided pass, the result.
    """

    plain: Maps
    stage1: Maps
    masked: Maps
    mask_threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained network as the chains see it: predict_noise(x_t, t) -> eps, features(images) -> list of arrays, and its array module."""

    predict_noise: Callable
    features: Callable
    xp: Any


def make_extractor(config, xp):
    """The feature extractor that config names, from its file of weights; None for the noise predictor's own activations.

    Raises: as `make_features`.
    """
    return None if config.features == "unet" else make_features(config.features, config.feature_weights, config.feature_layers, xp)


def make_model(weights, config, extractor=None):
    """The Model of these weights, {name: array} on the device to run on.  extractor: as `make_extractor` gives it, if it is there."""
    network, xp = config.unet(), array_module(*weights.values())
    features = extractor or make_extractor(config, xp) or unet_features(weights, network, config.feature_timestep)
    return Model(lambda x_t, t: unet(weights, x_t, t, network), features, xp)


def mask_from_test_set(config):
    """Whether the mask's threshold comes from the test images themselves (row 5), so that `detect` goes before `calibrate`."""
    return config.masked and RULES[config.rules].mask_from == "test set"


def calibrate(model, good_images, names, config, threshold=None, side=None):
    """The mask's threshold, and the scores that good images get from MDPS under it; both from held-out good images alone.

    threshold: by the released rules, where it comes from the test set, that of `detect`.  side: of the centre that is scored, see
    `judged_side`; None for all.
    Shapes: good_images (N, H, W, C) on the host, in [-1, 1] -> a Python float, or None without a mask; (N).
    Raises: ValueError if there are no images, or no threshold where the test set has to set it.
    """
    if threshold is None and mask_from_test_set(config):
        raise ValueError(f"by rules {config.rules!r} the test set sets the mask's threshold: detect first, and give its mask_threshold")
    mask = None
    if config.masked:
        stage1 = run_chains(model, good_images, names, config, "stage 1")
        threshold = mask_threshold(stage1.anomaly, config.mask_share) if threshold is None else threshold
        mask = suspected(stage1.anomaly, threshold)
    masked = run_chains(model, good_images, names, config, "stage 2", mask)
    return threshold, centre(masked, side or config.image_size, config).score


def detect(model, images, names, config, threshold=None):
    """Plain reconstruction; stage 1 and the mask from it; stage 2 under the mask.

    names: one an image, which key its noise: an image's result depends on it, its pixels, the weights and the settings alone, unless
    the rules are the released ones: then also on its batch, config.batch_size images in this order, and on all images, which set the
    threshold of the mask.
    threshold: as `calibrate` gives it; it plays no part where the test set sets it, or where there is no mask.
    Shapes: images (N, H, W, C) on the host, in [-1, 1] -> Detection.
    """
    plain = run_chains(model, images, names, config, "plain")
    if not config.masked:
        guided = run_chains(model, images, names, config, "stage 2")
        return Detection(plain, guided, guided)
    stage1 = run_chains(model, images, names, config, "stage 1")
    if mask_from_test_set(config):
        threshold = released_threshold(stage1.anomaly, config.mask_lambda)
    masked = run_chains(model, images, names, config, "stage 2", suspected(stage1.anomaly, threshold))
    return Detection(plain, stage1, masked, threshold)


def judged_side(config, layout):
    """Pixels a side of the centre of images that is scored and judged (row 12).  layout: of the folders, "mvtec" or "btad"."""
    return round(config.image_size * RULES[config.rules].judged_share[layout])


def centre(maps, side, config):
    """The Maps of the central side x side pixels, the score that of the centre alone."""
    if side == maps.anomaly.shape[1]:
        return maps
    arrays = {field.name: getattr(maps, field.name) for field in dataclasses.fields(Maps) if field.name != "score"}
    cropped = {name: centre_crop(array, side) for name, array in arrays.items()}
    return Maps(**cropped, score=IMAGE_SCORES[config.image_score](cropped["anomaly"]))


def run_chains(model, images, names, config, kind, mask=None):
    """n chains of one kind ("plain", "stage 1" or "stage 2") an image, and the maps they give, with a progress bar.

    Shapes: images (N, H, W, C), mask (N, H, W, 1) or None, on the host -> Maps.
    """
    rules = RULES[config.rules]
    batched = "batch" in (rules.norm_over, rules.maxima_over)
    at_once = config.batch_size if batched else max(1, CHAINS_AT_ONCE // config.samples)
    parts = []
    with Workspace(), tqdm.tqdm(total=len(images), unit="image", desc=kind, mininterval=1.0) as bar:
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            parts.append(_maps(model, images[part], names[part], config, kind, None if mask is None else mask[part]))
            bar.update(len(images[part]))
    return Maps(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Maps)))


def _maps(model, images, names, config, kind, mask):
    """The Maps of a few images, by released rules a batch; all their chains in one pass of the network a step."""
    rules = RULES[config.rules]
    y = to_device(images, model.xp)
    mask = None if mask is None else to_device(mask, model.xp)
    start = config.stage1_start if kind == "stage 1" else config.stage2_start
    strength = {"plain": 0.0, "stage 1": config.stage1_strength, "stage 2": config.stage2_strength}[kind]
    x_0 = posterior_samples(
        model.predict_noise,
        y,
        names,
        mask,
        (released_timesteps if rules.below_start else visited_timesteps)(start, config.stride),
        config.samples,
        seed=config.seed,
        purpose=kind,
        weight=guidance_weight(strength, rules.weight_shape or y.shape[1:]),
        guidance=config.guidance,
        noised_to=start,
        paste=rules.paste,
        norm_over=rules.norm_over,
    )
    sigma, over = config.blur * y.shape[1], rules.maxima_over
    maps = [difference_map(x, y, model.features, eta=config.eta, sigma=sigma, over=over) for x in x_0.swapaxes(0, 1)]
    anomaly, spread = mean_and_spread(model.xp.stack(maps, axis=1))
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
