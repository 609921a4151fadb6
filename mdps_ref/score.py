"""Score new images with a trained run, `python -m mdps_ref.score DETECTOR IMAGES... --out DIR`: no labels, no training images needed."""

import argparse
import contextlib
import pathlib
import shlex
import sys

from mdps_ref.backend import BACKENDS, find_backend
from mdps_ref.command import add_running_flags, command_line, given_running_flags
from mdps_ref.data.files import whole_file
from mdps_ref.data.findings import Findings
from mdps_ref.data.listing import list_images
from mdps_ref.errors import InputError
from mdps_ref.job.detect import images_at_once
from mdps_ref.job.detector import Detector
from mdps_ref.job.progress import say
from mdps_ref.job.run_folder import folder_for_scores
from mdps_ref.job.scoring_session import RowFile, RowStream, keep_map, score_files
from mdps_ref.kernels import fast
from mdps_ref.report.overlay import overlay


def main(argv=None):
    """Run the command line `argv`.

    Returns
    -------
    int
        The exit status: 0; 2 after an error, told in one line on standard error; 130 or 143 if SIGINT or SIGTERM stopped it.
    """
    args = parser().parse_args(argv)
    return command_line(score, args)


def parser():
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.score",
        description="Score images with a detector that a run left: a row an image, as soon as it is done, and an anomaly map.",
        epilog="example: python -m mdps_ref.score runs/bottle-64 photographs --out found --overlays",
        allow_abbrev=False,
    )
    p.add_argument("detector", metavar="DETECTOR", help="a run's detector.npz, or the folder of the run")
    p.add_argument(
        "images", metavar="IMAGES", nargs="+", help="images, folders of images (with all below), or a category in MVTec's layout"
    )
    p.add_argument("--out", metavar="DIR", required=True, help="a new folder for scores.csv and maps/; - writes rows to standard output")
    p.add_argument("--resume", action="store_true", help="go on after the last row in --out")
    p.add_argument("--overlays", action="store_true", help="draw each map over its image, into overlays/")
    p.add_argument("--json", action="store_true", help="a line of JSON an image, scores.jsonl, instead of CSV")
    p.add_argument(
        "--strict", action="store_true", help="stop before the first image if some files are not read, and at the first broken one"
    )
    p.add_argument("--feature-weights", metavar="FILE", default="", help="the extractor's file of weights (default: where the run had it)")
    p.add_argument("--backend", choices=BACKENDS, default="auto", help="array module (default: auto, CuPy where it finds a GPU)")
    add_running_flags(p)
    return p


def score(args):
    """Score what the parsed `args` ask for."""
    to_stream = args.out == "-"
    if to_stream and (args.overlays or args.resume):
        raise InputError("--out - writes rows alone; give a folder to --out for --overlays or --resume")
    detector = Detector.load(args.detector, find_backend(args.backend), args.feature_weights)
    images = listed(args)
    with contextlib.nullcontext() if to_stream else folder_for_scores(args.out, args.resume), fast(args.threads):
        if to_stream:
            counts = _score(args, detector, images, RowStream(sys.stdout, args.json), lambda *_: None, 0)
            say(_summary(counts, "standard output"))
            return
        out = pathlib.Path(args.out)
        table = RowFile(out / ("scores.jsonl" if args.json else "scores.csv"), args.json)
        done = table.resume(images_at_once(detector.config), [image.name for image in images])
        args.going_on = f"{sys.executable} -m mdps_ref.score {shlex.join(_again(args))}"
        counts = _score(args, detector, images, table, _keep(out, detector, args.overlays), done)
        print(_summary(counts, table.path) + (f"; {done} were there already" if done else ""), flush=True)


def listed(args):
    """Return the images to score; say what is not read."""
    findings = Findings()
    images = list_images(args.images, findings)
    for line in (f"{len(images)} image{'s' * (len(images) != 1)} to score", *findings.lines()):
        say(line)
    if args.strict and findings:
        raise InputError(f"--strict: {'; '.join(findings.lines())}; remove them, or leave --strict out")
    return images


def _score(args, detector, images, table, keep, done):
    """Score the images, and count the rows that were scored, flagged, unsure and left out."""
    counts = {"scored": 0, "flagged": 0, "unsure": 0, "left out": 0}
    for row in score_files(detector, images, table, keep, done):
        if row.left_out and args.strict:
            raise InputError(f"--strict: {row.left_out}")
        counts["scored"] += not row.left_out
        counts["left out"] += bool(row.left_out)
        counts["flagged"] += bool(row.flagged)
        counts["unsure"] += bool(row.unsure)
        if row.left_out:
            say(f"left out: {row.left_out}")
    return counts


def _keep(out, detector, overlays):
    """Return the `keep` of `score_files` that writes the map of each image, and its overlay if wanted."""
    keep = keep_map(out / "maps", detector.config.fit)
    if not overlays:
        return keep

    def keep_both(image, scores, i):
        keep(image, scores, i)
        drawn = overlay(image.path, scores.anomaly[i], detector)
        with whole_file(out / "overlays" / f"{image.name}.png") as handle:
            handle.write(drawn)

    return keep_both


def _again(args):
    """Return the arguments that go on with this call."""
    flags = [f"--{name.replace('_', '-')}" for name in ("overlays", "json", "strict") if getattr(args, name)]
    values = ["--feature-weights", args.feature_weights] if args.feature_weights else []
    return [args.detector, *args.images, "--out", args.out, "--resume", *flags, *values, *given_running_flags(args)]


def _summary(counts, place):
    return ", ".join(f"{count} {name}" for name, count in counts.items()) + f": {place}"


if __name__ == "__main__":
    sys.exit(main())
