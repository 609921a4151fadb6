"""The main job, `python -m mdps_ref.run`: images in; a run folder with maps, scores, metrics and a report out."""

import argparse
import contextlib
import dataclasses
import pathlib
import platform
import sys
import time

import matplotlib
import numpy as np
import PIL
import scipy

import mdps_ref
from mdps_ref.backend import BACKENDS, find_backend
from mdps_ref.job.config import CHOICES, make_config, read_settings, with_presets
from mdps_ref.data.folders import read_category, split_held_out
from mdps_ref.data.images import centre_crop, image_size, load_images, load_mask
from mdps_ref.data.synthetic import DEFECTS, check_request, write_category
from mdps_ref.job.detect import Detection, calibrate, centre, detect, judged_side, make_extractor, make_model, mask_from_test_set
from mdps_ref.errors import InputError, exit_status
from mdps_ref.job.evaluate import evaluate
from mdps_ref.released.presets import preset_settings
from mdps_ref.report.page import Result, write_report
from mdps_ref.released.rules import RULES
from mdps_ref.job.run_folder import open_run_folder, write_json, write_maps, write_scores
from mdps_ref.job.train import load_weights, resume_training, train

SETTING_FLAGS = (
    *("data", "category", "image_size", "network", "train_steps", "weights", "rules", "samples", "seed"),
    *("features", "feature_weights", "feature_layers"),
)
FILE_FLAGS = ("data", "weights", "feature_weights")
SYNTHETIC = {"size": 128, "train": 100, "test_good": 12, "per_defect": 4}


def main(argv=None):
    """Run the command line `argv`; return its exit status: 0, 2 after one line on standard error, 130 if interrupted."""
    args = parser().parse_args(argv)
    try:
        return exit_status(run_and_print, args)
    except KeyboardInterrupt:
        print(
            "mdps_ref: interrupted; --out with the run folder named above, and --resume, goes on from its last checkpoint, if it had one",
            file=sys.stderr,
        )
        return 130


def run_and_print(args):
    """Do what was asked for, and print the metrics and where the report is."""
    result, folder = run(args)
    print(summary(result.metrics))
    print(f"report: {folder / 'report.html'}")


def parser():
    """The command line.  Flags that set a setting have no default here, so that only what was given counts."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.run",
        description="Find and locate defects: train a diffusion model on good images, sample what each test image would be without its "
        "defect (MDPS), and map the difference. With no argument it does so on a synthetic set, in under 5 minutes on 2 cores.",
        epilog="example: python -m mdps_ref.run --data ~/mvtec --category hazelnut --image-size 64 --train-steps 1000",
        allow_abbrev=False,
    )
    images = p.add_argument_group("images")
    images.add_argument("--data", metavar="DIR", help="folder of categories in MVTec AD's or BTAD's layout (default: draw a synthetic set)")
    images.add_argument("--category", metavar="NAME", help=f"folder in DIR, or {', '.join(DEFECTS)} of the synthetic set (default: washer)")
    images.add_argument("--image-size", metavar="N", type=int, help="pixels a side that images are resized to (default: 32)")
    network = p.add_argument_group("network")
    network.add_argument("--network", choices=CHOICES["network"], help="its size (default: tiny to 32 pixels, small to 128, then released)")
    network.add_argument("--train-steps", metavar="N", type=int, help="batches to train on (default: by network)")
    network.add_argument(
        "--weights", metavar="FILE", help="instead of training: a run's checkpoint.npz, or the authors' .pth or .safetensors"
    )
    sampling = p.add_argument_group("sampling")
    sampling.add_argument("--samples", metavar="N", type=int, help="posterior samples an image (default: by network)")
    sampling.add_argument("--seed", metavar="N", type=int, help="of all randomness (default: 0)")
    sampling.add_argument("--rules", choices=CHOICES["rules"], help="whose, where the authors' code parts from the paper (default: paper)")
    features = p.add_argument_group("features")
    features.add_argument("--features", choices=CHOICES["features"], help="what compares images (default: unet, the network itself)")
    features.add_argument("--feature-weights", metavar="FILE", help="the file of their weights (default: in the folder weights)")
    features.add_argument("--feature-layers", metavar="NAMES", help="its layers, with commas between (default: by features)")
    running = p.add_argument_group("run")
    running.add_argument("--out", metavar="DIR", help="run folder (default: a new one in runs/)")
    running.add_argument("--resume", action="store_true", help="go on with the run in --out, to the bytes of one that was not broken off")
    running.add_argument("--preset", metavar="NAME", help="the authors' settings for a category, such as released/mvtec/bottle")
    running.add_argument(
        "--config", metavar="FILE", help="JSON file of settings, such as another run's config.json; it wins over --preset, flags over both"
    )
    running.add_argument("--backend", choices=BACKENDS, default="auto", help="array module (default: auto, CuPy where it finds a GPU)")
    return p


def run(args):
    """Do what the parsed `args` ask for; return the Result and the run folder.  Raises: InputError."""
    xp = find_backend(args.backend)
    config = requested_config(args)
    folder = open_run_folder(args.out, args.resume, f"{config.category}-{config.image_size}")
    loaded = load_weights(config.weights, config, xp) if config.weights else None  # before anything is written
    extractor = make_extractor(config, xp)
    seconds = {}
    with timed(seconds, "reading"):
        images = read_images(config, folder)
    print(f"run folder: {folder}", flush=True)
    with timed(seconds, "training"):
        weights, log = (loaded, np.zeros((0, 2))) if loaded else trained_weights(config, images.train, folder, xp, args.resume)
    whole, held_out_scores = sampled(make_model(weights, config, extractor), images, config, seconds)
    detection = Detection(*(centre(maps, images.side, config) for maps in (whole.plain, whole.stage1, whole.masked)), whole.mask_threshold)
    labels = [item.is_anomalous for item in images.items]
    metrics = evaluate(detection, held_out_scores, labels, images.truths, config)
    write_json(folder / "metrics.json", metrics)
    write_scores(folder / "scores.csv", images.items, detection.masked.score, metrics["mdps"]["decision_threshold"])
    write_maps(folder / "maps" / config.category, images.items, whole.masked.anomaly)
    result = Result(
        config=config,
        images=centre_crop(images.test, images.side),
        names=[item.name for item in images.items],
        defects=[item.defect for item in images.items],
        truths=images.truths,
        detection=detection,
        held_out_scores=held_out_scores,
        metrics=metrics,
        log=log,
        seconds=seconds,
        versions=versions(xp),
    )
    write_report(folder, result)
    return result, folder


def requested_config(args):
    """The Config that the command line asks for: what suits the network, over it --preset, over that --config, over that flags.

    With --resume the settings are the run's own.  Raises: InputError if a setting given now is another than the run's.
    """
    given = read_settings(args.config) if args.config else {}
    given |= {name: getattr(args, name) for name in SETTING_FLAGS if getattr(args, name) is not None}
    given |= {name: str(pathlib.Path(given[name]).absolute()) for name in FILE_FLAGS if given.get(name)}
    if not args.resume:
        if given.get("data") and "category" not in given and not args.preset:
            raise InputError(f"{given['data']}: --data needs --category NAME, the folder in it to use")
        if args.preset and not given.get("data") and "category" not in given:
            raise InputError(f"--preset {args.preset} needs --data DIR, the folder that holds its category")
        return make_config(with_presets(given, args.preset))
    stored = read_settings(open_run_folder(args.out, True, "") / "config.json")
    if args.preset:
        given = preset_settings(args.preset, stored.get("rules")) | given
    for name, value in given.items():
        if name in stored and stored[name] != value:
            raise InputError(f"{args.out}: this run has {name} {stored[name]!r}, not {value!r}; leave it out, or start another run")
    return make_config(given | stored)


@dataclasses.dataclass(frozen=True)
class RunImages:
    """The images of a run, on the host, (N, H, W, 3) in [-1, 1]: to train on, held out (and their names), and to test.

    side: pixels a side of the centre of test images that is judged.  items: the test images' Items.
    truths: their masks of that centre, (side, side) bool, all False for a good image, None for a defect without one.
    """

    train: np.ndarray
    held_out: np.ndarray
    held_out_names: list
    test: np.ndarray
    side: int
    items: tuple
    truths: list


def read_images(config, folder):
    """Read all images of a run before anything else is done, so that a broken one is found first; write the settings into its folder.

    Without config.data the synthetic set is drawn into the run folder; its settings go there first, so that a drawing that was broken
    off can be resumed.
    """
    root = config.data or folder / "synthetic"
    if not config.data:
        check_request(config.category, SYNTHETIC["size"])
        write_json(folder / "config.json", dataclasses.asdict(config))
        write_category(root, config.category, seed=config.seed, **SYNTHETIC)
    category = read_category(root, config.category)
    try:
        train_items, held_out_items = split_held_out(category.train, config.held_out, config.seed)
    except InputError as error:
        raise InputError(f"{category.root}: {error}") from None
    size, side = config.image_size, judged_side(config, category.layout)
    bilinear = RULES[config.rules].bilinear_masks
    images = RunImages(
        train=load_images(train_items, size),
        held_out=load_images(held_out_items, size),
        held_out_names=[item.name for item in held_out_items],
        test=load_images(category.test, size),
        side=side,
        items=category.test,
        truths=[true_mask(item, size, side, bilinear) for item in category.test],
    )
    if config.data:
        write_json(folder / "config.json", dataclasses.asdict(config))
    return images


def true_mask(item, size, side, bilinear):
    """The centre of an Item's mask; all False for a good image, None for a defect that has none.  Shapes: -> (side, side) bool."""
    if not item.is_anomalous:
        return np.zeros((side, side), bool)
    return centre_crop(load_mask(item.mask_path, size, image_size(item.path), bilinear)[None], side)[0] if item.mask_path else None


def trained_weights(config, images, folder, xp, resume):
    """The running mean of the weights, on the device, and the training log, trained from the start or a checkpoint on.

    Shapes: images (M, H, W, 3) -> {name: array}, (steps, 2), loss and gradient norm.
    """
    checkpoint = folder / "checkpoint.npz"
    state = resume_training(checkpoint, config, xp) if resume and checkpoint.exists() else None
    state = train(config, images, folder, xp, state)
    return state.mean, np.array(state.log).reshape(-1, 2)


def sampled(model, images, config, seconds):
    """The Detection of the test images and the scores of the held-out ones; whichever of the two sets the mask's threshold goes first."""

    def calibrated(threshold=None):
        with timed(seconds, "calibration"):
            return calibrate(model, images.held_out, images.held_out_names, config, threshold, images.side)

    def detected(threshold=None):
        with timed(seconds, "detection"):
            return detect(model, images.test, [item.name for item in images.items], config, threshold)

    if mask_from_test_set(config):
        detection = detected()
        return detection, calibrated(detection.mask_threshold)[1]
    threshold, held_out_scores = calibrated()
    return detected(threshold), held_out_scores


@contextlib.contextmanager
def timed(seconds, stage):
    """Note the wall time of the block under seconds[stage]."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def versions(xp):
    """What ran: the versions of Python and the packages, the processor or GPU in words."""
    modules = {module.__name__: module.__version__ for module in (mdps_ref, np, scipy, PIL, matplotlib, xp)}
    return {"python": platform.python_version(), **modules, "arrays on": xp.__name__, "machine": platform.machine()}


def summary(metrics):
    """The metrics of each kind of chain, a line each, for the terminal; without a mask stage 1 is MDPS itself."""
    columns = ("image_auroc", "pixel_auroc", "aupro", "good_difference", "defect_difference", "contrast")
    lines = [f"{'':16}" + "".join(f"{name.replace('_', ' '):>19}" for name in columns)]
    for kind in ("mdps", "stage_1", "reconstruction") if metrics["mask_threshold"] is not None else ("mdps", "reconstruction"):
        values = [metrics[kind][name] for name in columns]
        lines.append(f"{kind.replace('_', ' '):16}" + "".join(f"{'-' if value is None else format(value, '.4f'):>19}" for value in values))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
