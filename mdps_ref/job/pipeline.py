"""The main job, stage after stage: read images, load or train weights, calibrate, detect, evaluate, write results."""

import contextlib
import dataclasses
import time

import numpy as np

from mdps_ref.job.detect import Detection, calibrate, centre, detect, make_extractor, make_model, needs_test_maps
from mdps_ref.job.evaluate import evaluate
from mdps_ref.job.images import RunImages, read_images
from mdps_ref.job.run_folder import write_json, write_maps, write_scores
from mdps_ref.job.train import resume_training, train
from mdps_ref.job.weights import load_weights


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run found.

    Parameters
    ----------
    images : RunImages
    detection : Detection
        Of the test images' judged centre.
    held_out_scores : array, (K)
    metrics : dict
        As `evaluate` returns them.
    log : array, (steps, 2)
        Loss and gradient norm; empty if the weights were loaded.
    seconds : dict of str to float
        Wall time of each stage.
    """

    images: RunImages
    detection: Detection
    held_out_scores: np.ndarray
    metrics: dict
    log: np.ndarray
    seconds: dict


def run_job(config, folder, xp, resume=False):
    """Do the main job, and write everything but the report into `folder`.

    Parameters
    ----------
    config : Config
    folder : Path
    xp : module
        The array module to compute with.
    resume : bool
        Go on from the checkpoint in `folder`, if it has one.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If the images, the weights or the settings cannot be used.
    """
    loaded = load_weights(config.weights, config, xp) if config.weights else None  # before anything is written
    extractor = make_extractor(config, xp)
    seconds = {}
    with timed(seconds, "reading"):
        images = read_images(config, folder)
    print(f"run folder: {folder}", flush=True)
    with timed(seconds, "training"):
        weights, log = (loaded, np.zeros((0, 2))) if loaded else trained_weights(config, images.train, folder, xp, resume)
    whole, held_out_scores = calibrate_and_detect(make_model(weights, config, extractor), images, config, seconds)
    centres = (centre(maps, images.side, config) for maps in (whole.reconstruction, whole.guided, whole.mdps))
    detection = Detection(*centres, whole.mask_threshold)
    metrics = evaluate(detection, held_out_scores, [item.is_anomalous for item in images.items], images.truths, config)
    write_json(folder / "metrics.json", metrics)
    write_scores(folder / "scores.csv", images.items, detection.mdps.score, metrics["mdps"]["decision_threshold"])
    write_maps(folder / "maps" / config.category, images.items, whole.mdps.anomaly)
    return Outcome(images, detection, held_out_scores, metrics, log, seconds)


def trained_weights(config, images, folder, xp, resume):
    """Train from the start, or from the folder's checkpoint; return the moving average of the weights, and the log, (steps, 2)."""
    checkpoint = folder / "checkpoint.npz"
    state = resume_training(checkpoint, config, xp) if resume and checkpoint.exists() else None
    state = train(config, images, folder, xp, state)
    return state.ema, np.array(state.log).reshape(-1, 2)


def calibrate_and_detect(model, images, config, seconds):
    """Return the Detection of the test images and the scores of the held-out ones.

    Calibration goes first, except where the test images set the mask's threshold.
    """

    def calibrated(threshold=None):
        with timed(seconds, "calibration"):
            return calibrate(model, images.held_out, images.held_out_names, config, threshold, images.side)

    def detected(threshold=None):
        with timed(seconds, "detection"):
            return detect(model, images.test, images.test_names, config, threshold)

    if needs_test_maps(config):
        detection = detected()
        return detection, calibrated(detection.mask_threshold)[1]
    threshold, held_out_scores = calibrated()
    return detected(threshold), held_out_scores


@contextlib.contextmanager
def timed(seconds, stage):
    """Note the wall time of the block as seconds[stage]."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
