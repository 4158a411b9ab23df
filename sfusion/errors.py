"""The one error that is meant for people."""


class SfusionError(Exception):
    """A problem the user can mend: one line that says what, which value and what to do.

    The command line prints the line on stderr and ends with exit code 2.
    """
