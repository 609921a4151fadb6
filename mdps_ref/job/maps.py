"""What a chain gave for some images: samples, maps and scores."""

import dataclasses

import numpy as np

from mdps_ref.data.images import centre_crop
from mdps_ref.scoring.image_score import IMAGE_SCORES

AT_ONCE = 64  # images whose maps are read at once where all are needed in turn


@dataclasses.dataclass(frozen=True)
class Maps:
    """What one chain gave for N images, on the host.

    Parameters
    ----------
    x_0 : array, (N, H, W, C)
        The first posterior sample.
    difference : array, (N, H, W)
        |x_0 - y| in pixel values ([-1, 1]), mean over channels and samples.
    anomaly, spread : array, (N, H, W)
        Mean and standard deviation of the n anomaly maps. With a `guided_weight`, the guided map is added to the mean of MDPS.
    score : array, (N)
        The anomaly score of each image.
    suspected : array, (N, H, W)
        The mask that the chain ran under, 1 = suspected; all 1 without a mask.
    """

    x_0: np.ndarray
    difference: np.ndarray
    anomaly: np.ndarray
    spread: np.ndarray
    score: np.ndarray
    suspected: np.ndarray


def centre(maps, side, config):
    """Return the Maps of the central side x side pixels, with the scores of the centre alone."""
    if side == maps.anomaly.shape[1]:
        return maps
    arrays = {field.name: getattr(maps, field.name) for field in dataclasses.fields(Maps) if field.name != "score"}
    cropped = {name: centre_crop(array, side) for name, array in arrays.items()}
    return Maps(**cropped, score=IMAGE_SCORES[config.image_score](cropped["anomaly"]))


def score_range(maps, config):
    """Return the scores of the anomaly maps less their spread, and plus their spread: how far the posterior samples disagree.

    Parameters
    ----------
    maps : Maps
        Of N images.
    config : Config

    Returns
    -------
    low, high : array, (N)
        Both are the score itself where there is one sample.
    """
    return tuple(IMAGE_SCORES[config.image_score](maps.anomaly + sign * maps.spread) for sign in (-1, 1))


class InMemory:
    """Keeps the Maps of one chain in memory. A keeper of another kind has the same members, such as `chain_records.ChainRecords`.

    Parameters
    ----------
    chain_name : {"reconstruction", "guided", "mdps"}
    crop : callable, optional
        crop(Maps) -> Maps, such as the judged centre, of the result.
    """

    def __init__(self, chain_name, crop=lambda maps: maps):
        self._parts, self._crop = [], crop

    done = 0  # the number of images whose Maps an earlier process left

    def add(self, maps):
        """Keep the Maps of the next images."""
        self._parts.append(maps)

    def anomaly(self, part):
        """Return the anomaly maps of the images in a slice, (n, H, W)."""
        return self._joined().anomaly[part]

    def result(self):
        """Return the Maps of all images."""
        return self._crop(self._joined())

    def _joined(self):
        """Join the parts once, and return the Maps of all images so far."""
        if len(self._parts) > 1:
            fields = [field.name for field in dataclasses.fields(Maps)]
            self._parts = [Maps(*(np.concatenate([getattr(maps, name) for maps in self._parts]) for name in fields))]
        return self._parts[0]


class AnomalyMaps:
    """The anomaly maps of a chain's images, arrays (n, H, W) of a few images at a time. They can be gone through again.

    Parameters
    ----------
    kept
        What keeps the Maps of the chain.
    count : int
        The number of images.
    """

    def __init__(self, kept, count):
        self._kept, self._count = kept, count

    def __iter__(self):
        for start in range(0, self._count, AT_ONCE):
            yield self._kept.anomaly(slice(start, min(start + AT_ONCE, self._count)))
