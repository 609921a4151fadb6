"""The settings that a command line asks for, of one run or of the runs of all categories."""

import pathlib

from mdps_ref.errors import InputError
from mdps_ref.job.bundled import BUNDLED, with_bundled
from mdps_ref.job.categories import category_names
from mdps_ref.job.config import Config, checked, make_config
from mdps_ref.job.progress import say
from mdps_ref.job.run_folder import PLAN, check_run_folder, read_json
from mdps_ref.job.settings_file import read_settings
from mdps_ref.released.presets import DATA_SETS, PRESETS, check_preset, preset_settings

SETTING_FLAGS = (
    *("data", "category", "image_size", "network", "train_steps", "weights", "rules", "samples", "seed"),
    *("features", "feature_weights", "feature_layers", "fit"),
)
SWITCHES = ("skip_bad", "strict", "tune")
FILE_FLAGS = ("data", "weights", "feature_weights")


def requested_config(args, given):
    """Return the Config that the command line asks for. Merge: network defaults < --preset < --config < flags.

    With --resume the settings are the run's own. `given` is from `given_settings`.

    Raises
    ------
    InputError
        If a flag lacks another one that it needs, or a setting given now differs from that of the run to resume.
    """
    if args.preset:
        check_preset(args.preset)
    if not args.resume:
        return _fresh_config(args, given, args.preset)
    folder = _resumed_folder(args)
    return _resumed_config(given, folder, read_settings(folder / "config.json"), args.preset)


def requested_plan(args, given):
    """Return {name: Config} of the runs of all categories. With --resume they are those that were asked for then.

    `given` is from `given_settings`.

    Raises
    ------
    InputError
        As `requested_config`; and if the preset is of one category, or a category has none.
    """
    if args.preset in PRESETS:
        raise InputError(f"--preset {args.preset} is of one category; give --preset {args.preset.rpartition('/')[0]}, or name its category")
    if args.preset and args.preset not in DATA_SETS:
        raise InputError(f"--preset {args.preset} is unknown; with --category all choose one of {', '.join(DATA_SETS)}")
    given = {name: value for name, value in given.items() if name != "category"}
    if args.resume:
        folder = _resumed_folder(args, PLAN)
        plan = {name: checked(settings) for name, settings in read_json(folder / PLAN).items()}
        return {name: _resumed_config(given, folder, settings, _preset_of(args, name)) for name, settings in plan.items()}
    if args.preset and not given.get("data"):
        raise InputError(f"--preset {args.preset} needs --data DIR, the folder that holds its categories")
    names = category_names(given.get("data"))
    return {name: _fresh_config(args, given | {"category": name}, _preset_of(args, name)) for name in names}


def _preset_of(args, category):
    """The preset of a category among those that --preset names, such as released/mvtec; None without --preset."""
    return args.preset and f"{args.preset}/{category}"


def given_settings(args):
    """Return the settings that are given by --config and flags, as a dictionary. Merge: --config < flags.

    Raises
    ------
    InputError
        If one cannot be used.
    """
    given = read_settings(args.config) if args.config else {}
    if given.get("tails") and not args.resume:
        say(
            f"tails: taken from {args.config}; they were measured with another run's network. To have this run choose features and measure "
            "its own tails, delete features and tails from that file"
        )
    for name in SETTING_FLAGS:
        value = getattr(args, name)
        if value == "":
            raise InputError(f"--{name.replace('_', '-')} is empty; give a value, or leave the flag out")
        given |= {} if value is None else {name: value}
    if isinstance(given.get("category"), str):
        given["category"] = given["category"].rstrip("/\\")  # a shell completes the name of a folder with a slash
    given |= {name: True for name in SWITCHES if getattr(args, name)}
    given |= {name: str(pathlib.Path(given[name]).absolute()) for name in FILE_FLAGS if given.get(name) and given[name] != BUNDLED}
    if args.train and (given.get("weights") or args.resume):
        raise InputError(f"--train trains from scratch; leave it out, or leave out {'--resume' if args.resume else 'weights'}")
    if args.train_steps and given.get("weights"):
        raise InputError("--train-steps trains, but weights are given, which are trained; leave out one of the two")
    return given


def _fresh_config(args, given, preset):
    """The Config of a new run."""
    if given.get("data") and "category" not in given and not preset:
        raise InputError(f"{given['data']}: --data needs --category NAME, the folder in it to use, or --category all")
    if preset and not given.get("data") and "category" not in given:
        raise InputError(f"--preset {preset} needs --data DIR, the folder that holds its category")
    if not (args.train or preset):
        given = with_bundled(given, given.get("category", Config.category))
    return make_config(given, preset)


def _resumed_folder(args, holds="config.json"):
    """The folder to go on with."""
    if args.out is None:
        raise InputError("--resume needs --out FOLDER, the run folder to go on with")
    folder = pathlib.Path(args.out)
    check_run_folder(folder, True, holds)
    return folder


def _resumed_config(given, folder, stored, preset):
    """The Config of a run that goes on: its stored settings. `given` may change the place of the images, and set broken ones aside."""
    if preset:
        given = preset_settings(preset, stored.get("rules", "paper"), stored.get("rules_except", "")) | given
    more_steps = {"train_steps": given["train_steps"]} if given.get("train_steps", 0) > stored.get("train_steps", 0) else {}
    # data.json tells whether the images in another place are the same
    changed = more_steps | {name: given[name] for name in ("data", "skip_bad") if given.get(name) and stored.get("data")}
    if more_steps and stored.get("weights"):
        raise InputError(f"{folder}: this run trains nothing, since it took trained weights; leave --train-steps out")
    for name, value in given.items():
        if name in stored and stored[name] != value and name not in changed:
            raise InputError(f"{folder}: this run has {name} {stored[name]!r}, not {value!r}; leave it out, or start another run")
    return make_config(given | stored | changed)
