"""Executing notebooks with the parameters of a profile. The notebooks are the list.

Their names give the order; the exhibits in them name what they make.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sfusion.errors import SfusionError
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import ROOT, load_profile
from sfusion.experiments.results import BUILD, COMMITTED

SHOWN = "nine"  # the profile whose results the notebooks, figures/ and README show
TWELVE = "base"  # the one of twelve layers, which stands beside it
DEFAULT = "embedded"  # the one that a fresh machine can reproduce
# These take longest to replay: the one trains a model, the other fits forests.
COMPUTING = ("02_one_pruning_step", "04_fusion")
STDERR = 2  # the file descriptor, which kernels inherit

NOTEBOOKS = sorted(file.stem for file in (ROOT / "notebooks").glob("*.ipynb"))


@dataclass(frozen=True)
class Folders:
    """Where executed notebooks, their figures and their tables go."""

    notebooks: Path
    figures: Path
    tables: Path


def folders(profile: str, mode: str) -> Folders:
    """Choose where notebooks write: the shown profile's replay is what is committed.

    Parameters
    ----------
    profile : str
        Name of a profile.
    mode : {"built", "replay"}

    Returns
    -------
    Folders
    """
    if mode == "replay" and profile == SHOWN:
        tables = COMMITTED / profile / "tables"
        return Folders(BUILD / "replay", ROOT / "figures", tables)
    folder = BUILD / profile
    if mode == "replay":
        folder = folder / "replay"
    return Folders(folder / "notebooks", folder / "figures", folder / "tables")


def execute_all(profile: str, mode: str) -> None:
    """Run every notebook, several at once.

    Parameters
    ----------
    profile, mode : str
        See :func:`sfusion.experiments.results.open_results`.

    Raises
    ------
    SfusionError
        See :func:`execute`.
    """
    target = folders(load_profile(profile).name, mode)
    if profile.endswith(".yaml"):
        profile = str(Path(profile).resolve())  # notebooks run in their own folder
    calls = [(name, profile, mode, target) for name in longest_first()]
    with pool(1) as run, progress(len(calls), "notebooks") as bar:
        for _ in run(execute, calls):
            bar.update()


def longest_first() -> list[str]:
    """Order the notebooks so that the workers end together.

    Returns
    -------
    list of str
        Those that compute, then the others, of which the largest draw most.
    """

    def length(name: str) -> tuple[bool, int]:
        size = (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size
        return name in COMPUTING, size

    return sorted(NOTEBOOKS, key=length, reverse=True)


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Say what kernels say on stderr only where a notebook fails.

    As it is shut down, a kernel may find a socket closed and log a traceback, though
    all its cells have run; what cells write on stderr is in their notebook.
    """
    own = os.dup(STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(own, held.read())
            raise
        finally:
            os.dup2(own, STDERR)
            os.close(own)


def execute(name: str, profile: str, mode: str, target: Folders) -> None:
    """Run one notebook from top to bottom.

    Parameters
    ----------
    name : str
        Of ``NOTEBOOKS``.
    profile, mode : str
        See :func:`sfusion.experiments.results.open_results`.
    target : Folders
        Where the executed notebook, its figures and its tables go.

    Raises
    ------
    SfusionError
        When a cell fails: names the notebook and the error; or when the disk is full.
    """
    import papermill  # slow to import, and only this needs it
    from traitlets.config import Config

    source = ROOT / "notebooks" / f"{name}.ipynb"
    executed = target.notebooks / f"{name}.ipynb"
    parameters = {
        "PROFILE": profile,
        "MODE": mode,
        "FIGURES": str(target.figures),
        "TABLES": str(target.tables),
    }
    try:
        target.notebooks.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix="sfusion-") as sockets,
            _stderr_held_back(),
        ):
            # Over files of its own: over TCP every kernel warns that nothing is
            # encrypted. And it calls it an error to be interrupted, as all are before
            # they are shut down; those of cells come by the notebook.
            kernel = {"transport": "ipc", "ip": f"{sockets}/kernel"}
            config = Config(
                KernelManager=kernel,
                NotebookClient={"extra_arguments": ["--log-level=CRITICAL"]},
            )
            papermill.execute_notebook(
                source,
                executed,
                parameters,
                cwd=source.parent,
                kernel_name="python3",
                config=config,
                progress_bar=False,  # several run side by side; one bar counts them all
            )
    except papermill.PapermillExecutionError as error:
        raise SfusionError(
            f"notebook {name} failed at cell {error.exec_count}: {error.ename}: "
            f"{' '.join(error.evalue.split())}; see {executed}"
        ) from error
    except OSError as error:
        raise SfusionError(f"cannot write {executed}: {error.strerror}") from error
