"""The main job, stage after stage: read images, load or train weights, calibrate, detect, evaluate, write results."""

import dataclasses
import functools
import importlib.metadata
import platform
import shutil

import numpy as np

from mdps_ref.data.images import centre_crop
from mdps_ref.data.pixels import image_size
from mdps_ref.errors import InputError
from mdps_ref.job.bundled import BUNDLED, weights_file
from mdps_ref.job.chain_records import ChainRecords
from mdps_ref.job.chains import batch_maps, draw_samples, one_after_another
from mdps_ref.job.config import AUTO
from mdps_ref.job.detect import calibrate, detect, make_extractor, make_model, needs_test_maps
from mdps_ref.job.detector import Detector
from mdps_ref.job.evaluate import chain_result, evaluate
from mdps_ref.job.images import read_images, told
from mdps_ref.job.progress import progress, say, stage
from mdps_ref.job.result import Mistakes, Result, choose_images
from mdps_ref.job.run_folder import WORK, check_still_there, read_json, remove_results, write_config, write_json, write_map, write_scores
from mdps_ref.job.train import resume_training, train
from mdps_ref.job.training_check import check_training, warning
from mdps_ref.job.weights import load_weights
from mdps_ref.job.whitening import keep_whitening, whitening_of_run
from mdps_ref.scoring.metrics import exceeds

TUNING = "tuning.json"
PACKAGES = ("mdps_ref", "numpy", "scipy", "pillow", "matplotlib")


def run_job(config, folder, xp, tune, resume=False, begun=lambda: None, cluster=None):
    """Do the main job, and write everything but the report into `folder`.

    Parameters
    ----------
    config : Config
    folder : Path
        The run folder, claimed by this process.
    xp : module
        The array module to compute with.
    tune : callable
        tune(model, weights, config, held-out good images, other good images) -> settings, trials, whitening, such as
        `study.tuning.tune`; called where `config` asks for it, by `tune` or features "auto".
    resume : bool
        Go on from the checkpoint in `folder`, if it has one.
    begun : callable
        begun() is called once all images are read, so that the folder stays.
    cluster : callable, optional
        cluster(work, weights, config, whitening=()) -> what works on batches in place of this process, as
        `cluster_chains.chains_on_cluster` does.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If the images, the weights or the settings cannot be used, or a file cannot be written.
    Interrupted
        If a signal asked to stop. What was done is kept.
    """
    # Both before anything is written
    weights_path = weights_file(config) if config.weights else None
    loaded = load_weights(weights_path, config, xp) if weights_path else None
    state = _state_so_far(folder, config, xp) if resume and not config.weights else None
    extractor = make_extractor(config, xp)
    if config.weights == BUNDLED:
        say("weights: those that come with the package; --train trains from scratch")
    seconds = {}
    with stage("reading", seconds):
        images = read_images(config, folder, weights_path)
    begun()
    with stage("training", seconds):
        weights, log = (loaded, np.zeros((0, 2))) if loaded else trained_weights(config, images.train, folder, xp, state)
    model, trials = make_model(weights, config, extractor), []
    if config.tune or config.features == AUTO or (folder / TUNING).exists():
        with stage("tuning", seconds):
            if cluster:
                tune = functools.partial(tune, draw_batches=cluster(draw_samples, weights, config))
            config, trials = tuned(tune, model, weights, config, images, folder)
        extractor = make_extractor(config, xp)
    whitening = ()
    if config.feature_distance == "mahalanobis":
        with stage("whitening", seconds):
            whitening = _fitted_whitening(weights, config, extractor, images, folder, cluster)
    model = make_model(weights, config, extractor, whitening)
    with stage("training check", seconds):
        training = check_training(model, config, images.train, images.held_out)
    warned = warning(training, config, folder)
    if warned:
        say(f"warning: {warned}")
    shown = choose_images(images.defects)
    make_maps = cluster(batch_maps, weights, config, whitening=whitening) if cluster else one_after_another
    detection, held_out_scores = calibrate_and_detect(model, images, config, folder, shown, seconds, make_maps)
    with stage("evaluation", seconds):
        chains = {name: chain_result(getattr(detection, name), images.truths) for name in ("mdps", "guided", "reconstruction")}
        labels, areas = [item.is_anomalous for item in images.items], _areas(images.truths)
        metrics = evaluate(chains, held_out_scores, labels, areas, config, detection.mask_threshold)
        metrics["trained_enough"] = training.as_dict()
        threshold = metrics["mdps"]["decision_threshold"]
        check_still_there(folder)
        write_json(folder / "metrics.json", metrics | {"set_aside": images.findings.as_dict()})
        write_scores(folder / "scores.csv", images.items, chains["mdps"].score, threshold)
        write_maps(folder / "maps" / config.category, images, detection.mdps, config)
        detector = Detector(weights, config, detection.mask_threshold, threshold, None, images.white, images.side, whitening)
        detector.save(folder / "detector.npz", {"category": config.category, "good images": len(images.held_out)})
    return Result(
        config=config,
        names=images.test_names,
        defects=images.defects,
        shown=shown,
        images=centre_crop(images.test[np.array(shown)], images.side),
        truths=[images.truths[i] for i in shown],
        mistakes=_mistakes(images, detection.mdps, exceeds(chains["mdps"].score, threshold)),
        chains=chains,
        mask_threshold=detection.mask_threshold,
        held_out_scores=held_out_scores,
        metrics=metrics,
        log=log,
        seconds=seconds,
        versions=versions(xp),
        told=told(images, config),
        trials=trials,
        warning=warned,
    )


def end_run(folder):
    """Remove what a run needs only while it is under way."""
    shutil.rmtree(folder / WORK, ignore_errors=True)


def _state_so_far(folder, config, xp):
    """The TrainingState in the folder's checkpoint; None if there is none yet."""
    checkpoint = folder / "checkpoint.npz"
    if checkpoint.exists():
        return resume_training(checkpoint, config, xp)
    if (folder / "detector.npz").exists():
        raise InputError(f"{checkpoint}: is gone, so this run cannot go on; its results are whole; put it back, or start a new run")
    return None


def trained_weights(config, images, folder, xp, state):
    """Train from the start, or from a TrainingState; return the moving average of the weights, and the log, (steps, 2).

    If there are steps left, the results in the folder are removed: they are those of fewer steps.
    """
    if state is None or state.step < config.train_steps:
        remove_results(folder)
    state = train(config, images, folder, xp, state)
    return state.ema, np.array(state.log).reshape(-1, 2)


def tuned(tune, model, weights, config, images, folder):
    """Choose settings; write tuning.json, and config.json with the chosen ones. A resumed run takes its choice from tuning.json.

    The whitening that the choice was made with is kept for the rest of the run.

    Returns
    -------
    Config
        With the chosen settings.
    list of dict
        What was tried, see `study.tuning.Trial`.
    """
    path, steps = folder / TUNING, None if config.weights else config.train_steps
    chosen = read_json(path) if path.exists() else None
    if chosen is None or chosen["train_steps"] != steps:
        settings, trials, whitening = tune(model, weights, config, images.held_out, images.train)
        if whitening:
            keep_whitening(_whitening_file(folder, config), whitening)
        chosen = {"train_steps": steps, "settings": settings, "trials": [dataclasses.asdict(trial) for trial in trials]}
        write_json(path, chosen)
    config = dataclasses.replace(config, **chosen["settings"])
    write_config(folder, config)
    return config, chosen["trials"]


def _fitted_whitening(weights, config, extractor, images, folder, cluster):
    """The whitening of the features, fitted once, and kept while the run is under way."""
    model = make_model(weights, dataclasses.replace(config, feature_distance="cosine"), extractor)
    draw_batches = cluster(draw_samples, weights, config) if cluster else None
    return whitening_of_run(model, images.train, config, _whitening_file(folder, config), draw_batches)


def _whitening_file(folder, config):
    return _work_of(folder, config) / "whitening.npz"


def _work_of(folder, config):
    """Where a run keeps what it needs while it is under way, apart for each number of training steps."""
    return folder / WORK / f"step_{'loaded' if config.weights else config.train_steps}"


def calibrate_and_detect(model, images, config, folder, shown, seconds, make_maps=one_after_another):
    """Return the Detection of the test images and the scores of the held-out ones.

    Calibration goes first, except where the test images set the mask's threshold.
    """
    records = functools.partial(_records, _work_of(folder, config), config, images)

    def calibrated(threshold=None):
        with stage("calibration", seconds):
            keep = functools.partial(records, "held_out", count=len(images.held_out))
            return calibrate(model, images.held_out, config, threshold, keep, make_maps)

    def detected(threshold=None):
        with stage("detection", seconds):
            keep = functools.partial(records, "test", count=len(images.test), truths=images.truths, shown=shown)
            return detect(model, images.test, config, threshold, keep, make_maps)

    if needs_test_maps(config):
        detection = detected()
        return detection, calibrated(detection.mask_threshold)[1]
    threshold, held_out_scores = calibrated()
    return detected(threshold), held_out_scores


def _records(folder, config, images, part, chain_name, **more):
    """Return the ChainRecords of one chain on one part of the images."""
    return ChainRecords(folder / part, chain_name, config, images.side, **more)


def _mistakes(images, records, flagged):
    """Return the wrong decisions that are shown, chosen as `choose_images` does."""
    wrong = [i for i, item in enumerate(images.items) if flagged[i] != item.is_anomalous]
    indices = [wrong[i] for i in choose_images([images.defects[i] for i in wrong])]
    pictures = [centre_crop(images.test[i : i + 1], images.side)[0] for i in indices]
    anomaly = [centre_crop(records.anomaly(slice(i, i + 1)), images.side)[0] for i in indices]
    return Mistakes(indices, pictures, [images.truths[i] for i in indices], anomaly)


def _areas(truths):
    """Return the number of anomalous pixels of each true mask; None where there is none."""
    masks = (truths[i] for i in range(len(truths)))
    return [None if mask is None else int(np.count_nonzero(mask)) for mask in masks]


def write_maps(folder, images, records, config):
    """Write the map of every test image."""
    with progress(len(images.items), "image", "maps") as shown:
        for i, item in enumerate(images.items):
            write_map(folder / f"{item.name}.tiff", records.anomaly(slice(i, i + 1))[0], image_size(item.path), config.fit)
            shown.update(1)


def versions(xp):
    """Return the versions of Python and the packages, and the kind of machine."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found, "arrays on": f"{xp.__name__} {xp.__version__}", "machine": platform.machine()}
