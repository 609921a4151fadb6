"""Weights from files: a run's checkpoint, or the authors' weights in the formats of PyTorch and safetensors."""

import pathlib

import numpy as np

from mdps_ref.backend import to_device
from mdps_ref.errors import InputError
from mdps_ref.nn.unet import check_weights
from mdps_ref.released.names import from_released
from mdps_ref.weights.checkpoint import load_checkpoint
from mdps_ref.weights.state_dict import read_state_dict


def load_weights(path, config, xp=np):
    """Load the moving average of the weights from a run's checkpoint, or the authors' weights from a .pth or .safetensors file.

    The file's first bytes decide which of them it is.

    Parameters
    ----------
    path : path-like
    config : Config
        Its network must be that of the file.
    xp : module
        The array module to compute with.

    Returns
    -------
    dict of str to array
        float32, on the device.

    Raises
    ------
    InputError
        If the file is none of these, or its weights do not fit the network.
    """
    if _is_state_dict(path):
        return {name: to_device(array, xp) for name, array in _released_weights(path, config).items()}
    groups, about = load_checkpoint(path)
    if "ema" not in groups:
        raise InputError(f"{path}: holds no weights; give the checkpoint.npz of a run folder")
    check_fits(path, groups["ema"], config, about)
    return {name: to_device(array.astype(np.float32), xp) for name, array in groups["ema"].items()}


def _is_state_dict(path):
    """Return whether the first bytes are a foreign zip, a pickle or safetensors; a run's own zip begins with `about.npy`."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        start = handle.read(39)
    return (start[:4] == b"PK\3\4" and start[30:] != b"about.npy") or start[:1] == b"\x80" or start[8:9] == b"{"


def _released_weights(path, config):
    """Return the weights in a file of the authors' state dict, on the host; an InputError names the file if they do not fit."""
    state = read_state_dict(path)
    try:
        return from_released(state, config.unet())
    except InputError as error:
        raise InputError(f"{path}: {error}; the authors' weights need --network released --image-size 256") from None


def check_fits(path, weights, config, about):
    """Raise InputError that names the file, and the network it was made for, if the weights do not fit config's network."""
    made_for = about.get("config", {})
    wanted = {name: getattr(config, name) for name in ("network", "image_size")}
    if any(made_for.get(name, value) != value for name, value in wanted.items()):
        flags = f"--network {made_for['network']} --image-size {made_for['image_size']}"
        network = f"{config.network} at {config.image_size} x {config.image_size}"
        raise InputError(f"{path}: made for another network than {network}; it wants {flags}")
    try:
        check_weights(weights, config.unet())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
