"""What a run found: all that its report shows, in memory that does not grow with the pixels of the test set."""

import dataclasses

import numpy as np

from mdps_ref.data.folders import GOOD
from mdps_ref.job.config import Config
from mdps_ref.scoring.metrics import exceeds

MOST_SHOWN = 12  # images that a report shows step by step, and wrong decisions that it shows


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """The wrong decisions that a report shows: images that were flagged and are good, and defective images that were not flagged.

    Parameters
    ----------
    indices : list of int, K
        Of the images in the test set.
    images : list of array, (H, W, 3), in [-1, 1], K
        Their judged centres.
    truths : list of array, (H, W) bool, or None, K
        Their true masks; None where there is none.
    anomaly : list of array, (H, W), K
        Their anomaly maps.
    """

    indices: list
    images: list
    truths: list
    anomaly: list


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found on N test images, of which it shows K.

    Parameters
    ----------
    config : Config
    names, defects : list of str, N
        The name of each image, and its kind of defect or "good".
    shown : list of int, K
        The images that are shown, see `choose_images`.
    images : array, (K, H, W, 3), in [-1, 1]
        The judged centre of the shown images.
    truths : list of array, (H, W) bool, or None, K
        The true masks of the shown images; None where there is none.
    mistakes : Mistakes
        All wrong decisions, or MOST_SHOWN of them.
    chains : dict of str to ChainResult
        Of the chains "mdps", "guided" and "reconstruction".
    mask_threshold : float or None
        None without a mask.
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
    told : list of str
        What the run said of its images before it trained: how many, and what was set aside.
    trials : list of dict
        The settings that were tried without labels, see `study.tuning.Trial`; [] where the run was not tuned.
    warning : str
        That the network is trained too little, and what to do, see `training_check`; "" where it is trained enough.
    """

    config: Config
    names: list
    defects: list
    shown: list
    images: np.ndarray
    truths: list
    mistakes: Mistakes
    chains: dict
    mask_threshold: float | None
    held_out_scores: np.ndarray
    metrics: dict
    log: np.ndarray
    seconds: dict
    versions: dict
    told: list
    trials: list = dataclasses.field(default_factory=list)
    warning: str = ""

    @property
    def threshold(self):
        """The decision's threshold."""
        return self.metrics["mdps"]["decision_threshold"]

    @property
    def flagged(self):
        """Whether each image is called anomalous, (N) bool."""
        return exceeds(self.chains["mdps"].score, self.threshold)


def choose_images(defects, limit=MOST_SHOWN):
    """Choose the images to show by file name alone: the first good ones, and the first ones of each kind of defect in turn.

    Parameters
    ----------
    defects : list of str
        The kind of each image, in the order of their names.
    limit : int
        The largest number of images. Near a quarter of it are good images: so many that kinds of defects have equally many images, where
        that can be. Every kind of defect has an image if the limit allows.

    Returns
    -------
    list of int
        Good images first, then by kind.
    """
    members = {}
    for index, kind in enumerate(defects):
        members.setdefault(kind, []).append(index)
    good = members.pop(GOOD, [])
    in_turn = sorted((turn, kind, index) for kind, indices in members.items() for turn, index in enumerate(indices))
    most = min(len(good), max(0, limit - len(members)))
    few = min(most, max(1, limit // 4))
    even = [count for count in range(1, min(most, limit // 2) + 1) if _ends_a_turn(in_turn, limit - count)]
    few = min(even, key=lambda count: abs(count - few), default=few)
    few = max(few, limit - len(in_turn))
    by_kind = sorted((kind, index) for _, kind, index in in_turn[: limit - few])
    return good[:few] + [index for _, index in by_kind]


def _ends_a_turn(in_turn, taken):
    """Return whether no kind lacks an image of the last turn among the first `taken` images."""
    return taken >= len(in_turn) or in_turn[taken - 1][0] < in_turn[taken][0]
