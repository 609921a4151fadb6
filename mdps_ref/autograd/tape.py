"""What you wrap is what you differentiate.

A primitive called with arrays is plain NumPy. Called with a Tensor among its arguments it computes the same array, and
writes down how a cotangent is pulled back to each argument that was wrapped. So there is no requires_grad, no detach and no
no_grad: guidance wraps x_t and pays for no weight gradient, training wraps the weights, inference wraps nothing.
"""

import functools
import math

from mdps_ref.kernels.blocks import add_arrays, column_sums, pixel_sums
from mdps_ref.backend import array_module

PRIMITIVES = {}


class Node:
    """How an array was made, without the array: what is not needed to pull back can be freed.

    parents: the Nodes of the wrapped arguments.  pullback(cotangent) -> the cotangent of each of them, one after the other.
    """

    __slots__ = ("parents", "pullback")

    def __init__(self, parents=(), pullback=None):
        self.parents, self.pullback = parents, pullback


class Tensor:
    """An array, .value, and how it was made, .node.

    Arithmetic with + - * / **, indexing and .shape work as on arrays (`ops.py` ties them to the primitives).
    """

    __slots__ = ("node", "value")
    __array_ufunc__ = None  # array * Tensor is then left to Tensor.__rmul__, in NumPy and in CuPy

    def __init__(self, value, node=None):
        self.value, self.node = value, node or Node()

    @property
    def shape(self):
        return self.value.shape


def value_of(x):
    """The array in a Tensor, or the array itself."""
    return x.value if isinstance(x, Tensor) else x


def primitive(*pullbacks, domain=(-2.0, 2.0)):
    """Make a function of arrays differentiable: one pullback an argument, None where there is nothing to pull back.

    A pullback is written `lambda y, *args: lambda g: ...`. The outer function runs with the forward pass, so the inner one
    keeps alive only the arrays that it names. Broadcasting is undone here, for all primitives. Every primitive enters the
    table PRIMITIVES, which the tests walk; `domain` is the interval from which they draw its arguments.
    """

    def make(forward):
        def op(*args, **static):
            values = [value_of(arg) for arg in args]
            y = forward(*values, **static)
            wrapped = [
                (arg.node, _summed_to(value.shape, pullback(y, *values, **static)))
                for arg, value, pullback in zip(args, values, pullbacks, strict=False)
                if isinstance(arg, Tensor) and pullback is not None
            ]
            return Tensor(y, _made_from(wrapped)) if wrapped else y

        return _entered(forward, op, domain)

    return make


def fused_primitive(forward):
    """Make a function differentiable whose pullbacks share their work.

    It returns its result and pullback(g) -> the cotangents of all its arguments, in their shapes; those not asked for are dropped.
    """

    def op(*args, **static):
        y, pullback = forward(*(value_of(arg) for arg in args), **static)
        at = [i for i, arg in enumerate(args) if isinstance(arg, Tensor)]

        def pulled(g):
            cotangents = pullback(g)
            return [cotangents[i] for i in at]

        return Tensor(y, Node([args[i].node for i in at], pulled)) if at else y

    return _entered(forward, op, (-2.0, 2.0))


def pull_back(output, cotangent, inputs, last=False):
    """The cotangents of `inputs` to which a cotangent of `output` is pulled back.

    last: let go of what each node keeps as soon as it is used, so that its memory serves the rest; nothing can be pulled back there again.
    Shapes: cotangent as output.value, each result as its input's value, in memory of its own; None for an input that `output`
    does not depend on.  Raises: RuntimeError if an earlier call, which was said to be the last, has been there.
    The walk is iterative, so depth is no limit, and drops each cotangent once it has been passed on.
    """
    if not isinstance(output, Tensor):
        return [None for _ in inputs]
    cotangents = {id(output.node): cotangent}
    wanted = {id(tensor.node) for tensor in inputs}
    for node in _users_first(output.node):
        g = cotangents[id(node)] if id(node) in wanted else cotangents.pop(id(node))
        for parent, pulled in zip(node.parents, node.pullback(g) if node.parents else (), strict=True):
            earlier = cotangents.get(id(parent))
            cotangents[id(parent)] = pulled if earlier is None else add_arrays(earlier, pulled)
        if last and node.parents:
            node.pullback = _spent
    return [cotangents[id(tensor.node)].copy() if id(tensor.node) in cotangents else None for tensor in inputs]


def _spent(_):
    raise RuntimeError("this was pulled back with last=True before; leave that out where it is to be pulled back again")


def value_and_gradient(loss, weights):
    """The scalar `loss(weights)` and its gradient to every array of the dictionary `weights` (name -> array).

    Shapes: loss takes the dictionary with its arrays wrapped and returns a scalar Tensor -> (scalar, dictionary like `weights`).
    """
    tensors = {name: Tensor(array) for name, array in weights.items()}
    y = loss(tensors)
    xp = array_module(y.value)
    gradients = pull_back(y, xp.ones_like(y.value), list(tensors.values()), last=True)
    return y.value, dict(zip(tensors, gradients, strict=True))


def _users_first(output):
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


def _made_from(wrapped):
    """The Node of a result, from one (Node, pullback) for each wrapped argument."""
    return Node([node for node, _ in wrapped], lambda g: (pullback(g) for _, pullback in wrapped))


def _entered(forward, op, domain):
    """`op` under the name and docstring of `forward`, entered in the table."""
    op = functools.wraps(forward)(op)
    op.domain = domain
    PRIMITIVES[forward.__name__] = op
    return op


def _summed_over_leading(g, count):
    """The sum over the first `count` axes."""
    if count == 0:
        return g
    return column_sums(g.reshape(math.prod(g.shape[:count]), -1)).reshape(g.shape[count:])


def _summed_to(shape, pullback):
    """`pullback`, summed over the axes along which an argument of `shape` was repeated."""

    def pulled(g):
        g = pullback(g)
        if g.shape == shape:
            return g
        g = _summed_over_leading(g, g.ndim - len(shape))
        repeated = tuple(axis for axis, want in enumerate(shape) if want == 1 != g.shape[axis])
        if () != repeated == tuple(range(1, g.ndim - 1)):  # all pixels, for a number each channel of each image
            return pixel_sums(g.reshape(len(g), -1, g.shape[-1])).reshape(shape)
        return g.sum(axis=repeated, keepdims=True) if repeated else g

    return pulled
