"""The main job, `python -m mdps_ref.run`: images in; a run folder with maps, scores, metrics and a report out."""

import argparse
import pathlib
import platform
import sys

import matplotlib
import numpy as np
import PIL
import scipy

import mdps_ref
from mdps_ref.backend import BACKENDS, find_backend
from mdps_ref.data.images import centre_crop
from mdps_ref.data.synthetic import DEFECTS
from mdps_ref.errors import InputError, exit_status
from mdps_ref.job.config import CHOICES, make_config, read_settings
from mdps_ref.job.pipeline import run_job
from mdps_ref.job.run_folder import open_run_folder
from mdps_ref.released.presets import preset_settings
from mdps_ref.report.page import write_report
from mdps_ref.report.result import Result

SETTING_FLAGS = (
    *("data", "category", "image_size", "network", "train_steps", "weights", "rules", "samples", "seed"),
    *("features", "feature_weights", "feature_layers"),
)
FILE_FLAGS = ("data", "weights", "feature_weights")
SUMMARY = ("image_auroc", "pixel_auroc", "aupro", "good_difference", "defect_difference", "contrast")


def main(argv=None):
    """Run the command line `argv`.

    Returns
    -------
    int
        The exit status: 0; 2 after an error, told in one line on standard error; 130 if interrupted.
    """
    args = parser().parse_args(argv)
    try:
        return exit_status(run_and_print, args)
    except KeyboardInterrupt:
        print(
            "mdps_ref: interrupted; --resume with --out and the run folder named above goes on from its last checkpoint, if it has one",
            file=sys.stderr,
        )
        return 130


def run_and_print(args):
    """Do the run that the parsed `args` ask for; print its metrics and where its report is."""
    result, folder = run(args)
    print(summary(result.metrics))
    print(f"report: {folder / 'report.html'}")


def parser():
    """Return the parser of the command line. A flag that sets a setting has no default here, so that only a given flag counts."""
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
    network.add_argument(
        "--network", choices=CHOICES["network"], help="its size (default: tiny up to 32 pixels, small up to 128, then released)"
    )
    network.add_argument("--train-steps", metavar="N", type=int, help="batches to train on (default: by network)")
    network.add_argument(
        "--weights", metavar="FILE", help="instead of training: a run's checkpoint.npz, or the authors' .pth or .safetensors"
    )
    sampling = p.add_argument_group("sampling")
    sampling.add_argument("--samples", metavar="N", type=int, help="posterior samples an image (default: by network)")
    sampling.add_argument("--seed", metavar="N", type=int, help="seed of all randomness (default: 0)")
    sampling.add_argument(
        "--rules", choices=CHOICES["rules"], help="follow the paper, or the authors' code where the two differ (default: paper)"
    )
    features = p.add_argument_group("features")
    features.add_argument(
        "--features", choices=CHOICES["features"], help="the features that are compared (default: unet, the network's own)"
    )
    features.add_argument("--feature-weights", metavar="FILE", help="file of the extractor's weights (default: in the folder weights)")
    features.add_argument("--feature-layers", metavar="NAMES", help="layers of the extractor, commas between (default: by features)")
    running = p.add_argument_group("run")
    running.add_argument("--out", metavar="DIR", help="run folder (default: a new one in runs/)")
    running.add_argument(
        "--resume", action="store_true", help="go on with the run in --out; it ends with the same bytes as an unbroken run"
    )
    running.add_argument("--preset", metavar="NAME", help="the authors' settings for a category, such as released/mvtec/bottle")
    running.add_argument(
        "--config", metavar="FILE", help="JSON file of settings, such as another run's config.json; merge: --preset < --config < flags"
    )
    running.add_argument("--backend", choices=BACKENDS, default="auto", help="array module (default: auto, CuPy where it finds a GPU)")
    return p


def run(args):
    """Do the run that the parsed `args` ask for.

    Returns
    -------
    result : Result
        What the report shows.
    folder : Path
        The run folder.

    Raises
    ------
    InputError
        If a flag, a file or an image cannot be used.
    """
    xp = find_backend(args.backend)
    config = requested_config(args)
    folder = open_run_folder(args.out, args.resume, f"{config.category}-{config.image_size}")
    outcome = run_job(config, folder, xp, args.resume)
    images = outcome.images
    result = Result(
        config=config,
        images=centre_crop(images.test, images.side),
        names=images.test_names,
        defects=[item.defect for item in images.items],
        truths=images.truths,
        detection=outcome.detection,
        held_out_scores=outcome.held_out_scores,
        metrics=outcome.metrics,
        log=outcome.log,
        seconds=outcome.seconds,
        versions=versions(xp),
    )
    write_report(folder, result)
    return result, folder


def requested_config(args):
    """Return the Config that the command line asks for. Merge: network defaults < --preset < --config < flags.

    With --resume the settings are the run's own.

    Raises
    ------
    InputError
        If a flag lacks another one that it needs, or a setting given now differs from that of the run to resume.
    """
    given = read_settings(args.config) if args.config else {}
    given |= {name: getattr(args, name) for name in SETTING_FLAGS if getattr(args, name) is not None}
    given |= {name: str(pathlib.Path(given[name]).absolute()) for name in FILE_FLAGS if given.get(name)}
    if not args.resume:
        if given.get("data") and "category" not in given and not args.preset:
            raise InputError(f"{given['data']}: --data needs --category NAME, the folder in it to use")
        if args.preset and not given.get("data") and "category" not in given:
            raise InputError(f"--preset {args.preset} needs --data DIR, the folder that holds its category")
        return make_config(given, args.preset)
    stored = read_settings(open_run_folder(args.out, True, "") / "config.json")
    if args.preset:
        given = preset_settings(args.preset, stored.get("rules", "paper"), stored.get("rules_except", "")) | given
    for name, value in given.items():
        if name in stored and stored[name] != value:
            raise InputError(f"{args.out}: this run has {name} {stored[name]!r}, not {value!r}; leave it out, or start another run")
    return make_config(given | stored)


def versions(xp):
    """Return the versions of Python and the packages, and the kind of machine."""
    modules = {module.__name__: module.__version__ for module in (mdps_ref, np, scipy, PIL, matplotlib, xp)}
    return {"python": platform.python_version(), **modules, "arrays on": xp.__name__, "machine": platform.machine()}


def summary(metrics):
    """Return the metrics of each chain, a line each, for the terminal; without a mask the guided chain is MDPS itself."""
    lines = [f"{'':16}" + "".join(f"{name.replace('_', ' '):>19}" for name in SUMMARY)]
    for chain in ("mdps", "guided", "reconstruction") if metrics["mask_threshold"] is not None else ("mdps", "reconstruction"):
        values = [metrics[chain][name] for name in SUMMARY]
        lines.append(f"{chain:16}" + "".join(f"{'-' if value is None else format(value, '.4f'):>19}" for value in values))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
