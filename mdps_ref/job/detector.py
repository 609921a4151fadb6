"""The detector: weights, settings and thresholds in one object that scores arrays of images."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from mdps_ref.job.config import Config
from mdps_ref.job.detect import calibrate, guided_and_mdps, make_model
from mdps_ref.job.images import check_images
from mdps_ref.kernels import fast
from mdps_ref.scoring.metrics import exceeds, threshold_at_rate


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a Detector says of N images, on the host.

    Parameters
    ----------
    score : array, (N)
        Larger is more anomalous.
    flagged : array, (N) bool
        Whether the score exceeds the decision's threshold.
    anomaly, spread : array, (N, H, W)
        Mean and standard deviation of the anomaly maps of the posterior samples.
    suspected : array, (N, H, W) bool
        The mask; all True without one.
    x_0 : array, (N, H, W, C), in [-1, 1]
        The first posterior sample: what the image would look like without a defect.
    """

    score: np.ndarray
    flagged: np.ndarray
    anomaly: np.ndarray
    spread: np.ndarray
    suspected: np.ndarray
    x_0: np.ndarray


@dataclasses.dataclass(frozen=True)
class Detector:
    """Scores images with MDPS. `Detector.calibrated` makes one from weights and good images.

    Parameters
    ----------
    weights : dict of str to array
        Of the noise predictor, on the device to compute on.
    config : Config
    mask_threshold : float or None
        A pixel is suspected if its guided anomaly map exceeds it. None without a mask.
    decision_threshold : float
        An image is flagged if its score exceeds it.
    features : callable, optional
        Your own extractor, features(images) -> list of arrays (N, h, w, C), instead of the one that `config` names.

    Examples
    --------
    >>> detector = Detector.calibrated(weights, good_images, config)  # doctest: +SKIP
    >>> detector.score(images).flagged  # doctest: +SKIP
    array([False,  True])
    """

    weights: dict
    config: Config
    mask_threshold: float | None
    decision_threshold: float
    features: Callable | None = None

    @classmethod
    def calibrated(cls, weights, good_images, config, names=None, features=None):
        """Make a Detector whose thresholds are set by good images that did not train the network.

        Parameters
        ----------
        weights, config, features
            As for the class.
        good_images : array, (M, H, W, 3), in [-1, 1]
        names : list of str, optional
            Keys of the images' noise; "0", "1", ... by default.

        Raises
        ------
        InputError
            As `calibrate`.
        """
        good_images = check_images(good_images, config.image_size, names)
        model = make_model(weights, config, features)
        mask_threshold, scores = calibrate(model, good_images, _names(good_images, names), config)
        return cls(weights, config, mask_threshold, threshold_at_rate(scores, config.false_positive_rate), features)

    @functools.cached_property
    def model(self):
        """The Model of the weights."""
        return make_model(self.weights, self.config, self.features)

    def score(self, images, names=None):
        """Score images.

        Parameters
        ----------
        images : array, (N, H, W, 3), in [-1, 1]
        names : list of str, optional
            Keys of the images' noise; "0", "1", ... by default.

        Returns
        -------
        Scores

        Raises
        ------
        InputError
            If `check_images` refuses the images.
        """
        images = check_images(images, self.config.image_size, names)
        names = _names(images, names)
        with fast():
            _, kept, _ = guided_and_mdps(self.model, images, names, self.config, lambda guided: self.mask_threshold)
        mdps = kept.result()
        return Scores(
            score=mdps.score,
            flagged=exceeds(mdps.score, self.decision_threshold),
            anomaly=mdps.anomaly,
            spread=mdps.spread,
            suspected=mdps.suspected.astype(bool),
            x_0=mdps.x_0,
        )


def _names(images, names):
    """Return the names, or "0", "1", ... where there are none."""
    return [str(number) for number in range(len(images))] if names is None else names
