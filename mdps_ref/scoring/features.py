"""Feature extractors: functions from images (N, H, W, 3) in [-1, 1] to a list of arrays (N, h, w, C), one a layer."""

import numpy as np

from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.nn.unet import unet


def unet_features(weights, config, timestep=50):
    """The noise predictor's own activations (Baranchuk et al. 2022): the ends of its upward levels at 1/2 and 1/4 of the side.

    The image is scaled to its level at `timestep`, and no noise is added, so equal images have equal features.
    Nothing has to be downloaded.  A network of one level gives its only one.
    """
    levels = range(1, min(3, len(config.multipliers))) or [0]
    names = [f"up.{level}.{config.blocks}" for level in levels]

    def extract(images):
        record = {}
        unet(weights, alpha_bar(timestep) ** 0.5 * images, np.full(len(images), timestep), config, record)
        return [record[name] for name in names]

    return extract
