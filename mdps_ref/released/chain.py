"""What the authors' released code computes in another way than the paper.

`rules.ROWS` puts these functions in the place of the paper's. What they take over the batch lets test images change each other's results.
"""

from mdps_ref.backend import array_module, to_host
from mdps_ref.diffusion.forward import q_sample
from mdps_ref.diffusion.schedule import STEPS, alpha_bar
from mdps_ref.posterior.guidance import misfit_guide, unit_residual
from mdps_ref.posterior.quantile import check_read_again
from mdps_ref.posterior.sampler import ddim_chain, posterior_samples
from mdps_ref.scoring.difference import fuse


def batch_norm_guide(predict_noise, y, weight, mask=None):
    """Guide by one norm over the batch (row 2). Of N images alike, each is guided as if the weight were smaller by sqrt(N).

    Parameters and return value as in `posterior.guidance.norm_guide`.
    """
    return misfit_guide(predict_noise, y, weight, batch_unit_residual)


def batch_unit_residual(residual):
    """Gradient of the norm of all residuals as one, (N, H, W, C)."""
    return unit_residual(_as_one_image(residual)).reshape(residual.shape)


def one_sample_a_batch(chain, y, mask, images, numbers, seed, stream):
    """Draw n posterior samples of every image, one sample of every image a batch (row 2).

    So a sample does not depend on how many are drawn, also where the norm runs over the batch.
    Parameters and return value as in `posterior.sampler.posterior_samples`.
    """
    samples = [posterior_samples(chain, y, mask, images, [number], seed, stream) for number in numbers]
    return array_module(y).concatenate(samples, axis=1)


def fuse_by_batch(pixels, features, pixel_weight):
    """Fuse pixel and feature maps by their maxima over the batch (row 4).

    The pixels of an image that differs little weigh less. Parameters and return value as in `scoring.difference.fuse`.
    """
    return fuse(_as_one_image(pixels), _as_one_image(features), pixel_weight).reshape(pixels.shape)


def released_threshold(test_maps, share_of_range):
    """Choose the mask's threshold from the test images (row 5).

    Parameters
    ----------
    test_maps : array, (N, H, W), or iterable of arrays
        A, the guided maps of the whole test set. An iterable is gone through twice.
    share_of_range : float, 0 .. 1
        lambda.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If the maps can be gone through only once.

    Equation
    --------
    E14 : (released code) the threshold is min A + lambda (max A - min A), min and max over all maps A of the test set
    """
    check_read_again(test_maps)
    least = min(float(to_host(maps).min()) for maps in test_maps)
    largest = max(float(to_host(maps).max()) for maps in test_maps)
    return least + share_of_range * (largest - least)


def released_chain(denoise, y, mask, start, timesteps, draw, *, ddim_eta=1.0, after_step=None):
    """Draw one posterior sample of every image as the released code does (row 6).

    Before each network call the normal pixels are replaced by y under the start's noise, and all pixels are denoised alike. Nothing is
    replaced at the end, so x_0 equals y on normal pixels only roughly. Parameters and return value as in `posterior.sampler.mdps_chain`.
    """
    noise = draw()

    def replace_normal_pixels(x_t, t):
        return mask * x_t + (1 - mask) * q_sample(y, noise, alpha_bar(t))

    x_start = q_sample(y, noise, alpha_bar(start))
    before_step = None if mask is None else replace_normal_pixels
    return ddim_chain(x_start, timesteps, denoise, draw, ddim_eta=ddim_eta, before_step=before_step, after_step=after_step)


def released_timesteps(start, stride):
    """List the timesteps of the released code's chain (row 7).

    Its x_T is noised to the level of `start`, so the first network call is told of less noise than there is.

    Parameters
    ----------
    start : int, 1 .. 999
    stride : int, 1 or more

    Returns
    -------
    list of ints
        The last network call is at 0; behind it stands -1.

    Raises
    ------
    ValueError
        If `start` or `stride` is outside its range.

    Equation
    --------
    E02 : (released code) the network is called at the multiples of the stride below T, downwards; the list ends with -1

    Examples
    --------
    >>> released_timesteps(50, 20)
    [40, 20, 0, -1]
    """
    if not 1 <= start < STEPS or stride < 1:
        raise ValueError(f"a chain of the released code starts at 1 .. {STEPS - 1} with a stride of at least 1, got {start} and {stride}")
    return [*reversed(range(0, start, stride)), -1]


def _as_one_image(arrays):
    """The images or maps of a batch on top of each other, as one image: (N, H, ...) -> (1, N H, ...)."""
    return arrays.reshape(1, -1, *arrays.shape[2:])
