"""Score new images with a trained run, `python -m mdps_ref.score DETECTOR IMAGES... --out DIR`: no labels, no training images needed."""

import argparse
import itertools
import pathlib
import shlex
import sys

import numpy as np

from mdps_ref.backend import find_backend
from mdps_ref.command import add_cluster_flag, add_running_flags, command_line, given_running_flags, workers
from mdps_ref.data.files import digest, whole_file
from mdps_ref.data.findings import Findings
from mdps_ref.data.listing import list_images
from mdps_ref.errors import InputError, shown
from mdps_ref.job.chains import images_at_once
from mdps_ref.job.detector import Detector, detector_file
from mdps_ref.job.image_digests import ImageDigests
from mdps_ref.job.progress import say
from mdps_ref.job.run_folder import folder_for_scores, read_json, write_json
from mdps_ref.job.scoring_session import RowFile, RowStream, check_none_left_out, keep_map, one_after_another, score_files
from mdps_ref.report.overlay import overlay


def main(argv=None):
    """Run the command line `argv`.

    Returns
    -------
    int
        The exit status: 0; 1 if no image could be scored; 2 after an error, told in one line on standard error; 130 or 143 if SIGINT or
        SIGTERM stopped it.
    """
    args = parser().parse_args(argv)
    return command_line(score, args)


def parser():
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.score",
        description="Score images with a detector that a run left: a row and a map for each image, written after every few images.",
        epilog="example: python -m mdps_ref.score runs/bottle-64 photographs --out found --overlays",
        allow_abbrev=False,
    )
    p.add_argument("detector", metavar="DETECTOR", help="a run's detector.npz, or the folder of the run")
    p.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="images, folders of images (with all below), or a category in MVTec's or BTAD's layout: its folder test alone is read, not "
        "train and ground_truth",
    )
    p.add_argument("--out", metavar="DIR", required=True, help="a new folder for scores.csv and maps/; - writes rows to standard output")
    p.add_argument("--resume", action="store_true", help="go on after the last row in --out")
    p.add_argument("--overlays", action="store_true", help="draw each map over its image, into overlays/")
    p.add_argument("--json", action="store_true", help="a line of JSON for each image, scores.jsonl, instead of CSV")
    p.add_argument(
        "--strict", action="store_true", help="stop before the first image if some files are not read, and at the first broken one"
    )
    p.add_argument("--feature-weights", metavar="FILE", default="", help="the extractor's file of weights (default: where the run had it)")
    add_cluster_flag(p)
    add_running_flags(p)
    return p


def score(args):
    """Score what the parsed `args` ask for; return 1 if no image could be scored."""
    if args.out == "-" and (args.overlays or args.resume):
        raise InputError("--out - writes rows alone; give a folder to --out for --overlays or --resume")
    if "" in (args.detector, args.out, *args.images):
        raise InputError("a path is empty; give a detector, --out FOLDER, and images or folders of images")
    xp = np if args.cluster else find_backend(args.backend)  # each worker finds its own
    detector = Detector.load(args.detector, xp, args.feature_weights)
    images = listed(args)
    with workers(args) as client:
        to = _to_stream if args.out == "-" else _to_folder
        counts = to(args, detector, images, _score_batches(client, args))
    return 0 if counts["scored"] else 1


def _score_batches(client, args):
    """Return what scores batches: this process, or the workers of a cluster."""
    if client is None:
        return one_after_another
    from mdps_ref.job.cluster_scoring import on_cluster  # Dask is an extra

    return on_cluster(client, args.threads or 1, args.backend)


def _to_stream(args, detector, images, score_batches):
    """Write rows to standard output."""
    rows = score_files(detector, images, RowStream(sys.stdout, args.json), score_batches=score_batches, strict=args.strict)
    counts, _ = _scored(rows)
    say(_summary(counts, detector, "standard output"))
    return counts


def _to_folder(args, detector, images, score_batches):
    """Write rows, maps and overlays into the folder --out. If no image could be scored, nothing is left there."""
    out = pathlib.Path(args.out)
    with folder_for_scores(out, args.resume):
        check_call(out, {"detector": digest(detector_file(args.detector)), "overlays": args.overlays, "json": args.json})
        table = RowFile(out / ("scores.jsonl" if args.json else "scores.csv"), args.json)
        digests = ImageDigests(out / "digests")
        earlier = table.resume(images_at_once(detector.config), [image.name for image in images], len(digests))
        digests.resume(images[: len(earlier)])
        if args.strict:
            check_none_left_out(earlier, "leave --strict out to go on, or score into another --out")
        args.going_on = shlex.join([sys.executable, "-m", "mdps_ref.score", *_again(args)])
        keep = _keep(out, detector, args.overlays)
        rows = score_files(detector, images, table, keep, len(earlier), score_batches, digests.note, args.strict)
        counts, reason = _scored(itertools.chain(earlier, rows))
        place, already = table.path, f" ({len(earlier)} of them were there already)" if earlier else ""
        if not counts["scored"]:
            place, already = f"nothing is left in {out}; {reason}", ""
            for path in (table.path, digests.path, out / "call.json"):
                path.unlink()
        print(_summary(counts, detector, place) + already, flush=True)
    return counts


def check_call(out, call):
    """Write what a call asks for into call.json, or compare it with what is there: --resume goes on with the same.

    Raises
    ------
    InputError
        If the folder was begun by another detector, or with or without --overlays or --json.
    """
    path = out / "call.json"
    if not path.is_file():
        write_json(path, call)
        return
    begun = read_json(path)
    for name in call:
        if begun.get(name) != call[name]:
            with_what = "another detector" if name == "detector" else f"--{name}" if begun.get(name) else f"no --{name}"
            raise InputError(f"{out}: was begun with {with_what}; go on with that, or give another folder to --out")


def listed(args):
    """Return the images to score; say what is not read."""
    findings = Findings()
    images = list_images(args.images, findings)
    for line in (f"{len(images)} image{'s' * (len(images) != 1)} to score", *findings.lines()):
        say(line)
    if args.strict and findings:
        raise InputError(f"--strict: {'; '.join(findings.lines())}; remove them, or leave --strict out")
    return images


def _scored(rows):
    """Go through the rows, which scores the images; say which are left out. Return the counts, and the first reason."""
    counts, first = {"scored": 0, "flagged": 0, "unsure": 0, "left out": 0}, ""
    for row in rows:
        if row.left_out:
            reason = f"{shown(row.path)}: {row.left_out}"
            first = first or reason
            say(f"left out: {reason}")
        counts["scored"] += not row.left_out
        counts["left out"] += bool(row.left_out)
        counts["flagged"] += bool(row.flagged)
        counts["unsure"] += bool(row.unsure)
    return counts, first


def _keep(out, detector, overlays):
    """Return the `keep` of `score_files` that writes the map of each image, and its overlay if wanted."""
    keep = keep_map(out / "maps", detector.config.fit)
    if not overlays:
        return keep

    def keep_both(image, anomaly):
        keep(image, anomaly)
        drawn = overlay(image.path, anomaly, detector)
        with whole_file(out / "overlays" / f"{image.name}.png") as handle:
            handle.write(drawn)

    return keep_both


def _again(args):
    """Return the arguments that go on with this call, from any folder."""
    detector, out, *images = (str(pathlib.Path(path).absolute()) for path in (args.detector, args.out, *args.images))
    flags = [f"--{name.replace('_', '-')}" for name in ("overlays", "json", "strict") if getattr(args, name)]
    weights = ["--feature-weights", str(pathlib.Path(args.feature_weights).absolute())] if args.feature_weights else []
    return [detector, *images, "--out", out, "--resume", *flags, *weights, *given_running_flags(args)]


def _summary(counts, detector, place):
    threshold = f" (score above {detector.decision_threshold:.4g})"
    parts = [f"{count} {name}{threshold * (name == 'flagged')}" for name, count in counts.items()]
    return f"{', '.join(parts)}: {place}"


if __name__ == "__main__":
    sys.exit(main())
