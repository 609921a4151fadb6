"""What happens to the weights after a gradient: clipping, Adam, and the running mean.  Each is a loop over the dictionary.

All update in place: the arrays of `weights`, `first`, `second` and `mean` are the training state.
"""

import math

from mdps_ref.backend import array_module


def zeros_like(weights):
    """A dictionary of zeros beside `weights`."""
    return {name: array_module(w).zeros_like(w) for name, w in weights.items()}


def global_norm(gradients):
    """The Euclidean norm of all gradients taken as one vector, a Python float."""
    return math.sqrt(math.fsum(float((g * g).sum()) for g in gradients.values()))


def clip_by_global_norm(gradients, limit):
    """The gradients, shortened together to the length `limit` where they are longer (Pascanu et al. 2013), and their length before."""
    length = global_norm(gradients)
    scale = limit / length if length > limit else 1.0
    return {name: g * scale for name, g in gradients.items()}, length


def adam_step(weights, gradients, first, second, step, *, rate, l2=0.0, decay=0.0, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """One step of Adam, in place.

    Eq: Kingma & Ba 2015, Algorithm 1; `l2` adds l2 * w to the gradient (the authors' setting), `decay` shrinks w by rate * decay
    beside the step (AdamW, Loshchilov & Hutter 2019).  step: counts from 1.  rate: the learning rate.
    """
    for name, w in weights.items():
        g = gradients[name] + l2 * w if l2 else gradients[name]
        m, v = first[name], second[name]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        if decay:
            w -= (rate * decay) * w
        w -= rate * (m / (1 - beta1**step)) / ((v / (1 - beta2**step)) ** 0.5 + epsilon)


def ema_step(mean, weights, step, horizon=0.999):
    """One step of the weights' exponential running mean, in place.

    The factor is min(horizon, (1 + step) / (10 + step)), so that early means forget the random start (Tan & Le 2019's rule).
    """
    factor = min(horizon, (1 + step) / (10 + step))
    for name, w in weights.items():
        mean[name] += (1 - factor) * (w - mean[name])
