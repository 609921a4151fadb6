"""Training steps on a dictionary of weights: clip the gradients, take a step of Adam, and average the weights.

All but `rate_factor` loop over the dictionary. `adam_step` and `ema_step` change the arrays of the training state in place.
"""

import math

from mdps_ref.backend import array_module


def zeros_like(weights):
    """Return a dictionary of zeros with the names and shapes of `weights`, as Adam's moments begin."""
    return {name: array_module(w).zeros_like(w) for name, w in weights.items()}


def global_norm(gradients):
    """Return the Euclidean norm of all gradients, taken as one vector, as a Python float."""
    return math.sqrt(math.fsum(float((g * g).sum()) for g in gradients.values()))


def clip_by_global_norm(gradients, limit):
    """Scale all gradients by one factor, so that their global norm is at most `limit`.

    Parameters
    ----------
    gradients : dict of str to array
    limit : float

    Returns
    -------
    clipped : dict of str to array
        New arrays.
    length : float
        The global norm before clipping.

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    length = global_norm(gradients)
    scale = limit / length if length > limit else 1.0
    return {name: g * scale for name, g in gradients.items()}, length


def adam_step(weights, gradients, first_moment, second_moment, step, *, rate, l2=0.0, decay=0.0, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Take one step of Adam [1]_, in place.

    Parameters
    ----------
    weights, gradients, first_moment, second_moment : dict of str to array
        Alike in names and shapes. The gradients are left as they are.
    step : int
        Number of this step, from 1.
    rate : float
        Learning rate.
    l2 : float
        l2 * w is added to the gradient, as the authors' code does.
    decay : float
        AdamW's weight decay [2]_: besides its step, w shrinks by rate * decay * w.
    beta1, beta2 : float in [0, 1)
        Decay of the two moments.
    epsilon : float
        Added to the root of the second moment.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", ICLR 2015, Algorithm 1.
    .. [2] I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2.
    """
    for name, w in weights.items():
        g = gradients[name] + l2 * w if l2 else gradients[name]
        m, v = first_moment[name], second_moment[name]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        if decay:
            w -= (rate * decay) * w
        w -= rate * (m / (1 - beta1**step)) / ((v / (1 - beta2**step)) ** 0.5 + epsilon)


def rate_factor(step, steps, warm_up=0, decay=0):
    """Return the share of the learning rate that a step takes: it rises in a line at first, and falls by a half cosine at the end.

    Parameters
    ----------
    step, steps : int
        Number of this step, from 1, and of the last.
    warm_up : int
        Number of the first step that takes the whole rate; 0 and 1 leave the rise out.
    decay : int
        How many last steps the fall takes; 0 leaves it out.

    Returns
    -------
    float in (0, 1]

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, for the half cosine.
    """
    rise = min(1.0, step / warm_up) if warm_up else 1.0
    left = min(1.0, (steps - step + 1) / (decay + 1))
    return rise * (1 - math.cos(math.pi * left)) / 2


def ema_step(ema, weights, step, decay=0.999):
    """Update the exponential moving average of the weights, in place.

    The decay is min(decay, (1 + step) / (10 + step)): smaller at first, so that the average soon forgets the random start.

    Parameters
    ----------
    ema, weights : dict of str to array
        Alike in names and shapes. The weights are left as they are.
    step : int
        Number of this step, from 1.
    decay : float in [0, 1]
        What each step keeps of the old average.

    References
    ----------
    The smaller decay at first is the rule of `num_updates` in TensorFlow's `tf.train.ExponentialMovingAverage`.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for name, w in weights.items():
        ema[name] += (1 - kept) * (w - ema[name])
