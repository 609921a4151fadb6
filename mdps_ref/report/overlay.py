"""An image with its anomaly map over it, on a colour scale that is the same for every image of a detector."""

import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

from mdps_ref.data.images import map_at_image_size
from mdps_ref.data.pixels import decode

HEAT = "inferno"
TOP = 6  # the upper end of the colour scale, in thresholds
LONGEST = 2048  # pixels of the longer side


def heat_top(config, decision_threshold, mask_threshold):
    """Return the map value at the upper end of the colour scale.

    It depends on a detector's settings and thresholds alone, so a map value has the same colour in every image. Most image scores are
    means of map values: the scale then ends at TOP times the decision's threshold. `softmax_top_500` is none, so the scale ends at TOP
    times the mask's threshold, or, without a mask, at 1.

    Parameters
    ----------
    config : Config
    decision_threshold : float
    mask_threshold : float or None

    Returns
    -------
    float
        Above 0.
    """
    of_maps = decision_threshold if config.image_score != "softmax_top_500" else None
    return TOP * (of_maps or mask_threshold or 1 / TOP)


def overlay(path, anomaly, detector):
    """Draw an image with its anomaly map over it. Where the map is 0 the image is as it was; the hotter, the less of it shows.

    Parameters
    ----------
    path : path-like
        The image.
    anomaly : array, (size, size)
    detector : Detector

    Returns
    -------
    bytes
        PNG, at the image's own size; smaller if its longer side has more than 2,048 pixels.
    """
    picture = decode(path, detector.white)
    shrink = max(1, max(picture.size) / LONGEST)
    size = tuple(max(1, round(side / shrink)) for side in picture.size)
    planes = [np.asarray(plane().convert("F").resize(size, Image.Resampling.BILINEAR)) for plane in picture.planes]
    image = picture.unit(np.stack(planes, axis=-1)).clip(0, 1) * np.ones(3, np.float32)
    heat = map_at_image_size(anomaly, size, detector.config.fit)
    top = heat_top(detector.config, detector.decision_threshold, detector.mask_threshold)
    return pixels_as_png(blended(image, heat, top))


def blended(image, heat, top):
    """Lay an anomaly map over its image.

    Parameters
    ----------
    image : array, (H, W, 3), 0 to 1
    heat : array, (H, W)
    top : float
        The map value at the upper end of the colour scale.

    Returns
    -------
    array, (H, W, 3), 0 to 1
        The image itself where the map is 0.
    """
    level = np.sqrt((heat / top).clip(0, 1))[..., None]  # square roots show faint defects
    return (1 - 0.85 * level) * image + 0.85 * level * heat_colours(level[..., 0])


def heat_colours(level):
    """Return the colours of levels from 0 to 1 on the scale of `blended`, (..., 3), 0 to 1."""
    return colormaps[HEAT](0.25 + 0.75 * level)[..., :3]


def pixels_as_png(image, longest=None):
    """Return an image, (H, W, 3) with values from 0 to 1, as PNG bytes; shrunk if its longer side has more than `longest` pixels."""
    data, picture = io.BytesIO(), Image.fromarray(np.rint(255 * image).astype(np.uint8))
    if longest:
        picture.thumbnail((longest, longest), Image.Resampling.BOX)
    picture.save(data, "PNG")
    return data.getvalue()
