"""The digest of every image that was scored: a scoring does not go on where an image was replaced."""

import numpy as np

from mdps_ref.data.files import digest
from mdps_ref.errors import InputError, shown
from mdps_ref.job.records import Records


class ImageDigests(Records):
    """The SHA-256 of image files, in a file that grows with the table of their scores; "" of one that cannot be read.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path):
        super().__init__(path, "S64")

    def note(self, images):
        """Append the digests of the next images, a list of Listed."""
        self.append(np.array([_digest(image) for image in images], self.dtype))

    def resume(self, images):
        """Keep the digests of these images alone, which have their rows already.

        Parameters
        ----------
        images : list of Listed
            At most as many as there are digests.

        Raises
        ------
        InputError
            If an image is not the one that was scored.
        """
        for image, known in zip(images, self[: len(images)], strict=True):
            if _digest(image) != known:
                raise InputError(
                    f"{shown(image.path)}: was replaced since it was scored; restore it to go on, or score it into another --out"
                )
        self.truncate(len(images))


def _digest(image):
    try:
        return digest(image.path).encode()
    except InputError:  # its row says why it was left out
        return b""
