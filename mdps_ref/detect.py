"""From images and a noise predictor to anomaly maps: stage 1, the mask, stage 2, and plain reconstruction beside them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm

from mdps_ref.backend import array_module, to_device, to_host
from mdps_ref.diffusion.schedule import visited_timesteps
from mdps_ref.errors import InputError
from mdps_ref.nn.unet import unet
from mdps_ref.posterior.guidance import guidance_weight
from mdps_ref.posterior.mask import mask_threshold, suspected
from mdps_ref.posterior.sampler import posterior_samples
from mdps_ref.scoring.difference import absolute_difference, difference_map
from mdps_ref.scoring.features import unet_features
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
    """What three kinds of chain gave for the same images: plain reconstruction, guidance without a mask, and MDPS under the mask."""

    plain: Maps
    stage1: Maps
    masked: Maps


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained network as the chains see it: predict_noise(x_t, t) -> eps, features(images) -> list of arrays, and its array module."""

    predict_noise: Callable
    features: Callable
    xp: Any


def make_model(weights, config):
    """The Model of these weights, {name: array} on the device to run on."""
    network = config.unet()
    return Model(
        lambda x_t, t: unet(weights, x_t, t, network),
        unet_features(weights, network, config.feature_timestep),
        array_module(*weights.values()),
    )


def calibrate(model, good_images, names, config):
    """The mask's threshold, and the scores that good images get from MDPS under it; both from held-out good images alone.

    Shapes: good_images (N, H, W, C) on the host, in [-1, 1] -> a Python float, (N).  Raises: ValueError if there are none.
    """
    stage1 = run_chains(model, good_images, names, config, "stage 1")
    threshold = mask_threshold(stage1.anomaly, config.mask_share)
    masked = run_chains(model, good_images, names, config, "stage 2", suspected(stage1.anomaly, threshold))
    return threshold, masked.score


def detect(model, images, names, config, threshold):
    """Plain reconstruction; stage 1 and the mask from it; stage 2 under the mask.

    names: one an image, which key its noise: an image's result depends on it, its pixels, the weights and the settings alone.
    Shapes: images (N, H, W, C) on the host, in [-1, 1] -> Detection.
    """
    plain = run_chains(model, images, names, config, "plain")
    stage1 = run_chains(model, images, names, config, "stage 1")
    masked = run_chains(model, images, names, config, "stage 2", suspected(stage1.anomaly, threshold))
    return Detection(plain, stage1, masked)


def run_chains(model, images, names, config, kind, mask=None):
    """n chains of one kind ("plain", "stage 1" or "stage 2") an image, and the maps they give, with a progress bar.

    Shapes: images (N, H, W, C), mask (N, H, W, 1) or None, on the host -> Maps.
    """
    at_once = max(1, CHAINS_AT_ONCE // config.samples)
    parts = []
    with tqdm.tqdm(total=len(images), unit="image", desc=kind, mininterval=1.0) as bar:
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            parts.append(_maps(model, images[part], names[part], config, kind, None if mask is None else mask[part]))
            bar.update(len(images[part]))
    return Maps(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Maps)))


def _maps(model, images, names, config, kind, mask):
    """The Maps of a few images, all their chains in one pass of the network a step."""
    y = to_device(images, model.xp)
    mask = None if mask is None else to_device(mask, model.xp)
    strength = {"plain": 0.0, "stage 1": config.stage1_strength, "stage 2": config.stage2_strength}[kind]
    x_0 = posterior_samples(
        model.predict_noise,
        y,
        names,
        mask,
        visited_timesteps(config.start, config.stride),
        config.samples,
        seed=config.seed,
        purpose=kind,
        weight=guidance_weight(strength, y.shape[1:]),
        guidance=config.guidance,
    )
    maps = [difference_map(x, y, model.features, eta=config.eta, sigma=config.blur * y.shape[1]) for x in x_0.swapaxes(0, 1)]
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
