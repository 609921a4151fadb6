"""What a setting may be: names to choose from, and the lowest and highest value of each number."""

import contextlib
import difflib
import math
import typing

from mdps_ref.data.images import FITS
from mdps_ref.errors import InputError
from mdps_ref.nn.unet import NETWORKS
from mdps_ref.posterior.guidance import GUIDES
from mdps_ref.released.rules import SIDES
from mdps_ref.scoring.difference import DISTANCES
from mdps_ref.scoring.features import EXTRACTORS
from mdps_ref.scoring.image_score import IMAGE_SCORES

CHOICES = {
    "fit": FITS,
    "network": tuple(NETWORKS),
    "rules": SIDES,
    "guidance": tuple(GUIDES),
    "features": ("auto", "unet", *EXTRACTORS, *(f"unet+{name}" for name in EXTRACTORS)),
    "feature_distance": tuple(DISTANCES),
    "image_score": tuple(IMAGE_SCORES),
}
RANGES = {
    "image_size": (8, 1024),
    "seed": (0, 2**63 - 1),
    "held_out": (0.01, 0.9),
    "train_steps": (0, 10_000_000),
    "batch_size": (1, 4096),
    "learning_rate": (0.0, 1.0),
    "clip_norm": (0.0, 1e30),
    "weight_decay": (0.0, 1.0),
    "l2": (0.0, 1.0),
    "ema_decay": (0.0, 1.0),
    "warm_up_steps": (0, 10_000_000),
    "decay_share": (0.0, 1.0),
    "checkpoint_every": (1, 10_000_000),
    "guided_start": (0, 999),
    "mdps_start": (0, 999),
    "stride": (1, 1000),
    "samples": (1, 1000),
    "ddim_eta": (0.0, 1.0),
    "guided_strength": (0.0, 1000.0),
    "mdps_strength": (0.0, 1000.0),
    "mask_share": (0.0, 1.0),
    "mask_threshold": (0.0, 1e6),
    "mask_lambda": (0.0, 1.0),
    "pixel_weight": (0.0, 1000.0),
    "feature_size": (8, 1024),
    "feature_timestep": (0, 999),
    "guided_weight": (0.0, 1000.0),
    "blur": (0.0, 0.25),
    "false_positive_rate": (0.0, 1.0),
}


def positive_numbers(text):
    """Return the numbers in a text, commas between, as a tuple; () if they are not all positive numbers."""
    with contextlib.suppress(ValueError):
        numbers = tuple(float(part) for part in text.split(","))
        if all(0 < number < math.inf for number in numbers):
            return numbers
    return ()


def of_types(settings, types):
    """Return `settings` with a whole number made a float where a float is wanted.

    Parameters
    ----------
    settings : dict
    types : dict of str to type
        The type of each setting.

    Raises
    ------
    InputError
        If a setting is unknown, or its value is of another type.
    """
    types = {name: typing.get_args(kind) or (kind,) for name, kind in types.items()}
    unknown = sorted(settings.keys() - types.keys())
    if unknown:
        raise InputError(
            f"unknown setting {', '.join(_with_the_closest(name, types) for name in unknown)}; python -m mdps_ref.run --list names all"
        )
    values = {name: _as_float(name, value) if float in types[name] and type(value) is int else value for name, value in settings.items()}
    for name, value in values.items():
        if value != value:
            raise InputError(f"{name} is nan; it must be a number")
        if type(value) not in types[name]:
            wanted = " or ".join(kind.__name__ for kind in types[name])
            raise InputError(f"{name} is {value!r}; it must be of type {wanted.replace('NoneType', 'None')}")
    return values


def _with_the_closest(name, known):
    close = difflib.get_close_matches(name, known, 1)
    return f"{name} (did you mean {close[0]}?)" if close else name


def _as_float(name, value):
    try:
        return float(value)
    except OverflowError:
        raise InputError(
            f"{name} is a number of {len(str(abs(value)))} digits; it must lie in {RANGES[name][0]} .. {RANGES[name][1]}"
        ) from None
