"""The tables of a report as HTML: the metrics of each chain, and the scores of each kind of image."""

import dataclasses
import itertools

import numpy as np

from mdps_ref.data.folders import GOOD
from mdps_ref.job.choices import in_words
from mdps_ref.job.evaluate import PRO_LIMIT
from mdps_ref.job.train import TRAINING_ALONE
from mdps_ref.report.html import X_0, Y, escaped, number
from mdps_ref.report.style import chains_of

MOST_TRIALS = 5  # of the settings of a family that were tried


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row of the table of metrics.

    Parameters
    ----------
    name : str
    form : str
        How its values are formatted, such as ".3f".
    better : {1, -1}
        1 if higher values are better, -1 if lower values are.
    needs : str
        What the metric needs to be defined.
    gloss : str
        What the metric says, as HTML.
    """

    name: str
    form: str
    better: int
    needs: str
    gloss: str


BOTH_IMAGES, TRUE_MASKS = "both good and defective test images", "true masks of defects"
METRICS = {
    "image_auroc": Metric(
        "Image AUROC",
        ".3f",
        1,
        BOTH_IMAGES,
        "Share of the pairs of a defective and a good image in which the defective one scores higher; 0.5 is guessing, 1 is perfect.",
    ),
    "image_average_precision": Metric(
        "Image average precision",
        ".3f",
        1,
        BOTH_IMAGES,
        "Area under the precision-recall curve of the image scores; 1 is perfect.",
    ),
    "pixel_auroc": Metric(
        "Pixel AUROC",
        ".3f",
        1,
        TRUE_MASKS,
        "Image AUROC, but of single pixels; large defects count most.",
    ),
    "aupro": Metric(
        f"AUPRO {100 * PRO_LIMIT:.0f} %",
        ".3f",
        1,
        TRUE_MASKS,
        "Share of a defect’s area that the map marks, averaged over all defects, large or small, and over thresholds that mark up to "
        f"{100 * PRO_LIMIT:.0f} % of the normal pixels; {PRO_LIMIT / 2:g} is guessing, 1 is perfect.",
    ),
    "contrast": Metric(
        "Contrast",
        ".1f",
        1,
        f"{TRUE_MASKS}, and good test images whose difference is above 0",
        "Difference in defects, divided by difference on good images. Read it beside the AUROCs: it cannot tell whether defective images "
        "score higher than good ones, and a network that has learnt nothing can have much of it.",
    ),
    "good_difference": Metric(
        "Difference on good images",
        ".4f",
        -1,
        "good test images",
        f"Mean |{X_0} − {Y}| over good images, in pixel values from −1 to 1. Good pixels should not change.",
    ),
    "defect_difference": Metric(
        "Difference in defects",
        ".4f",
        1,
        TRUE_MASKS,
        f"Mean |{X_0} − {Y}| over the pixels under the true masks. The more of a defect is gone from {X_0}, the clearer the map shows it.",
    ),
}


def metrics_table(result):
    """Write all metrics of the chains side by side, with their intervals below them.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        HTML.
    """
    shown = chains_of(result.config)
    head = "".join(f'<th class="number">{chain.name}</th>' for chain in shown.values())
    of_chains = [result.metrics[chain] for chain in shown]
    rows = "\n".join(
        _metric_row(metric, [of_chain[key] for of_chain in of_chains], [of_chain["intervals"].get(key) for of_chain in of_chains])
        for key, metric in METRICS.items()
    )
    return f'<table class="metrics"><thead><tr><th>Metric</th>{head}<th>What it says</th></tr></thead><tbody>\n{rows}\n</tbody></table>'


def _metric_row(metric, values, intervals):
    """Write a row of the table of metrics; a value of None reads "not defined", and the row says what the metric needs."""
    cells = ""
    for value, ends in zip(values, intervals, strict=True):
        between = f"<br><small>{'–'.join(format(end, metric.form) for end in ends)}</small>" if ends else ""
        cells += f'<td class="number">{number(value, metric.form)}{between}</td>'
    wanted = "Higher is better." if metric.better > 0 else "Lower is better."
    missing = f" <i>Not defined here: it needs {metric.needs}.</i>" if None in values else ""
    return f"<tr><th>{metric.name}</th>{cells}<td>{metric.gloss} {wanted}{missing}</td></tr>"


def kinds_table(result):
    """Write the number of images of each kind, their mean score and the share that is flagged; good images come first.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        HTML.
    """
    defects, score = np.array(result.defects), result.chains["mdps"].score
    rows = ""
    for kind in sorted(set(result.defects), key=lambda kind: (kind != GOOD, kind)):
        chosen = defects == kind
        share = 100 * result.flagged[chosen].mean()
        cells = (np.count_nonzero(chosen), f"{score[chosen].mean():.4f}", f"{share:.0f} %")
        rows += f"<tr><th>{escaped(kind)}</th>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>\n"
    names = "".join(f'<th class="number">{name}</th>' for name in ("Images", "Mean score", "Flagged"))
    return f'<table class="narrow"><thead><tr><th>Kind</th>{names}</tr></thead><tbody>\n{rows}</tbody></table>'


def settings(config):
    """Return {setting: its value as text}. Those of the training are marked where the run took other weights instead.

    Parameters
    ----------
    config : Config

    Returns
    -------
    dict of str to str
    """
    of_training = {*TRAINING_ALONE, "train_steps", "checkpoint_every"}
    if not config.resolved_rules.share_batches:
        of_training.add("batch_size")
    unused = of_training if config.weights else ()
    return {
        name: f"{'–' if value == '' else value}{' (not used)' * (name in unused)}" for name, value in dataclasses.asdict(config).items()
    }


def tuning_section(result):
    """Write how the settings were chosen without labels: the best candidates of each family. "" where the run was not tuned."""
    if not result.trials:
        return ""
    families = itertools.groupby(result.trials, key=lambda trial: trial["family"])
    rows = [row for family, trials in families for row in _family_rows(family, list(trials))]
    head = "".join(f'<th class="number">{name}</th>' for name in ("Quality", "Gain", "Needed"))
    return (
        f"<h2>Settings chosen without labels</h2>\n<p>{result.trials[0]['images']} held-out good images and their twins with planted "
        "defects judged these settings; no test image did. Quality is the mean of image AUROC, pixel AUROC and AUPRO. The brackets hold "
        "the gain less and plus one standard error. A family's best settings are taken if they gain more than is needed. The best of as "
        f"many useless settings would gain that much by chance. The best {MOST_TRIALS} of each family are shown; tuning.json has all.</p>\n"
        f'<div class="wide"><table><thead><tr><th>Family</th><th>Settings</th>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _family_rows(family, trials):
    """The rows of the settings that were there, and of the best of those that were tried, the best one first."""
    for trial in [trials[0], *sorted(trials[1:], key=lambda trial: -trial["quality"])[:MOST_TRIALS]]:
        first = trial is trials[0]
        gain = "–" if first else f"{trial['gain']:+.4f} ({trial['low']:+.4f} to {trial['high']:+.4f})"
        cells = f"{trial['quality']:.4f}", gain, f"{trial['needed']:+.4f}" if first else ""
        yield (
            f"<tr><th>{escaped(family) if first else ''}</th><td>{escaped(in_words(trial['settings']))}</td>"
            + "".join(f'<td class="number">{cell}</td>' for cell in cells)
            + "</tr>"
        )
