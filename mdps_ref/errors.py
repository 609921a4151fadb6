"""The one error that is the user's to mend."""


class InputError(ValueError):
    """Something that was handed in cannot be used.

    The message is one line that names the file or the value, says what is wrong with it, and what would be right.
    The command line prints it without a traceback and exits with status 2.
    """
