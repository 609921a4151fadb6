"""Every setting of a run, as one frozen dataclass: an unknown key is an error, and the used settings are saved with the result."""

import dataclasses
import json
import pathlib
import typing

from mdps_ref.errors import InputError
from mdps_ref.nn.unet import NETWORKS
from mdps_ref.posterior.guidance import GUIDANCES
from mdps_ref.scoring.image_score import IMAGE_SCORES


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run.  Raises: InputError that names the key, its value and what would be right.

    data, category: the folder and the category in it; data "" means the synthetic set, drawn into the run folder.
    image_size: pixels a side that every image is resized to.  network: a name in `nn.unet.NETWORKS`, made for that size.
    seed: of the weights, the hold-out, the training draws and the sampling noise.

    held_out: share of the training images kept back, unseen, to set the mask's and the decision's thresholds.
    weights: a checkpoint to load instead of training, "" to train.  train_steps, batch_size, learning_rate: of Adam.
    clip_norm: limit on the gradient's length, of the loss per pixel value.  weight_decay: decoupled (AdamW).  ema_horizon: factor
    of the weights' running mean.  checkpoint_every: steps between checkpoints.

    start: T, the timestep that test images are noised to.  stride: between the timesteps visited.  samples: n, chains an image.
    guidance: "norm", "squared_norm" or "moment_matched" (4 pullbacks a step).  stage1_strength, stage2_strength: w / sqrt(H W C),
    see `guidance_weight`.
    mask_share: the part of a held-out good image's pixels that may be suspected.

    eta: the weight of the pixel map against the feature map.  feature_timestep: at which the network's activations are compared.
    blur: the map's Gaussian smoothing, as a share of the image's side (1/64: sigma 4 at 256).
    image_score: a name in `scoring.image_score.IMAGE_SCORES`.  false_positive_rate: of the decision, on held-out good images.
    """

    data: str = ""
    category: str = "washer"
    image_size: int = 32
    network: str = "tiny"
    seed: int = 0

    held_out: float = 0.2
    weights: str = ""
    train_steps: int = 800
    batch_size: int = 8
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    ema_horizon: float = 0.995
    checkpoint_every: int = 100

    start: int = 300
    stride: int = 20
    samples: int = 2
    guidance: str = "norm"
    stage1_strength: float = 0.09
    stage2_strength: float = 0.01
    mask_share: float = 0.05

    eta: float = 0.5
    feature_timestep: int = 5
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
        self.unet()

    def unet(self):
        """The network's own config, at this image size."""
        return dataclasses.replace(NETWORKS[self.network], image_size=self.image_size)


CHOICES = {"network": tuple(NETWORKS), "guidance": GUIDANCES, "image_score": tuple(IMAGE_SCORES)}
RANGES = {
    "image_size": (8, 1024),
    "seed": (0, 2**63 - 1),
    "held_out": (0.01, 0.9),
    "train_steps": (0, 10_000_000),
    "batch_size": (1, 4096),
    "learning_rate": (0.0, 1.0),
    "clip_norm": (0.0, float("inf")),
    "weight_decay": (0.0, 1.0),
    "ema_horizon": (0.0, 1.0),
    "checkpoint_every": (1, 10_000_000),
    "start": (0, 999),
    "stride": (1, 1000),
    "samples": (1, 1000),
    "stage1_strength": (0.0, 1000.0),
    "stage2_strength": (0.0, 1000.0),
    "mask_share": (0.0, 1.0),
    "eta": (0.0, 1000.0),
    "feature_timestep": (0, 999),
    "blur": (0.0, 0.25),
    "false_positive_rate": (0.0, 1.0),
}


# What suits each network where the defaults, made for tiny, do not; a larger one trains longer and, at 256 x 256, more gently.
PRESETS = {
    "tiny": {},
    "small": {"train_steps": 1500, "start": 400, "samples": 4},
    "released": {"train_steps": 50_000, "learning_rate": 3e-4, "start": 250, "samples": 4},
}


def with_presets(settings):
    """These settings, under them those that suit the network, which is chosen by image size where none is named."""
    settings = checked(settings)
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
