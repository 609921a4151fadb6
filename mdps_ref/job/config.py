"""Every setting of a run, as one frozen dataclass: an unknown key is an error, and the used settings are saved with the result."""

import dataclasses
import json
import pathlib
import typing

from mdps_ref.errors import InputError
from mdps_ref.nn.unet import NETWORKS
from mdps_ref.posterior.guidance import GUIDANCES
from mdps_ref.released.presets import preset_settings
from mdps_ref.released.rules import RULES
from mdps_ref.scoring.features import EXTRACTORS
from mdps_ref.scoring.image_score import IMAGE_SCORES


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run.  Raises: InputError that names the key, its value and what would be right.

    data, category: the folder and the category in it; data "" means the synthetic set, drawn into the run folder.
    image_size: pixels a side that every image is resized to.  network: a name in `nn.unet.NETWORKS`, made for that size.
    seed: of the weights, the hold-out, the training draws and the sampling noise.
    rules: a side in `rules.RULES`, "paper" or that of the authors' "released" code.

    held_out: share of the training images kept back, unseen, to set the mask's and the decision's thresholds.
    weights: a checkpoint to load instead of training, "" to train.  train_steps, batch_size, learning_rate: of Adam; by the released
    rules so many test images run as one batch, too.
    clip_norm: limit on the gradient's length, of the loss per pixel value.  weight_decay: decoupled (AdamW).  l2: penalty, l2 * weight
    is added to the gradient.  ema_horizon: factor of the weights' running mean.  checkpoint_every: steps between checkpoints.

    stage1_start, stage2_start: T, the timestep that test images are noised to.  stride: between the timesteps visited.
    samples: n, chains an image.
    guidance: "norm", "squared_norm" or "moment_matched" (4 pullbacks a step).  stage1_strength, stage2_strength: w / sqrt(H W C),
    see `guidance_weight`.
    masked: whether there is a stage 1 that makes a mask; without one a single guided pass, of stage 2, is the result.
    mask_share: the part of a held-out good image's pixels that may be suspected.  mask_lambda: by the released rules instead, where
    between the least and the largest stage-1 value of the test set the threshold lies.

    features: whose are compared, the noise predictor's own ("unet") or a name in `scoring.features.EXTRACTORS`, with feature_weights,
    the file of its weights, and feature_layers, names with commas between; "" for the usual ones.
    feature_timestep: at which the noise predictor's activations are compared.
    eta: the weight of the pixel map against the feature map.
    blur: the map's Gaussian smoothing, as a share of the image's side (1/64: sigma 4 at 256).
    image_score: a name in `scoring.image_score.IMAGE_SCORES`.  false_positive_rate: of the decision, on held-out good images.
    """

    data: str = ""
    category: str = "washer"
    image_size: int = 32
    network: str = "tiny"
    seed: int = 0
    rules: str = "paper"

    held_out: float = 0.2
    weights: str = ""
    train_steps: int = 800
    batch_size: int = 8
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    l2: float = 0.0
    ema_horizon: float = 0.995
    checkpoint_every: int = 100

    stage1_start: int = 300
    stage2_start: int = 300
    stride: int = 20
    samples: int = 2
    guidance: str = "norm"
    stage1_strength: float = 0.09
    stage2_strength: float = 0.01
    masked: bool = True
    mask_share: float = 0.05
    mask_lambda: float = 0.12

    features: str = "unet"
    feature_weights: str = ""
    feature_layers: str = ""
    feature_timestep: int = 5
    eta: float = 0.5
    blur: float = 1 / 64
    image_score: str = "top_mean"
    false_positive_rate: float = 0.05

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}; it must lie in {low} .. {high}")
        self._check_rules()
        self.unet()

    def _check_rules(self):
        """Raises: InputError for settings that the rules have no meaning for."""
        rules = RULES[self.rules]
        if self.guidance not in rules.guidances:
            raise InputError(f"guidance is {self.guidance!r}; rules {self.rules!r} have {', '.join(rules.guidances)} alone")
        for name in ("stage1_start", "stage2_start"):
            if rules.below_start and getattr(self, name) < 1:
                raise InputError(f"{name} is 0; rules {self.rules!r} call the network below it first, so it must be at least 1")

    def unet(self):
        """The network's own config, at this image size."""
        return dataclasses.replace(NETWORKS[self.network], image_size=self.image_size)


CHOICES = {
    "network": tuple(NETWORKS),
    "rules": tuple(RULES),
    "guidance": GUIDANCES,
    "features": ("unet", *EXTRACTORS),
    "image_score": tuple(IMAGE_SCORES),
}
RANGES = {
    "image_size": (8, 1024),
    "seed": (0, 2**63 - 1),
    "held_out": (0.01, 0.9),
    "train_steps": (0, 10_000_000),
    "batch_size": (1, 4096),
    "learning_rate": (0.0, 1.0),
    "clip_norm": (0.0, float("inf")),
    "weight_decay": (0.0, 1.0),
    "l2": (0.0, 1.0),
    "ema_horizon": (0.0, 1.0),
    "checkpoint_every": (1, 10_000_000),
    "stage1_start": (0, 999),
    "stage2_start": (0, 999),
    "stride": (1, 1000),
    "samples": (1, 1000),
    "stage1_strength": (0.0, 1000.0),
    "stage2_strength": (0.0, 1000.0),
    "mask_share": (0.0, 1.0),
    "mask_lambda": (0.0, 1.0),
    "eta": (0.0, 1000.0),
    "feature_timestep": (0, 999),
    "blur": (0.0, 0.25),
    "false_positive_rate": (0.0, 1.0),
}


# What suits each network where the defaults, made for tiny, do not; a larger one trains longer and, at 256 x 256, more gently.
PRESETS = {
    "tiny": {},
    "small": {"train_steps": 1500, "stage1_start": 400, "stage2_start": 400, "samples": 4},
    "released": {"train_steps": 50_000, "learning_rate": 3e-4, "stage1_start": 250, "stage2_start": 250, "samples": 4},
}


def with_presets(settings, preset=None):
    """These settings; under them those of the authors' preset of that name, if one is given, as the rules among them read it; under those
    what suits the network, which is chosen by image size where none is named.

    Raises: as `checked` and `preset_settings`.
    """
    settings = checked(settings)
    if preset:
        settings = preset_settings(preset, settings.get("rules", "released")) | settings
    size = settings.get("image_size", Config.image_size)
    network = settings.get("network", "tiny" if size <= 32 else "small" if size <= 128 else "released")
    return {"network": network} | PRESETS.get(network, {}) | settings


def make_config(settings):
    """A Config of these settings, a dictionary.  Raises: as `checked`, and InputError for a value out of its range."""
    return Config(**checked(settings))


def checked(settings):
    """`settings`, a whole number made a float where one is wanted.

    Raises: InputError for a key that there is not, or a value of another type.
    """
    types = typing.get_type_hints(Config)
    unknown = sorted(settings.keys() - types.keys())
    if unknown:
        raise InputError(f"unknown setting {', '.join(unknown)}; there are {', '.join(types)}")
    values = {name: float(value) if types[name] is float and type(value) is int else value for name, value in settings.items()}
    for name, value in values.items():
        if type(value) is not types[name]:
            raise InputError(f"{name} is {value!r}; it must be of type {types[name].__name__}")
    return values


def read_settings(path):
    """The settings in a JSON file, a dictionary.

    Raises: InputError that names the file if it is missing, is no JSON object, or holds what `checked` refuses.
    """
    path = pathlib.Path(path)
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON file of settings ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f'{path}: settings must be one JSON object, such as {{"samples": 8}}')
    try:
        return checked(settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
