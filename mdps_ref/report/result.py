"""What a report is made from."""

import dataclasses

import numpy as np

from mdps_ref.job.config import Config
from mdps_ref.job.detect import Detection
from mdps_ref.scoring.metrics import exceeds


@dataclasses.dataclass(frozen=True)
class Result:
    """Everything that a report shows.

    Parameters
    ----------
    config : Config
    images : array, (N, H, W, 3), in [-1, 1]
        The test images.
    names, defects : list of str, N
        The name of each image, and its kind of defect or "good".
    truths : list of array, (H, W) bool, or None, N
        The true masks; None where there is none.
    detection : Detection
    held_out_scores : array, (M)
        Scores of the held-out good images, which set the decision's threshold.
    metrics : dict
        As `evaluate` returns them.
    log : array, (steps, 2)
        Loss and gradient norm; no steps if the weights were loaded.
    seconds : dict of str to float
        Wall time of each stage.
    versions : dict of str to str
        Of Python, the packages and the machine.
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

    @property
    def threshold(self):
        """The decision's threshold."""
        return self.metrics["mdps"]["decision_threshold"]

    @property
    def flagged(self):
        """Whether each image is called anomalous, (N) bool."""
        return exceeds(self.detection.mdps.score, self.threshold)
