"""The report of a run: figures, and one self-contained HTML page that tells what was found, how well, and with what settings."""

import dataclasses

import numpy as np

from mdps_ref.config import Config
from mdps_ref.detect import Detection


@dataclasses.dataclass(frozen=True)
class Result:
    """Everything that a report shows.

    images: (N, H, W, 3) in [-1, 1].  names, defects: one string an image.  truths: one (H, W) bool mask an image, or None.
    held_out_scores: (M), of good images kept back.  metrics: as `evaluate` gives them.  log: (steps, 2), loss and gradient norm,
    empty where the weights were loaded.  seconds: {stage: wall time}.  versions: {what: version}.
    """

    config: Config
    images: np.ndarray
    names: list
    defects: list
    truths: list
    detection: Detection
    held_out_scores: np.ndarray
    metrics: dict
    log: np.ndarray
    seconds: dict
    versions: dict
