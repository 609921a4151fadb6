"""What you wrap is what you differentiate.

A primitive called with arrays is plain NumPy. Called with a Tensor among its arguments it computes the same array, and writes down how
a cotangent is pulled back to each argument that was wrapped. So there is no requires_grad, no detach and no no_grad: guidance wraps
x_t and pays for no weight gradient, training wraps the weights, inference wraps nothing.
"""

import contextvars
import functools
import inspect
import weakref
import zlib

import numpy as np

from mdps_ref.backend import array_module

PRIMITIVES = {}  # name -> primitive: the tests walk this table
REPLACEMENTS = contextvars.ContextVar("replacements", default=None)  # set by `kernels.fast`: f(primitive, values, static) -> rule or None


class Node:
    """How an array was made.  It does not hold the array, so memory that no pullback needs can be freed.

    parents: the Nodes of the wrapped arguments.  pullback(g): the cotangent of each parent in turn.  marks: see `_marks`.
    """

    __slots__ = ("made_by", "marks", "parents", "pullback")

    def __init__(self, made_by="Tensor", parents=(), pullback=None, marks=()):
        self.made_by, self.parents, self.pullback, self.marks = made_by, parents, pullback, marks


class Tensor:
    """An array, `.value`, and how it was made, `.node`.

    Arithmetic, `@`, `**`, indexing, `.sum`, `.mean`, `.reshape` and `.T` work as on arrays; `ops.py` ties them to the primitives.

    Parameters
    ----------
    value : array of floats, any shape

    Raises
    ------
    TypeError
        If `value` is no array of floats: integers have no gradient.
    """

    __slots__ = ("node", "value")
    __array_ufunc__ = None  # then NumPy and CuPy leave `array * Tensor` to Tensor.__rmul__

    def __init__(self, value, node=None):
        if getattr(getattr(value, "dtype", None), "kind", "") != "f":
            found = getattr(value, "dtype", None) or type(value).__name__
            raise TypeError(f"a Tensor wraps an array of floats, not {found}; convert it with np.asarray(value, float) first")
        self.value, self.node = value, node or Node()

    def __repr__(self):
        return f"Tensor({self.value!r}, made by {self.node.made_by})"

    def __array__(self, *_, **__):
        raise TypeError("a Tensor does not become an array by itself; call a primitive, or use x.value where no gradient is needed")

    def __getattr__(self, name):
        remedy = f"call the primitive {name}(x)" if name in PRIMITIVES else f"use x.value.{name} where no gradient is needed"
        raise AttributeError(f"a Tensor has no attribute {name!r}; {remedy}")


def value_of(x):
    """Return the array in a Tensor, or the array itself."""
    return x.value if isinstance(x, Tensor) else x


def primitive(*pullbacks, domain=(-2.0, 2.0)):
    """Make a function of arrays differentiable.

    Parameters
    ----------
    *pullbacks : one for each positional argument
        Written `lambda y, *args, **settings: lambda g: ...`; None for an argument that has no gradient. The outer lambda runs
        during the forward pass. The inner lambda runs later, and keeps only the arrays in memory that it uses. Broadcasting is undone
        for all primitives alike.
    domain : (float, float)
        The interval from which the tests draw arguments.

    Returns
    -------
    callable
        A decorator. The function that it returns takes arrays or Tensors, and stands in PRIMITIVES under its own name.

    Raises
    ------
    TypeError
        If there is not one pullback for each positional argument.
    """

    def make(forward):
        name, plain = forward.__name__, by_argument(forward, *pullbacks)
        count = sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in inspect.signature(forward).parameters.values())
        if len(pullbacks) != count or not any(pullbacks):
            raise TypeError(f"{name} has {count} positional arguments and {len(pullbacks)} pullbacks; give one for each argument")

        @functools.wraps(forward)
        def op(*args, **static):
            values = [value_of(arg) for arg in args]
            if any(isinstance(value, Tensor) for value in static.values()):
                raise TypeError(f"{name} got a Tensor by keyword, where it has no gradient; give it by position")
            wanted = [i for i, (arg, pull) in enumerate(zip(args, pullbacks, strict=False)) if isinstance(arg, Tensor) and pull]
            replace = REPLACEMENTS.get()
            rule = (replace and replace(op, values, static)) or plain
            y, pullback = rule(values, static, wanted)
            if not wanted:
                return y
            return Tensor(y, Node(name, [args[i].node for i in wanted], pullback, () if replace else _marks(y, *values)))

        op.pullbacks, op.domain = pullbacks, domain
        PRIMITIVES.setdefault(name, op)  # a reader's primitive never takes the place of one of ours
        return op

    return make


def by_argument(forward, *pullbacks):
    """Return the rule of a primitive with one pullback for each argument.

    A rule is a function `rule(values, static, wanted) -> y, pullback`: `wanted` holds the positions of the arguments that were
    wrapped, and `pullback(g)` yields their cotangents in that order.
    """

    def rule(values, static, wanted):
        y = forward(*values, **static)
        pulls = [_summed_to(values[i].shape, pullbacks[i](y, *values, **static)) for i in wanted]
        return y, lambda g: (pull(g) for pull in pulls)

    return rule


def pull_back(output, cotangent, inputs, last=False):
    """Pull a cotangent of `output` back to `inputs`.

    The walk is iterative, so depth is no limit, and drops each cotangent once it has been passed on.

    Parameters
    ----------
    output : Tensor, any shape
    cotangent : array, the shape of `output`
    inputs : list of Tensors
    last : bool
        Free what each node keeps as soon as it is used. Then nothing can be pulled back through this graph again.

    Returns
    -------
    list
        For each input an array of its shape, in memory of its own; None for an input on which `output` does not depend.

    Raises
    ------
    ValueError
        If the cotangent has another shape than `output`.
    RuntimeError
        If this graph was already consumed with last=True, or if a host array in it was written to since the forward pass (not
        checked inside `with fast()`).
    """
    if not isinstance(output, Tensor):
        return [None for _ in inputs]
    if (found := getattr(cotangent, "shape", ())) != output.shape:
        raise ValueError(f"the cotangent has shape {found}, the output {output.shape}; they must be the same")
    cotangents = {id(output.node): cotangent}
    wanted = {id(tensor.node) for tensor in inputs}
    for node in users_first(output.node):
        g = cotangents[id(node)] if id(node) in wanted else cotangents.pop(id(node))
        _check_unchanged(node)
        for parent, pulled in zip(node.parents, node.pullback(g) if node.parents else (), strict=True):
            earlier = cotangents.get(id(parent))
            cotangents[id(parent)] = pulled if earlier is None else PRIMITIVES["add"](earlier, pulled)
        if last and node.parents:
            node.pullback, node.marks = _consumed, ()
    return [cotangents[id(tensor.node)].copy() if id(tensor.node) in cotangents else None for tensor in inputs]


def value_and_gradient(loss, weights):
    """Compute a scalar loss and its gradient to every array of a dictionary.

    Parameters
    ----------
    loss : callable
        Takes the dictionary with its arrays wrapped; returns a scalar Tensor.
    weights : dict of str to array

    Returns
    -------
    scalar, dict
        The loss, and a dictionary like `weights`: zeros for an array on which the loss does not depend.

    Raises
    ------
    ValueError
        If the loss is no scalar, or depends on none of the weights.
    """
    tensors = {name: Tensor(array) for name, array in weights.items()}
    y = loss(tensors)
    if not isinstance(y, Tensor) or y.shape != ():
        found = f"of shape {y.shape}" if isinstance(y, Tensor) else f"a {type(y).__name__} that depends on none of the weights"
        raise ValueError(f"the loss must be a scalar Tensor, and is {found}; take ops.sum or ops.mean of it")
    gradients = zip(weights.items(), pull_back(y, array_module(y.value).ones_like(y.value), list(tensors.values()), last=True), strict=True)
    return y.value, {name: array_module(w).zeros_like(w) if g is None else g for (name, w), g in gradients}


def users_first(output):
    """Every Node from which that of the output was made, each after all that use it."""
    finished, seen, stack = [], set(), [(output, False)]
    while stack:
        node, parents_are_done = stack.pop()
        if parents_are_done:
            finished.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return reversed(finished)


def _summed_to(shape, pullback):
    """`pullback`, summed over the axes along which an argument of `shape` was broadcast."""

    def pulled(g):
        g = pullback(g)
        if g.shape == shape:
            return g
        leading = g.ndim - len(shape)
        stretched = tuple(leading + i for i, size in enumerate(shape) if size == 1 != g.shape[leading + i])
        return PRIMITIVES["sum"](g, axis=(*range(leading), *stretched)).reshape(shape)

    return pulled


def _marks(*values):
    """A weak reference to each host array that a pullback may read, and its checksum."""
    return [(weakref.ref(value), zlib.crc32(np.ascontiguousarray(value))) for value in values if isinstance(value, np.ndarray)]


def _check_unchanged(node):
    """Raises: RuntimeError if an array that the node's pullback may read was written to since the forward pass."""
    for reference, checksum in node.marks:
        if (array := reference()) is not None and zlib.crc32(np.ascontiguousarray(array)) != checksum:
            raise RuntimeError(f"an array that {node.made_by} used was written to before the pullback; pull back first, or write to a copy")


def _consumed(_):
    raise RuntimeError("this graph was already consumed with last=True; leave that out where you pull back again")
