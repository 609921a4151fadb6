"""Is the network trained enough? Held-out good images tell: its noise prediction and its reconstructions are set beside two plain rules.

The first rule knows the training images' mean and variance at each pixel alone. The second puts another good image in the place of the
reconstruction. A network that is hardly better has not learnt what good images look like, and what it draws in place of a defect is noise.
"""

import dataclasses

import numpy as np

from mdps_ref.backend import image_key, random_stream, to_device, to_host
from mdps_ref.diffusion.forward import level_per_image, q_sample
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.job.bundled import BUNDLED
from mdps_ref.job.chains import chain_settings, draw_samples
from mdps_ref.job.config import NETWORK_DEFAULTS, Config
from mdps_ref.kernels import fast

MOST_IMAGES, MOST_TIMESTEPS = 6, 6
SHARE = 0.75  # of the first rule's loss that a trained network stays below: after 60 steps of training .93 to 1.2 of it were left
AT_ONCE = 64  # training images that are read at once


@dataclasses.dataclass(frozen=True)
class TrainingCheck:
    """What a network does with held-out good images, and what the plain rules do.

    Parameters
    ----------
    images : int
        How many good images were looked at.
    noise_loss, gaussian_noise_loss : float
        Mean squared error of the predicted noise, whose variance is 1: of the network; and of the best prediction for pixels that are
        independent and normal, with the mean and the variance of the training images.
    reconstruction_error, other_image_error : float
        Mean |x_0 - y| in pixel values ([-1, 1]): of the reconstruction chain; and of other good images, from the training, in place of x_0.
    """

    images: int
    noise_loss: float
    gaussian_noise_loss: float
    reconstruction_error: float
    other_image_error: float

    @property
    def enough(self):
        """Whether the network is well below the first rule, and below the second."""
        return self.noise_loss < SHARE * self.gaussian_noise_loss and self.reconstruction_error < self.other_image_error

    def as_dict(self):
        """Return the numbers and the verdict, as JSON takes them."""
        return {"enough": self.enough} | dataclasses.asdict(self)


def check_training(model, config, train, held_out):
    """Look at a few held-out good images at the timesteps that the reconstruction chain visits.

    Parameters
    ----------
    model : Model
    config : Config
    train, held_out : array, (N, H, W, 3), in [-1, 1]
        On the host; or images in files, `images.StoredImages`.

    Returns
    -------
    TrainingCheck

    Notes
    -----
    The noise is keyed by the seed and the image's pixels, so that the same run gives the same numbers.
    """
    y, (mean, variance) = np.asarray(held_out[:MOST_IMAGES]), mean_and_variance(train)
    with fast():
        losses = np.mean([_noise_losses(model, config, y, mean, variance, t) for t in _timesteps(config)], axis=0)
        x_0 = draw_samples(model, y, dataclasses.replace(config, samples=1), "reconstruction")[:, 0]
    others = np.asarray(train[: len(y)])
    other_image_error = np.mean([abs(others - image).mean() for image in y])
    return TrainingCheck(len(y), *map(float, losses), float(abs(x_0 - y).mean()), float(other_image_error))


def mean_and_variance(images):
    """Compute the mean and the variance of images at each pixel, a few images at a time.

    Parameters
    ----------
    images : array, (N, H, W, C), or StoredImages

    Returns
    -------
    mean, variance : array, (H, W, C), float64
    """

    def parts():
        return (np.asarray(images[start : start + AT_ONCE], np.float64) for start in range(0, len(images), AT_ONCE))

    mean = sum(part.sum(axis=0) for part in parts()) / len(images)
    return mean, sum(((part - mean) ** 2).sum(axis=0) for part in parts()) / len(images)


def gaussian_noise(x_t, mean, variance, level):
    """Predict the noise in images of independent normal pixels; no prediction has a smaller mean squared error on such images.

    Parameters
    ----------
    x_t : array, (N, H, W, C)
    mean, variance : array, (H, W, C)
        Of the clean images.
    level : float
        alpha_bar_t, below 1.

    Returns
    -------
    array, (N, H, W, C)
    """
    return (1 - level) ** 0.5 * (x_t - level**0.5 * mean) / (level * variance + 1 - level)


def _timesteps(config):
    """Return at most MOST_TIMESTEPS of those at which the reconstruction chain calls the network, spread evenly."""
    visited = np.array(config.resolved_rules.timesteps(chain_settings(config, "reconstruction")[0], config.stride)[:-1])
    return visited[np.unique(np.linspace(0, len(visited) - 1, MOST_TIMESTEPS).round().astype(int))]


def _noise_losses(model, config, y, mean, variance, t):
    """Return the losses of the network and of `gaussian_noise` at a timestep."""
    noise = [random_stream(config.seed, "training check", image_key(image), t).standard_normal(image.shape, np.float32) for image in y]
    noise, level = np.stack(noise), float(alpha_bar(t))
    x_t = q_sample(y, noise, level_per_image(np.full(len(y), level), y))
    predicted = model.predict_noise(to_device(x_t, model.xp), np.full(len(y), t))
    return [np.mean((noise - other) ** 2) for other in (to_host(predicted), gaussian_noise(x_t, mean, variance, level))]


def warning(check, config, folder):
    """Say in words that the network is trained too little, and what to do.

    Parameters
    ----------
    check : TrainingCheck
    config : Config
    folder : Path
        Of the run.

    Returns
    -------
    str
        "" where the network is trained enough.
    """
    if check.enough:
        return ""
    found = []
    if check.noise_loss >= SHARE * check.gaussian_noise_loss:
        pair = f"loss {check.noise_loss:.3g}, against {check.gaussian_noise_loss:.3g}"
        found.append(f"it predicts noise hardly better than a normal distribution of each pixel does ({pair})")
    if check.reconstruction_error >= check.other_image_error:
        pair = f"{check.reconstruction_error:.3g}, against {check.other_image_error:.3g}"
        found.append(f"its reconstructions of good images are no closer to them than other good images are ({pair})")
    steps = max(2 * config.train_steps, NETWORK_DEFAULTS[config.network].get("train_steps", Config.train_steps))
    if config.weights == BUNDLED:
        remedy = "start a new run with --train, which trains on the images"
    elif config.weights:
        remedy = "take other weights than those in the setting weights, or leave it out to train on these images"
    else:
        place = f'"{folder}"' if " " in str(folder) else folder
        remedy = f"train further: give mdps_ref.run --resume --out {place} --train-steps {steps}"
    return f"the network is trained too little: {' and '.join(found)}; scores and contrast mean little. Remedy: {remedy}"
