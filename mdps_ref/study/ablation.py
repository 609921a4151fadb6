"""Ablation: what each step of the method is worth, beside its other settings and simpler baselines, on the test images of a run."""

import dataclasses
import functools

import numpy as np

from mdps_ref.backend import random_stream, to_device, to_host
from mdps_ref.data.images import centre_crop
from mdps_ref.errors import InputError
from mdps_ref.job.evaluate import RESAMPLES, contrast_of
from mdps_ref.job.interrupt import stop_if_asked
from mdps_ref.job.progress import say, stage
from mdps_ref.job.whitening import images_to_fit
from mdps_ref.kernels.processes import Team, members
from mdps_ref.kernels.threads import even_shares
from mdps_ref.posterior.mask import mask_threshold
from mdps_ref.scoring.difference import absolute_difference
from mdps_ref.scoring.features import joined
from mdps_ref.scoring.image_score import IMAGE_SCORES
from mdps_ref.scoring.intervals import Interval, interval, paired_difference, resampled, tally
from mdps_ref.study.experiment import Experiment, NotFinite, Whitenings, feature_keys, make_extractors, tails_of_good
from mdps_ref.study.variants import MDPS, Baseline

COMPARED = ("image_auroc", "pixel_auroc", "aupro_30")


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found for a variant or a baseline.

    Parameters
    ----------
    name, title, group : str
    settings : dict
        Of a variant, those that differ from the run's.
    seconds : float
        To make the map of one image, also where another row had made a part of it. Fitting is not counted.
    metrics : dict of str to Interval
        A baseline has no contrast.
    differences : dict of str to Interval
        The metrics COMPARED, less those of MDPS on the same resamples.
    """

    name: str
    title: str
    group: str
    settings: dict
    seconds: float
    metrics: dict[str, Interval]
    differences: dict[str, Interval]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """All rows, in the order of `variants.py`; and those that were left out, with the reason."""

    rows: list[Row]
    left_out: dict[str, str]


def stratified(kinds, labels, count, seed):
    """Choose some images, with good and defective ones, and the kinds of defect, in the shares that they have.

    Parameters
    ----------
    kinds : list of str, N
    labels : array of bool, (N)
        True for a defect.
    count : int, 2 or more
        All images if there are no more.
    seed : int

    Returns
    -------
    array of ints
        Indices, ascending.
    """
    if count >= len(labels):
        return np.arange(len(labels))
    draws = random_stream(seed, "subset").random(len(labels))
    defective, good = np.flatnonzero(labels), np.flatnonzero(~labels)
    share = int(np.clip(round(count * len(defective) / len(labels)), min(1, len(defective)), count - min(1, len(good))))
    chosen = []
    for group, wanted in ((good, count - share), (defective, share)):
        group = sorted(group, key=lambda i: (kinds[i], draws[i]))
        chosen += [group[int((k + 0.5) * len(group) / wanted)] for k in range(wanted)]
    return np.sort(chosen)


def ablate(detector, config, images, wanted, chosen):
    """Evaluate rows on the same test images.

    Parameters
    ----------
    detector : Detector
        Of the run.
    config : Config
        The run's, with the seed to sample by.
    images : RunImages
    wanted : dict
        From `variants.wanted_rows`.
    chosen : array of ints
        Indices of the test images to look at.

    Returns
    -------
    Ablation

    Raises
    ------
    InputError
        If MDPS itself gives nan.
    Interrupted
        If a signal asked to stop.
    """
    configs, left_out = {}, {}
    for name, entry in wanted.items():
        try:
            configs[name] = dataclasses.replace(config, **entry.change)
        except InputError as error:
            left_out[name] = str(error)
    measured = _Rows(detector, configs, images, chosen)
    rows = {}
    for name in sorted(configs, key=lambda name: name != MDPS):  # MDPS first
        try:
            with stage(name, {}):
                rows[name] = measured.row(name, wanted[name], configs[name])
        except NotFinite:
            left_out[name] = "its maps are nan"
            if name == MDPS:
                raise InputError("the maps of MDPS are nan; give a run that was trained longer, or with a lower learning_rate") from None
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")
    return Ablation([rows[name] for name in wanted if name in rows], left_out)


class _Rows:
    """The images, what is in memory of them, and MDPS's statistics, which all rows are compared with."""

    def __init__(self, detector, configs, images, chosen):
        model, self._config, self._model = detector.model, configs[MDPS], detector.model
        self._extractors = make_extractors(configs.values(), model, detector.weights)
        self._images, self._train, self._side = images.test[chosen], images.train, images.side
        self._whitening = detector.whitening
        self._whitenings = Whitenings(model, self._extractors, images_to_fit(images.train))
        self._test, self._held_out = (
            Experiment(model, self._extractors, some, whitenings=self._whitenings) for some in (self._images, images.held_out[:])
        )
        self._labels = np.array([images.items[i].is_anomalous for i in chosen])
        self._truths = [images.truths[i] for i in chosen]
        self._counts = resampled(len(chosen), RESAMPLES, seed=self._config.seed, strata=self._labels)
        self._mdps, self._kept = None, ((), ())

    def row(self, name, entry, config):
        """The Row of a Variant or a Baseline. That of MDPS comes first."""
        stop_if_asked()
        of = self._of_baseline if isinstance(entry, Baseline) else self._of_variant
        settings, seconds, statistics = of(entry, config)
        self._mdps = self._mdps or statistics
        return Row(
            name,
            entry.title,
            entry.group,
            settings,
            seconds / len(self._images),
            {metric: interval(statistic, self._counts) for metric, statistic in statistics.items()},
            {metric: paired_difference(statistics[metric], self._mdps[metric], self._counts) for metric in COMPARED},
        )

    def _of_variant(self, variant, config):
        """Settings, seconds for all images, and statistics. What MDPS used stays in memory."""
        for experiment, kept in zip((self._test, self._held_out), self._kept, strict=True):
            experiment.begin(kept)
        if feature_keys(config) == feature_keys(self._config):
            self._whitenings.know(config, self._whitening)  # also with other chains: a row changes one thing
        own = None if variant.chain == "mdps" else variant.chain
        measured = {"tails": tails_of_good([self._held_out], config, own)} if variant.tails else {}
        config = dataclasses.replace(config, **measured)
        mask = None
        if variant.chain == "mdps":
            maps, mask = self._test.mdps(config, self._threshold(config, variant.fuse), variant.fuse)
        else:
            maps = self._test.anomaly(config, variant.chain)[0]
        samples = self._test.samples(config, variant.chain, mask)
        difference = absolute_difference(samples, self._images[:, None]).mean(axis=1)
        contrast = self._contrast(centre_crop(difference, self._side))
        if self._mdps is None:
            self._kept = self._test.used, self._held_out.used
        return variant.change | measured, self._test.seconds(), self._statistics(maps) | {"contrast": contrast}

    def _contrast(self, difference):
        """The statistic contrast of |x_0 - y|, (N, side, side)."""
        areas = [0 if truth is None else np.count_nonzero(truth) for truth in self._truths]
        inside = [image[truth].mean() if size else 0.0 for image, truth, size in zip(difference, self._truths, areas, strict=True)]
        return contrast_of(np.array(inside), areas, difference.mean(axis=(1, 2)), self._labels)

    def _threshold(self, config, fuse):
        """The mask's threshold, as a run sets it."""
        from_test = config.resolved_rules.threshold_from_test
        if not config.masked or config.mask_threshold is not None:
            return config.mask_threshold
        if from_test:
            return from_test(self._test.anomaly(config, "guided", fuse=fuse)[0], config.mask_lambda)
        return mask_threshold(self._held_out.anomaly(config, "guided", fuse=fuse)[0], config.mask_share)

    def _of_baseline(self, baseline, config):
        """Settings, seconds for all images, and statistics. A team of processes shares the images, as it does in a chain."""
        xp, seconds = self._model.xp, {}
        features = joined(*(self._extractors[key] for key in feature_keys(config)))
        with stage("fitting", {}):
            maps_of = baseline.fit(to_device(self._train[:], xp), self._model, features)
        count = members(len(self._images)) if xp is np else 1
        with stage("maps", seconds), Team(lambda some: to_host(maps_of(to_device(self._images[some], xp))), count) as team:
            maps = np.concatenate(team([(some,) for some in even_shares(len(self._images), count)]))
        return baseline.settings, seconds["maps"], self._statistics(maps)

    def _statistics(self, maps):
        """The statistics of anomaly maps (see `scoring.intervals`), of the judged centre."""
        if not np.isfinite(maps).all():
            raise NotFinite("a map is not finite")
        maps = centre_crop(maps, self._side)
        images, pixels = tally(self._labels, IMAGE_SCORES[self._config.image_score](maps)), tally(self._truths, maps)
        return {
            "image_auroc": images.auroc,
            "image_average_precision": images.average_precision,
            "pixel_auroc": pixels.auroc,
            "pixel_average_precision": pixels.average_precision,
            "aupro_30": functools.partial(pixels.aupro, limit=0.3),
            "aupro_5": functools.partial(pixels.aupro, limit=0.05),
        }
