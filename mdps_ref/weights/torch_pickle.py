"""The pickle in a file of `torch.save`: which names it may use, how it describes tensors, and which dictionary is the state dict.

Such a pickle holds everything but the numbers. A tensor is a view of a storage. A persistent id describes the storage, and the storage's
numbers lie elsewhere in the file.
"""

import functools
import re

from mdps_ref.errors import InputError
from mdps_ref.weights.checks import listed
from mdps_ref.weights.stored_tensor import Storage, StoredTensor, check_counts, check_total, check_view, to_array

MOST_PICKLED = 2**22  # bytes of pickles in a file, enough for 25,000 tensors
MOST_STATE_DICTS = 1000  # in a file
FIRST_CHOICES = ("ema", "model", "state_dict")  # words in the names of state dicts of which a file holds several
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def described_storage(persistent_id):
    """Return the Storage that a persistent id describes.

    Raises
    ------
    ValueError
        If the id is in a wrong form.
    """
    kind, dtype, name, _, size = persistent_id
    check_counts((size,))
    if kind != "storage" or dtype not in STORAGES.values() or not isinstance(name, str):
        raise ValueError("its pickle describes a storage in a wrong form")
    return Storage(name, dtype, size)


def _dictionary():
    """An OrderedDict; the pickle fills it afterwards."""
    return {}


def _same(value):
    """The argument itself: a torch.Size stays a tuple, a Counter a dictionary."""
    return value


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    """A tensor of its storage's dtype."""
    return _tensor_of(storage, offset, shape, strides, requires_grad, hooks, storage.dtype, metadata)


def _tensor_of(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None):
    """A tensor of any dtype over a storage of bytes."""
    if not isinstance(storage, Storage) or dtype not in STORAGES.values():  # NumPy would take numbers of dtype "object" for pointers
        raise ValueError("its pickle makes a tensor from something that is not a storage")
    if metadata:
        raise InputError("holds a tensor with a pending change of sign; call resolve_neg() on it before saving")
    return StoredTensor(storage, dtype, offset, shape, strides)


def _parameter(tensor, requires_grad, hooks, attributes=None):
    """The tensor of a trained parameter."""
    return tensor


ALLOWED = {  # all that these pickles may use, for PickleMachine
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _same,
    "torch.Size": _same,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.storage.UntypedStorage": "uint8",
    **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
    **{f"torch.{dtype}": dtype for dtype in STORAGES.values()},
}


def choose_state_dict(tree):
    """Find the state dict in what a pickle holds: the outer dictionary, or one in it, or one in a dictionary in it.

    Of several, those with the word "ema" in their names go before the others, then those with "model", then those with "state_dict".

    Parameters
    ----------
    tree : object
        What the PickleMachine returned.

    Returns
    -------
    dict of str to StoredTensor

    Raises
    ------
    InputError
        If there is no state dict, or there are several and the rule does not decide. The message does not name the file.
    """
    if not isinstance(tree, dict):
        kind = "tensor" if isinstance(tree, StoredTensor) else type(tree).__name__
        raise InputError(f"holds a {kind}, not a dictionary of tensors; save model.state_dict() and give that")
    inside = _state_dicts(tree)
    chosen = _first_choice(inside) if inside else tree
    tensors = {name: value for name, value in chosen.items() if isinstance(name, str) and isinstance(value, StoredTensor)}
    if not tensors:
        raise InputError(f"holds no named tensors (its entries: {listed(chosen)}); save model.state_dict() and give that")
    return tensors


def _state_dicts(tree):
    """{name: dictionary} of the state dicts in a dictionary, and in the dictionaries in that.

    A pickle may name one dictionary many times, so each is looked through once.
    """
    found, inside, known = {}, {}, {}

    def is_state_dict(value):
        if id(value) not in known:
            known[id(value)] = _is_state_dict(value)
        return known[id(value)]

    for name, value in tree.items():
        if is_state_dict(value):
            found[str(name)] = value
        elif isinstance(value, dict):
            if id(value) not in inside:
                inside[id(value)] = [(inner, state) for inner, state in value.items() if is_state_dict(state)]
            found |= {f"{name}.{inner}": state for inner, state in inside[id(value)]}
        if len(found) > MOST_STATE_DICTS:
            raise InputError(f"holds more than {MOST_STATE_DICTS} state dicts; torch.save the one that you want alone, and give that file")
    return found


def _first_choice(inside):
    """The one state dict that is left when, for each of FIRST_CHOICES in turn, the names with this word are kept, if there are any."""
    names = list(inside)
    for word in FIRST_CHOICES:
        names = [name for name in names if re.search(f"(?<![a-z]){word}(?![a-z])", name.lower())] or names
    if len(names) == 1:
        return inside[names[0]]
    raise InputError(f"holds several state dicts: {listed(inside)}; torch.save the one that you want alone, and give that file")


def _is_state_dict(value):
    """True for a dictionary that holds named tensors and nothing else."""
    return isinstance(value, dict) and value != {} and all(isinstance(k, str) and isinstance(v, StoredTensor) for k, v in value.items())


def read_tensors(tensors, size, read_storage, order="<"):
    """Read the numbers of checked tensors.

    Parameters
    ----------
    tensors : dict of str to StoredTensor
    size : int
        Bytes in the file.
    read_storage : callable
        Takes the name of a storage and returns its bytes.
    order : {"<", ">"}
        NumPy's sign for the byte order.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        If a tensor reaches beyond its storage, or all tensors are much larger than the file.
    """
    for tensor in tensors.values():
        check_view(tensor)
    check_total(tensors.values(), size)
    read_storage = functools.cache(read_storage)
    return {name: to_array(tensor, read_storage(tensor.storage.name), order) for name, tensor in tensors.items()}
