"""What goes wrong on the user's side, and how it is said."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution, requires


class SfusionError(Exception):
    """A problem that the user can mend: one line with what, which value and what to do.

    The command line prints the line on stderr and ends with exit code 2.
    """


class StudyLacks(SfusionError):
    """A study does not hold what is asked of it: a sentence without its full stop."""


def first_line(error: BaseException) -> str:
    """Shorten an error's message to its first line, and what a colon there announces.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        The name of its class where it has no message.
    """
    first, _, rest = str(error).strip().partition("\n")
    if first.endswith(":") and rest:
        return f"{first} {rest.strip().splitlines()[0]}"
    return first or type(error).__name__


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn any error of other libraries, which have no common base, into one line.

    Parameters
    ----------
    what : str
        Says what failed; the error's first line follows it.

    Raises
    ------
    SfusionError
        In place of whatever was raised.
    """
    try:
        yield
    except (SfusionError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of a tokenizer is no Exception
        raise SfusionError(f"{what}: {first_line(error)}") from error


def need_extra(extra: str) -> None:
    """Refuse what needs an extra of the package that is not installed.

    Parameters
    ----------
    extra : str
        Its name in ``pyproject.toml``.

    Raises
    ------
    SfusionError
        Names the missing library, and how to install the extra.
    """
    for requirement in requires("sfusion") or []:
        specifier, _, marker = requirement.partition(";")
        name = re.split(r"[^\w.-]", specifier, maxsplit=1)[0]
        if marker.replace('"', "'").strip() != f"extra == '{extra}'":
            continue
        try:
            distribution(name)
        except PackageNotFoundError:
            raise SfusionError(
                f"{name} is not installed: pip install 'sfusion[{extra}]'"
            ) from None
