"""The report: one HTML page that needs no other file. It says what was run, what was found, how well, and with which settings."""

import dataclasses
import math

import matplotlib
import numpy as np

from mdps_ref.data.files import whole_file, write_text
from mdps_ref.data.folders import GOOD
from mdps_ref.job.bundled import BUNDLED
from mdps_ref.job.evaluate import PRO_LIMIT
from mdps_ref.released.rules import leaks
from mdps_ref.report import plots
from mdps_ref.report.gallery import gallery, heat_limit
from mdps_ref.report.html import PAGE, X_0, Y, escaped, figure_element, number, pairs_table, whole_page
from mdps_ref.report.style import png
from mdps_ref.report.tables import BOTH_IMAGES, kinds_table, metrics_table, tuning_section

NO_LOSS = "<p>This run took no training steps, so there is no curve.</p>"


def write_report(folder, result):
    """Write figures/*.png and report.html into `folder`, each file whole or not at all.

    Parameters
    ----------
    folder : Path
    result : Result

    Returns
    -------
    Path
        The page.

    Notes
    -----
    The same Result gives the same bytes: the page holds no date and no random id.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc changes nothing here
        pictures = {name: png(figure) for name, figure in draw(result).items()}
    for name, data in pictures.items():
        with whole_file(folder / "figures" / f"{name}.png") as handle:
            handle.write(data)
    path = folder / "report.html"
    write_text(path, page(result, pictures))
    return path


def draw(result):
    """Draw all figures.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to Figure
        There is no "loss" if the run took no training steps.
    """
    drawn = {
        "differences": plots.differences(result),
        "gallery": gallery(result),
        "scores": plots.score_histogram(result),
        "curves": plots.curves(result),
    }
    return drawn | ({"loss": plots.loss_curve(result.log)} if len(result.log) else {})


def page(result, pictures):
    """Write the whole page.

    Parameters
    ----------
    result : Result
    pictures : dict of str to bytes
        The figures as PNG.

    Returns
    -------
    str
        HTML.
    """
    config = result.config
    count = len(result.names)
    size = " × ".join(str(side) for side in result.images.shape[1:3])
    captions = figure_captions(result)
    body = PAGE.substitute(
        category=escaped(config.category),
        subtitle=f"{count} test image{'s' * (count != 1)} · {size} pixels · network {escaped(config.network)} · seed {config.seed}",
        summary=f"<p>{_what_was_run(result)}</p>\n<p><b>Found.</b> {_what_was_found(result)}</p>",
        leaks=_leak_note(config),
        told=_told(result),
        metrics=metrics_table(result),
        decision=_decision(result),
        kinds=kinds_table(result),
        tuning=tuning_section(result),
        settings=pairs_table({name: str(value) for name, value in dataclasses.asdict(config).items()}),
        seconds=pairs_table({stage: f"{seconds:.1f} s" for stage, seconds in result.seconds.items()}),
        versions=pairs_table(result.versions),
        **{name: figure_element(name, pictures[name], captions[name]) if name in pictures else NO_LOSS for name in captions},
    )
    return whole_page(f"MDPS: {escaped(config.category)}", body)


def _defective(result):
    """Return whether each image has a defect, (N) bool."""
    return np.array([kind != GOOD for kind in result.defects])


def _what_was_run(result):
    """Return the paragraph on the method and its input."""
    config, defective = result.config, _defective(result)
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
    test_set = f"The test set has {np.count_nonzero(~defective)} good and {np.count_nonzero(defective)} defective images of {category}."
    drawn = f"{config.samples} images {X_0}, which show" if config.samples > 1 else f"an image {X_0}, which shows"
    method = (
        f"Masked diffusion posterior sampling (MDPS) noises each test image {Y} to timestep {config.mdps_start} of 1000 and draws {drawn} "
        f"what {Y} would look like without a defect."
    )
    side = len(result.images[0])
    centre = (
        f"Only the centre of each image is shown and judged, {side} × {side} of {config.image_size} × {config.image_size} pixels."
        if side < config.image_size
        else ""
    )
    return " ".join([model, test_set, method, _how_drawn(config), centre]).strip()


def _how_drawn(config):
    """Return the sentences on what each chain does to an image, with or without a mask."""
    bright = f"The anomaly map is bright where {X_0} and {Y} differ."
    if not config.masked:
        return (
            f"This run has no mask: guidance alone keeps every pixel near the test image. {bright} Reconstruction, which has no guidance, "
            "is shown for comparison."
        )
    start = f", from timestep {config.guided_start}," if config.guided_start != config.mdps_start else ""
    return (
        f"MDPS leads pixels that look normal back to the test image, and draws suspected pixels anew. {bright} Two other chains are shown "
        f"for comparison. Reconstruction draws every pixel anew, without guidance. The guided chain{start} draws every pixel anew too, but "
        "guidance keeps it near the test image. The guided anomaly maps say which pixels are suspected."
    )


def _what_was_found(result):
    """Return the sentences on the result."""
    own, reconstruction, defective = result.metrics["mdps"], result.metrics["reconstruction"], _defective(result)
    found = []
    if own["good_difference"] and reconstruction["good_difference"]:
        found.append(
            f"On good images, {X_0} differs from {Y} by {own['good_difference']:.4f} on average with MDPS and by "
            f"{reconstruction['good_difference']:.4f} with reconstruction ({plots.closeness(own, reconstruction)})."
        )
    if own["defect_difference"] is not None and reconstruction["defect_difference"]:
        share = 100 * own["defect_difference"] / reconstruction["defect_difference"]
        found.append(f"Inside defects, the difference with MDPS is {share:.0f} % of the difference with reconstruction.")
    if own["image_auroc"] is not None:
        share = 100 * own["image_auroc"]
        found.append(f"In {share:.0f} % of all pairs of a defective and a good image, the defective one scores higher (image AUROC).")
    caught, alarms = (np.count_nonzero(result.flagged & group) for group in (defective, ~defective))
    found.append(
        f"At the threshold set by held-out good images, {caught} of {np.count_nonzero(defective)} defective and {alarms} of "
        f"{np.count_nonzero(~defective)} good images are flagged."
    )
    return " ".join(found)


def _leak_note(config):
    """Return the note on how test images change each other's results; "" if they do not."""
    items = "".join(f"<li>{escaped(sentence)}</li>\n" for sentence in leaks(config))
    told = "Under rules of the authors’ released code, the result of a test image depends on other test images (rows as in the README)"
    return f'<div class="note" role="note"><p><b>Read with care.</b> {told}:</p>\n<ul>\n{items}</ul></div>' if items else ""


def _told(result):
    """Return the list of what the images are, what was set aside, and over what the metrics are."""
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


def _decision(result):
    """Return the sentences on the thresholds and on how good the decision is."""
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


def figure_captions(result):
    """Write the captions.

    Parameters
    ----------
    result : Result

    Returns
    -------
    dict of str to str
        {name of a figure: HTML}, in the order of the page.
    """
    config, shown, limit = result.config, len(result.shown), heat_limit(result)
    mask = " White pixels of the mask are suspected and drawn anew; black pixels are led back to the test image." if config.masked else ""
    spread = " The spread is the samples’ standard deviation: where it is high, the samples disagree." if config.samples > 1 else ""
    return {
        "differences": f"Mean |{X_0} − {Y}| of each chain. A diamond is the mean over the test set, a faint dot is one image. Good images "
        f"should lie far left, where nothing has changed. Defects should lie far right, where the defect is gone from {X_0}. "
        f"“Closer” and “%” compare with reconstruction. Values below {plots.SMALLEST:g} are drawn at {plots.SMALLEST:g}.",
        "gallery": f"{shown} of {len(result.names)} test images, chosen by file name alone: the first good ones, and the first ones of "
        f"each kind of defect. All anomaly maps share one colour scale, from 0 to {limit:.3g}, the 99.5th percentile over the MDPS maps of "
        f"the whole test set. So the maps of good images should stay dark.{mask}{spread}",
        "scores": "Scores of the held-out good images, which set the threshold, of the good test images, and of the defective ones. In the "
        "lower panel each stroke is one image.",
        "curves": "Each point of a curve is one threshold. Left: good images flagged against defective images flagged. Middle: the same "
        f"for pixels. Right: the share of each defect’s area that is marked, while up to {100 * PRO_LIMIT:.0f} % of the normal pixels are "
        "marked. The area under MDPS’s curve is shaded.",
        "loss": "Mean squared error of the predicted noise. The noise has variance 1, so a network that always predicts 0 has a loss of 1.",
    }
