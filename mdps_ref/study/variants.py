"""What an ablation compares: one table of variants, each a change of a run's settings, and one of baselines."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdps_ref.errors import InputError
from mdps_ref.job.chains import comparison
from mdps_ref.job.config import OWN
from mdps_ref.job.interrupt import interruptible
from mdps_ref.released.rules import AUTHORS_SHAPE
from mdps_ref.scoring import baselines
from mdps_ref.scoring.difference import DISTANCES, difference_map
from mdps_ref.scoring.features import found_networks, views
from mdps_ref.study.experiment import PLAIN_FEATURES

MDPS = "mdps"  # the row that all others are compared with
STEPS, SETTINGS, FEATURES, BASELINES = "steps", "settings", "features", "baselines"
CLOSED_FORM_WEIGHT = 0.5
MOST_COVARIANCES = 2**26  # numbers in the covariances of all positions


class Variant(NamedTuple):
    """The method with other settings.

    group: STEPS, SETTINGS or FEATURES.
    title: for a table.
    change: the settings that differ from the run's.
    chain: whose maps are judged.
    fuse: see `Experiment.anomaly`.
    tails: measure its tails on held-out good images.
    """

    group: str
    title: str
    change: dict
    chain: str = "mdps"
    fuse: Callable | None = None
    tails: bool = False


class Baseline(NamedTuple):
    """A simpler method.

    title: for a table.
    settings: its own.
    fit: fit(good images, model, features) -> maps, see `scoring.baselines`.
    change: the settings of the features, where they differ from the run's.
    """

    title: str
    settings: dict
    fit: Callable
    change: dict
    group: str = BASELINES


def variants(config):
    """Return {name: Variant} for a run of this Config. The features are its own, the noise predictor's, and those that are found here.

    MDPS without a mask is guidance alone.
    """
    guided = {"masked": False, "mdps_start": config.guided_start, "mdps_strength": config.guided_strength, "guided_weight": 0.0}
    alike = config.image_size / AUTHORS_SHAPE[0] * config.batch_size**0.5  # theirs count for 256 pixels, over the batch
    released = {
        "rules": "released",
        "rules_except": "judging",
        "guidance": "norm",
        "tails": "",
        "feature_distance": "cosine",
        "guided_weight": 0.0,
    }
    released |= {name: getattr(config, name) * alike for name in ("guided_strength", "mdps_strength")}
    other_scale = {"mask_threshold": None}  # a fixed threshold is one of the run's own maps
    return {
        "reconstruction": Variant(STEPS, "Reconstruction alone", {}, "reconstruction", tails=bool(config.tails)),
        **({"guidance": Variant(STEPS, "Guidance alone", guided, "guided")} if config.masked else {}),
        "mask": Variant(STEPS, "Mask alone", {"masked": True, "mdps_strength": 0.0, "guided_weight": 0.0}),
        MDPS: Variant(STEPS, "MDPS", {}),
        "moment-matched": Variant(STEPS, "Moment-matched guidance", {"guidance": "moment_matched"}),
        "released": Variant(STEPS, "The released rules", {} if config.rules == "released" else released | other_scale),
        "pixel-maps": Variant(STEPS, "Pixel maps alone", other_scale, fuse=lambda pixels, features, pixel_weight: pixels),
        "feature-maps": Variant(STEPS, "Feature maps alone", {"pixel_weight": 0.0} | other_scale),
        **{
            f"guided-weight-{weight}": Variant(SETTINGS, f"Guided map {what}", {"guided_weight": float(weight)})
            for weight, what in (enumerate(("left out", "added")) if config.masked else ())
        },
        **{f"distance-{distance}": _with_distance(distance, config) for distance in DISTANCES},
        **{f"n-{n}": Variant(SETTINGS, f"n = {n}", {"samples": n}) for n in (1, 2, 4, 8)},
        **{f"stride-{stride}": Variant(SETTINGS, f"Stride {stride}", {"stride": stride}) for stride in (10, 20, 40)},
        **{
            f"features-{name}": _with_features(name, config)
            for name in ("unet", *found_networks(), *(f"unet+{name}" for name in found_networks()))
        },
    }


def _with_distance(distance, config):
    own = distance == config.feature_distance
    change = {} if own else {"feature_distance": distance, "tails": "", "mask_threshold": None}
    return Variant(FEATURES, f"Distance {distance}", change, tails=not own and bool(config.tails))


def _with_features(name, config):
    """Other features than the run's. The run's ImageNet network keeps its weights, layers and size. Another one has the last of `views`."""
    if name == config.features:
        return Variant(FEATURES, f"Features {name}", {})
    network = name.removeprefix("unet+")
    view = {} if network == OWN else views(network, config.image_size)[-1]
    if network == config.extractor:
        view = {setting: getattr(config, setting) for setting in ("feature_weights", "feature_layers", "feature_size")}
    change = {"features": name, **PLAIN_FEATURES, **view, "mask_threshold": None}
    return Variant(FEATURES, f"Features {name}", change, tails=bool(config.tails))


def baselines_of(config):
    """Return {name: Baseline} for a run of this Config. Their features are its own, and those of the ImageNet networks found here."""
    smoothed = {"sigma": config.blur * config.image_size}
    seeded = smoothed | {"seed": config.seed}
    chain = {"weight": CLOSED_FORM_WEIGHT, "start": config.guided_start, "stride": config.stride, "seed": config.seed}

    def closed_form(good, model, features):
        compare = functools.partial(difference_map, features=model.features, **comparison(config))
        return baselines.closed_form_reconstruction(interruptible(model.predict_noise), compare, **chain)

    def neighbours(good, model, features):
        return baselines.nearest_neighbours(good, features, **seeded)

    def gaussian(good, model, features):
        positions = np.prod(baselines.patch_features(features, good[:1]).shape[1:3])
        return baselines.gaussian_per_position(good, features, channels=min(100, int((MOST_COVARIANCES / positions) ** 0.5)), **seeded)

    def pca(components):
        return Baseline(
            f"PCA, {components} components",
            {"components": components},
            lambda good, model, features: baselines.pca_reconstruction(good, components, **smoothed),
            {},
        )

    made = {
        "z-score": Baseline("Pixel z-score", {}, lambda good, model, features: baselines.pixel_z_score(good, **smoothed), {}),
        **{f"pca-{components}": pca(components) for components in (64, 256)},
        "closed-form": Baseline("Closed-form guidance", chain, closed_form, {}),
    }
    for name in dict.fromkeys((config.features, *found_networks())):
        change = _with_features(name, config).change
        made[f"neighbours-{name}"] = Baseline(f"Neighbours, {name}", {"features": name}, neighbours, change)
        made[f"gaussian-{name}"] = Baseline(f"Gaussians, {name}", {"features": name}, gaussian, change)
    return made


def wanted_rows(config, names=""):
    """Return the rows of these names, commas between, and MDPS; all rows for "".

    Raises
    ------
    InputError
        If there is no row of a name.
    """
    rows = variants(config) | baselines_of(config)
    wanted = [name.strip() for name in names.split(",")] if names else list(rows)
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        raise InputError(f"--only names {', '.join(map(repr, unknown))}; choose from {', '.join(rows)}")
    return {name: row for name, row in rows.items() if name in {MDPS, *wanted}}
