"""What the report says of a run in sentences, as HTML: how images were judged, what was found, and what the numbers rest on."""

import math

import numpy as np

from mdps_ref.data.folders import GOOD
from mdps_ref.job.bundled import BUNDLED
from mdps_ref.job.evaluate import BINS, MOST_RESAMPLED, PRO_LIMIT, RESAMPLES
from mdps_ref.job.training_check import SHARE
from mdps_ref.released.rules import leaks
from mdps_ref.report import plots
from mdps_ref.report.cards import heat_limit
from mdps_ref.report.html import X_0, Y, escaped, number, percent
from mdps_ref.report.overlay import heat_top
from mdps_ref.report.style import DOUBTS
from mdps_ref.report.tables import BOTH_IMAGES


def subtitle(result):
    """Say what was tested."""
    config, good = result.config, sum(kind == GOOD for kind in result.defects)
    kinds = [f"{count} {kind}" for count, kind in ((len(result.defects) - good, "defective"), (good, "good")) if count]
    size = " × ".join(str(side) for side in result.images.shape[1:3])
    samples = f"{config.samples} sample{'s' * (config.samples != 1)} an image"
    tested = f"{' and '.join(kinds)} test image{'s' * (len(result.defects) != 1)}"
    return f"{tested} · {size} pixels · network {escaped(config.network)} · {samples} · seed {config.seed}"


def training_note(result):
    """Write the warning that the network is trained too little; "" where it is trained enough."""
    text = f"<p><b>Do not trust these numbers.</b> {escaped(result.warning[:1].upper() + result.warning[1:])}.</p>"
    return f'<div class="note" role="note">{text}</div>' if result.warning else ""


def leak_note(config):
    """Write the note on how test images change each other's results; "" if they do not."""
    items = "".join(f"<li>{escaped(sentence)}</li>\n" for sentence in leaks(config))
    told = "Under rules of the authors’ released code, the result of a test image depends on other test images (rows as in the README)"
    return f'<div class="note" role="note"><p><b>Read with care.</b> {told}:</p>\n<ul>\n{items}</ul></div>' if items else ""


def how_it_looks(result):
    """Introduce the cards."""
    shown = len(result.shown)
    unit = (
        " A map adds the surprisals of several differences, in nats. By itself, a difference that one good pixel in 100 exceeds counts "
        "4.6; one in 1,000 counts 6.9."
        if result.config.tails
        else ""
    )
    return (
        f"{shown} of {len(result.names)} test images, chosen by file name alone: the first good ones, and the first ones of each kind of "
        "defect. Left the image, right its anomaly map; the outline is the true defect. All maps of this page share one colour scale, from "
        f"0 to {heat_limit(result):.3g}, the 99.5th percentile over the maps of the whole test set. So the maps of good images "
        f"should stay dark.{unit}"
    )


def mistakes(result):
    """Say how many decisions are wrong, of each kind, and which of them are shown."""
    good = np.array(result.defects) == GOOD
    missed, alarms = int(np.count_nonzero(~good & ~result.flagged)), int(np.count_nonzero(good & result.flagged))
    wrong, shown = missed + alarms, len(result.mistakes.indices)
    if not wrong:
        return f"None of the {len(good)} decisions is wrong."
    kinds = ((missed, "missed defective image"), (alarms, "false alarm"))
    parts = [f"{count} {name}{'s' * (count > 1)}" for count, name in kinds if count]
    told = [f"{wrong} of {len(good)} decisions {'is' if wrong == 1 else 'are'} wrong: {' and '.join(parts)}."]
    if shown < wrong:
        told.append(f"{shown} are shown, chosen by file name as above; <code>scores.csv</code> lists all.")
    if heat_top(result.config, result.threshold, result.mask_threshold) < heat_limit(result):  # the scale of the overlays is finer
        told.append("A map may be faint on the scale of this page; <code>mdps_ref.score … --overlays</code> draws it on a finer scale.")
    return " ".join(told)


def method(result):
    """Say what was done with the images."""
    config = result.config
    category = f"<b>{escaped(config.category)}</b>"
    if config.weights == BUNDLED:
        model = f"The diffusion model comes with the package. It was trained on good images of {category} alone."
    elif config.weights:
        model = (
            f"A diffusion model was loaded from {escaped(config.weights)}. The held-out good images are unseen only if it was not "
            "trained on them."
        )
    else:
        model = f"A diffusion model was trained for {len(result.log)} steps, on good images of {category} alone."
    drawn = f"{config.samples} images {X_0}, which show" if config.samples > 1 else f"an image {X_0}, which shows"
    noised = (
        f"Masked diffusion posterior sampling (MDPS) noises each test image {Y} to timestep {config.mdps_start} of 1000 and draws {drawn} "
        f"what {Y} would look like without a defect."
    )
    side = len(result.images[0])
    centre = (
        f"Only the centre of each image is shown and judged, {side} × {side} of {config.image_size} × {config.image_size} pixels."
        if side < config.image_size
        else ""
    )
    return " ".join([model, noised, _how_drawn(config), centre]).strip()


def _how_drawn(config):
    """Say what each chain does to an image, with or without a mask."""
    bright = f"The anomaly map is bright where {X_0} and {Y} differ."
    if not config.masked:
        return (
            f"This run has no mask: guidance alone keeps every pixel near the test image. {bright} Reconstruction, which has no guidance, "
            "is shown for comparison."
        )
    start = f", from timestep {config.guided_start}," if config.guided_start != config.mdps_start else ""
    return (
        f"MDPS keeps pixels that look normal, and draws suspected pixels anew. {bright} Two other chains are shown "
        f"for comparison. Reconstruction draws every pixel anew, without guidance. The guided chain{start} draws every pixel anew too, but "
        f"guidance keeps it near the test image. The guided anomaly maps say which pixels are suspected.{_guided_map_added(config)}"
    )


def _guided_map_added(config):
    """Say that the guided map is part of the result; "" where it is not."""
    weight = config.guided_weight
    return (
        f" This run adds them, {weight:g} times, to the maps of MDPS, so that a defect just below the mask’s threshold can still show."
        if weight
        else ""
    )


def found(result):
    """Compare MDPS with reconstruction."""
    own, reconstruction = result.metrics["mdps"], result.metrics["reconstruction"]
    sentences = []
    if own["good_difference"] and reconstruction["good_difference"]:
        sentences.append(
            f"On good images, {X_0} differs from {Y} by {own['good_difference']:.4f} on average with MDPS and by "
            f"{reconstruction['good_difference']:.4f} with reconstruction ({plots.closeness(own, reconstruction)})."
        )
    if own["defect_difference"] is not None and reconstruction["defect_difference"]:
        share = 100 * own["defect_difference"] / reconstruction["defect_difference"]
        sentences.append(f"Inside defects, the difference with MDPS is {share:.0f} % of the difference with reconstruction.")
    return " ".join(sentences)


def trained(result):
    """Say what the check of the training found, number by number."""
    check = result.metrics["trained_enough"]
    noise, limit = check["noise_loss"], SHARE * check["gaussian_noise_loss"]
    own, other = check["reconstruction_error"], check["other_image_error"]
    return (
        f"Two numbers decide, both from {check['images']} held-out good images. The network predicts the noise that was added to them. Its "
        f"mean squared error must be below {SHARE:g} times that of a model which knows only each pixel’s mean and variance: {noise:.3g} is "
        f"{_below(noise, limit)} {SHARE:g} × {check['gaussian_noise_loss']:.3g} = {limit:.3g}. The network’s reconstructions of the images "
        f"must differ less from them, on average over the pixels, than other good images do: {own:.3g} is {_below(own, other)} {other:.3g}."
    )


def _below(value, limit):
    """Say whether a value is below a limit."""
    return "below" if value < limit else "not below"


def not_trained(config):
    """Say why there is no curve of the training."""
    source = "come with the package" if config.weights == BUNDLED else f"were loaded from {escaped(config.weights)}"
    return f"This run did not train: its weights {source}. So there is no curve, and the settings of the training are not used."


def steps(config):
    """Say what stands in each row of the pictures step by step."""
    parts = [f"The same images, with what each chain made of them. Each {X_0} has its anomaly map beside it."]
    if config.masked:
        parts.append(
            "White pixels of the mask are suspected, and MDPS draws them anew; it leads black pixels back to the test image. A strong "
            "defect raises the guided map far around it, so its mask may be largely white: MDPS then draws most of the image anew, as "
            "reconstruction does."
        )
    if config.samples > 1:
        parts.append("The spread is the samples’ standard deviation, on the scale of the maps: where it is bright, the samples disagree.")
    return " ".join(parts)


def unsure(result):
    """Say whether the least certain decisions hold the wrong ones."""
    doubt = result.metrics["uncertainty"]
    images, wrong, aside = doubt["images"], doubt["wrong"], doubt["set_aside"]
    if not wrong:
        return f"None of the {images} decisions is wrong, so there is nothing to point at. More images would tell."
    if not aside:
        return "With a single test image there is nothing to set aside."
    rate = percent(doubt["error"])
    lines = [f"{wrong} of {images} decisions {'are' if wrong > 1 else 'is'} wrong ({rate})."]
    for name, drop in doubt["drop"].items():
        falls = f"<b>falls by {100 * drop:.1f}</b>" if drop > 0 else f"<b>rises by {-100 * drop:.1f}</b>"
        lines.append(f"Without the {aside} least certain by {DOUBTS[name]}, the error rate {falls} percentage points.")
    lines.append("Chosen by chance, they would not change it on average.")
    if wrong < 5:
        lines.append(f"With {wrong} wrong decision{'s' * (wrong > 1)} this says little.")
    if "spread" not in doubt["drop"]:
        lines.append("This run drew one sample an image; with <code>--samples 4</code> it would also tell where the samples disagree.")
    return " ".join(lines)


def intervals(result):
    """Say how the intervals were computed."""
    own, images = result.metrics["mdps"], len(result.names)
    if not own["intervals"]:
        return (
            f"No intervals: they are computed for at most {MOST_RESAMPLED:,} test images, so that memory does not grow with their number."
        )
    error = max(result.metrics[chain]["interval_error"] or 0 for chain in result.chains)
    rounded = (
        f" The ends of pixel AUROC and AUPRO are counted in {BINS} bins of map values, and off by at most {_rounded_up(error)}."
        if error
        else ""
    )
    return (
        f"Below each value stands its 95 % interval (bootstrap). We drew {images} test images {RESAMPLES:,} times, with repetition"
        f"{_each_time(result)}. The middle 95 % of the values are the interval. An interval says nothing about the seed of the training."
        f"{rounded}"
    )


def _each_time(result):
    """Say how many images of each kind every draw has; "" where all are of one kind."""
    good = result.defects.count(GOOD)
    defective = len(result.defects) - good
    return f", each time {good} good and {defective} defective" if good and defective else ""


def images(result):
    """List what the images are, what was set aside, and over what the metrics are."""
    over = result.metrics["over"]
    lines = [*result.told, f"metrics over {over['good_images']} good and {over['defective_images']} defective images"]
    if over["defective_images_without_mask"]:
        lines[-1] += f", {over['defective_images_without_mask']} of them without a mask, which take no part in the pixel metrics"
    lines[-1] += f"; pixel metrics over {over['normal_pixels']:,} normal and {over['anomalous_pixels']:,} anomalous pixels"
    error = max(result.metrics[name][f"{metric}_error"] or 0 for name in result.chains for metric in ("pixel_auroc", "aupro"))
    if error:
        lines.append(f"map values are rounded, since they are many: pixel AUROC and AUPRO are off by at most {_rounded_up(error)}")
    return "<ul>" + "".join(f"<li>{escaped(line)}</li>" for line in lines) + "</ul>"


def _rounded_up(value):
    """Return a number above 0 with one digit, never below the number."""
    unit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / unit - 1e-9) * unit:.1g}"


def decision(result):
    """Say what the thresholds are and how good the decision is."""
    config, own, held_out = result.config, result.metrics["mdps"], len(result.held_out_scores)
    few = ", which of so few means none" if config.false_positive_rate * held_out < 1 else ""
    sentences = [
        f"An image is flagged if its score exceeds <b>{number(result.threshold, '.4g')}</b>.",
        f"At most {100 * config.false_positive_rate:g} % of the {held_out} held-out good images may exceed it{few}.",
        f"F1, the harmonic mean of precision and recall, is <b>{number(own['f1'], '.3f')}</b>"
        + ("; 1 is perfect." if own["f1"] is not None else f": it needs {BOTH_IMAGES}."),
    ]
    if result.mask_threshold is not None:
        mask = number(result.mask_threshold, ".4g")
        sentences.append(f"A pixel is suspected if its guided anomaly map exceeds <b>{mask}</b>.")
    return " ".join(sentences)


def captions():
    """Write the captions of the figures.

    Returns
    -------
    dict of str to str
        {name of a figure: HTML}.
    """
    each = "Each point is one threshold; the area under MDPS’s curve is shaded. Where curves coincide, the wider ones show at the edges."
    return {
        "differences": f"Mean |{X_0} − {Y}| of each chain. A diamond is the mean over the test set, a faint dot is one image. Good images "
        f"should lie far left, where nothing has changed. Defects should lie far right, where the defect is gone from {X_0}. "
        f"“Closer” and “%” compare with reconstruction. Values below {plots.SMALLEST:g} are drawn at {plots.SMALLEST:g}. The dotted "
        "line is one of the 256 grey levels of an image.",
        "uncertainty": "Share of wrong decisions among those that stay, while the least certain ones are set aside. A measure that knows "
        "which decisions are wrong falls steeply; dashed is chance.",
        "scores": "Scores of the held-out good images, which set the threshold, of the good test images, and of the defective ones. In the "
        "lower panel each stroke is one image.",
        "roc-images": f"Good images flagged against defective images flagged. {each}",
        "roc-pixels": "The same for single pixels.",
        "pro": f"Share of each defect’s area that is marked, mean over defects, while up to {100 * PRO_LIMIT:.0f} % of the normal pixels "
        "are marked.",
        "loss": "Mean squared error of the predicted noise. The noise has variance 1, so a network that always predicts 0 has a loss of 1.",
    }
