"""State dicts, {name: array}, in others' formats: PyTorch's, read and written, and safetensors, read. Their libraries are not needed."""

import pathlib

from mdps_ref.data.files import whole_file
from mdps_ref.errors import InputError
from mdps_ref.weights.checks import check_names, telling_damage
from mdps_ref.weights.safetensors import read_safetensors
from mdps_ref.weights.torch_stream import MAGIC, read_torch_stream
from mdps_ref.weights.torch_zip import read_torch_zip, write_torch_zip

PREFIXES = ("module.", "_orig_mod.", "model.", "ema.")  # of DataParallel, torch.compile, trainers, moving averages
COUNT = "n_averaged"  # stands beside the arrays of PyTorch's AveragedModel


def read_state_dict(path):
    """Read the arrays of a .pth or .safetensors file. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like
        The format is known by the file's content, not by its name. A .pth file may hold a state dict beside other things; of
        several, that of the moving average is read (`choose_state_dict`).

    Returns
    -------
    dict of str to host array
        Without an AveragedModel's count. If every name begins with one of PREFIXES, that beginning is cut off, and so on. bfloat16
        becomes float32; other dtypes stay.

    Raises
    ------
    InputError
        If the file is missing, damaged, in another format, or asks to run code.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights; give a .pth or .safetensors file")
    with telling_damage(path, "damaged, cut short or hostile ({reason}); fetch it again, or save model.state_dict() again"):
        with open(path, "rb") as handle:
            arrays = _read(handle)
        check_names(arrays)
    arrays.pop(COUNT, None)
    return _without_prefixes(arrays)


def _without_prefixes(arrays):
    """Cut off what wrappers of networks put before every name."""
    for prefix in PREFIXES:
        if arrays and all(name.startswith(prefix) for name in arrays):
            return _without_prefixes({name.removeprefix(prefix): array for name, array in arrays.items()})
    return arrays


def _read(handle):
    """Read a file in the format that its first bytes tell."""
    start = handle.read(262)
    handle.seek(0)
    if start.startswith(b"PK\3\4"):
        return read_torch_zip(handle)
    if MAGIC.to_bytes(10, "little") in start[:23]:  # the instructions that pickle the number come before it, at most 13 bytes
        return read_torch_stream(handle)
    if start[8:9] == b"{":
        return read_safetensors(handle)
    if start[257:] == b"ustar":
        raise InputError("is a tar file, as PyTorch's first releases wrote them; load it with PyTorch and torch.save its state dict again")
    raise InputError("is neither a file of torch.save nor a safetensors file; give a .pth or .safetensors file")


def write_state_dict(path, arrays):
    """Write arrays to a PyTorch file, which `torch.load(path, weights_only=True)` reads. The same arrays give the same bytes.

    Parameters
    ----------
    path : path-like
    arrays : dict of str to host array

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written to. An older file at `path` then stays.
    TypeError
        If PyTorch has no such dtype.
    """
    with whole_file(path) as handle:
        write_torch_zip(handle, arrays)
