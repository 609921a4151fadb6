"""Training: noise a batch, ask the network for the noise, step down the gradient; resumable to the same bytes."""

import csv
import dataclasses
import io
import math
import pathlib

import numpy as np
import tqdm

from mdps_ref.autograd.tape import value_and_gradient
from mdps_ref.kernels.buffers import Workspace
from mdps_ref.backend import random_stream, to_device, to_host
from mdps_ref.weights.checkpoint import load_checkpoint, save_checkpoint
from mdps_ref.weights.state_dict import read_state_dict
from mdps_ref.diffusion.forward import level_per_image, noise_loss
from mdps_ref.diffusion.schedule import STEPS, alpha_bar
from mdps_ref.errors import InputError
from mdps_ref.data.files import write_text
from mdps_ref.nn.optim import adam_step, clip_by_global_norm, ema_step, zeros_like
from mdps_ref.released.names import from_released
from mdps_ref.nn.unet import check_weights, init_unet, unet
from mdps_ref.released.rules import RULES


@dataclasses.dataclass
class TrainingState:
    """All that training carries from step to step; a checkpoint is this, written down.

    weights, mean (their running mean), first and second (Adam's moments): {name: array}.  log: one (loss, gradient norm) a step.
    """

    weights: dict
    mean: dict
    first: dict
    second: dict
    log: list

    @property
    def step(self):
        """Steps taken so far."""
        return len(self.log)


ARRAYS = ("weights", "mean", "first", "second")


def start_training(config, xp):
    """The state before the first step, on the device of `xp`."""
    weights = {name: to_device(w, xp) for name, w in init_unet(config.unet(), config.seed).items()}
    return TrainingState(weights, {name: w.copy() for name, w in weights.items()}, zeros_like(weights), zeros_like(weights), [])


def draw_batch(images, config, step):
    """The images, timesteps and noise of one training step, from a stream keyed by (seed, step): nothing has to be remembered.

    Shapes: images (M, H, W, C) on the host -> (N, H, W, C), (N) in 0 .. 999 (by the released rules 1 .. 999), (N, H, W, C), on the host.
    """
    rng = random_stream(config.seed, "training", sample=step)
    chosen = rng.choice(len(images), config.batch_size, replace=config.batch_size > len(images))
    t = rng.integers(RULES[config.rules].first_timestep, STEPS, size=config.batch_size)
    return images[chosen], t, rng.standard_normal(images[chosen].shape, np.float32)


def train_step(state, images, config, xp):
    """One step: noise loss, gradient, clipping, Adam, running mean.  Changes `state`; images (M, H, W, C) are on the host."""
    network = config.unet()
    x_0, t, noise = (np.asarray(part) for part in draw_batch(images, config, state.step))
    x_0, noise = to_device(x_0, xp), to_device(noise, xp)
    level = level_per_image(alpha_bar(t), x_0)
    values = math.prod(x_0.shape[1:])

    def loss(weights):
        return noise_loss(lambda x_t, t: unet(weights, x_t, t, network), x_0, t, noise, level) / values

    value, gradients = value_and_gradient(loss, state.weights)
    gradients, length = clip_by_global_norm(gradients, config.clip_norm)
    state.log.append((float(value), length))
    if not all(map(math.isfinite, state.log[-1])):
        became = f"the loss became {float(value)} with a gradient of length {length}"
        raise InputError(f"learning_rate {config.learning_rate}: {became} at step {state.step}; lower it")
    settings = {"rate": config.learning_rate, "l2": config.l2, "decay": config.weight_decay}
    adam_step(state.weights, gradients, state.first, state.second, state.step, **settings)
    ema_step(state.mean, state.weights, state.step, config.ema_horizon)


def train(config, images, folder, xp, state=None):
    """Train to config.train_steps, with a progress bar; checkpoint.npz and train.csv in `folder` follow every checkpoint_every steps.

    state: where to go on from; a fresh start if None.  Shapes: images (M, H, W, C) float32 on the host, in [-1, 1] -> the state.
    """
    state = state or start_training(config, xp)
    total, done = config.train_steps * config.batch_size, state.step * config.batch_size
    with Workspace(), tqdm.tqdm(total=total, initial=done, unit="image", desc="training", mininterval=1.0) as bar:
        while state.step < config.train_steps:
            train_step(state, images, config, xp)
            bar.update(config.batch_size)
            bar.set_postfix(loss=f"{np.mean([loss for loss, _ in state.log[-50:]]):.4f}", refresh=False)
            if state.step % config.checkpoint_every == 0 or state.step == config.train_steps:
                save_training(folder, state, config)
    return state


def save_training(folder, state, config):
    """Write train.csv (step, loss per pixel value, gradient norm) and checkpoint.npz, each whole or not at all.

    The checkpoint comes last: killed between the two, training goes on from the one before and writes both again.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["step", "loss", "gradient_norm"])
    rows.writerows([step, f"{loss:.6g}", f"{length:.6g}"] for step, (loss, length) in enumerate(state.log, 1))
    write_text(folder / "train.csv", table.getvalue())
    groups = {group: {name: to_host(array) for name, array in getattr(state, group).items()} for group in ARRAYS}
    groups["training"] = {"log": np.array(state.log).reshape(-1, 2)}
    save_checkpoint(folder / "checkpoint.npz", groups, {"config": dataclasses.asdict(config), "step": state.step})


def resume_training(path, config, xp):
    """The state in a checkpoint of a run with this config.  Raises: InputError if it is another network's, or not whole."""
    groups, about = load_checkpoint(path)
    missing = {*ARRAYS, "training"} - groups.keys()
    if missing:
        raise InputError(f"{path}: holds no {', '.join(sorted(missing))}, so training cannot go on from it; start a new run")
    for group in ARRAYS:
        _check(path, groups[group], config, about)
    if about["config"] != dataclasses.asdict(config):
        raise InputError(f"{path}: belongs to a run with other settings than its folder's config.json; restore that, or start a new run")
    on_device = {group: {name: to_device(array, xp) for name, array in groups[group].items()} for group in ARRAYS}
    return TrainingState(**on_device, log=[tuple(row) for row in groups["training"]["log"].tolist()])


def load_weights(path, config, xp):
    """The running mean of the weights in a run's checkpoint, or the authors' in a .pth or .safetensors file, float32, on the device.

    Which it is, the file's first bytes tell.  Raises: InputError if they do not fit config's network, or the file is none of these.
    """
    if _is_state_dict(path):
        return {name: to_device(array, xp) for name, array in _released_weights(path, config).items()}
    groups, about = load_checkpoint(path)
    if "mean" not in groups:
        raise InputError(f"{path}: holds no weights; give the checkpoint.npz of a run folder")
    _check(path, groups["mean"], config, about)
    return {name: to_device(array.astype(np.float32), xp) for name, array in groups["mean"].items()}


def _is_state_dict(path):
    """Whether a file begins as another's zip file than a run's, whose first member is `about.npy`, as a pickle, or as safetensors do."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        start = handle.read(39)
    return (start[:4] == b"PK\3\4" and start[30:] != b"about.npy") or start[:1] == b"\x80" or start[8:9] == b"{"


def _released_weights(path, config):
    """The weights in a file that holds the authors' state dict, on the host.  Raises: InputError that names the file if they do not fit."""
    state = read_state_dict(path)
    try:
        return from_released(state, config.unet())
    except InputError as error:
        raise InputError(f"{path}: {error}; what the authors trained wants --network released --image-size 256") from None


def _check(path, weights, config, about):
    """Raises: InputError that names the file, and the network it was made for, if the weights do not fit config's network."""
    made_for = about.get("config", {})
    wanted = {name: getattr(config, name) for name in ("network", "image_size")}
    if any(made_for.get(name, value) != value for name, value in wanted.items()):
        flags = f"--network {made_for['network']} --image-size {made_for['image_size']}"
        network = f"{config.network} at {config.image_size} x {config.image_size}"
        raise InputError(f"{path}: made for another network than {network}; it wants {flags}")
    try:
        check_weights(weights, config.unet())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
