"""Feature extractors: functions from images (N, H, W, 3) in [-1, 1] to a list of arrays (N, h, w, C), one a layer.

The noise predictor's own activations need nothing else. ImageNet networks need a file of weights; by default it is looked for in the
folder `weights` of the working directory, where `data_scripts/fetch_weights.py` puts it.
"""

import contextlib
import pathlib
from typing import NamedTuple

import numpy as np

from mdps_ref.backend import array_module, to_device
from mdps_ref.weights.state_dict import read_state_dict
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.errors import InputError
from mdps_ref.nn.mobilenet import fold_mobilenet, mobilenet_features, mobilenet_layers
from mdps_ref.nn.resnet import RESNETS, check_architecture, fold_resnet, resnet_features, resnet_layers
from mdps_ref.nn.unet import unet
from mdps_ref.scoring.difference import IMAGENET_DEVIATION

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
WEIGHTS_FOLDER = pathlib.Path("weights")


class Extractor(NamedTuple):
    """An ImageNet network: the layers that are compared by default, and the file of its weights."""

    layers: tuple[str, ...]
    file: str


# The authors compare layer2 and layer3, with a pixel for every 8 and 16 pixels a side of the image; MobileNet's blocks are those that
# end just before its next stride, at the same two scales. The eight digits in a file name of torchvision begin its SHA-256.
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
    """The noise predictor's own activations (Baranchuk et al. 2022): its last block, from which the noise is read.

    The image is scaled to its level at `timestep`, and no noise is added, so equal images have equal features. Nothing has to be
    downloaded. Of all blocks this one, at a small timestep, told painted and synthetic defects apart best.
    """
    name = f"up.0.{config.blocks}"

    def extract(images):
        record = {}
        unet(weights, alpha_bar(timestep) ** 0.5 * images, np.full(len(images), timestep), config, record)
        return [record[name]]

    return extract


def make_features(name, path, layers, xp):
    """The features of an ImageNet network in EXTRACTORS: some of its layers' outputs, its weights on the device of `xp`.

    path: the file of its weights, "" for the one in `weights/`.  layers: names separated by commas, "" for those of EXTRACTORS.
    Raises: InputError that names the file, or what there is to choose from, if the network, the file or a layer is not there, or the
    file holds another network.
    """
    if name not in EXTRACTORS:
        raise InputError(f"no features are called {name!r}; choose one of {', '.join(EXTRACTORS)}")
    layers = [layer.strip() for layer in layers.split(",")] if layers else list(EXTRACTORS[name].layers)
    path = pathlib.Path(path) if path else WEIGHTS_FOLDER / EXTRACTORS[name].file
    if not path.is_file():
        remedy = f"run python data_scripts/fetch_weights.py {name}" if name in RESNETS else "put the .npz of Keras's arrays there"
        raise InputError(f"{path}: no such file of weights; {remedy}, or set feature_weights to where they are")
    weights, there = (_read_resnet if name in RESNETS else _read_mobilenet)(path, name, layers)
    for layer in layers:
        if layer not in there:
            raise InputError(f"{path}: no layer {layer!r} to compare; choose from {', '.join(there)}")
    if not all(np.isfinite(w).all() for w in weights.values()):
        raise InputError(f"{path}: holds numbers that are not finite; fetch it again")
    weights = {key: to_device(w, xp) for key, w in weights.items()}
    if name in RESNETS:
        return lambda images: resnet_features(weights, imagenet_normalised(images), layers)
    return lambda images: mobilenet_features(weights, images, layers)


def imagenet_normalised(images):
    """Images in [-1, 1] as torchvision's networks expect them: in [0, 1], then less ImageNet's mean, over its deviation."""
    mean, deviation = (to_device(a.astype(images.dtype), array_module(images)) for a in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (images / 2 + 0.5 - mean) / deviation


def _read_resnet(path, name, layers):
    """The weights that the layers need, on the host, and the names of all layers in the file."""
    state = read_state_dict(path)
    with _told_with(path):
        weights = fold_resnet(state, last=max(layers))
        check_architecture(state, name)
    return weights, resnet_layers(state)


def _read_mobilenet(path, name, layers):
    """The same for a MobileNet, whose weights are few, so that all are kept."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # the readers of zip and npy raise a dozen kinds for a broken file
        raise InputError(f"{path}: not a whole .npz ({type(error).__name__}); give the .npz of Keras's {name}") from error
    with _told_with(path):
        return fold_mobilenet(arrays), mobilenet_layers(arrays)


@contextlib.contextmanager
def _told_with(path):
    """An InputError of the block, with the path before its message."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
