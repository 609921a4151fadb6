"""What each step of the method is worth on a run's test images, `python -m mdps_ref.ablate RUN --out DIR`: a table with intervals."""

import argparse
import dataclasses
import pathlib
import shlex
import shutil
import sys

import numpy as np

from mdps_ref.backend import find_backend
from mdps_ref.command import add_running_flags, command_line, positive
from mdps_ref.errors import InputError
from mdps_ref.job.detector import Detector
from mdps_ref.job.images import read_images
from mdps_ref.job.pipeline import versions
from mdps_ref.job.run_folder import WORK, check_still_there, claimed, others_in
from mdps_ref.job.settings_file import read_settings
from mdps_ref.kernels import fast
from mdps_ref.report.ablation import COLUMNS, mark, write_ablation
from mdps_ref.study.ablation import ablate, stratified
from mdps_ref.study.variants import wanted_rows


def main(argv=None):
    """Run the command line `argv`.

    Returns
    -------
    int
        The exit status: 0; 2 after an error, told in one line on standard error; 130 or 143 if SIGINT or SIGTERM stopped it.
    """
    args = parser().parse_args(argv)
    args.command = shlex.join(["python", "-m", "mdps_ref.ablate", *(sys.argv[1:] if argv is None else argv)])
    return command_line(run, args)


def parser():
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.ablate",
        description="Say what each step of the method is worth on the test images of a run: the run's detector without it, with other "
        "settings and features, and simpler methods, all with bootstrap intervals.",
        epilog="example: python -m mdps_ref.ablate runs/washer-64 --out worth --only reconstruction,guidance,mask",
        allow_abbrev=False,
    )
    p.add_argument("run", metavar="RUN", help="the folder of a run that has ended")
    p.add_argument("--out", metavar="DIR", required=True, help="a new folder for ablation.html and ablation.json")
    p.add_argument("--only", metavar="NAMES", default="", help="rows to evaluate beside MDPS, commas between (default: all)")
    p.add_argument(
        "--images", metavar="N", type=positive, help="look at N test images, with the share of each kind of defect kept (default: all)"
    )
    p.add_argument("--seed", metavar="N", type=int, help="seed of the samples, resamples and chosen images (default: the run's)")
    p.add_argument("--feature-weights", metavar="FILE", default="", help="the extractor's file of weights (default: where the run had it)")
    add_running_flags(p)
    return p


def run(args):
    """Do the ablation that the parsed `args` ask for; print its table, and where its page is."""
    if args.images == 1:
        raise InputError("--images is 1; give at least 2, a good and a defective one, or leave it out")
    xp, folder = find_backend(args.backend), pathlib.Path(args.run)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no run (no config.json); give the folder of a run that has ended")
    settings, detector = read_settings(folder / "config.json"), Detector.load(folder, xp, args.feature_weights)
    own = dataclasses.replace(detector.config, **{name: settings[name] for name in ("data", "skip_bad") if name in settings})
    config = own if args.seed is None else dataclasses.replace(own, seed=args.seed)
    wanted = wanted_rows(config, args.only)
    if others_in(pathlib.Path(args.out)):
        raise InputError(f"{args.out}: already holds files; give another folder to --out")
    with claimed(args.out, False, "") as out, fast(args.threads):
        images = images_again(own, folder, out / WORK)
        labels = np.array([item.is_anomalous for item in images.items])
        if labels.all() or not labels.any():
            raise InputError(f"{folder}: its test images are all {'defective' if labels.all() else 'good'}; an ablation needs both kinds")
        chosen = stratified(images.defects, labels, args.images or len(labels), config.seed)
        if len(chosen) < len(labels):
            print(f"looking at {len(chosen)} of {len(labels)} test images", flush=True)
        found = ablate(detector, config, images, wanted, chosen)
        about = {
            "command": args.command,
            "category": config.category,
            "seed": config.seed,
            "images": {
                "good": int(np.count_nonzero(~labels[chosen])),
                "defective": int(np.count_nonzero(labels[chosen])),
                "without_mask": sum(images.truths[i] is None for i in chosen),
                "of": len(labels),
            },
            "settings": dataclasses.asdict(config),
            "versions": versions(xp),
        }
        check_still_there(out)
        write_ablation(out, found, about)
    print(summary(found.rows))
    print(f"page: {out / 'ablation.html'}", flush=True)


def images_again(config, folder, work):
    """Read the images of a run again. A synthetic set is drawn again.

    Parameters
    ----------
    config : Config
    folder : Path
        Of the run.
    work : Path
        Where to decode and draw; emptied first.

    Returns
    -------
    RunImages

    Raises
    ------
    InputError
        If an image is not as it was in the run.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shutil.copyfile(folder / "data.json", work / "data.json")
    try:
        return read_images(config, work)
    except InputError as error:
        raise InputError(str(error).replace(f"the run in {work} ", f"the run in {folder} ")) from None


def summary(rows):
    """Return image AUROC, pixel AUROC and AUPRO of each row with their intervals, a line each, for the terminal."""
    width = max(len(row.title) for row in rows) + 2
    compared = list(rows[0].differences)
    lines = [" " * width + "".join(f"{COLUMNS[metric][0]:24}" for metric in compared) + "s/image"]
    for row in rows:
        cells = ""
        for metric in compared:
            value, low, high = row.metrics[metric]
            sign = {"▲": "+", "▼": "-", "": " "}[mark(row.differences[metric])]
            cells += f"{f'{value:.3f} [{low:.3f}, {high:.3f}] {sign}' if value == value else '-':24}"
        lines.append(f"{row.title:{width}}{cells}{row.seconds:7.3g}")
    lines.append("+ higher, - lower than MDPS beyond chance (paired 95 % interval)")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
