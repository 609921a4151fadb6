"""The detector: weights, settings and thresholds in one object that scores arrays of images, and in one file."""

import dataclasses
import functools
import importlib.metadata
import math
import pathlib
from collections.abc import Callable

import numpy as np

from mdps_ref.backend import to_device, to_host
from mdps_ref.errors import InputError
from mdps_ref.job.config import Config, checked
from mdps_ref.job.detect import calibrate, extractor_digest, guided_and_mdps, make_model
from mdps_ref.job.images import check_images
from mdps_ref.job.maps import centre, score_range
from mdps_ref.job.weights import check_fits
from mdps_ref.job.whitening import as_group, of_group
from mdps_ref.kernels import fast
from mdps_ref.scoring.features import file_of_weights
from mdps_ref.scoring.metrics import exceeds, threshold_at_rate
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a Detector says of N images, on the host.

    Parameters
    ----------
    score : array, (N)
        Larger is more anomalous.
    flagged : array, (N) bool
        Whether the score exceeds the decision's threshold.
    unsure : array, (N) bool
        Whether the threshold lies between the scores of the anomaly map less its spread and plus its spread. With one posterior
        sample there is no spread, and no image is unsure.
    anomaly, spread : array, (N, H, W)
        Mean and standard deviation of the anomaly maps of the posterior samples. With a `guided_weight`, the guided map is added to the
        mean, and the spread is that of the samples of MDPS alone.
    suspected : array, (N, H, W) bool
        The mask; all True without one.
    x_0 : array, (N, H, W, C), in [-1, 1]
        The first posterior sample: what the image would look like without a defect.
    """

    score: np.ndarray
    flagged: np.ndarray
    unsure: np.ndarray
    anomaly: np.ndarray
    spread: np.ndarray
    suspected: np.ndarray
    x_0: np.ndarray


@dataclasses.dataclass(frozen=True)
class Detector:
    """Scores images with MDPS. `Detector.calibrated` makes one from weights and good images, `Detector.load` from a run's detector.npz.

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
    white : int, optional
        The value of white in 16-bit files that do not tell it, see `data.images.load_image`.
    judged_side : int, optional
        Side, in pixels, of the centre of each map that gives the image's score: the decision's threshold was set on such scores. By
        default the whole map does.
    whitening : tuple of arrays, (C, C)
        Of each layer of the features, where their distance is Mahalanobis's; see `scoring.whitening`.

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
    white: int | None = None
    judged_side: int | None = None
    whitening: tuple = ()

    def __post_init__(self):
        _check_own_features(self.features, self.config)
        _check_whitening(self.whitening, self.config)

    @classmethod
    def calibrated(cls, weights, good_images, config, features=None, whitening=()):
        """Make a Detector whose thresholds are set by good images that did not train the network.

        Parameters
        ----------
        weights, config, features, whitening
            As for the class. Another detector of the same weights and settings may give its whitening.
        good_images : array, (M, H, W, 3), in [-1, 1]

        Raises
        ------
        InputError
            As `calibrate`; or if the whitening does not fit the features.
        """
        good_images = check_images(good_images, config.image_size)
        _check_own_features(features, config)
        _check_whitening(whitening, config)
        model = make_model(weights, config, features, whitening)
        mask_threshold, scores = calibrate(model, good_images, config)
        decision_threshold = threshold_at_rate(scores, config.false_positive_rate)
        return cls(weights, config, mask_threshold, decision_threshold, features, whitening=whitening)

    @functools.cached_property
    def model(self):
        """The Model of the weights."""
        return make_model(self.weights, self.config, self.features, self.whitening)

    def score(self, images):
        """Score images.

        Parameters
        ----------
        images : array, (N, H, W, 3), in [-1, 1]

        Returns
        -------
        Scores

        Raises
        ------
        InputError
            If `check_images` refuses the images.
        """
        images = check_images(images, self.config.image_size)
        with fast():
            _, kept, _ = guided_and_mdps(self.model, images, self.config, lambda guided: self.mask_threshold)
        mdps = kept.result()
        judged = centre(mdps, self.judged_side or self.config.image_size, self.config)
        return Scores(
            score=judged.score,
            flagged=exceeds(judged.score, self.decision_threshold),
            unsure=self._is_unsure(judged),
            anomaly=mdps.anomaly,
            spread=mdps.spread,
            suspected=mdps.suspected.astype(bool),
            x_0=mdps.x_0,
        )

    def _is_unsure(self, maps):
        low, high = score_range(maps, self.config)
        return exceeds(low, self.decision_threshold) != exceeds(high, self.decision_threshold)

    def save(self, path, calibrated_on):
        """Write the detector into one file, which `Detector.load` reads. The file holds no code.

        The weights of an ImageNet network, 17 to 500 MB, are not in it: it holds their SHA-256, which `load` compares.

        Parameters
        ----------
        path : path-like
        calibrated_on : dict
            What the thresholds were set on, such as {"images": 20}; for a reader of the file.

        Raises
        ------
        InputError
            If the detector has an extractor of your own, which is code, or the file cannot be written.
        """
        if self.features:
            raise InputError(f"{path}: a detector with its own features cannot be saved, since they are code; save weights and thresholds")
        config = dataclasses.replace(self.config, data="", weights="", skip_bad=False, strict=False)  # of the run, not of the detector
        about = {
            "detector": {name: getattr(self, name) for name in NUMBERS},
            "config": dataclasses.asdict(config),
            "calibrated_on": calibrated_on,
            "extractor": extractor_digest(config),
            "versions": {name: importlib.metadata.version(name) for name in ("mdps_ref", "numpy")},
        }
        weights = {"ema": {name: to_host(array) for name, array in self.weights.items()}}
        save_checkpoint(path, weights | as_group(self.whitening), about)

    @classmethod
    def load(cls, path, xp=np, feature_weights=""):
        """Read a detector from a file that a run or `save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : path-like
            The file, or the folder of a run.
        xp : module
            The array module to compute with.
        feature_weights : path-like
            The extractor's file of weights on this machine, where the detector compares the features of an ImageNet network. "" means
            the file that the run used.

        Returns
        -------
        Detector

        Raises
        ------
        InputError
            If the file is missing, was changed or cut, is no detector, or does not fit together; or if the extractor's file of weights is
            missing, or is not the one that the thresholds were set with.
        """
        path = detector_file(path)
        groups, about = load_checkpoint(path, WANTED)
        settings, numbers = about.get("config"), about.get("detector")
        if not (isinstance(settings, dict) and isinstance(numbers, dict) and numbers.keys() == set(NUMBERS)):
            raise InputError(f"{path}: is no detector; give the {WANTED}")
        try:
            config = Config(**checked(settings))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        _check_numbers(path, numbers, config)
        check_fits(path, groups.get("ema", {}), config, about)
        if feature_weights and not config.extractor:
            raise InputError(f"{path}: compares no features of an ImageNet network; leave --feature-weights out")
        if feature_weights:
            config = dataclasses.replace(config, feature_weights=str(feature_weights))
        if extractor_digest(config) != about.get("extractor"):
            file = file_of_weights(config.extractor, config.feature_weights)
            raise InputError(f"{file}: other weights than {path} was calibrated with; give the same ones to --feature-weights")
        weights = {name: to_device(array, xp) for name, array in groups["ema"].items()}
        try:
            return cls(weights, config, **numbers, whitening=of_group(groups))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _check_own_features(features, config):
    """Raise InputError if features are given, and the config has tails or a distance that were measured on the features it names."""
    if features and config.tails:
        raise InputError("the config has tails, which belong to the features that it names; give features of your own without tails")
    if features and config.feature_distance == "mahalanobis":
        raise InputError("feature_distance is 'mahalanobis', which a run fits to the features that it names; give your own with 'cosine'")


def _check_whitening(whitening, config):
    """Raise InputError if it is not one square matrix of finite numbers for each layer, where the distance is Mahalanobis's."""
    wanted = config.layer_count if config.feature_distance == "mahalanobis" else 0
    square = all(matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and np.isfinite(matrix).all() for matrix in whitening)
    if len(whitening) != wanted or not square:
        raise InputError(
            f"feature_distance {config.feature_distance!r} needs a whitening of {wanted} square matrices of finite numbers; take that of a "
            "run's detector, or the distance 'cosine' without one"
        )


def detector_file(path):
    """Return the file of a detector: `path` itself, or detector.npz in the folder of a run.

    Raises
    ------
    InputError
        If there is none.
    """
    path = pathlib.Path(path)
    path = path / "detector.npz" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such detector; give the detector.npz of a run that has ended, or the run's folder")
    return path


WANTED = "detector.npz, or the folder, of a run that has ended"
NUMBERS = ("mask_threshold", "decision_threshold", "white", "judged_side")  # of a detector, in its file


def _check_numbers(path, numbers, config):
    """Raise InputError for a number that is not finite, or is missing."""
    optional = {"white", "judged_side"} if config.masked else {"white", "judged_side", "mask_threshold"}
    for name, value in numbers.items():
        if not (value is None and name in optional or type(value) in (int, float) and math.isfinite(value)):
            raise InputError(f"{path}: its {name} is {value!r}, no finite number; make the detector again with its run")
    side = numbers["judged_side"]
    if side is not None and not (type(side) is int and 1 <= side <= config.image_size):
        raise InputError(f"{path}: its judged_side is {side!r}, no number of pixels up to {config.image_size}; make the detector again")
