"""Where the authors' released code parts from the paper, or from good practice: every such row once, with both its sides.

The setting `rules` takes one side for all rows. The functions that do the work take what a row says as a plain argument, whose default
is the paper's side; only `detect`, `train`, `run` and the settings look here.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rules:
    """One side of every row, as numbered in the README: first what the paper, or good practice, asks for, then the released code.

    guidances (row 1): guided by the norm's gradient, by the squared norm's, or moment-matched; by the norm's alone.
    norm_over (row 2): one norm an image; one over the batch, so that guidance shrinks as 1 / sqrt(batch).
    weight_shape (row 3): a strength s is w = s sqrt(H W C) of the image at hand, None; of this shape, so w is one whatever the size.
    maxima_over (row 4): pixel and feature map are fused by their maxima in one image; in the batch.
    mask_from (row 5): the mask's threshold comes from held-out good images; from the least and largest map value of the test set.
    paste (row 6): Eq. (10), so x_0 = y on normal pixels; they are overwritten by y under one noise, and x_0 = y holds only roughly.
    below_start (row 7): the network is first called at the timestep that the start is noised to; at the next one below it.
    first_timestep (row 8): training draws t from 0 .. 999; from 1 .. 999.
    judged_share (row 12): whole maps are judged, in each layout of folders; of MVTec AD's images the central 224 of 256 pixels a side.
    bilinear_masks (row 12): true masks are resized to nearest neighbours; bilinearly, and then whatever is above 0 counts.
    """

    guidances: tuple[str, ...]
    norm_over: str
    weight_shape: tuple[int, int, int] | None
    maxima_over: str
    mask_from: str
    paste: bool
    below_start: bool
    first_timestep: int
    judged_share: dict[str, float]
    bilinear_masks: bool


RULES = {
    "paper": Rules(
        guidances=("norm", "squared_norm", "moment_matched"),
        norm_over="image",
        weight_shape=None,
        maxima_over="image",
        mask_from="held-out good images",
        paste=False,
        below_start=False,
        first_timestep=0,
        judged_share={"mvtec": 1.0, "btad": 1.0},
        bilinear_masks=False,
    ),
    "released": Rules(
        guidances=("norm",),
        norm_over="batch",
        weight_shape=(256, 256, 3),
        maxima_over="batch",
        mask_from="test set",
        paste=True,
        below_start=True,
        first_timestep=1,
        judged_share={"mvtec": 224 / 256, "btad": 1.0},
        bilinear_masks=True,
    ),
}


def leaks(config):
    """How the result of one test image depends on other test images under this Config, a plain sentence each; none by the paper's rules."""
    rules, batched = RULES[config.rules], config.batch_size > 1
    batch = f"the {config.batch_size} test images that share a batch, in the order of their names"
    sentences = []
    if batched and rules.norm_over == "batch":
        sentences.append(
            f"Guidance is divided by one norm over {batch}: how well one image fits changes how the others are guided (row 2)."
        )
    if batched and rules.maxima_over == "batch":
        sentences.append(
            f"Pixel and feature maps are fused by their maxima over {batch}: a strong defect changes the maps of others (row 4)."
        )
    if config.masked and rules.mask_from == "test set":
        sentences.append(
            "The mask's threshold lies between the least and the largest value of the stage-1 maps of the whole test set: every test image "
            "has a say in every mask, and so in the decision's threshold, since held-out good images are masked by it, too (row 5)."
        )
    return sentences
