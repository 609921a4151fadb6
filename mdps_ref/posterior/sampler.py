"""Posterior sampling: the MDPS denoiser, and the DDIM chain that it drives from a noised test image down to a clean one.

A denoiser is a function `denoise(x_t, t) -> eps`, t a Python int. The guides in `guidance.py` make the denoisers of suspected pixels.
"""

import itertools

import numpy as np

from mdps_ref.backend import array_module, random_stream, to_device
from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.reverse import ddim_step
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.posterior.guidance import noise_towards


def prior_denoiser(predict_noise):
    """Make the denoiser without guidance: the prior alone, no gradient.

    Parameters
    ----------
    predict_noise : callable

    Returns
    -------
    callable
        A denoiser.
    """
    return lambda x_t, t: predict_noise(x_t, np.full(len(x_t), t))


def mdps_denoiser(denoise, y, mask):
    """Wrap a denoiser by MDPS's rule: it denoises suspected pixels, and normal pixels go to y.

    Parameters
    ----------
    denoise : callable
        The denoiser of suspected pixels: guided, or the prior alone.
    y : array, (N, H, W, C)
        The test images.
    mask : array, (N, H, W, 1)
        1 on suspected pixels, 0 on normal ones.

    Returns
    -------
    callable
        A denoiser.

    Equation
    --------
    E13 : eps_phi = m o eps^m + (1 - m) o eps^(1-m), where eps^m is the guided noise and eps^(1-m) leads to y by Eq. (10)

    References
    ----------
    MDPS, Fig. 1.
    """
    return lambda x_t, t: mask * denoise(x_t, t) + (1 - mask) * noise_towards(y, x_t, alpha_bar(t))


def mdps_chain(denoise, y, mask, start, timesteps, draw, *, ddim_eta=1.0, after_step=None):
    """Draw one posterior sample of every image. On normal pixels it is y, to rounding.

    With no mask and the prior's denoiser this is plain reconstruction; with no mask and a guide, guided reconstruction.

    Parameters
    ----------
    denoise : callable
        The denoiser of suspected pixels.
    y : array, (N, H, W, C)
        The test images, in [-1, 1].
    mask : array, (N, H, W, 1), or None
        1 on suspected pixels; None if all are suspected.
    start : int
        The timestep that y is noised to.
    timesteps : list of ints
        Where the network is called, as `visited_timesteps(start, stride)` lists them, and -1 last.
    draw : callable
        draw() -> standard normal noise like y, once for the start and once a step; see `noise_source`.
    ddim_eta, after_step
        See `ddim_chain`.

    Returns
    -------
    array, (N, H, W, C)
        x_0.

    Equation
    --------
    E13 : the chain: x_T is y noised to T, then DDIM steps with the noise eps_phi down to x_0
    """
    denoise = denoise if mask is None else mdps_denoiser(denoise, y, mask)
    x_start = q_sample(y, draw(), alpha_bar(start))
    return ddim_chain(x_start, timesteps, denoise, draw, ddim_eta=ddim_eta, after_step=after_step)


def ddim_chain(x, timesteps, denoise, draw, *, ddim_eta=1.0, before_step=None, after_step=None):
    """Denoise x step by step.

    Parameters
    ----------
    x : array, (N, H, W, C)
        Images noised to the level of the start.
    timesteps : list of ints
        Where the network is called, and -1 last.
    denoise, draw : callable
        As in `mdps_chain`.
    ddim_eta : float, 0 .. 1
        1 draws fresh noise at each step as DDPM does, 0 draws none.
    before_step : callable, optional
        before_step(x_t, t) -> the x_t to go on with.
    after_step : callable, optional
        after_step(s, x_s) looks at the result of each step.

    Returns
    -------
    array, (N, H, W, C)
    """
    for t, s in itertools.pairwise(timesteps):
        if before_step:
            x = before_step(x, t)
        x = ddim_step(x, denoise(x, t), draw(), alpha_bar(t), alpha_bar(s), ddim_eta)
        if after_step:
            after_step(s, x)
    return x


def posterior_samples(chain, y, mask, images, numbers, seed, stream):
    """Draw n posterior samples of every image.

    Parameters
    ----------
    chain : callable
        chain(y, mask, draw) -> x_0. It receives each image n times, so it must make its denoiser from its own argument y.
    y : array, (N, H, W, C)
    mask : array, (N, H, W, 1), or None
    images : list of str, N
        Keys of the images, such as those of `backend.image_key`.
    numbers : sequence of ints, n
        The numbers of the samples, such as range(n). The noise of a sample is seeded by seed, stream, image key and number.
    seed : int
    stream : str

    Returns
    -------
    array, (N, n, H, W, C)

    Equation
    --------
    E13 : n posterior samples of an image are n chains that differ in their noise alone
    """
    xp, n = array_module(y), len(numbers)
    keys = [(image, number) for image in images for number in numbers]
    repeated_mask = None if mask is None else xp.repeat(mask, n, axis=0)
    x_0 = chain(xp.repeat(y, n, axis=0), repeated_mask, noise_source(seed, stream, keys, y))
    return x_0.reshape(len(y), n, *y.shape[1:])


def noise_source(seed, stream, keys, like):
    """Make the `draw` of a batch of chains, in which every chain has a random stream of its own.

    Parameters
    ----------
    seed : int
    stream : str
    keys : list of (str, int), N
        The image key and the sample number of each chain.
    like : array, (any, H, W, C)
        Gives the shape of an image, the dtype and the device.

    Returns
    -------
    callable
        draw() -> standard normal noise, (N, H, W, C).
    """
    generators = [random_stream(seed, stream, image, sample) for image, sample in keys]
    xp, shape, dtype = array_module(like), like.shape[1:], like.dtype
    return lambda: to_device(np.stack([generator.standard_normal(shape).astype(dtype) for generator in generators]), xp)
