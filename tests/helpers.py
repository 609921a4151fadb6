"""What tests of several folders share: arrays, to the bit or random; files of images; chains; what HTML shows; a pickle that springs."""

import base64
import io
import os
import re
import types

import numpy as np
from PIL import Image

from mdps_ref.job.evaluate import chain_result
from mdps_ref.job.maps import Maps


def normal(*shape, seed=0):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def bits(arrays):
    """The dtype, shape and bytes of each array."""
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}


def write_image(path, pixels=128, **options):
    """Save an array, a Pillow image or a grey value as an image file, and make its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8), pixels, np.uint8) if isinstance(pixels, int) else pixels
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def cut(path, share=0.5):
    """Keep only the first part of a file's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def chain_result_of(maps, truths, shown=()):
    """The ChainResult of Maps that take the place of records on the disk; of true masks (H, W), or None; and of the shown images."""
    of_images = list(zip(maps.difference, truths, strict=True))
    records = types.SimpleNamespace(
        score=maps.score,
        width=maps.spread.max(axis=(1, 2)),
        difference=maps.difference.mean(axis=(1, 2)),
        inside=np.array([np.nan if truth is None or not truth.any() else image[truth].mean() for image, truth in of_images], np.float32),
        judged_anomaly=lambda: ((start, maps.anomaly[start : start + 3]) for start in range(0, len(truths), 3)),
        shown_maps=lambda: Maps(**{name: array[list(shown)] for name, array in vars(maps).items()}),
    )
    return chain_result(records, truths)


def words(html):
    """The text of HTML."""
    return re.sub("<[^>]*>", "", html)


def pictures(html):
    """The pictures of HTML as arrays, 0 to 1."""
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), np.float64) / 255 for data in found]


class Trap:
    """An object whose unpickling leaves a folder behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def by_repeating(metric, labels, scores):
    """A statistic of `metric(labels, scores)`, which is computed afresh for each resample: the slow twin of a `Tally`."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    return lambda counts: np.array([metric(np.repeat(labels, row, axis=0), np.repeat(scores, row, axis=0)) for row in counts])
