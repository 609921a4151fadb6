"""What one chain gave, kept on the disk an image at a time: a killed run goes on after the last whole batch, and memory stays small."""

import functools

import numpy as np
from numpy.lib.recfunctions import repack_fields

from mdps_ref.data.images import centre_crop
from mdps_ref.job.chains import images_at_once
from mdps_ref.job.maps import AT_ONCE, AnomalyMaps, Maps, centre, score_range
from mdps_ref.job.records import Records
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint


class ChainRecords:
    """Keeps the Maps of one chain, as `maps.InMemory` does, in files. Their values of the judged centre are ready to be read.

    Parameters
    ----------
    folder : Path
    chain_name : str
        The name of the files in the folder. Records that are there already are those of the first images; see `done`.
    config : Config
    side : int
        Side, in pixels, of the centre that is scored and judged.
    count : int
        The number of images of the whole chain.
    truths : sequence of array, (side, side) bool, or None
        The true masks. Without them there is no difference inside defects.
    shown : sequence of int
        The images whose Maps are kept whole, for figures.
    """

    def __init__(self, folder, chain_name, config, side, count, truths=None, shown=()):
        self._config, self._side, self._truths, self._shown = config, side, truths, shown
        self._folder, self._name = folder, chain_name
        size = config.image_size
        fields = [("anomaly", "<f4", (size, size)), ("score", "<f4"), ("difference", "<f4"), ("inside", "<f4"), ("width", "<f4")]
        self._records = Records(folder / chain_name, fields)
        if len(self._records) < count:  # a batch must be run whole, so that its sums are rounded as in an unbroken run
            self._records.truncate(len(self._records) // images_at_once(config) * images_at_once(config))

    @property
    def done(self):
        """The number of images whose records are there."""
        return len(self._records)

    def add(self, maps):
        """Append the Maps of the next images."""
        judged = centre(maps, self._side, self._config)
        rows = np.zeros(len(maps.anomaly), self._records.dtype)
        rows["anomaly"], rows["score"], rows["difference"] = maps.anomaly, judged.score, judged.difference.mean(axis=(1, 2))
        truths = self._truths[self.done : self.done + len(rows)] if self._truths else [None] * len(rows)
        rows["inside"] = [_mean_inside(image, truth) for image, truth in zip(judged.difference, truths, strict=True)]
        low, high = score_range(judged, self._config)
        rows["width"] = (high - low) / 2
        for i in range(len(rows)):
            if self.done + i in self._shown:
                arrays = {name: array[i] for name, array in vars(judged).items()}
                save_checkpoint(self._shown_path(self.done + i), {"maps": arrays}, {})
        self._records.append(rows)

    def anomaly(self, part):
        """Return the anomaly maps of the images in a slice, (n, H, W)."""
        return self._records[part]["anomaly"]

    def result(self):
        """Return self: the values stay on the disk."""
        return self

    @property
    def score(self):
        """The score of each image, (N)."""
        return self._values["score"]

    @property
    def difference(self):
        """The mean |x_0 - y| over each image's judged centre, (N)."""
        return self._values["difference"]

    @property
    def inside(self):
        """The mean |x_0 - y| under each image's true mask, (N); nan where that is empty or missing."""
        return self._values["inside"]

    @property
    def width(self):
        """Half the range of each image's score, (N), see `maps.score_range`."""
        return self._values["width"]

    def judged_anomaly(self):
        """Yield (start, maps): the anomaly maps of the judged centres, (n, side, side), of a few images at a time."""
        start = 0
        for maps in AnomalyMaps(self, self.done):
            yield start, centre_crop(maps, self._side)
            start += len(maps)

    def shown_maps(self):
        """Return the Maps of the shown images, in the order of `shown`."""
        rows = [load_checkpoint(self._shown_path(index))[0]["maps"] for index in self._shown]
        return Maps(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})

    def _shown_path(self, index):
        return self._folder / f"{self._name}-{index}.npz"

    @functools.cached_property
    def _values(self):
        """The single numbers of every image, read once when the chain has ended."""
        numbers = list(self._records.dtype.names[1:])
        parts = (self._records[start : start + AT_ONCE] for start in range(0, self.done, AT_ONCE))
        return np.concatenate([repack_fields(part[numbers]) for part in parts])  # a selection of fields alone would keep the maps


def _mean_inside(difference, truth):
    return float(difference[truth].mean()) if truth is not None and truth.any() else float("nan")
