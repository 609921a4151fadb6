"""Where the authors' released code differs from the paper, or from good practice: ROWS, one table, with both sides of every row.

The setting `rules` takes one side for all rows, and `rules_except` the other side for some. `resolve_rules` turns both into `Rules`, an
object of functions and values, once; the functions that do the work never see the names.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from mdps_ref.data.masks import bilinear_mask, nearest_mask
from mdps_ref.diffusion.schedule import visited_timesteps
from mdps_ref.errors import InputError
from mdps_ref.posterior.guidance import GUIDES, guidance_weight
from mdps_ref.posterior.sampler import mdps_chain, posterior_samples
from mdps_ref.released import chain as released
from mdps_ref.scoring.difference import fuse

SIDES = ("paper", "released")
AUTHORS_SHAPE = (256, 256, 3)  # of every image in the authors' experiments


@dataclasses.dataclass(frozen=True)
class Rules:
    """One side of every row, as functions and values. Each field stands in one row of ROWS.

    Parameters
    ----------
    norm_guide : callable
        The guide called "norm".
    other_guides : dict, name -> guide
    sample : callable
        `posterior_samples`, or a function with its signature.
    weight : callable
        weight(strength, shape of an image) -> w.
    fuse : callable
        fuse(pixels, features, pixel_weight) -> maps.
    threshold_from_test : callable or None
        threshold_from_test(guided maps of the test set, mask_lambda) -> the mask's threshold; None if held-out good images set it.
    chain : callable
        `mdps_chain`, or a function with its signature.
    keeps_normal_pixels : bool
        Whether the chain gives y itself on normal pixels, so that an image whose mask is empty needs no chain.
    timesteps : callable
        timesteps(start, stride) -> list of ints.
    lowest_start : int
        The lowest start that `timesteps` takes.
    first_timestep : int
        The lowest timestep of the training draws.
    judged_share : dict, layout of the folders -> float
        The share of the image's side that is scored and judged: the centre.
    shrink_mask : callable
        shrink_mask(values of a true mask, size) -> bool array.
    taken_from_released : frozenset of str
        The rows whose released side this is.
    """

    norm_guide: Callable
    other_guides: dict[str, Callable]
    sample: Callable
    weight: Callable
    fuse: Callable
    threshold_from_test: Callable | None
    chain: Callable
    keeps_normal_pixels: bool
    timesteps: Callable
    lowest_start: int
    first_timestep: int
    judged_share: dict[str, float]
    shrink_mask: Callable
    taken_from_released: frozenset[str]

    @property
    def guides(self):
        """All guides by name."""
        return {"norm": self.norm_guide, **self.other_guides}

    @property
    def share_batches(self):
        """Whether the images of a batch may change each other's results. The batches are then those of the settings."""
        return not self.taken_from_released.isdisjoint({"norm", "fusion"})


class Row(NamedTuple):
    """One difference: its number in the README, both sides in words, and the fields of `Rules` on both sides."""

    number: int
    paper_says: str
    released_says: str
    paper: dict[str, Any]
    released: dict[str, Any]


ROWS = {
    "guidance": Row(
        1,
        "guidance by the norm (default), by the squared norm (as printed), or moment-matched; only the last keeps the variance of x0_hat",
        "guidance by the norm",
        {"other_guides": {name: guide for name, guide in GUIDES.items() if name != "norm"}},
        {"other_guides": {}},
    ),
    "norm": Row(
        2,
        "one norm an image",
        "one norm for the whole batch, so guidance weakens as 1 / sqrt(batch size)",
        {"norm_guide": GUIDES["norm"], "sample": posterior_samples},
        {"norm_guide": released.batch_norm_guide, "sample": released.one_sample_a_batch},
    ),
    "strength": Row(
        3,
        "a strength without units: w = strength sqrt(H W C) of the image at hand",
        "one w at every image size: w = strength sqrt(256 x 256 x 3)",
        {"weight": guidance_weight},
        {"weight": lambda strength, shape: guidance_weight(strength, AUTHORS_SHAPE)},
    ),
    "fusion": Row(
        4,
        "pixel and feature map are fused by their maxima in one image",
        "they are fused by their maxima over the batch",
        {"fuse": fuse},
        {"fuse": released.fuse_by_batch},
    ),
    "mask": Row(
        5,
        "held-out good images set the mask's threshold",
        "the least and the largest map value of the whole test set set it",
        {"threshold_from_test": None},
        {"threshold_from_test": released.released_threshold},
    ),
    "normal_pixels": Row(
        6,
        "Eq. (10): on normal pixels the chain ends at the test image, to rounding",
        "before each call normal pixels are replaced by the noised test image (the same noise each time); the result agrees only roughly",
        {"chain": mdps_chain, "keeps_normal_pixels": True},
        {"chain": released.released_chain, "keeps_normal_pixels": False},
    ),
    "start": Row(
        7,
        "the first network call is at the timestep that the start is noised to",
        "the first network call is at the largest multiple of the stride below the start",
        {"timesteps": visited_timesteps, "lowest_start": 0},
        {"timesteps": released.released_timesteps, "lowest_start": 1},
    ),
    "timesteps": Row(
        8,
        "training draws t from 0 .. 999",
        "training draws t from 1 .. 999",
        {"first_timestep": 0},
        {"first_timestep": 1},
    ),
    "judging": Row(
        12,
        "whole maps are judged; true masks are resized to their nearest neighbours",
        "of MVTec AD the central 224 of 256 pixels are judged; true masks are resized bilinearly, and every pixel above 0 counts",
        {"judged_share": {"mvtec": 1.0, "btad": 1.0}, "shrink_mask": nearest_mask},
        {"judged_share": {"mvtec": 224 / 256, "btad": 1.0}, "shrink_mask": bilinear_mask},
    ),
}


def resolve_rules(rules, rules_except=""):
    """Turn the settings `rules` and `rules_except` into Rules.

    Parameters
    ----------
    rules : {"paper", "released"}
    rules_except : str
        Names of rows in ROWS, commas between, that take the other side.

    Returns
    -------
    Rules

    Raises
    ------
    InputError
        If there is no such side or no such row.
    """
    if rules not in SIDES:
        raise InputError(f"rules is {rules!r}; choose one of {', '.join(SIDES)}")
    excepted = {name.strip() for name in rules_except.split(",")} - {""}
    unknown = sorted(excepted - ROWS.keys())
    if unknown:
        raise InputError(f"rules_except names {', '.join(map(repr, unknown))}; choose from {', '.join(ROWS)}")
    taken = frozenset(excepted if rules == "paper" else ROWS.keys() - excepted)
    fields = {}
    for name, row in ROWS.items():
        fields |= row.released if name in taken else row.paper
    return Rules(**fields, taken_from_released=taken)


def leaks(config):
    """Say how the result of one test image depends on other test images.

    Parameters
    ----------
    config : Config

    Returns
    -------
    list of str
        A sentence each; none under the paper's rules.
    """
    taken, batched = config.resolved_rules.taken_from_released, config.batch_size > 1
    batch = f"the {config.batch_size} test images that share a batch, in the order of their names"
    sentences = []
    if batched and "norm" in taken and config.guidance == "norm":
        sentences.append(
            f"Guidance is divided by one norm over {batch}: how well one image fits changes how the others are guided (row 2)."
        )
    if batched and "fusion" in taken:
        sentences.append(
            f"Pixel and feature maps are fused by their maxima over {batch}: a strong defect changes the maps of others (row 4)."
        )
    if config.masked and config.mask_threshold is None and "mask" in taken:
        sentences.append(
            "The mask’s threshold lies between the least and the largest value of the guided maps of the whole test set: every test image "
            "changes every mask, and so the decision’s threshold too, since held-out good images are masked by it (row 5)."
        )
    return sentences
