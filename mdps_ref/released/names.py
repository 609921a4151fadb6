"""The authors' names for the UNet's arrays: their state dict as our weights, and back.

Theirs are channels-first: their kernel (Co, Ci, K, K) is our (K, K, Ci, Co), their linear map (Co, Ci) our (Ci, Co). Our linear maps over
pixels are convolutions there, with kernels of one pixel, 1 x 1 or 1 long.
"""

from typing import NamedTuple

import numpy as np

from mdps_ref.errors import InputError, check_arrays
from mdps_ref.nn.unet import arrays_of, plan

GROUPS = 32  # of every normalisation in their code; there it is no setting
ENDS = {"time.0": "time_embedding.1", "time.1": "time_embedding.3", "first": "down.0.0", "last.norm": "out.0", "last.conv": "out.2"}
LAYERS = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "time": "embed_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "shortcut": "skip_connection",
    "norm": "norm",
    "qkv": "to_qkv",
    "project": "proj_out",
}
ONE_PIXEL_KERNELS = {"shortcut": (1, 1), "qkv": (1,), "project": (1,)}


def from_released(state, config):
    """Turn the authors' state dict into weights of this network.

    Parameters
    ----------
    state : dict, their name -> array on the host
        Without the prefix `module.`.
    config : UNetConfig

    Returns
    -------
    dict, name -> array, float32

    Raises
    ------
    InputError
        If an entry is missing, unexpected, or of another shape, or their code has no such network.
    """
    entries = released_entries(config)
    wanted = {entry.theirs: entry.their_shape for entry in entries}
    check_arrays(state, wanted, what="the authors' state dict does not fit the network")
    return {entry.ours: _own(_channels_last(state[entry.theirs]).reshape(entry.our_shape)) for entry in entries}


def to_released(weights, config):
    """Turn weights of this network into the authors' state dict; `from_released` undoes it bit for bit.

    Parameters
    ----------
    weights : dict, name -> array on the host
    config : UNetConfig

    Returns
    -------
    dict, their name -> array, float32

    Raises
    ------
    InputError
        If their code has no such network.
    """
    return {entry.theirs: _own(_channels_first(weights[entry.ours], entry.kernel)) for entry in released_entries(config)}


class Entry(NamedTuple):
    """One array: its name and shape here, its name and shape in the authors' state dict, and the one-pixel axes that it has only there."""

    ours: str
    our_shape: tuple[int, ...]
    theirs: str
    their_shape: tuple[int, ...]
    kernel: tuple[int, ...]


def released_entries(config):
    """List every array of the network under both names.

    Parameters
    ----------
    config : UNetConfig

    Returns
    -------
    list of Entry
        In the order of `nn.unet.arrays_of`.

    Raises
    ------
    InputError
        If their code has no such network.
    """
    if config.groups != GROUPS:
        raise InputError(f"a network with norms of {config.groups} groups does not run in the authors' code, where all norms have {GROUPS}")
    places, entries = _places(config), []
    for name, shape, _ in arrays_of(config):
        module, kind = name.rsplit(".", 1)
        place, _, layer = module.rpartition(".")
        theirs = ENDS.get(module) or f"{places[place]}.{LAYERS[layer]}"
        kernel = ONE_PIXEL_KERNELS.get(layer, ()) if kind == "weight" else ()
        their_shape = _channels_first(np.broadcast_to(0.0, shape), kernel).shape
        entries.append(Entry(name, shape, f"{theirs}.{kind}", their_shape, kernel))
    return entries


def _places(config):
    """{block or attention: its place in the authors' lists}.

    Their lists `down` and `up` hold sequences. down.0 is the first convolution; each block on the way down starts a sequence. On the
    way up, each block that takes a skip starts one. `middle` is one sequence. In a sequence follow the block's attention and, on the way
    up, the block that resizes.
    """
    blocks, up = plan(config), []
    for block in blocks.up:
        if not block.resize:
            up.append([])
        up[-1].append(block)
    sequences = {"middle": blocks.middle}
    sequences |= {f"down.{i}": [block] for i, block in enumerate(blocks.down, 1)}
    sequences |= {f"up.{i}": members for i, members in enumerate(up)}
    places = {}
    for sequence, members in sequences.items():
        parts = [part for block in members for part in (block.name, f"{block.name}.attention")[: 1 + block.attends]]
        places |= {part: f"{sequence}.{position}" for position, part in enumerate(parts)}
    return places


def _channels_first(array, kernel):
    """(*K, Ci, Co) -> (Co, Ci, *kernel, *K); a vector is unchanged."""
    return np.moveaxis(array.reshape(kernel + array.shape), (-1, -2), (0, 1)) if array.ndim > 1 else array


def _channels_last(array):
    """(Co, Ci, *K) -> (*K, Ci, Co); a vector is unchanged."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array


def _own(array):
    """A float32 copy in C order."""
    return np.array(array, np.float32, order="C")
