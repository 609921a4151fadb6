"""What tuning tries: the families of settings, each a function of the current settings that gives the settings to try instead."""

import dataclasses
import itertools

from mdps_ref.job.config import OWN
from mdps_ref.scoring.difference import DISTANCES
from mdps_ref.scoring.features import found_networks, views
from mdps_ref.study.experiment import PLAIN_FEATURES

MEASURED = "measured"  # the `tails` of settings that add surprisals, until they are measured on good images


def all_features(config):
    """Return Configs of all features that can be chosen here: those of `config`, the noise predictor's, ImageNet's, and both."""
    seen = [(name, view) for name in found_networks() for view in views(name, config.image_size)]
    others = [{"features": f"{own}{name}", **view} for name, view in seen for own in ("", "unet+")]
    return [config, *(dataclasses.replace(config, **PLAIN_FEATURES | features) for features in [{"features": OWN}, *others])]


def _features(current):
    """Features, and whether pixels count. Layers and pixels are added as surprisals.

    All that differs from the current settings has Mahalanobis's distance. It found planted and real defects of magnetic tiles better
    than the cosine did, with ImageNet's features of every size. Where there is no place for surprisals, the cosine is left.
    """
    distances = ("mahalanobis",) if has_place_for_tails(current) else ("cosine",)
    return _joined(current, distances, pixel_weights=(current.pixel_weight, 0.0), blurs=(current.blur,), paper=False)


def _map_settings(current):
    """Features and their distance; how their layers and the pixel map are added; how much the pixels count; and the smoothing."""
    distances = DISTANCES if has_place_for_tails(current) else ("cosine",)
    return _joined(current, distances, pixel_weights=(0.0, 0.5, 1.0, 2.0), blurs=(1 / 64, 1 / 32), paper=True)


def _joined(current, distances, pixel_weights, blurs, paper):
    """All features, distances, weights and smoothings. The maps are added as surprisals, and with `paper` also as the paper has it."""
    for config in all_features(current):
        features = {name: getattr(config, name) for name in ("features", *PLAIN_FEATURES)}
        for weight, blur in itertools.product(pixel_weights, blurs):
            plain = features | {"pixel_weight": weight, "blur": blur, "tails": "", "feature_distance": "cosine"}
            if paper:
                yield plain
            for distance in distances:
                yield plain | {"feature_distance": distance, "tails": MEASURED if has_place_for_tails(config) else ""}


def has_place_for_tails(config):
    """Return whether surprisals may be added. A mask threshold that was given is one of the paper's maps."""
    return config.takes_tails and config.mask_threshold is None


def _both_chains(current):
    """MDPS's map alone, or that of the guided chain added to it, where maps are surprisals."""
    return ({"guided_weight": weight} for weight in (0.0, 1.0)) if current.masked and current.tails else ()


def _start(current):
    """The timestep that all chains start at."""
    return ({"guided_start": level, "mdps_start": level} for level in (100, 200, 300, 400, 500))


def _guidance(current):
    """The strength of guidance, of the guided chain or, without a mask, of the one chain that there is."""
    name = "guided_strength" if current.masked else "mdps_strength"
    return ({name: strength} for strength in (0.01, 0.03, 0.09, 0.2))


def _mask(current):
    """No mask, or the share of good pixels under it."""
    yield {"masked": False, "mdps_strength": current.guided_strength, "guided_weight": 0.0}
    yield from ({"masked": True, "mask_share": share} for share in (0.02, 0.05, 0.1, 0.2, 0.4))


def _inside(current):
    """The strength of guidance under the mask."""
    return ({"mdps_strength": strength} for strength in (0.0, 0.01, 0.03)) if current.masked else ()


def _score(current):
    """From the map to one number an image."""
    return ({"image_score": name} for name in ("max", "top_mean"))


FAMILIES = {  # the candidates, and the chain whose maps judge them
    "features": (_map_settings, "guided"),
    "start": (_start, "guided"),
    "guidance": (_guidance, "guided"),
    "mask": (_mask, "mdps"),
    "guidance under the mask": (_inside, "mdps"),
    "both chains": (_both_chains, "mdps"),
    "image score": (_score, "mdps"),
}
AUTO_FAMILIES = {"features": (_features, "guided"), "both chains": (_both_chains, "mdps")}  # of a run without `tune`
