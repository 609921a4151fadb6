"""Weights from files: a run's checkpoint, or the authors' weights in the formats of PyTorch and safetensors."""

import pathlib

import numpy as np

from mdps_ref.backend import to_device
from mdps_ref.errors import InputError, shown
from mdps_ref.nn.unet import check_weights
from mdps_ref.released.names import from_released
from mdps_ref.weights.checkpoint import ABOUT, load_checkpoint
from mdps_ref.weights.checks import check_finite
from mdps_ref.weights.state_dict import read_state_dict

MISMATCH = 180  # characters of a message about arrays that do not fit


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
        If the file is none of these, its weights do not fit the network, or some are not finite.
    """
    if _is_state_dict(path):
        weights = _released_weights(path, config)
    else:
        average, about = load_average(path)
        check_fits(path, average, config, about)
        weights = _float32(path, average)
    return {name: to_device(array, xp) for name, array in weights.items()}


def load_average(path):
    """Read the moving average of the weights from a run's checkpoint, and what the checkpoint says about it.

    Returns
    -------
    weights : dict of str to host array
    about : dict

    Raises
    ------
    InputError
        If the file is no whole checkpoint, or holds no weights.
    """
    groups, about = load_checkpoint(path)
    if "ema" not in groups:
        raise InputError(f"{path}: holds no weights; give the checkpoint.npz of a run folder")
    return groups["ema"], about


def halved(path, weights):
    """Return weights in half precision, for files that come with the package or the tutorials.

    Parameters
    ----------
    path : path-like
        For the message.
    weights : dict of str to host array

    Raises
    ------
    InputError
        If a weight is too large for half precision.
    """
    with np.errstate(over="ignore"):
        half = {name: array.astype(np.float16) for name, array in weights.items()}
    if not all(np.isfinite(array).all() for array in half.values()):
        raise InputError(f"{path}: holds weights beyond half precision, whose largest number is 65504")
    return half


def made_for(path, about):
    """Return the settings of the network for which a checkpoint's weights were made.

    Parameters
    ----------
    path : path-like
        For the message.
    about : dict
        From the checkpoint.

    Returns
    -------
    dict
        "network": a name; "image_size": a positive integer.

    Raises
    ------
    InputError
        If `about` does not say that.
    """
    config = about.get("config")
    found = {name: config.get(name) for name in ("network", "image_size")} if isinstance(config, dict) else {}
    if not (isinstance(found.get("network"), str) and type(found.get("image_size")) is int and 0 < found["image_size"] < 2**16):
        raise InputError(f"{path}: does not say for which network its weights are; give the checkpoint.npz of a run folder")
    return found


def _is_state_dict(path):
    """Return whether the first bytes are a foreign zip, a pickle or safetensors; a run's own zip begins with ABOUT."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        start = handle.read(30 + len(ABOUT))
    return (start[:4] == b"PK\3\4" and start[30:] != ABOUT.encode()) or start[:1] == b"\x80" or start[8:9] == b"{"


def _released_weights(path, config):
    """Return the weights in a file of the authors' state dict, on the host; an InputError names the file if they do not fit."""
    state = _float32(path, read_state_dict(path))
    try:
        return from_released(state, config.unet())
    except InputError as error:
        raise InputError(f"{path}: {shown(error, MISMATCH)}; the authors' weights need --network released --image-size 256") from None


def _float32(path, arrays):
    """The arrays as float32, in which every number must be finite."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is told by its name
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    try:
        check_finite(arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return arrays


def check_fits(path, weights, config, about):
    """Raise InputError that names the file, and the network it was made for, if the weights do not fit config's network."""
    found = made_for(path, about)
    if found != {"network": config.network, "image_size": config.image_size}:
        flags = f"--network {shown(found['network'])} --image-size {found['image_size']}"
        network = f"{config.network} at {config.image_size} x {config.image_size}"
        raise InputError(f"{path}: made for another network than {network}; it wants {flags}")
    try:
        check_weights(weights, config.unet())
        check_finite(weights)
    except InputError as error:
        raise InputError(f"{path}: {shown(error, MISMATCH)}") from None
