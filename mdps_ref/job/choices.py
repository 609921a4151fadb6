"""What can be chosen: every setting with its default and a line on what it does, networks, extractors, and presets."""

import dataclasses
import inspect
import re

from mdps_ref.errors import shown
from mdps_ref.job.bundled import with_bundled
from mdps_ref.job.config import AUTO, NETWORK_DEFAULTS, OWN, Config
from mdps_ref.nn.unet import NETWORKS, init_unet
from mdps_ref.released.presets import PRESETS
from mdps_ref.scoring.features import EXTRACTORS, WEIGHTS_FOLDER, source

SETTINGS_TITLE = "settings, with the defaults of the tiny network (in brackets those of larger networks, and of runs with bundled weights)"
FEATURES_TITLE = f"features, with their files of weights, which are looked for in the folder {WEIGHTS_FOLDER}, and how to get them"


def listing():
    """Write the list.

    Returns
    -------
    str
        Several lines.
    """
    networks = [f"  {name:9}{_parameters(config):>12,} parameters" for name, config in NETWORKS.items()]
    extractors = [
        f"  {AUTO}: the run chooses by planted defects, among those on this machine",
        f"  {OWN}: the noise predictor's own, no file needed",
        *(f"  {name}: needs {extractor.file}; {source(name)}" for name, extractor in EXTRACTORS.items()),
        f"  {OWN}+NAME: both, such as {OWN}+{next(iter(EXTRACTORS))}",
    ]
    about = descriptions()
    settings = [f"  {f.name} = {f.default!r}{_other_defaults(f.name)}\n      {about[f.name]}" for f in dataclasses.fields(Config)]
    parts = {SETTINGS_TITLE: settings, "networks": networks, FEATURES_TITLE: extractors, "presets": [f"  {name}" for name in PRESETS]}
    return "\n".join(line for title, lines in parts.items() for line in (f"{title}:", *lines))


def _other_defaults(name):
    """Return the defaults that a setting has with a larger network, or with bundled weights; "" where it has none of its own."""
    sources = NETWORK_DEFAULTS | {"bundled weights": with_bundled({}, Config.category)}
    others = [f"{source}: {values[name]!r}" for source, values in sources.items() if name in values]
    return f"  ({'; '.join(others)})" if others else ""


def in_words(changes):
    """Say what settings are changed to, a dictionary. `tails` are long, so of them only whether there are any."""
    words = [f"{name} {shown(value, 40)}" for name, value in changes.items() if name != "tails" and value not in ("", None)]
    if "tails" in changes:
        words.append("surprisals" if changes["tails"] else "no surprisals")
    return ", ".join(words) or (f"the defaults of {', '.join(changes)}" if changes else "as before")


def descriptions():
    """Return {setting: what it does}, its entry in Config's docstring, on one line."""
    entries = re.findall(r"^(\w[\w, ]*?)(?: :.*)?\n((?:    .*\n)+)", inspect.getdoc(Config) + "\n", re.MULTILINE)
    return {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}


def _parameters(config):
    return sum(array.size for array in init_unet(config).values())
