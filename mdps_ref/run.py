"""The main job, `python -m mdps_ref.run`: images in; a run folder with maps, scores, metrics and a report out."""

import argparse
import dataclasses
import functools
import shlex
import sys

from mdps_ref.backend import find_backend
from mdps_ref.command import add_cluster_flag, add_running_flags, command_line, given_running_flags, workers
from mdps_ref.data.synthetic import DEFECTS
from mdps_ref.errors import InputError, shown
from mdps_ref.job.categories import ALL, one_by_one, results, table_of, write_results
from mdps_ref.job.choices import listing
from mdps_ref.job.config import CHOICES, make_config
from mdps_ref.job.pipeline import end_run, run_job
from mdps_ref.job.progress import speaking, stage
from mdps_ref.job.requested import given_settings, requested_config, requested_plan
from mdps_ref.job.run_folder import PLAN, WORK, check_still_there, claimed, write_json
from mdps_ref.job.settings_file import read_settings
from mdps_ref.report.page import write_report
from mdps_ref.report.shown import Shown
from mdps_ref.report.verdict import counts
from mdps_ref.study.tuning import tune


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
    """Do the run, or the runs, that the parsed `args` ask for; print metrics and where they are. Return the exit status."""
    if args.list:
        print(listing())
        return 0
    given = given_settings(args)
    if given.get("category") == ALL:
        return run_all(args, given)
    result, folder = run(args, given)
    print(summary(result))
    print(f"report: {folder / 'report.html'}", flush=True)
    return 0


def in_notebook(*flags):
    """Do a run from a notebook's cell.

    Parameters
    ----------
    *flags : str
        As on the command line, such as "--train-steps", "20".

    Returns
    -------
    Shown
        The report, which the cell shows if this call is its last line. Its `path` is the page's, in the run folder.

    Raises
    ------
    InputError
        If a flag, a file or an image cannot be used.
    """
    p = parser()
    p.error = _refuse
    args = p.parse_args(flags)
    given = given_settings(args)
    if args.list or given.get("category") == ALL:
        raise InputError("a cell shows the report of one run; give --list and --category all on the command line")
    with speaking(args.level or "normal"):
        result, folder = run(args, given)
    print(summary(result))
    return Shown(folder / "report.html")


def _refuse(message):
    raise InputError(message)


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
    images.add_argument(
        "--category",
        metavar="NAME",
        help=f"folder in DIR, or {', '.join(DEFECTS)} of the synthetic set (default: washer); all: one run for each category",
    )
    images.add_argument(
        "--image-size",
        metavar="N",
        type=int,
        help="side in pixels that images are resized to (default: 32, or that of the bundled weights)",
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
    sampling.add_argument("--samples", metavar="N", type=int, help="posterior samples for each image (default: by network)")
    sampling.add_argument("--tune", action="store_true", help="choose settings on held-out good images with planted defects, no labels")
    sampling.add_argument("--seed", metavar="N", type=int, help="seed of all randomness (default: 0)")
    sampling.add_argument(
        "--rules", choices=CHOICES["rules"], help="follow the paper, or the authors' code where the two differ (default: paper)"
    )
    features = p.add_argument_group("features")
    features.add_argument(
        "--features",
        metavar="NAME",
        choices=CHOICES["features"],
        help="the features that are compared, see --list (default: auto, the run chooses by planted defects)",
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
    running.add_argument(
        "--preset",
        metavar="NAME",
        help="the authors' settings for a category, such as released/mvtec/bottle; for all: released/mvtec or released/btad",
    )
    running.add_argument(
        "--config", metavar="FILE", help="JSON file of settings, such as another run's config.json; merge: --preset < --config < flags"
    )
    running.add_argument("--list", action="store_true", help="list settings with their defaults, networks, extractors and presets, and end")
    add_cluster_flag(running)
    add_running_flags(running)
    return p


def run(args, given):
    """Do the run that the parsed `args` and the `given_settings` ask for.

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
    config = requested_config(args, given)
    with workers(args) as client, claimed(args.out, args.resume, f"{config.category}-{config.image_size}") as folder:
        if args.resume or not config.data:  # the folder stays even if reading is stopped
            args.going_on = _going_on(args, folder)

        def begun():
            args.going_on = _going_on(args, folder)
            print(f"run folder: {folder}", flush=True)

        result = run_in(folder, config, xp, args.resume, begun, _chains(client, args))
    return result, folder


def run_in(folder, config, xp, resume, begun=lambda: None, cluster=None):
    """Do a run, with its report, in a folder that is claimed; return the Result. For the arguments see `run_job`."""
    result = run_job(config, folder, xp, tune, resume, begun, cluster)
    check_still_there(folder)
    with stage("report", result.seconds):
        write_report(folder, result)
    check_still_there(folder)
    end_run(folder)
    return result


def run_category(config, folder, xp):
    """Do the run of one category of several, or go on with it. A run that has ended is left alone, unless `config` has more steps."""
    stored = folder / "config.json"
    resume = stored.is_file()
    if resume:
        own = make_config(read_settings(stored))  # tuning may have changed settings, and the run may have been trained further by itself
        steps = max(own.train_steps, config.train_steps)
        if steps == own.train_steps and (folder / "report.html").is_file() and not (folder / WORK).is_dir():
            return
        config = dataclasses.replace(own, data=config.data, skip_bad=own.skip_bad or config.skip_bad, train_steps=steps)
    with claimed(folder, resume, config.category):
        run_in(folder, config, xp, resume)


def run_all(args, given):
    """Do the run of each category; return 2 if a run failed, and 0 otherwise."""
    plan, reasons = requested_plan(args, given), {}
    with workers(args) as client:
        run_each = _run_each(client, args)
        with claimed(args.out, args.resume, ALL, PLAN) as folder:
            args.going_on = _going_on(args, folder, "--category", ALL)
            write_json(folder / PLAN, {name: dataclasses.asdict(config) for name, config in plan.items()})
            print(f"run folders: {folder}", flush=True)
            for name, reason in run_each((name, config, folder.absolute() / name) for name, config in plan.items()):
                if reason:
                    reasons[name] = reason
                    print(f"mdps_ref: {shown(name)}: {reason}", file=sys.stderr, flush=True)
            rows = results(folder, plan, reasons)
            write_results(folder / "results.csv", rows)
    print(f"{table_of(rows)}\nresults: {folder / 'results.csv'}", flush=True)
    return 2 if reasons else 0


def _going_on(args, folder, *more):
    """Return the command that goes on with a run, from any folder."""
    return shlex.join(
        [sys.executable, "-m", "mdps_ref.run", *more, "--resume", "--out", str(folder.absolute()), *given_running_flags(args)]
    )


def _chains(client, args):
    """Return what lets a cluster work on batches, see `run_job`; None without one."""
    if client is None:
        return None
    from mdps_ref.job.cluster_chains import chains_on_cluster  # Dask is an extra

    return functools.partial(chains_on_cluster, client, threads=args.threads or 1, backend=args.backend)


def _run_each(client, args):
    """Return what does many runs: `run_each` of this process, or of the workers of a cluster."""
    if client is None:
        xp = find_backend(args.backend)
        return one_by_one(lambda config, folder: run_category(config, folder, xp))
    from mdps_ref.job.cluster_runs import runs_on_cluster  # Dask is an extra

    return runs_on_cluster(client, run_category, args.threads or 1, args.backend)


def summary(result):
    """Return the metrics of each chain, a line each, for the terminal, and how many images were flagged.

    Without a mask the guided chain is MDPS itself, and has no line.
    """
    metrics = result.metrics
    chains = ("mdps", "guided", "reconstruction") if metrics["mask_threshold"] is not None else ("mdps", "reconstruction")
    warned = [f"warning: {result.warning}"] if result.warning else []
    return "\n".join([table_of({chain: metrics[chain] for chain in chains}), flagged_line(result), *warned])


def flagged_line(result):
    """Return a line that says how many images were flagged, of each kind that was tested, and what the threshold rests on."""
    counted = [f"{flagged} of {total} {kind}" for kind, (flagged, total) in counts(result).items()]
    held_out, rate = len(result.held_out_scores), 100 * result.config.false_positive_rate
    rests_on = f"threshold from {held_out} held-out good image{'s' * (held_out != 1)} at a false-positive rate of {rate:g} %"
    return f"flagged: {' and '.join(counted)} images; {rests_on}"


if __name__ == "__main__":
    sys.exit(main())
