"""Errors caused by user input, and how the command line prints them."""

import os
import sys

MOST_LISTED = 5
LONGEST_SHOWN = 140  # characters of a name in a message


class InputError(ValueError):
    """An input that cannot be used: a file, a setting or an array.

    The message is one line. It names the file or the value, says what is wrong with it, and what would be right.
    The command line prints the message without a traceback and exits with status 2.
    """


class ProcessKilled(InputError):
    """A process that shared the work was killed from outside. What was kept so far is good; a run and a scoring go on by `--resume`."""


def exit_status(command, *arguments):
    """Run a command and return the exit status of the process.

    Parameters
    ----------
    command : callable
        Called with `arguments`. It returns the exit status; None counts as 0.

    Returns
    -------
    int
        2 if the command raised an InputError or an OSError, whose message is then printed on standard error. 0 if the reader of
        standard output has gone.
    """
    try:
        return command(*arguments) or 0
    except BrokenPipeError:  # the reader of standard output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's last flush has somewhere to go
        return 0
    except (InputError, OSError) as error:  # an OSError, too, names its file
        print(f"mdps_ref: {error}", file=sys.stderr)
        return 2


def printable(text):
    """Return a text with its control characters and the like written as escapes."""
    escape = {c: c.encode("unicode_escape", "surrogatepass").decode() for c in set(str(text)) if not c.isprintable()}
    return "".join(escape.get(c, c) for c in str(text))


def reason_of(error):
    """Return the system's words for an OSError, for the middle of a message."""
    return (error.strerror or str(error)).lower()


def shown(text, most=LONGEST_SHOWN):
    """Return a name or another text as one short line that a terminal prints as it stands.

    Parameters
    ----------
    text : object
        Text or path, which may hold any character.
    most : int
        The largest number of its characters.

    Returns
    -------
    str
        As `printable`. The middle of a long text is left out.
    """
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-(most // 2) :]}"


def check_arrays(arrays, wanted, optional=(), what="the weights do not fit the network"):
    """Check that a dictionary holds the expected arrays, each with the expected shape.

    Parameters
    ----------
    arrays : dict of str to array
    wanted : dict of str to tuple
        The shape of each required array. None in a shape stands for any size.
    optional : iterable of str
        Names of arrays that may be there, with any shape.
    what : str
        The beginning of the error message.

    Raises
    ------
    InputError
        If an array is missing, unexpected, or has another shape. The message lists the first five such arrays and counts the others.
    """
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - arrays.keys())]
    for name in sorted(wanted.keys() & arrays.keys()):
        found, right = tuple(arrays[name].shape), wanted[name]
        if len(found) != len(right) or any(b not in (a, None) for a, b in zip(found, right, strict=True)):
            expected = str(tuple("any" if size is None else size for size in right)).replace("'", "")
            faults.append(f"{name} has shape {found}, not {expected}")
    faults += [f"{name} is unexpected" for name in sorted(arrays.keys() - wanted.keys() - set(optional))]
    if faults:
        more = f"; and {len(faults) - MOST_LISTED} more" if len(faults) > MOST_LISTED else ""
        raise InputError(f"{what}: {'; '.join(faults[:MOST_LISTED])}{more}")
