"""The authors' 18 released settings as data, and what they are in the words of this package."""

import math
from typing import NamedTuple

from mdps_ref.errors import InputError


class Released(NamedTuple):
    """What differs from category to category; None where there is no stage 1: then one guided pass without a mask is the result.

    eta: the weight of the pixel map.  stage1_start, stage1_weight: T and w of stage 1, then those of stage 2.
    mask_lambda: where between the least and the largest value of the stage-1 maps the mask's threshold lies.
    """

    eta: float
    stage1_start: int | None
    stage1_weight: float | None
    stage2_start: int
    stage2_weight: float
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

SIDE, BATCH = 256, 8
VALUES = SIDE * SIDE * 3  # of an image

# What all of them share. The authors train for 2000 epochs: 60,000 batches of 8 where there are 240 images, about as many as MVTec AD
# has of a category. Their L2 penalty of 0.05 belongs to a loss summed over an image's values, ours is their mean. They clip nothing.
SHARED = {
    "image_size": SIDE,
    "network": "released",
    "train_steps": 60_000,
    "batch_size": BATCH,
    "learning_rate": 3e-4,
    "clip_norm": 1e9,
    "weight_decay": 0.0,
    "l2": 0.05 / VALUES,
    "ema_horizon": 0.0,
    "stride": 20,
    "samples": 1,
    "guidance": "norm",
    "features": "wide_resnet101_2",
    "feature_layers": "layer2,layer3",
    "blur": 1 / 64,
    "image_score": "softmax_top_500",
}


def preset_settings(name, rules="released"):
    """The settings of the preset of this name, its category with them, under either side of the rules.

    The strengths are the authors' w / sqrt(256 x 256 x 3). With rules "paper" one norm an image, not one over the authors' batch of 8,
    divides the guidance (row 2), so that there they are w / sqrt(8) / sqrt(256 x 256 x 3); the mask's threshold then comes from
    `mask_share` of held-out pixels, not from `mask_lambda`, and whatever else the rules say follows from them by itself.
    Raises: InputError for a name that there is not.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown; there are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    weight_of_one = math.sqrt(VALUES * (BATCH if rules == "paper" else 1))  # the w of strength 1
    settings = SHARED | {
        "category": name.rpartition("/")[2],
        "rules": rules,
        "eta": float(preset.eta),
        "masked": preset.mask_lambda is not None,
        "stage2_start": preset.stage2_start,
        "stage2_strength": preset.stage2_weight / weight_of_one,
    }
    if settings["masked"]:
        settings |= {
            "stage1_start": preset.stage1_start,
            "stage1_strength": preset.stage1_weight / weight_of_one,
            "mask_lambda": preset.mask_lambda,
        }
    return settings
