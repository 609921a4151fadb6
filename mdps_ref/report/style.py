"""What all figures share: names and colours of the chains, a width, plain axes, text that the font can write, PNG bytes."""

import io
from typing import NamedTuple

WIDTH = 10.5  # inches, the full width of the page: text in a figure is about as large as text on the page
HALF, THIRD = 5.1, 3.5  # inches, of figures that stand beside each other, and below each other on a phone
DOTS_PER_INCH = 200  # two dots and more for each of a screen's
GOOD_COLOUR, DEFECT_COLOUR, INK, FAINT = "#4D4D4D", "#D55E00", "#222222", "#D9D9D9"


class Chain(NamedTuple):
    """The name and the colour of a chain in a report."""

    name: str
    colour: str


# Okabe and Ito's colours, which colour-blind readers can tell apart. The keys are those of metrics.json and the fields of Detection.
CHAINS = {
    "mdps": Chain("MDPS", "#0072B2"),
    "guided": Chain("guided", "#E69F00"),
    "reconstruction": Chain("reconstruction", "#7A7A7A"),
}
DOUBTS = {  # of MDPS's decisions; the keys are those of `evaluate.doubts`
    "spread": "the spread over the samples",
    "distance": "the distance to the threshold",
}


def chains_of(config):
    """Return the CHAINS that a run has. Without a mask the guided chain is the result, so it is not shown twice."""
    if config.masked:
        return CHAINS
    return {"mdps": CHAINS["mdps"]._replace(name="MDPS, no mask"), "reconstruction": CHAINS["reconstruction"]}


def plain_axes(axes, title="", xlabel=None, ylabel=None):
    """Label axes and remove the lines that nobody reads."""
    axes.set_title(title, loc="left", fontsize=11, weight="bold", color=INK)
    if xlabel:
        axes.set_xlabel(xlabel, color=INK)
    if ylabel:
        axes.set_ylabel(ylabel, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GOOD_COLOUR)
    axes.tick_params(color=GOOD_COLOUR, labelcolor=INK, labelsize=9)


def printable(name, longest=22):
    """Return a name with "?" for each character that the font may lack, shortened to `longest` characters."""
    text = "".join(character if character.isprintable() and ord(character) < 256 else "?" for character in name)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def png(figure):
    """Return a Figure as PNG bytes, without matplotlib's version in them."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return data.getvalue()
