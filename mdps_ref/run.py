"""The main job, `python -m mdps_ref.run`: images in; a run folder with maps, scores, metrics and a report out."""

import argparse
import contextlib
import functools
import pathlib
import shlex
import sys

import numpy as np

from mdps_ref.backend import BACKENDS, find_backend
from mdps_ref.command import add_cluster_flag, add_running_flags, command_line, given_running_flags
from mdps_ref.data.folders import GOOD
from mdps_ref.data.synthetic import DEFECTS
from mdps_ref.errors import InputError
from mdps_ref.job.bundled import BUNDLED, with_bundled
from mdps_ref.job.choices import listing
from mdps_ref.job.config import CHOICES, Config, make_config
from mdps_ref.job.pipeline import end_run, run_job
from mdps_ref.job.progress import stage
from mdps_ref.job.run_folder import check_run_folder, check_still_there, claimed, remove_results, write_config
from mdps_ref.job.settings_file import read_settings
from mdps_ref.kernels import fast
from mdps_ref.released.presets import check_preset, preset_settings
from mdps_ref.report.page import write_report
from mdps_ref.study.tuning import tune

SETTING_FLAGS = (
    *("data", "category", "image_size", "network", "train_steps", "weights", "rules", "samples", "seed"),
    *("features", "feature_weights", "feature_layers", "fit"),
)
SWITCHES = ("skip_bad", "strict", "tune")
FILE_FLAGS = ("data", "weights", "feature_weights")
SUMMARY = ("image_auroc", "pixel_auroc", "aupro", "good_difference", "defect_difference", "contrast")


def main(argv=None):
    """Run the command line `argv`.

    Returns
    -------
    int
        The exit status: 0; 2 after an error, told in one line on standard error; 130 or 143 if SIGINT or SIGTERM stopped it.
    """
    args = parser().parse_args(argv)
    return command_line(run_and_print, args)


def run_and_print(args):
    """Do the run that the parsed `args` ask for; print its metrics and where its report is."""
    if args.list:
        print(listing())
        return
    result, folder = run(args)
    print(summary(result))
    print(f"report: {folder / 'report.html'}", flush=True)


def parser():
    """Return the parser of the command line. A flag that sets a setting has no default here, so that only a given flag counts."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.run",
        description="Find and locate defects: train a diffusion model on good images, sample what each test image would be without its "
        "defect (MDPS), and map the difference. With no argument it does so on a synthetic set, by weights that come with the package.",
        epilog="example: python -m mdps_ref.run --data ~/mvtec --category hazelnut --image-size 64 --train-steps 1000",
        allow_abbrev=False,
    )
    images = p.add_argument_group("images")
    images.add_argument("--data", metavar="DIR", help="folder of categories in MVTec AD's or BTAD's layout (default: draw a synthetic set)")
    images.add_argument("--category", metavar="NAME", help=f"folder in DIR, or {', '.join(DEFECTS)} of the synthetic set (default: washer)")
    images.add_argument(
        "--image-size", metavar="N", type=int, help="pixels a side that images are resized to (default: 32, or that of the bundled weights)"
    )
    images.add_argument("--fit", choices=CHOICES["fit"], help="how an image that is no square becomes one (default: stretch)")
    images.add_argument("--skip-bad", action="store_true", help="set images that cannot be read aside, and count them")
    images.add_argument("--strict", action="store_true", help="stop before training if anything is set aside or doubtful")
    network = p.add_argument_group("network")
    network.add_argument(
        "--network", choices=CHOICES["network"], help="its size (default: tiny up to 32 pixels, small up to 128, then released)"
    )
    network.add_argument("--train-steps", metavar="N", type=int, help="batches to train on (default: by network)")
    network.add_argument("--train", action="store_true", help="train from scratch, also where weights come with the package")
    network.add_argument(
        "--weights", metavar="FILE", help="instead of training: a run's checkpoint.npz, the authors' .pth or .safetensors, or bundled"
    )
    sampling = p.add_argument_group("sampling")
    sampling.add_argument("--samples", metavar="N", type=int, help="posterior samples an image (default: by network)")
    sampling.add_argument("--tune", action="store_true", help="choose settings on held-out good images with planted defects, no labels")
    sampling.add_argument("--seed", metavar="N", type=int, help="seed of all randomness (default: 0)")
    sampling.add_argument(
        "--rules", choices=CHOICES["rules"], help="follow the paper, or the authors' code where the two differ (default: paper)"
    )
    features = p.add_argument_group("features")
    features.add_argument(
        "--features",
        choices=CHOICES["features"],
        help="the features that are compared (default: auto, the run chooses by planted defects)",
    )
    features.add_argument("--feature-weights", metavar="FILE", help="file of the extractor's weights (default: in the folder weights)")
    features.add_argument("--feature-layers", metavar="NAMES", help="layers of the extractor, commas between (default: by features)")
    running = p.add_argument_group("run")
    running.add_argument("--out", metavar="DIR", help="run folder (default: a new one in runs/)")
    running.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out; it ends with the same bytes as an unbroken run. A larger --train-steps trains it further",
    )
    running.add_argument("--preset", metavar="NAME", help="the authors' settings for a category, such as released/mvtec/bottle")
    running.add_argument(
        "--config", metavar="FILE", help="JSON file of settings, such as another run's config.json; merge: --preset < --config < flags"
    )
    running.add_argument("--backend", choices=BACKENDS, default="auto", help="array module (default: auto, CuPy where it finds a GPU)")
    running.add_argument("--list", action="store_true", help="list presets, networks, extractors and settings with their defaults, and end")
    add_cluster_flag(running)
    add_running_flags(running)
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
    with _cluster(args) as cluster, claimed(args.out, args.resume, f"{config.category}-{config.image_size}") as folder:
        args.going_on = shlex.join(
            [sys.executable, "-m", "mdps_ref.run", "--resume", "--out", str(folder.absolute()), *given_running_flags(args)]
        )
        if args.resume:
            go_on_with(folder, config)
        begun = functools.partial(print, f"run folder: {folder}", flush=True)
        result = run_job(config, folder, xp, args.resume, tune, begun, cluster)
        check_still_there(folder)
        with stage("report", result.seconds):
            write_report(folder, result)
        check_still_there(folder)
        end_run(folder)
    return result, folder


def go_on_with(folder, config):
    """Write the settings of a resumed run. If it is to train further, its results are removed first: they are those of fewer steps."""
    if read_settings(folder / "config.json").get("train_steps") != config.train_steps:
        remove_results(folder)
    write_config(folder, config)


@contextlib.contextmanager
def _cluster(args):
    """Yield what lets a cluster make the maps, see `run_job`; None without one. Inside the block kernels are fast."""
    if not args.cluster:
        with fast(args.threads):
            yield None
        return
    from mdps_ref.job.cluster import connected  # Dask is an extra
    from mdps_ref.job.cluster_chains import maps_on_cluster

    threads = args.threads or 1
    with connected(args.cluster, threads) as client, fast(threads, forks=False):
        yield functools.partial(maps_on_cluster, client, threads=threads, backend=args.backend)


def requested_config(args):
    """Return the Config that the command line asks for. Merge: network defaults < --preset < --config < flags.

    With --resume the settings are the run's own.

    Raises
    ------
    InputError
        If a flag lacks another one that it needs, or a setting given now differs from that of the run to resume.
    """
    if args.preset:
        check_preset(args.preset)
    given = read_settings(args.config) if args.config else {}
    for name in SETTING_FLAGS:
        value = getattr(args, name)
        if value == "":
            raise InputError(f"--{name.replace('_', '-')} is empty; give a value, or leave the flag out")
        given |= {} if value is None else {name: value}
    given |= {name: True for name in SWITCHES if getattr(args, name)}
    given |= {name: str(pathlib.Path(given[name]).absolute()) for name in FILE_FLAGS if given.get(name) and given[name] != BUNDLED}
    if args.train and (given.get("weights") or args.resume):
        raise InputError(f"--train trains from scratch; leave it out, or leave out {'--resume' if args.resume else 'weights'}")
    if not args.resume:
        if given.get("data") and "category" not in given and not args.preset:
            raise InputError(f"{given['data']}: --data needs --category NAME, the folder in it to use")
        if args.preset and not given.get("data") and "category" not in given:
            raise InputError(f"--preset {args.preset} needs --data DIR, the folder that holds its category")
        if not (args.train or args.preset):
            given = with_bundled(given, given.get("category", Config.category))
        return make_config(given, args.preset)
    if args.out is None:
        raise InputError("--resume needs --out FOLDER, the run folder to go on with")
    check_run_folder(pathlib.Path(args.out), True)
    stored = read_settings(pathlib.Path(args.out) / "config.json")
    if args.preset:
        given = preset_settings(args.preset, stored.get("rules", "paper"), stored.get("rules_except", "")) | given
    more_steps = {"train_steps": given["train_steps"]} if given.get("train_steps", 0) > stored.get("train_steps", 0) else {}
    for name, value in given.items():
        if name in stored and stored[name] != value and name not in more_steps:
            raise InputError(f"{args.out}: this run has {name} {stored[name]!r}, not {value!r}; leave it out, or start another run")
    return make_config(given | stored | more_steps)


def summary(result):
    """Return the metrics of each chain, a line each, for the terminal, and how many images were flagged.

    Without a mask the guided chain is MDPS itself, and has no line.
    """
    metrics = result.metrics
    lines = [f"{'':16}" + "".join(f"{name.replace('_', ' '):>19}" for name in SUMMARY)]
    for chain in ("mdps", "guided", "reconstruction") if metrics["mask_threshold"] is not None else ("mdps", "reconstruction"):
        values = [metrics[chain][name] for name in SUMMARY]
        lines.append(f"{chain:16}" + "".join(f"{'-' if value is None else format(value, '.4f'):>19}" for value in values))
    return "\n".join([*lines, flagged_line(result)])


def flagged_line(result):
    """Return a line that says how many images were flagged, of each kind that was tested, and what the threshold rests on."""
    good = np.array(result.defects) == GOOD
    kinds = {"defective": result.flagged[~good], "good": result.flagged[good]}
    counts = [f"{np.count_nonzero(flagged)} of {len(flagged)} {kind}" for kind, flagged in kinds.items() if len(flagged)]
    held_out, rate = len(result.held_out_scores), 100 * result.config.false_positive_rate
    rests_on = f"threshold from {held_out} held-out good image{'s' * (held_out != 1)} at a false-positive rate of {rate:g} %"
    return f"flagged: {' and '.join(counts)} images; {rests_on}"


if __name__ == "__main__":
    sys.exit(main())
