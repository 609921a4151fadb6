"""The report of a run: figures, and one self-contained HTML page that tells what was found, how well, and with what settings."""

import dataclasses
import io

import numpy as np

from mdps_ref.report import figures
from mdps_ref.job.config import Config
from mdps_ref.data.folders import GOOD
from mdps_ref.job.detect import Detection
from mdps_ref.job.evaluate import PRO_LIMIT
from mdps_ref.report.figures import chains, flagged
from mdps_ref.data.files import whole_file, write_text
from mdps_ref.report.html import PAGE, STYLE, escaped, figure_element, number, pairs_table
from mdps_ref.released.rules import leaks

GALLERY_ROWS = 12
DOTS_PER_INCH = 160


@dataclasses.dataclass(frozen=True)
class Result:
    """Everything that a report shows.

    images: (N, H, W, 3) in [-1, 1].  names, defects: one string an image.  truths: one (H, W) bool mask an image, or None.
    held_out_scores: (M), of good images kept back.  metrics: as `evaluate` gives them.  log: (steps, 2), loss and gradient norm,
    empty where the weights were loaded.  seconds: {stage: wall time}.  versions: {what: version}.
    """

    config: Config
    images: np.ndarray
    names: list
    defects: list
    truths: list
    detection: Detection
    held_out_scores: np.ndarray
    metrics: dict
    log: np.ndarray
    seconds: dict
    versions: dict


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row of the table of metrics: form is how its values are written, better +1 if more is better and -1 if less."""

    name: str
    form: str
    better: int
    needs: str
    gloss: str


X_0, Y = "<i>x</i><sub>0</sub>", "<i>y</i>"
BOTH_IMAGES, TRUE_MASKS = "both good and defective test images", "true masks of defects"
METRICS = {
    "good_difference": Metric(
        "Difference on good images",
        ".4f",
        -1,
        "good test images",
        f"Mean |{X_0} − {Y}| over good images, in pixel values from −1 to 1: what is wrongly changed.",
    ),
    "defect_difference": Metric(
        "Difference in defects",
        ".4f",
        1,
        TRUE_MASKS,
        f"The same under the true masks: what of a defect is gone from {X_0}, and so seen in the map.",
    ),
    "contrast": Metric(
        "Contrast",
        ".1f",
        1,
        f"{TRUE_MASKS}, or good test images that the chain changes at all",
        "The second over the first.",
    ),
    "image_auroc": Metric(
        "Image AUROC",
        ".3f",
        1,
        BOTH_IMAGES,
        "How often a defective image scores above a good one; 0.5 is guessing, 1 is perfect.",
    ),
    "image_average_precision": Metric(
        "Image average precision",
        ".3f",
        1,
        BOTH_IMAGES,
        "Down the images from the highest score: the share of defective ones so far, averaged over the defective ones; 1 is perfect.",
    ),
    "pixel_auroc": Metric(
        "Pixel AUROC",
        ".3f",
        1,
        TRUE_MASKS,
        "As image AUROC, but of single pixels; large defects count most.",
    ),
    "aupro": Metric(
        "AUPRO",
        ".3f",
        1,
        TRUE_MASKS,
        f"The share of a defect’s area that the map finds, averaged over defects, large or small alike, while up to "
        f"{100 * PRO_LIMIT:.0f} % of the normal pixels are marked; {PRO_LIMIT / 2:g} is guessing, 1 is perfect.",
    ),
}


def write_report(folder, result):
    """Write figures/*.png and report.html into `folder`, each whole or not at all; return the page's path.

    The same Result gives the same bytes: no date, no random id.  The page holds its figures and needs no other file.
    """
    pictures = {name: png(figure) for name, figure in draw(result).items()}
    for name, data in pictures.items():
        with whole_file(folder / "figures" / f"{name}.png") as handle:
            handle.write(data)
    path = folder / "report.html"
    write_text(path, page(result, pictures))
    return path


def draw(result):
    """All figures, {name: Figure}; a run that loaded its weights has no loss curve."""
    drawn = {
        "differences": figures.differences(result),
        "gallery": figures.gallery(result, figures.choose(result, GALLERY_ROWS)),
        "scores": figures.score_histogram(result),
        "curves": figures.curves(result),
    }
    return drawn | ({"loss": figures.loss_curve(result.log)} if len(result.log) else {})


def png(figure):
    """A Figure as the bytes of a PNG, without the version of matplotlib in them."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return data.getvalue()


def page(result, pictures):
    """The whole page as text; pictures: {name: PNG bytes}."""
    config = result.config
    count = len(result.images)
    size = " × ".join(str(side) for side in result.images.shape[1:3])
    captions = figure_captions(result)
    return PAGE.substitute(
        style=STYLE,
        category=escaped(config.category),
        subtitle=f"{count} test image{'s' * (count != 1)} · {size} pixels · network {escaped(config.network)} · seed {config.seed}",
        summary="\n".join(f"<p>{paragraph}</p>" for paragraph in summary(result)),
        leaks=leak_note(config),
        metrics=metrics_table(result),
        decision=decision(result),
        kinds=kinds_table(result),
        settings=pairs_table({name: str(value) for name, value in dataclasses.asdict(config).items()}),
        seconds=pairs_table({stage: f"{seconds:.1f} s" for stage, seconds in result.seconds.items()}),
        versions=pairs_table(result.versions),
        **{name: figure_element(name, pictures[name], captions[name]) if name in pictures else NO_LOSS for name in captions},
    )


def summary(result):
    """What was run and what was found, in words, as HTML paragraphs."""
    config, own, plain = result.config, result.metrics["mdps"], result.metrics["reconstruction"]
    defective = np.array([kind != GOOD for kind in result.defects])
    category = f"<b>{escaped(config.category)}</b>"
    trained = (
        f"loaded from a checkpoint ({escaped(config.weights)}; if that was trained on the good images held out here, they are not unseen)"
        if config.weights
        else f"trained for {len(result.log)} steps on good images of {category} and nothing else"
    )
    run = (
        f"A diffusion model was {trained}. For {category} it was then shown "
        f"{len(defective)} test images, {np.count_nonzero(~defective)} good and {np.count_nonzero(defective)} defective. "
        f"Masked diffusion posterior sampling (MDPS) noised each image {Y} to timestep {config.stage2_start} of 1000 and drew from there "
        f"{config.samples} image{'s' * (config.samples != 1)} {X_0} of what it would look like without a defect: {how_drawn(config)}"
    )
    side = len(result.images[0])
    if side < config.image_size:
        run += f" Only the centre of each image is shown and judged, {side} × {side} of {config.image_size} × {config.image_size} pixels."
    found = []
    if own["good_difference"] and plain["good_difference"]:
        found.append(
            f"With MDPS, good images came back with a mean difference of {own['good_difference']:.4f}, by plain reconstruction of "
            f"{plain['good_difference']:.4f} ({figures.closeness(own, plain)})."
        )
    if own["defect_difference"] is not None and plain["defect_difference"]:
        share = 100 * own["defect_difference"] / plain["defect_difference"]
        found.append(f"Inside defects it makes {share:.0f} % of the difference that plain reconstruction makes there.")
    if own["image_auroc"] is not None:
        found.append(f"A defective image scored above a good one in {100 * own['image_auroc']:.0f} % of all pairs (image AUROC).")
    caught, alarms = (np.count_nonzero(flagged(result) & group) for group in (defective, ~defective))
    found.append(
        f"At the threshold that held-out good images set, {caught} of {np.count_nonzero(defective)} defective and {alarms} of "
        f"{np.count_nonzero(~defective)} good images were flagged."
    )
    return run, "<b>Found.</b> " + " ".join(found)


def how_drawn(config):
    """What the chains do to an image's pixels, in words, as HTML: under a mask, or without one."""
    bright = f"Where {X_0} and {Y} differ, the anomaly map is bright."
    if not config.masked:
        return (
            f"here without a mask, so guidance alone holds all pixels near the test image. {bright} Plain reconstruction, without "
            "guidance, is given for comparison."
        )
    stage_1 = f"stage 1, from timestep {config.stage1_start}," if config.stage1_start != config.stage2_start else "stage 1"
    return (
        f"pixels that look normal are led back to the test image, suspected ones are drawn anew. {bright} Plain reconstruction redraws "
        f"every pixel, and {stage_1} holds all of them near the image by guidance but knows no mask: its maps say which pixels are "
        "suspected. Both are given for comparison."
    )


def leak_note(config):
    """Where the run's rules let other images into an image's result, as HTML; nothing where every image is alone."""
    items = "".join(f"<li>{escaped(sentence)}</li>\n" for sentence in leaks(config))
    told = "This run keeps rules of the authors’ released code that let other images into an image’s result (rows as in the README)"
    return f'<div class="note" role="note"><p><b>To be read with care.</b> {told}:</p>\n<ul>\n{items}</ul></div>' if items else ""


def metrics_table(result):
    """All metrics of the chains side by side, the best of each row in bold."""
    shown = chains(result.config)
    head = "".join(f'<th class="number">{name}</th>' for _, name, _ in shown.values())
    rows = "\n".join(metric_row(metric, [result.metrics[kind][key] for kind in shown]) for key, metric in METRICS.items())
    return f'<table class="metrics"><thead><tr><th>Metric</th>{head}<th>What it says</th></tr></thead><tbody>\n{rows}\n</tbody></table>'


def metric_row(metric, values):
    """One row of the table of metrics; None reads "not defined", and the row says what was missing."""
    best = max((metric.better * value for value in values if value is not None), default=None)
    cells = ""
    for value in values:
        text = number(value, metric.form)
        cells += f'<td class="number">{f"<b>{text}</b>" if value is not None and metric.better * value == best else text}</td>'
    wanted = "More is better." if metric.better > 0 else "Less is better."
    missing = f" <i>Not defined where there are no {metric.needs}.</i>" if None in values else ""
    return f"<tr><th>{metric.name}</th>{cells}<td>{metric.gloss} {wanted}{missing}</td></tr>"


def decision(result):
    """The thresholds and what the decision is worth, as an HTML paragraph."""
    own, held_out = result.metrics["mdps"], len(result.held_out_scores)
    rate = result.config.false_positive_rate
    mask = result.metrics["mask_threshold"]
    text = (
        f"An image is flagged if its score lies above <b>{number(own['decision_threshold'], '.4g')}</b>. At most {100 * rate:g} % of the "
        f"{held_out} held-out good images lie above that"
    )
    text += ", which for so few means none" if rate * held_out < 1 else ""
    text += f". F1, the balance of defects missed and false alarms (1 is perfect): <b>{number(own['f1'], '.3f')}</b>"
    text += "." if own["f1"] is not None else f"; it needs {BOTH_IMAGES}."
    return text + (f" A pixel is suspected if its stage‑1 map lies above <b>{number(mask, '.4g')}</b>." if mask is not None else "")


def kinds_table(result):
    """For each kind of image: how many, their mean score, and the share that is flagged; good ones first."""
    defects, score = np.array(result.defects), result.detection.masked.score
    rows = ""
    for kind in sorted(set(result.defects), key=lambda kind: (kind != GOOD, kind)):
        chosen = defects == kind
        share = 100 * flagged(result)[chosen].mean()
        cells = (np.count_nonzero(chosen), f"{score[chosen].mean():.4f}", f"{share:.0f} %")
        rows += f"<tr><th>{escaped(kind)}</th>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>\n"
    names = "".join(f'<th class="number">{name}</th>' for name in ("Images", "Mean score", "Flagged"))
    return f'<table class="narrow"><thead><tr><th>Kind</th>{names}</tr></thead><tbody>\n{rows}</tbody></table>'


def figure_captions(result):
    """{name of a figure: its caption in HTML}, in the order of the page."""
    chosen = figures.choose(result, GALLERY_ROWS)
    masked = result.detection.masked
    shown = f"{len(chosen)} of {len(result.images)} test images, by file name alone: the first good ones, then each kind of defect in turn"
    mask = (
        " White pixels of the mask are suspected and drawn anew; black ones are led back to the test image." if result.config.masked else ""
    )
    spread = " The spread is the samples’ standard deviation: where it is high, they do not agree." if result.config.samples > 1 else ""
    return {
        "differences": f"How far {X_0} stands from the test image {Y}. A diamond is a mean, a faint dot one image. Good images should "
        "lie far left (nothing changed), defects far right (the defect is gone from the sample, and so seen in the map). “Closer” and "
        f"“%” are against plain reconstruction. Values below {figures.SMALLEST:g} are drawn there.",
        "gallery": f"{shown}; nobody picked them. All anomaly maps, of all images and both chains, have one colour scale "
        "(of square roots), from 0 to "
        f"{figures.heat_limit(masked.anomaly):.3g}, the 99.5th percentile over the MDPS maps of the whole test set; no map is stretched to "
        f"its own maximum, so good images should stay dark.{mask}{spread}",
        "scores": "Scores of held-out good images, which set the threshold; of good test images; and of defective ones. Below, a stroke an "
        "image.",
        "curves": "Each point of a curve is a threshold. Left, images: false alarms against defects found. Middle, the same for pixels. "
        f"Right, the share of each defect’s area that is found, while up to {100 * PRO_LIMIT:.0f} % of the normal pixels are marked. "
        "MDPS’s area is shaded.",
        "loss": "The mean squared error of the predicted noise, whose variance is 1: a network that predicts nothing stands at 1.",
    }


NO_LOSS = "<p>No training steps were taken in this run, so there is no curve.</p>"
