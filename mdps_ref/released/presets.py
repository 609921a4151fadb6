"""The authors' 18 released settings as data, and as settings of this package."""

import math
from typing import NamedTuple

from mdps_ref.errors import InputError
from mdps_ref.released.rules import AUTHORS_SHAPE, resolve_rules


class Released(NamedTuple):
    """What differs between categories. guided_start, guided_weight and mask_lambda are None without a mask: one guided pass is the result.

    Of each chain, `..._start` is T, and `..._weight` is w. The mask's threshold is least + mask_lambda (largest - least), of the values of
    the guided maps.
    """

    pixel_weight: float
    guided_start: int | None
    guided_weight: float | None
    mdps_start: int
    mdps_weight: float
    mask_lambda: float | None


PRESETS = {
    "released/mvtec/bottle": Released(7, 200, 50, 200, 100, 0.12),
    "released/mvtec/cable": Released(1, 250, 50, 250, 50, 0.19),
    "released/mvtec/capsule": Released(7, 200, 100, 200, 100, 0.03),
    "released/mvtec/carpet": Released(2, None, None, 250, 100, None),
    "released/mvtec/grid": Released(7, None, None, 200, 100, None),
    "released/mvtec/hazelnut": Released(7, 250, 50, 200, 0, 0.25),
    "released/mvtec/leather": Released(7, None, None, 200, 100, None),
    "released/mvtec/metal_nut": Released(7, 250, 50, 200, 0, 0.25),
    "released/mvtec/pill": Released(7, 150, 50, 200, 100, 0.12),
    "released/mvtec/screw": Released(7, 200, 50, 200, 0, 0.15),
    "released/mvtec/tile": Released(0, None, None, 150, 100, None),
    "released/mvtec/toothbrush": Released(7, 250, 50, 200, 50, 0.15),
    "released/mvtec/transistor": Released(7, 200, 50, 250, 50, 0.18),
    "released/mvtec/wood": Released(7, None, None, 200, 100, None),
    "released/mvtec/zipper": Released(7, 200, 0, 200, 100, 0.08),
    "released/btad/01": Released(7, 200, 100, 250, 150, 0.05),
    "released/btad/02": Released(7, 200, 50, 250, 200, 0.10),
    "released/btad/03": Released(7, 200, 50, 250, 50, 0.10),
}
DATA_SETS = sorted({name.rpartition("/")[0] for name in PRESETS})

BATCH = 8
VALUES = math.prod(AUTHORS_SHAPE)

# What all of them share. The authors train for 2000 epochs: 60,000 batches of 8 for a category of 240 images, about MVTec AD's number.
# Their L2 penalty of 0.05 belongs to a loss summed over an image's values, ours to their mean. They do not clip gradients.
SHARED = {
    "image_size": AUTHORS_SHAPE[0],
    "network": "released",
    "train_steps": 60_000,
    "batch_size": BATCH,
    "learning_rate": 3e-4,
    "clip_norm": 1e9,
    "weight_decay": 0.0,
    "l2": 0.05 / VALUES,
    "ema_decay": 0.0,
    "stride": 20,
    "samples": 1,
    "guidance": "norm",
    "features": "wide_resnet101_2",
    "feature_layers": "layer2,layer3",
    "blur": 1 / 64,
    "image_score": "softmax_top_500",
}


def check_preset(name):
    """Raise InputError if there is no preset of this name."""
    if name in DATA_SETS:
        raise InputError(f"preset {name!r} is of a whole data set; give --category all, too, or a preset of one category, {name}/NAME")
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")


def preset_settings(name, rules="released", rules_except=""):
    """Turn a preset into settings.

    The strengths are the authors' w / sqrt(256 x 256 x 3), and w / sqrt(8) / sqrt(256 x 256 x 3) if the norm is that of one image and
    not that of the authors' batch of 8 (row "norm").

    Parameters
    ----------
    name : str
        A name in PRESETS.
    rules, rules_except : str
        As in `resolve_rules`.

    Returns
    -------
    dict, setting -> value

    Raises
    ------
    InputError
        If there is no such preset, no such rules, or no such row.
    """
    check_preset(name)
    preset, by_batch = PRESETS[name], "norm" in resolve_rules(rules, rules_except).taken_from_released
    weight_of_one = math.sqrt(VALUES * (1 if by_batch else BATCH))  # the w of strength 1
    settings = SHARED | {
        "category": name.rpartition("/")[2],
        "rules": rules,
        "rules_except": rules_except,
        "pixel_weight": float(preset.pixel_weight),
        "masked": preset.mask_lambda is not None,
        "mdps_start": preset.mdps_start,
        "mdps_strength": preset.mdps_weight / weight_of_one,
    }
    if settings["masked"]:
        settings |= {
            "guided_start": preset.guided_start,
            "guided_strength": preset.guided_weight / weight_of_one,
            "mask_lambda": preset.mask_lambda,
        }
    return settings
