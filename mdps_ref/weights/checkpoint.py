"""Checkpoints: dictionaries of arrays, and a line of JSON about them, in one .npz that is written whole or not at all.

And the state dicts of others, dictionaries of arrays by name: read from PyTorch's and safetensors' files, and written for PyTorch.
"""

import json
import pathlib

import numpy as np

from mdps_ref.errors import InputError
from mdps_ref.data.files import whole_file
from mdps_ref.weights.state_dict import MAGIC, read_safetensors, read_torch_stream, read_torch_zip, write_torch_zip


def save_checkpoint(path, groups, about):
    """Write {group: {name: host array}} and the JSON-able dictionary `about` to `path`.

    The same arrays give the same bytes.  Raises: InputError if the disk is full or the folder not writable; the old file stays.
    """
    arrays = {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}
    with whole_file(path) as handle:
        np.savez(handle, about=np.array(json.dumps(about, sort_keys=True)), **arrays)


def load_checkpoint(path):
    """The groups and the `about` that `save_checkpoint` wrote.  Nothing in the file is executed.

    Raises: InputError that names the file if it is missing, cut short, or no checkpoint of this project.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give the checkpoint.npz of a run folder")
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            groups = {}
            for key in archive.files:
                group, slash, name = key.partition("/")
                if slash:
                    groups.setdefault(group, {})[name] = archive[key]
    except Exception as error:  # the readers of zip, npy and JSON raise a dozen kinds for a broken file
        reason = type(error).__name__
        raise InputError(f"{path}: not a whole checkpoint of mdps_ref ({reason}); give the checkpoint.npz of a run folder") from error
    return groups, about


def read_state_dict(path, key=None):
    """{name: host array} of a .pth or .safetensors file, known by its content.  Nothing in the file is executed.

    A file that holds one dictionary of tensors beside other things gives that one; `key` chooses where there are several. Where every
    name begins with "module." (a network saved inside DataParallel), that is taken off. bfloat16 becomes float32, other dtypes stay.
    Raises: InputError that names the file and what to do if it is missing, damaged, of another format, asks for code, or needs a key.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights; give a .pth or .safetensors file")
    try:
        with open(path, "rb") as handle:
            arrays = _read_foreign(handle, key)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # the readers of zip, pickle and JSON raise a dozen kinds for a broken file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: damaged, cut short or hostile ({reason}); fetch it again, or save model.state_dict() again") from error
    inside = all(name.startswith("module.") for name in arrays)
    return {name.removeprefix("module."): array for name, array in arrays.items()} if inside else arrays


def _read_foreign(handle, key):
    """The arrays of a file whose first bytes say what it is."""
    start = handle.read(262)
    handle.seek(0)
    if start.startswith(b"PK\3\4"):
        return read_torch_zip(handle, key)
    if MAGIC.to_bytes(10, "little") in start[:23]:  # after up to 13 bytes that say how it is pickled
        return read_torch_stream(handle, key)
    if start[8:9] == b"{":
        if key is not None:
            raise InputError(f"is a safetensors file, which has no {key!r} to choose; leave key out")
        return read_safetensors(handle)
    if start[257:] == b"ustar":
        raise InputError("is a tar file, as PyTorch's first releases wrote them; load it with PyTorch and torch.save its state dict again")
    raise InputError("is neither a file of torch.save nor a safetensors file; give a .pth or .safetensors file")


def write_state_dict(path, arrays):
    """Write {name: host array} to `path` as a PyTorch zip checkpoint, which `torch.load(path, weights_only=True)` reads.

    The same arrays give the same bytes.  Raises: InputError if the disk is full or the folder not writable; the old file stays.
    """
    with whole_file(path) as handle:
        write_torch_zip(handle, arrays)
