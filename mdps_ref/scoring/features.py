"""Feature extractors: functions from images (N, H, W, 3) in [-1, 1] to a list of arrays (N, h, w, C), one a layer.

The noise predictor's own activations need no other file. An ImageNet network needs a file of weights. `make_features` looks for it in the
folder `weights` of the working directory, where `data_scripts/fetch_weights.py` puts it.
"""

import contextlib
import pathlib
from typing import NamedTuple

import numpy as np

from mdps_ref.backend import array_module, to_device
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.errors import InputError, shown
from mdps_ref.nn.mobilenet import fold_mobilenet, mobilenet_features, mobilenet_layers
from mdps_ref.nn.resnet import RESNETS, check_architecture, fold_resnet, resnet_features, resnet_layers
from mdps_ref.nn.unet import unet
from mdps_ref.scoring.difference import IMAGENET_DEVIATION
from mdps_ref.weights.checks import check_finite
from mdps_ref.weights.npz import read_npz
from mdps_ref.weights.state_dict import read_state_dict
from mdps_ref.weights.stored_zip import StoredZip

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
LONGEST_MESSAGE = 220  # characters, about a file's arrays
WEIGHTS_FOLDER = pathlib.Path("weights")


class Extractor(NamedTuple):
    """An ImageNet network: the layers to compare by default, and the name of its file of weights."""

    layers: tuple[str, ...]
    file: str


# The authors compare layer2 and layer3, whose pixels stand for 8 x 8 and 16 x 16 pixels of the image. MobileNet's two layers are the last
# ones at the same two scales. The eight hexadecimal digits in a file name of torchvision are the start of the file's SHA-256.
EXTRACTORS = {
    "resnet18": Extractor(("layer2", "layer3"), "resnet18-f37072fd.pth"),
    "resnet34": Extractor(("layer2", "layer3"), "resnet34-b627a593.pth"),
    "resnet50": Extractor(("layer2", "layer3"), "resnet50-0676ba61.pth"),
    "resnet101": Extractor(("layer2", "layer3"), "resnet101-63fe2227.pth"),
    "wide_resnet50_2": Extractor(("layer2", "layer3"), "wide_resnet50_2-95faca4d.pth"),
    "wide_resnet101_2": Extractor(("layer2", "layer3"), "wide_resnet101_2-32ee1156.pth"),
    "mobilenet_v1": Extractor(("conv_pw_5", "conv_pw_11"), "mobilenet_v1_1.0_224.npz"),
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


def make_features(name, path, layers, xp):
    """Make an extractor of an ImageNet network's layers from its file of weights.

    Parameters
    ----------
    name : str
        A name in EXTRACTORS.
    path : path-like
        The file of weights; "" means the usual file in the folder `weights`.
    layers : str
        Names of layers, commas between; "" means the layers in EXTRACTORS.
    xp : module
        The array module to compute with: NumPy or CuPy.

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
    path = pathlib.Path(path) if path else WEIGHTS_FOLDER / EXTRACTORS[name].file
    if not path.is_file():
        remedy = f"run python data_scripts/fetch_weights.py {name}" if name in RESNETS else "put the .npz of Keras's arrays there"
        raise InputError(f"{path}: no such file of weights; {remedy}, or set feature_weights to its path")
    weights, known = (_read_resnet if name in RESNETS else _read_mobilenet)(path, name, layers)
    for layer in layers:
        if layer not in known:
            raise InputError(f"{path}: no layer {layer!r} to compare; choose from {shown(', '.join(known), LONGEST_MESSAGE)}")
    with _naming(path):
        check_finite(weights)
    weights = {key: to_device(w, xp) for key, w in weights.items()}
    if name in RESNETS:
        return lambda images: resnet_features(weights, imagenet_normalised(images), layers)
    return lambda images: mobilenet_features(weights, images, layers)


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


def _read_resnet(path, name, layers):
    """Return the weights that the layers need, on the host, and the names of all layers in the file."""
    state = read_state_dict(path)
    with _naming(path):
        check_finite(state)
        weights = fold_resnet(state, last=max(layers))
        check_architecture(state, name)
    return weights, resnet_layers(state)


def _read_mobilenet(path, name, layers):
    """Return all weights, which are few, on the host, and the names of all layers in the file."""
    try:
        with open(path, "rb") as handle:
            arrays = read_npz(StoredZip(handle))
    except Exception as error:  # the reader of zip raises many types of error for a broken file
        reason = shown(error, 150) or type(error).__name__
        raise InputError(f"{path}: not a whole .npz ({reason}); give the .npz of Keras's {name}") from error
    with _naming(path):
        check_finite(arrays)
        return fold_mobilenet(arrays), mobilenet_layers(arrays)


@contextlib.contextmanager
def _naming(path):
    """Put the path before the message of an InputError that the block raises."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {shown(error, LONGEST_MESSAGE)}") from None
