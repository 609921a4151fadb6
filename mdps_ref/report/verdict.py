"""The verdict: what the run decided, how often that will be wrong, and how well images and pixels are told apart, in words."""

import numpy as np

from mdps_ref.data.folders import GOOD
from mdps_ref.job.evaluate import PRO_LIMIT
from mdps_ref.report.html import escaped, percent
from mdps_ref.scoring.intervals import false_alarm_rate, share_interval
from mdps_ref.scoring.metrics import exceeds

TILES = {  # metric -> a question that it answers, its name, what its value says as a share, what a value of 1 means
    "image_auroc": (
        "Good or defective?",
        "Image AUROC",
        "In {share} of the pairs of a defective and a good image, the defective one scores higher.",
        "were ranked correctly",
    ),
    "pixel_auroc": (
        "Where is the defect?",
        "Pixel AUROC",
        "In {share} of the pairs of a defective and a normal pixel, the defective one has the higher map value.",
        "had all their pixels ranked correctly",
    ),
    "aupro": (
        "How much of it is marked?",
        f"AUPRO {100 * PRO_LIMIT:.0f} %",
        "{share} of a defect is marked, averaged over the defects and over thresholds that mark 0 to "
        f"{100 * PRO_LIMIT:.0f} % of the normal pixels.",
        "had their defects marked whole",
    ),
}


def verdict(result):
    """Write the verdict.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        HTML.
    """
    sentences = " ".join([_expected(result), _caught(result)]).strip()
    tiles = "".join(_tile(result, *tile) for tile in TILES.items())
    return f'<p class="lead">{_decided(result)}</p>\n<p>{sentences}</p>\n<div class="tiles">\n{tiles}</div>'


def counts(result):
    """Return {kind: (flagged, all)} of the "defective" and the "good" test images, where there are any."""
    good = np.array(result.defects) == GOOD
    kinds = {"defective": result.flagged[~good], "good": result.flagged[good]}
    return {kind: (int(np.count_nonzero(flagged)), len(flagged)) for kind, flagged in kinds.items() if len(flagged)}


def _decided(result):
    """Say how many images of each kind were flagged."""
    parts = [f"<b>{flagged} of {total}</b> {kind}" for kind, (flagged, total) in counts(result).items()]
    (_, last), verb = list(counts(result).values())[-1], "were"
    if len(parts) == 1 and last == 1:
        verb = "was"
    return f"{' and '.join(parts)} image{'s' * (last != 1)} of {escaped(result.config.category)} {verb} flagged."


def _expected(result):
    """Say how many false alarms to expect among new good images."""
    held_out = result.held_out_scores
    rate = false_alarm_rate(int(np.count_nonzero(exceeds(held_out, result.threshold))), len(held_out))
    rests = f"the threshold rests on {len(held_out)} held-out good image{'s' * (len(held_out) != 1)}"
    return (
        f"Expect about <b>1 false alarm in {_one_in(rate.value)}</b> new good images; {rests}, so the rate may lie anywhere between 1 in "
        f"{_one_in(rate.low)} and 1 in {_one_in(rate.high)} (95 % interval)."
    )


def _one_in(share):
    """Return the number n of "1 in n"."""
    return f"{1 / share:.0f}" if share < 0.4 else f"{1 / share:.1f}"


def _caught(result):
    """Say between which shares the share of flagged defective images lies."""
    if "defective" not in counts(result):
        return "There were no defective test images, so nothing is known of the defects that it finds."
    share = share_interval(*counts(result)["defective"])
    return f"Of defects like those tested, it flags between {percent(share.low)} and {percent(share.high)} (95 % interval)."


def _tile(result, metric, words):
    """Write a metric with its interval; "" where it is not defined."""
    question, name, meaning, _ = words
    value = result.metrics["mdps"][metric]
    if value is None:
        return ""
    told = [f"<b>{name}.</b> {meaning.format(share=percent(value))}", interval_in_words(result, metric)]
    if metric == "image_auroc" and value == 1:
        told.append(_wrong_by_the_threshold_alone(result))
    return f'<div class="tile"><h3>{question}</h3><p class="value">{value:.3f}</p><p>{" ".join(filter(None, told))}</p></div>\n'


def _wrong_by_the_threshold_alone(result):
    """Say how a perfect ranking of the images goes with wrong decisions, which then are of one kind; "" where no decision is wrong."""
    (flagged, defective), (alarms, _) = counts(result)["defective"], counts(result)["good"]
    count, kind, side, others = alarms, "false alarm", "below", "defective"
    if not alarms:
        count, kind, side, others = defective - flagged, "missed image", "above", "good"
    if not count:
        return ""
    if count == 1:
        return f"The {kind} scores {side} every {others} image; only the threshold lies {side} it."
    return f"The {count} {kind}s score {side} every {others} image; only the threshold lies {side} them."


def interval_in_words(result, metric):
    """Say what other test images would have given.

    Parameters
    ----------
    result : Result
    metric : str
        One that is defined.

    Returns
    -------
    str
    """
    own, images = result.metrics["mdps"], len(result.names)
    if metric not in own["intervals"]:
        return f"No interval is computed for as many as {images:,} images."
    ends = own["intervals"][metric]
    if ends is None:
        return ""
    low, high = ends
    if low == high == 1:
        return f"All {images} images {TILES[metric][-1]}, so resampling them cannot show how far other images might fall."
    return f"Other test images would give {low:.3f} to {high:.3f} (95 % interval)."
