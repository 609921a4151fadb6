"""Training: noise a batch, ask the network for the noise, step down the gradient. A resumed run ends with the same bytes."""

import contextlib
import csv
import dataclasses
import io
import math
import pathlib

import numpy as np

from mdps_ref.autograd.tape import value_and_gradient
from mdps_ref.backend import random_stream, to_device, to_host
from mdps_ref.data.augment import augmented
from mdps_ref.data.files import write_text
from mdps_ref.diffusion.forward import level_per_image, noise_loss
from mdps_ref.diffusion.schedule import STEPS, alpha_bar
from mdps_ref.errors import InputError, ProcessKilled
from mdps_ref.job.images import check_images
from mdps_ref.job.interrupt import asked_to_stop, stop_if_asked
from mdps_ref.job.progress import progress
from mdps_ref.job.weights import check_fits
from mdps_ref.kernels import fast
from mdps_ref.kernels.processes import Team, members, shared_copies
from mdps_ref.kernels.threads import even_shares
from mdps_ref.nn.optim import adam_step, clip_by_global_norm, ema_step, rate_factor, zeros_like
from mdps_ref.nn.unet import init_unet, unet
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint

TRAINING_ALONE = ("learning_rate", "clip_norm", "weight_decay", "l2", "ema_decay", "warm_up_steps", "decay_share", "augment")
# The settings that a trained network depends on; the others may change after the training.
TRAINING = (
    *("data", "category", "image_size", "fit", "skip_bad", "network", "seed", "rules", "rules_except", "held_out", "weights"),
    *("batch_size", *TRAINING_ALONE),
)
GROUPS = ("weights", "ema", "first_moment", "second_moment")  # of arrays, in a training state and in its checkpoint


@dataclasses.dataclass
class TrainingState:
    """What training carries from step to step; a checkpoint holds the same.

    Parameters
    ----------
    weights : dict of str to array
    ema : dict of str to array
        Exponential moving average of the weights.
    first_moment, second_moment : dict of str to array
        Adam's.
    log : list of (float, float)
        Loss per pixel value and gradient norm of every step taken.
    """

    weights: dict
    ema: dict
    first_moment: dict
    second_moment: dict
    log: list

    @property
    def step(self):
        """Steps taken so far."""
        return len(self.log)


def start_training(config, xp):
    """Return the state before the first step, on the device of `xp`."""
    weights = {name: to_device(w, xp) for name, w in init_unet(config.unet(), config.seed).items()}
    return TrainingState(weights, {name: w.copy() for name, w in weights.items()}, zeros_like(weights), zeros_like(weights), [])


def draw_batch(images, config, step):
    """Draw what one training step needs. Its streams are keyed by (seed, step), so nothing has to be remembered.

    Parameters
    ----------
    images : array, (M, H, W, C)
        On the host.
    config : Config
    step : int
        Steps taken so far.

    Returns
    -------
    x_0 : array, (N, H, W, C)
    t : array, (N) of int
        In 0 .. 999; under the released rules in 1 .. 999.
    noise : array, (N, H, W, C)
    """
    rng = random_stream(config.seed, "training", sample=step)
    x_0 = images[rng.choice(len(images), config.batch_size, replace=config.batch_size > len(images))]
    t = rng.integers(config.resolved_rules.first_timestep, STEPS, size=config.batch_size)
    noise = rng.standard_normal(x_0.shape, np.float32)
    return augmented(x_0, config.augment, random_stream(config.seed, "augmentation", sample=step)), t, noise


class BatchGradient:
    """The loss of a batch and its gradient to the weights; inside `fast` a team of processes shares the batch's images.

    Parameters
    ----------
    state : TrainingState
        Its weights are put into memory that the team shares.
    config : Config
    xp : module
        The array module to compute with.
    """

    def __init__(self, state, config, xp):
        self._config, self._xp = config, xp
        count = members(config.batch_size) if xp is np else 1
        if count > 1:
            state.weights = shared_copies(state.weights)
        self._weights = state.weights
        self._gradients = [shared_copies(state.weights) for _ in range(count - 1)]
        self._shares = even_shares(config.batch_size, count)
        self._team = Team(self._of_share, count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._team.close()

    def __call__(self, x_0, t, noise):
        """Compute the loss per pixel value and its gradient.

        Parameters
        ----------
        x_0, noise : array, (N, H, W, C)
            On the host.
        t : array, (N) of int

        Returns
        -------
        loss : float
        gradient : dict of str to array
        """
        results = self._team([(number, x_0[part], t[part], noise[part]) for number, part in enumerate(self._shares)])
        loss, gradient = results[0]
        for (other_loss, _), other in zip(results[1:], self._gradients, strict=True):
            loss += other_loss
            for name, total in gradient.items():
                total += other[name]
        return float(loss), gradient

    def _of_share(self, number, x_0, t, noise):
        """A share's part of the loss and the gradient. The gradients of all shares but the first are written to shared memory."""
        x_0, noise = to_device(x_0, self._xp), to_device(noise, self._xp)
        network, level = self._config.unet(), level_per_image(alpha_bar(t), x_0)
        values = math.prod(x_0.shape[1:]) * self._config.batch_size / len(x_0)

        def loss(weights):
            return noise_loss(lambda x_t, t: unet(weights, x_t, t, network), x_0, t, noise, level) / values

        value, gradient = value_and_gradient(loss, self._weights)
        if number == 0:
            return value, gradient
        for name, shared in self._gradients[number - 1].items():
            shared[...] = gradient[name]
        return value, None


def train_step(state, images, config, batch_gradient):
    """Take one step: noise loss, gradient, clipping, Adam, moving average.

    Parameters
    ----------
    state : TrainingState
        Is changed in place.
    images : array, (M, H, W, C)
        On the host.
    config : Config
    batch_gradient : BatchGradient

    Raises
    ------
    InputError
        If the loss or the gradient is no finite number; the weights are then left as they were.
    """
    value, gradients = batch_gradient(*draw_batch(images, config, state.step))
    gradients, length = clip_by_global_norm(gradients, config.clip_norm)
    state.log.append((value, length))
    if not all(map(math.isfinite, state.log[-1])):
        became = f"the loss became {value} with a gradient of length {length}"
        raise InputError(f"learning_rate {config.learning_rate}: {became} at step {state.step}; lower it")
    decay = round(config.decay_share * config.train_steps)
    rate = config.learning_rate * rate_factor(state.step, config.train_steps, config.warm_up_steps, decay)
    settings = {"rate": rate, "l2": config.l2, "decay": config.weight_decay}
    adam_step(state.weights, gradients, state.first_moment, state.second_moment, state.step, **settings)
    ema_step(state.ema, state.weights, state.step, config.ema_decay)


def train(config, images, folder=None, xp=np, state=None):
    """Train until `config.train_steps`, with a progress bar.

    Parameters
    ----------
    config : Config
    images : array, (M, H, W, C), in [-1, 1]
        Good images, on the host; or images in files, `images.StoredImages`.
    folder : path-like, optional
        Where checkpoint.npz and train.csv are written every `config.checkpoint_every` steps. Without it nothing is written.
    xp : module
        The array module to compute with.
    state : TrainingState, optional
        Where to go on from; a fresh start by default.

    Returns
    -------
    TrainingState
        Sample with its `ema`.

    Raises
    ------
    InputError
        If `check_images` refuses the images, training diverges, or the folder is gone or full.
    Interrupted
        If a signal asked to stop. The checkpoint is that of the last step.
    """
    images = check_images(images, config.image_size)
    state = state or start_training(config, xp)
    if folder:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    bar = progress(config.train_steps, "step", "training", state.step)
    with fast(), BatchGradient(state, config, xp) as batch_gradient, bar as shown:
        while state.step < config.train_steps:
            with _naming_the_last_checkpoint(folder):
                train_step(state, images, config, batch_gradient)
            shown.update(1)
            shown.note(f"loss {np.mean([loss for loss, _ in state.log[-50:]]):.4f}")
            due = state.step % config.checkpoint_every == 0 or state.step == config.train_steps or asked_to_stop()
            if folder and due:
                save_training(pathlib.Path(folder), state, config)
            stop_if_asked()
    return state


@contextlib.contextmanager
def _naming_the_last_checkpoint(folder):
    """Add the checkpoint in the folder, if there is one, to the message of an InputError that wants a new run."""
    try:
        yield
    except ProcessKilled:  # the run itself can go on
        raise
    except InputError as error:
        path = folder and pathlib.Path(folder) / "checkpoint.npz"
        if not path or not path.is_file():
            raise
        raise InputError(f"{error} in a new run; {path} is the last good checkpoint, of step {load_checkpoint(path)[1]['step']}") from None


def save_training(folder, state, config):
    """Write train.csv (step, loss per pixel value, gradient norm) and checkpoint.npz, each whole or not at all.

    The checkpoint comes last: killed between the two, training goes on from the checkpoint before and writes both again.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: was removed while training went on; start it again")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["step", "loss", "gradient_norm"])
    rows.writerows([step, f"{loss:.6g}", f"{length:.6g}"] for step, (loss, length) in enumerate(state.log, 1))
    write_text(folder / "train.csv", table.getvalue())
    groups = {group: {name: to_host(array) for name, array in getattr(state, group).items()} for group in GROUPS}
    groups["training"] = {"log": np.array(state.log).reshape(-1, 2)}
    save_checkpoint(folder / "checkpoint.npz", groups, {"config": dataclasses.asdict(config), "step": state.step})


def resume_training(path, config, xp):
    """Read the TrainingState in a checkpoint of a run with this config.

    Raises
    ------
    InputError
        If the file is no whole checkpoint, belongs to another network or other settings, or holds weights only.
    """
    groups, about = load_checkpoint(path)
    missing = {*GROUPS, "training"} - groups.keys()
    if missing:
        raise InputError(f"{path}: holds no {', '.join(sorted(missing))}, so training cannot go on from it; start a new run")
    for group in GROUPS:
        check_fits(path, groups[group], config, about)
    log = groups["training"].get("log", np.empty(0))
    if log.ndim != 2 or log.shape[1] != 2:
        raise InputError(f"{path}: its log of the training has shape {log.shape}, not (steps, 2); start a new run")
    same = [name for name in TRAINING if name not in ("data", "skip_bad")]  # data.json tells whether the images are the same
    if any(about["config"].get(name) != getattr(config, name) for name in same) or len(log) > config.train_steps:
        raise InputError(f"{path}: belongs to a run with other settings than its folder's config.json; restore that, or start a new run")
    on_device = {group: {name: to_device(array, xp) for name, array in groups[group].items()} for group in GROUPS}
    return TrainingState(**on_device, log=[tuple(row) for row in log.tolist()])
