"""The report: one HTML page that needs no other file. The verdict comes first, then where it looks, why to believe it, and the numbers."""

import matplotlib

from mdps_ref.data.files import whole_file, write_text
from mdps_ref.report import plots, sentences
from mdps_ref.report.cards import good_reconstructions, where_it_looks, where_it_was_wrong
from mdps_ref.report.html import PAGE, escaped, figure_element, pairs_table, whole_page
from mdps_ref.report.steps import step_by_step
from mdps_ref.report.style import png
from mdps_ref.report.tables import kinds_table, metrics_table, settings, tuning_section
from mdps_ref.report.verdict import verdict

CURVES = ("roc-images", "roc-pixels", "pro")


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
        "uncertainty": plots.uncertainty(result),
        "scores": plots.score_histogram(result),
        **plots.curves(result),
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
    figures = {
        name: figure_element(name, pictures[name], caption, "fits") if name in pictures else ""
        for name, caption in sentences.captions().items()
    }
    body = PAGE.substitute(
        category=escaped(config.category),
        subtitle=sentences.subtitle(result),
        verdict=verdict(result),
        warning=sentences.training_note(result),
        leaks=sentences.leak_note(config),
        looks=sentences.how_it_looks(result),
        cards=where_it_looks(result),
        wrong=sentences.mistakes(result),
        wrong_cards=where_it_was_wrong(result),
        method=sentences.method(result),
        found=sentences.found(result),
        enough="Yes" if result.metrics["trained_enough"]["enough"] else "No",
        trained=sentences.trained(result),
        reconstructions=good_reconstructions(result),
        steps=step_by_step(result),
        stepwise=sentences.steps(config),
        unsure=sentences.unsure(result),
        intervals=sentences.intervals(result),
        metrics=metrics_table(result),
        decision=sentences.decision(result),
        kinds=kinds_table(result),
        curves="\n".join(figures[name] for name in CURVES),
        tuning=tuning_section(result),
        loss=figures["loss"] or f"<p>{sentences.not_trained(config)}</p>",
        told=sentences.images(result),
        settings=pairs_table(settings(config)),
        seconds=pairs_table({stage: f"{seconds:.1f} s" for stage, seconds in result.seconds.items()}),
        versions=pairs_table(result.versions),
        **{name: figures[name] for name in ("differences", "uncertainty", "scores")},
    )
    return whole_page(f"MDPS: {escaped(config.category)}", body)
