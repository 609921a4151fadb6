"""What tests of several folders share: random arrays, arrays to the bit, image files, and a pickle that would spring."""

import os

import numpy as np
from PIL import Image


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


class Trap:
    """An object whose unpickling leaves a folder behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
