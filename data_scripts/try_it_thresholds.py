"""Calibrate the page "try it": `python data_scripts/try_it_thresholds.py` writes tutorials/lite/try_it/thresholds.json.

Every position of the knobs gets thresholds of its own, from the same good washers. They are drawn for this alone: none of them trained
the network, and the page shows none of them. The score that is flagged lies above those of all these washers.
"""

import argparse
import itertools
import json
import pathlib
import sys

import numpy as np

from mdps_ref.data.files import whole_file
from mdps_ref.errors import exit_status
from mdps_ref.job.progress import progress
from mdps_ref.kernels import fast
from mdps_ref.posterior.mask import mask_threshold
from mdps_ref.scoring.image_score import IMAGE_SCORES
from mdps_ref.scoring.metrics import threshold_at_rate
from mdps_ref.study.experiment import Experiment, make_extractors

PAGE = pathlib.Path(__file__).parents[1] / "tutorials" / "lite" / "try_it"
sys.path.insert(0, str(PAGE))

import try_it  # noqa: E402 (the page's own file, which the line above finds)

GOOD = 20  # washers
CHOICES = {"start": (100, 200, 300, 400), "strength": (0.0, 1.0, 2.0), "samples": (1, 2), "mask_share": (0.02, 0.05, 0.2)}


def main(argv=None):
    """Run the command line `argv`; return the exit status."""
    p = argparse.ArgumentParser(description="Calibrate the page 'try it' at every position of its knobs.")
    p.add_argument("--threads", metavar="N", type=int, help="threads (default: one on each core)")
    p.add_argument("--out", metavar="FILE", type=pathlib.Path, default=PAGE / "thresholds.json", help="default: the page's own")
    return exit_status(write, p.parse_args(argv))


def write(args):
    """Write the file."""
    with fast(args.threads):
        found = list(rows(CHOICES, GOOD))
    lines = ",\n".join(json.dumps(row) for row in found)
    with whole_file(args.out) as handle:
        handle.write(f"[\n{lines}\n]\n".encode())


def rows(choices, count):
    """Calibrate at every combination of choices of the knobs.

    Parameters
    ----------
    choices : dict of str to sequence
        For each of `try_it.KNOBS`.
    count : int
        The number of good washers.

    Yields
    ------
    dict
        The knobs, the thresholds of the mask and of the decision, and the scores of the good washers from the lowest to the highest.
    """
    weights, model = try_it.bundled()
    images = np.concatenate([try_it.seen(try_it.picture("good", f"held out/{k}")) for k in range(count)])
    experiment = Experiment(model, make_extractors([try_it.USUAL], model, weights), images)
    *chain_knobs, shares = (choices[name] for name in try_it.KNOBS)
    combinations = list(itertools.product(*chain_knobs))
    with progress(len(combinations), "setting", "calibrating") as shown:
        for knobs in combinations:
            experiment.begin()
            guided, _ = experiment.anomaly(try_it.config_of(*knobs, shares[0]), "guided")
            for share in shares:
                yield _row(experiment, guided, try_it.config_of(*knobs, share), knobs)
            shown.update(1)


def _row(experiment, guided, config, knobs):
    threshold = mask_threshold(guided, config.mask_share)
    maps, _ = experiment.mdps(config, threshold)
    scores = np.sort(IMAGE_SCORES[config.image_score](maps))
    return {
        **dict(zip(try_it.KNOBS, (*knobs, config.mask_share), strict=True)),
        "mask_threshold": threshold,
        "decision_threshold": threshold_at_rate(scores, config.false_positive_rate),
        "good_scores": [float(f"{score:.4g}") for score in scores],
    }


if __name__ == "__main__":
    sys.exit(main())
