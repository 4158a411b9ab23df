"""What goes wrong on the user's side, and how it is said."""


class SfusionError(Exception):
    """A problem that the user can mend: one line with what, which value and what to do.

    The command line prints the line on stderr and ends with exit code 2.
    """


def first_line(error):
    """Shorten an error's message to its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
