"""Every setting of a run, in one frozen dataclass. An unknown setting is an error, and each run folder keeps its settings."""

import dataclasses
import functools
import typing

from mdps_ref.data.augment import VARIATIONS, variations
from mdps_ref.errors import InputError, shown
from mdps_ref.job.ranges import CHOICES, RANGES, of_types, positive_numbers
from mdps_ref.nn.unet import NETWORKS
from mdps_ref.released.presets import preset_settings
from mdps_ref.released.rules import resolve_rules
from mdps_ref.scoring.difference import TAIL_SHARES, fuse
from mdps_ref.scoring.features import EXTRACTORS

OWN, AUTO = "unet", "auto"  # features: the noise predictor's own; those that a run chooses


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run. `make_config` makes one with the defaults of its network.

    Parameters
    ----------
    data : str
        The data folder. With "" a synthetic set is drawn into the run folder.
    category : str
        The category's folder in `data`, or the kind of synthetic goods.
    image_size : int
        Side, in pixels, to which every image is resized.
    fit : {"stretch", "letterbox"}
        How an image that is no square becomes one: its aspect ratio is given up, or kept with its edge pixels repeated.
    skip_bad : bool
        Set images that cannot be read aside, and count them. False: the run stops before it trains.
    strict : bool
        Stop before training if anything was set aside, or read by a rule that the user should know.
    network : str
        A name in `nn.unet.NETWORKS`, made for `image_size`. If none is given: tiny up to 32 pixels, small up to 128, then released.
    seed : int
        Seed of the initial weights, the hold-out, the training draws and the sampling noise.
    rules : {"paper", "released"}
        Follow the paper, or the authors' released code, where the two differ.
    rules_except : str
        Names of rows in `released.rules.ROWS`, commas between, that take the other side than `rules`.
    tune : bool
        After training, choose settings of the chains and the maps on held-out good images with planted defects. A setting that is given
        stays unless another value is better there. See `study.tuning`.
    held_out : float
        Share of the training images that is kept back to calibrate the thresholds of the mask and of the decision.
    weights : str
        A file of weights to load instead of training, or "bundled" for those that come with the package; "" trains.
    train_steps : int
        Training steps.
    batch_size : int
        Images a training step. Under the released rules, as many test images share a batch, too.
    learning_rate : float
        Adam's learning rate.
    clip_norm : float
        Largest length of the gradient. The loss is that per pixel value.
    weight_decay : float
        Decoupled weight decay (AdamW).
    l2 : float
        L2 penalty, which adds l2 * weight to the gradient.
    ema_decay : float
        Decay of the exponential moving average of the weights. Sampling uses that average.
    warm_up_steps : int
        How many steps the learning rate rises in, at the start of the training; see `nn.optim.rate_factor`.
    decay_share : float
        Share of the steps, at the end, in which the learning rate falls. To train further, double the steps, or the rate stays low.
    augment : str
        How the good images are varied in training: names in `data.augment.VARIATIONS`, commas between. "" leaves them as they are. Name
        only what leaves a good image good: mirrored lettering is a defect, and so is a shifted print.
    checkpoint_every : int
        Training steps between checkpoints.
    guided_start : int
        T, the timestep that a test image is noised to, in the guided chain. See `diffusion.schedule.visited_timesteps`.
    mdps_start : int
        T in the chains of reconstruction and of MDPS.
    stride : int
        Difference between two timesteps that a chain visits.
    samples : int
        n, posterior samples for each image.
    ddim_eta : float
        DDIM's eta: 1 draws fresh noise in every step as DDPM does, 0 draws none after the start. See `diffusion.reverse.ddim_step`.
    guidance : {"norm", "squared_norm", "moment_matched"}
        The guide, a name in `posterior.guidance.GUIDES`. "moment_matched" costs 4 pullbacks a step.
    guided_strength : float
        Guidance strength w / sqrt(H W C) in the guided chain; see `posterior.guidance.guidance_weight`.
    mdps_strength : float
        Guidance strength w / sqrt(H W C) in MDPS.
    masked : bool
        Make a mask from the guided chain and run MDPS under it. False: one guided chain is the result; it has the settings `mdps_start`
        and `mdps_strength`.
    mask_share : float
        Calibrates the mask's threshold: the share of the pixels of held-out good images that may be suspected. See
        `posterior.mask.mask_threshold`.
    mask_threshold : float or None
        A fixed threshold of the mask, in values of the paper's anomaly map, or with `tails` in nats. None calibrates it.
    mask_lambda : float
        Under the released rules, where the mask's threshold lies between the least (0) and the largest (1) map value of the test set.
    features : str
        The features that are compared: "unet", the noise predictor's own; a name in `scoring.features.EXTRACTORS`; or both, such as
        "unet+efficientnet_lite0". "auto": a run chooses, see `study.tuning.tune`; until then they are the noise predictor's own.
    feature_weights : str
        The extractor's file of weights; "" for the usual file, in the folder weights or in an installed package.
    feature_layers : str
        The extractor's layers, commas between; "" for the usual ones. With features "auto" a run tries those of `scoring.features.views`.
    feature_size : int or None
        Side, in pixels, to which images are enlarged before the extractor sees them. None leaves them as they are: from 64 x 64 pixels
        the usual layers make grids of 8 x 8 and 4 x 4 places. Twice the side takes four times the time of the features.
    feature_timestep : int
        The timestep at which the noise predictor's own features are taken.
    feature_distance : {"cosine", "mahalanobis"}
        The paper's distance of two feature vectors, E16; or that of the whitened ones. A run fits the whitening to training images that
        are not held out, and to their reconstructions, see `scoring.whitening`.
    pixel_weight : float
        Weight of the pixel map against the feature map.
    tails : str
        How large the distances of each layer, and then the pixel map, get on good images: numbers from `scoring.difference.tail_of`, commas
        between, and semicolons between the maps. With them each map becomes its `surprisal` before they are added. "": the maximum of the
        pixel map is brought to that of the feature map, image by image, see `scoring.difference.fuse`.
    guided_weight : float
        Weight of the guided chain's anomaly map, which is added to that of MDPS. 0: the paper's map. With 1 a defect that stays
        just below the mask's threshold can still show.
    blur : float
        Sigma of the map's Gaussian smoothing, as a share of the image's side (1/64: sigma 4 at 256 pixels).
    image_score : str
        A name in `scoring.image_score.IMAGE_SCORES`.
    false_positive_rate : float
        Share of held-out good images that the decision may flag.

    Raises
    ------
    InputError
        If a value is not one of its choices, is out of its range, or does not go with the rules.
    """

    data: str = ""
    category: str = "washer"
    image_size: int = 32
    fit: str = "stretch"
    skip_bad: bool = False
    strict: bool = False
    network: str = "tiny"
    seed: int = 0
    rules: str = "paper"
    rules_except: str = ""
    tune: bool = False

    held_out: float = 0.2
    weights: str = ""
    train_steps: int = 800
    batch_size: int = 8
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    l2: float = 0.0
    ema_decay: float = 0.995
    warm_up_steps: int = 0
    decay_share: float = 0.5
    augment: str = ""
    checkpoint_every: int = 100

    guided_start: int = 300
    mdps_start: int = 300
    stride: int = 20
    samples: int = 2
    ddim_eta: float = 1.0
    guidance: str = "norm"
    guided_strength: float = 0.09
    mdps_strength: float = 0.01
    masked: bool = True
    mask_share: float = 0.05
    mask_threshold: float | None = None
    mask_lambda: float = 0.12

    features: str = "auto"
    feature_weights: str = ""
    feature_layers: str = ""
    feature_size: int | None = None
    feature_timestep: int = 5
    feature_distance: str = "cosine"
    pixel_weight: float = 0.5
    tails: str = ""
    guided_weight: float = 0.0
    blur: float = 1 / 64
    image_score: str = "top_mean"
    false_positive_rate: float = 0.05

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}; it must lie in {low} .. {high}")
        unknown = [name for name in variations(self.augment) if name not in VARIATIONS]
        if unknown:
            raise InputError(f"augment is {self.augment!r}; write names of {', '.join(VARIATIONS)}, commas between")
        self._check_rules()
        self._check_features()
        self.unet()

    def _check_rules(self):
        """Raise InputError for settings that have no meaning under the rules."""
        rules = self.resolved_rules
        under = f"under rules {self.rules!r}" + (f" except {self.rules_except!r}" if self.rules_except else "")
        if self.guidance not in rules.guides:
            raise InputError(f"guidance is {self.guidance!r}; {under} it must be one of {', '.join(rules.guides)}")
        for name in ("guided_start", "mdps_start"):
            if getattr(self, name) < rules.lowest_start:
                raise InputError(f"{name} is {getattr(self, name)}; {under} it must be at least {rules.lowest_start}")
        if self.tune and (rules.threshold_from_test or self.mask_threshold is not None):
            sets = f"{under} the test images set" if rules.threshold_from_test else "mask_threshold sets"
            raise InputError(f"tune chooses the mask's threshold on held-out good images, but {sets} it; leave out one of the two")

    def _check_features(self):
        """Raise InputError for settings of features and scores that would be ignored, or say nothing."""
        if self.extractor is None:
            for name in ("feature_weights", "feature_layers", "feature_size"):
                if getattr(self, name):
                    given = f"{name} is {getattr(self, name)!r}"
                    raise InputError(f"{given}, but features {self.features!r} has no such choice; leave it out, or set features")
        if self.feature_size is not None and self.feature_size < self.image_size:
            raise InputError(f"feature_size is {self.feature_size}, below image_size {self.image_size}; leave it out, or enlarge by it")
        self.check_judged_side(self.image_size)
        self.tail_numbers()
        if self.guided_weight and not self.masked:
            raise InputError(f"guided_weight is {self.guided_weight}, but without a mask there is one chain; set it to 0, or set masked")

    def check_judged_side(self, side):
        """Raise InputError if the image score says nothing of the side x side pixels that are judged."""
        if self.image_score == "softmax_top_500" and side**2 <= 500:
            raise InputError(f"image_score 'softmax_top_500' is 1 for all {side} x {side} pixels; choose another, or a larger image_size")

    @property
    def takes_tails(self):
        """Whether surprisals may take the place of the rules' fusion. `softmax_top_500` is about 1 for all of them."""
        return self.resolved_rules.fuse is fuse and self.image_score != "softmax_top_500"

    @property
    def extractor(self):
        """The name of the ImageNet network among the features; None if there is none."""
        name = self.features.removeprefix("unet+")
        return None if name in (OWN, AUTO) else name

    @property
    def compares_own(self):
        """Whether the noise predictor's own features are compared."""
        return self.features == AUTO or self.features.split("+")[0] == OWN

    @property
    def layer_count(self):
        """The number of layers of features that are compared."""
        layers = self.feature_layers.split(",") if self.feature_layers else EXTRACTORS[self.extractor].layers if self.extractor else ()
        return len(layers) + self.compares_own

    def tail_numbers(self):
        """Return `tails` as a list of tuples, one for each layer and one for the pixels; None for "".

        Raises
        ------
        InputError
            If they are not so many, or not as `scoring.difference.tail_of` makes them, or do not go with the features, rules or score.
        """
        if not self.tails:
            return None
        if self.features == AUTO or not self.takes_tails:
            raise InputError(
                f"tails is {shown(self.tails, 40)!r}; they go with the features that they were measured on, the paper's fusion, and an "
                f"image_score other than 'softmax_top_500', but features is {self.features!r}, rules {self.rules!r} and image_score "
                f"{self.image_score!r}; leave tails out"
            )
        count, tails = self.layer_count + 1, [positive_numbers(tail) for tail in self.tails.split(";")]
        if len(tails) != count or any(len(tail) != len(TAIL_SHARES) + 1 or sorted(set(tail[:-1])) != [*tail[:-1]] for tail in tails):
            raise InputError(
                f"tails is {shown(self.tails, 40)!r}; write, for each layer and for the pixels, {count} in all, {len(TAIL_SHARES)} "
                "ascending positive quantiles and their mean excess, commas between, and semicolons between the maps; or leave it out"
            )
        return tails

    @functools.cached_property
    def resolved_rules(self):
        """The `released.rules.Rules`, functions and values, that `rules` and `rules_except` name; resolved once."""
        return resolve_rules(self.rules, self.rules_except)

    def unet(self):
        """Return the network's own config, at this image size."""
        return dataclasses.replace(NETWORKS[self.network], image_size=self.image_size)


# What a network needs other than the defaults, which suit the tiny one. Larger networks train longer; the released one as its authors did.
NETWORK_DEFAULTS = {
    "tiny": {},
    "small": {"train_steps": 1500, "guided_start": 400, "mdps_start": 400, "samples": 4},
    "released": {"train_steps": 50_000, "learning_rate": 3e-4, "decay_share": 0.0, "guided_start": 250, "mdps_start": 250, "samples": 4},
}


def make_config(settings=(), preset=None, /, **more):
    """Make a Config of these settings over the defaults.

    Parameters
    ----------
    settings : dict
    preset : str, optional
        The name of the authors' settings for a category, such as "released/mvtec/bottle".
    **more
        Settings by keyword; they win over `settings`.

    Raises
    ------
    InputError
        If a setting or the preset is unknown, or a value is of another type, is out of its range, or does not go with the rules.

    Examples
    --------
    >>> make_config(image_size=64).network
    'small'
    """
    return Config(**with_defaults(dict(settings) | more, preset))


def with_defaults(settings, preset=None):
    """Merge: network defaults < preset < these settings.

    The image size chooses the network if neither the settings nor the preset name one.

    Parameters
    ----------
    settings : dict
    preset : str, optional
        A name in `released.presets.PRESETS`.

    Returns
    -------
    dict
    """
    settings = checked(settings)
    if preset:
        settings = preset_settings(preset, settings.get("rules", "released"), settings.get("rules_except", "")) | settings
    size = settings.get("image_size", Config.image_size)
    network = settings.get("network", "tiny" if size <= 32 else "small" if size <= 128 else "released")
    return {"network": network} | NETWORK_DEFAULTS.get(network, {}) | settings


def checked(settings):
    """Return `settings` with a whole number made a float where a float is wanted; raise InputError as `ranges.of_types`."""
    return of_types(settings, typing.get_type_hints(Config))
