"""How often the network is run for one image in two stages, at each released setting: here, and in the authors' code.

The chains are those of a run; the network is a stand-in that counts. The authors' code runs the network twice in a guided step, once for
the noise and once more for the gradient; its chains are those of the released rules. Where a setting has no guidance (w = 0), a step of
theirs is counted as one forward pass.
"""

from typing import NamedTuple

import numpy as np

from mdps_ref.autograd.tape import Node, Tensor
from mdps_ref.job.config import make_config
from mdps_ref.job.detect import Model, guided_and_mdps
from mdps_ref.kernels import fast
from mdps_ref.released.presets import PRESETS, preset_settings

SIDE = 32  # pixels; the number of passes does not depend on it
HEADER = f"{'forward passes + pullbacks of one image':42}{'defective':>12}{'empty mask':>12}{'authors’':>12}{'share':>10}{'empty':>8}"


class Passes(NamedTuple):
    """Forward passes of one image through the network, and pullbacks of a cotangent to the image."""

    forward: int
    pullbacks: int

    def __str__(self):
        return f"{self.forward} + {self.pullbacks}"


class CountingNetwork:
    """A noise predictor that predicts zero and counts."""

    def __init__(self):
        self.forward = self.pullbacks = 0

    def __call__(self, x_t, t):
        self.forward += len(t)
        return Tensor(0 * x_t.value, Node("counted", [x_t.node], self._pullback)) if isinstance(x_t, Tensor) else 0 * x_t

    def _pullback(self, g):
        self.pullbacks += len(g)
        return [0 * g]


def ours(name, suspected, rules="paper"):
    """Count what an image takes here, from image to map.

    Parameters
    ----------
    name : str
        A preset.
    suspected : bool
        Whether its mask has pixels; a good image's is empty.
    rules : {"paper", "released"}

    Returns
    -------
    Passes
    """
    small = {"image_size": SIDE, "network": "tiny", "features": "unet", "feature_layers": ""}
    config = make_config(preset_settings(name, rules) | small)
    network, y = CountingNetwork(), np.zeros((1, SIDE, SIDE, 3), np.float32)
    with fast(threads=1):
        guided_and_mdps(Model(network, lambda images: [images + 1], np), y, config, lambda _: -np.inf if suspected else np.inf)
    return Passes(network.forward, network.pullbacks)


def authors(name):
    """Count what an image takes in the authors' code, with pixels in its mask or without; `name` is a preset."""
    counted = ours(name, True, "released")
    return Passes(counted.forward + counted.pullbacks, counted.pullbacks)


def lines():
    """Yield a line below HEADER for each preset: here, in the authors' code, and their ratio, a pullback counted as a forward pass."""
    for name in PRESETS:
        here, empty, there = ours(name, True), ours(name, False), authors(name)
        yield f"{name:42}{here!s:>12}{empty!s:>12}{there!s:>12}{sum(here) / sum(there):>10.0%}{sum(empty) / sum(there):>8.0%}"
