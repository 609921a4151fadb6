"""What was found among a user's files and set aside, or read by a rule that the user should know."""

import pathlib

from mdps_ref.errors import shown

FIRST = 5  # names kept of each kind


class Findings:
    """Count what is set aside, by kind, and keep the first names of each kind.

    The memory does not grow with the number of files.

    Parameters
    ----------
    root : pathlib.PurePath, optional
        A path in this folder is named as seen from there.
    """

    def __init__(self, root=None):
        self._root, self._counts, self._names = root, {}, {}

    def add(self, kind, name):
        """Count one thing.

        Parameters
        ----------
        kind : str
            Begins with a noun in the singular: "mask of no image, not used".
        name : str or pathlib.PurePath
            Of a path elsewhere than in `root`, the last two parts are kept: "scratch/000_mask.png".
        """
        self._counts[kind] = self._counts.get(kind, 0) + 1
        names = self._names.setdefault(kind, [])
        if len(names) < FIRST:
            names.append(shown(self._name_of(name) if isinstance(name, pathlib.PurePath) else name))

    def _name_of(self, path):
        inside = self._root is not None and path.is_relative_to(self._root)
        return path.relative_to(self._root).as_posix() if inside else "/".join(path.parts[-2:])

    def __bool__(self):
        """True if anything was counted."""
        return bool(self._counts)

    def lines(self):
        """Return one line for each kind: "3 masks of no image, not used: a, b, c".

        Returns
        -------
        list of str
            Kinds in the order in which they were found. A line names at most FIRST things.
        """
        lines = []
        for kind, count in self._counts.items():
            noun, *rest = kind.split(" ", 1)
            more = ", ..." if count > FIRST else ""
            lines.append(f"{count} {' '.join([noun + 's' * (count != 1), *rest])}: {', '.join(self._names[kind])}{more}")
        return lines

    def as_dict(self):
        """Return {kind: {"count": int, "first": names}}, for JSON."""
        return {kind: {"count": count, "first": list(self._names[kind])} for kind, count in self._counts.items()}
