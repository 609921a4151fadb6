"""Chains and maps of the same images under many settings: what two settings share is computed once."""

import hashlib
import time

import numpy as np

from mdps_ref.backend import to_device, to_host
from mdps_ref.errors import InputError
from mdps_ref.job.chains import CHAINS_AT_ONCE, chain_settings, comparison, draw_all, images_at_once
from mdps_ref.job.config import OWN
from mdps_ref.job.detect import make_extractor
from mdps_ref.job.interrupt import interruptible
from mdps_ref.job.whitening import chain_to_fit, fit_whitening
from mdps_ref.posterior.mask import suspected
from mdps_ref.scoring.difference import DISTANCES, anomaly_map, layer_distances, pixel_map, smooth, tail_of
from mdps_ref.scoring.features import unet_features
from mdps_ref.scoring.image_score import mean_and_spread
from mdps_ref.scoring.whitening import whitened

# Where other features than a run's own are compared, what belongs to the run's own is left out.
PLAIN_FEATURES = {"feature_weights": "", "feature_layers": "", "feature_size": None, "tails": ""}


class NotFinite(InputError):
    """Maps hold nan or infinite values."""


class Experiment:
    """Images and a noise predictor. Samples and distances are kept in memory, by the settings that they depend on.

    Parameters
    ----------
    model : Model
        Its features are not used.
    extractors : dict of tuple to callable
        What makes features(images) -> list of arrays, by the keys that `feature_keys` gives for a Config, see `make_extractors`.
    images : array, (N, H, W, 3), in [-1, 1]
        On the host.
    draw_batches : callable, optional
        Where they are not drawn in this process, see `chains.draw_all`.
    whitenings : Whitenings, optional
        For Configs whose features have Mahalanobis's distance.

    Attributes
    ----------
    used : set
        The keys of the samples and distances that were asked for since `begin`.
    """

    def __init__(self, model, extractors, images, draw_batches=None, whitenings=None):
        self._model, self._extractors, self._images = model, extractors, np.asarray(images)
        self._draw_batches, self._whitenings = draw_batches, whitenings
        self._kept, self._seconds, self.used = {}, {}, set()

    def begin(self, kept=()):
        """Begin anew to note what is used. Of what is in memory keep the keys `kept` alone."""
        self._kept = {key: self._kept[key] for key in kept}
        self.used = set()

    def seconds(self):
        """Return how long it took to make what was used since `begin`, also where it was made before."""
        return sum(self._seconds[key] for key in self.used)

    def samples(self, config, chain_name, mask=None):
        """Draw posterior samples.

        Parameters
        ----------
        config : Config
        chain_name : {"reconstruction", "guided", "mdps"}
        mask : array, (N, H, W, 1), optional

        Returns
        -------
        array, (N, n, H, W, C)
            On the host.
        """

        def draw():
            return draw_all(self._model, self._images, config, chain_name, mask, self._draw_batches)

        return self._once(("samples", *_chain_key(config, chain_name, mask)), draw)

    def anomaly(self, config, chain_name, mask=None, fuse=None):
        """Return the anomaly maps of a chain, mean and spread over the samples, (N, H, W) each.

        Parameters
        ----------
        config, chain_name, mask
            As for `samples`.
        fuse : callable, optional
            fuse(pixels, features, pixel_weight) -> maps, instead of that of the rules or the tails.
        """
        settings, pixels = comparison(config), self.pixels(config, chain_name, mask)
        del settings["distance"]  # the layers have it
        settings |= {"fuse": fuse, "tails": None} if fuse else {}
        layers = self.distances(config, chain_name, mask)
        maps = np.empty_like(pixels)
        for number in range(config.samples):
            for start in range(0, len(maps), images_at_once(config)):  # under the released rules the images of a batch are fused together
                some = slice(start, start + images_at_once(config)), number
                maps[some] = anomaly_map(pixels[some], layers[(slice(None), *some)], **settings)
        return mean_and_spread(maps)

    def pixels(self, config, chain_name, mask=None):
        """Return the pixel maps of all samples of a chain, (N, n, H, W)."""
        samples = self.samples(config, chain_name, mask)
        return self._once(("pixels", *_chain_key(config, chain_name, mask)), lambda: self._of_samples(_pixel_comparison, samples))

    def mdps(self, config, threshold, fuse=None):
        """Return the anomaly maps that a detector of these settings makes, (N, H, W), and the masks, or None without a mask.

        Parameters
        ----------
        config : Config
        threshold : float or None
            Of the mask.
        fuse : callable, optional
            As for `anomaly`.
        """
        if not config.masked:
            return self.anomaly(config, "mdps", fuse=fuse)[0], None
        guided = self.anomaly(config, "guided", fuse=fuse)[0]
        mask = suspected(guided, threshold)
        maps = self.anomaly(config, "mdps", mask, fuse)[0]
        return (maps + config.guided_weight * guided if config.guided_weight else maps), mask

    def _once(self, key, make):
        if key not in self._kept:
            began = time.perf_counter()
            self._kept[key] = make()
            self._seconds[key] = time.perf_counter() - began
        self.used.add(key)
        return self._kept[key]

    def distances(self, config, chain_name, mask=None):
        """Return the distances of all layers (see `layer_distances`), (layers, N, n, H, W)."""
        return np.concatenate([self._distances(name, config, chain_name, mask) for name in feature_keys(config)])

    def _distances(self, name, config, chain_name, mask):
        """The distances of one extractor's layers, (layers, N, n, H, W)."""
        features, size, xp = self._extractors[name], self._images.shape[1:3], self._model.xp
        samples, distance = self.samples(config, chain_name, mask), DISTANCES[config.feature_distance]
        if config.feature_distance == "mahalanobis":
            features = whitened(features, self._whitenings.of(name, config), xp)

        def comparison_with(y):
            of_y = features(to_device(y, xp))
            return lambda x_0: np.stack([to_host(layer) for layer in layer_distances(features(to_device(x_0, xp)), of_y, size, distance)])

        key = (name, config.feature_distance, *_whitening_key(config), *_chain_key(config, chain_name, mask))
        return self._once(key, lambda: self._of_samples(comparison_with, samples, axis=1))

    def _of_samples(self, comparison_with, samples, axis=0):
        """comparison_with(y)(x_0) for each sample x_0 of a few images y at a time. Images are its axis `axis`; samples the next axis."""
        parts = []
        for start in range(0, len(samples), CHAINS_AT_ONCE):
            some = slice(start, start + CHAINS_AT_ONCE)
            compare = comparison_with(self._images[some])
            parts.append(np.stack([compare(x_0) for x_0 in samples[some].swapaxes(0, 1)], axis=axis + 1))
        return np.concatenate(parts, axis=axis)


class Whitenings:
    """The whitening of each extractor under each Config, fitted when it is first asked for.

    Parameters
    ----------
    model, extractors, draw_batches
        As for Experiment.
    images : array, (M, H, W, 3)
        To fit to, from `images_to_fit`.
    """

    def __init__(self, model, extractors, images, draw_batches=None):
        self._model, self._extractors, self._images = model, extractors, images
        self._experiment, self._fitted = Experiment(model, {}, images, draw_batches), {}

    def know(self, config, whitening):
        """Take the whitening that a run fitted to the features of `config`, (C, C) a layer; () if it has none."""
        left = list(whitening)
        for name in feature_keys(config) if left else ():
            count = 1 if name[0] == OWN else config.layer_count - config.compares_own
            self._fitted[name, *_whitening_key(config)], left = tuple(left[:count]), left[count:]

    def of_config(self, config):
        """Return the whitening of all layers that a Config compares; () if their distance takes none."""
        if config.feature_distance != "mahalanobis":
            return ()
        return tuple(matrix for name in feature_keys(config) for matrix in self.of(name, config))

    def of(self, name, config):
        """Return the whitening of an extractor under a Config.

        Parameters
        ----------
        name : tuple
            Its key.
        config : Config

        Returns
        -------
        tuple of arrays, (C, C)
            One a layer.
        """
        key = (name, *_whitening_key(config))
        if key not in self._fitted:
            samples = self._experiment.samples(*chain_to_fit(config))
            self._fitted[key] = fit_whitening(self._extractors[name], self._images, samples, self._model.xp)
        return self._fitted[key]


def _whitening_key(config):
    """What the whitening of an extractor depends on."""
    return _chain_key(*chain_to_fit(config), None) if config.feature_distance == "mahalanobis" else ()


def _pixel_comparison(y):
    return lambda x_0: pixel_map(x_0, y)


def feature_keys(config):
    """Return the keys of the extractors that a Config compares: (name, file, layers, size) each, in the order of their layers."""
    own = [(OWN, "", "", None)] if config.compares_own else []
    other = (config.extractor, config.feature_weights, config.feature_layers, config.feature_size)
    return own + ([other] if config.extractor else [])


def make_extractors(configs, model, weights):
    """Make what an Experiment needs to compare the features of some Configs.

    Parameters
    ----------
    configs : iterable of Config
    model : Model
    weights : dict of str to array
        Of the noise predictor.

    Returns
    -------
    dict of tuple to callable
        A network that several Configs compare is loaded once.
    """
    made = {}
    for config in configs:
        for key in feature_keys(config):
            if key not in made:
                own = key[0] == OWN
                extract = unet_features(weights, config.unet(), config.feature_timestep) if own else make_extractor(config, model.xp)
                made[key] = interruptible(extract)
    return made


def tails_of_good(experiments, config, chain_name=None):
    """Measure how large the maps of a chain get on good images.

    Parameters
    ----------
    experiments : list of Experiment
        All of their images are good, and count alike.
    config : Config
    chain_name : {"guided", "mdps", "reconstruction"}, optional
        By default the guided chain, or without a mask the one chain that there is.

    Returns
    -------
    str
        The setting `tails`.

    Raises
    ------
    NotFinite
        If a map is not finite.
    """
    chain_name = chain_name or ("guided" if config.masked else "mdps")
    sigma = config.blur * config.image_size
    parts = ([*some.distances(config, chain_name), some.pixels(config, chain_name)] for some in experiments)
    maps = [np.concatenate(part) for part in zip(*parts, strict=True)]
    if not all(np.isfinite(some).all() for some in maps):
        raise NotFinite(f"the {chain_name} chain gave nan; train longer, or with a lower learning_rate")
    tails = (tail_of(smooth(some.reshape(-1, *some.shape[2:]), sigma)) for some in maps)
    return ";".join(",".join(f"{number:.5g}" for number in tail) for tail in tails)


def _chain_key(config, chain_name, mask):
    """What the samples of a chain depend on."""
    seen = None if mask is None else hashlib.sha256(np.packbits(mask.astype(bool))).hexdigest()
    shared = [
        getattr(config, name) for name in ("stride", "samples", "ddim_eta", "guidance", "rules", "rules_except", "batch_size", "seed")
    ]
    return (chain_name, *chain_settings(config, chain_name), seen, *shared)
