"""Executing a notebook with the parameters of a profile. The notebooks themselves are the list.

Their names give the order; ``save_figure`` and ``save_table`` in them name what they
make.
"""

import tempfile
from pathlib import Path

from sfusion.disk import write_atomically
from sfusion.errors import SfusionError
from sfusion.experiments.profiles import ROOT

SHOWN = "nine"  # the profile whose results the notebooks, figures/ and README show
TWELVE = "base"  # the one of twelve layers, which stands beside it
DEFAULT = "embedded"  # the one that a fresh machine can reproduce
NOTEBOOKS = sorted(file.stem for file in (ROOT / "notebooks").glob("*.ipynb"))


def execute(name, profile, mode, folder, figures, tables):
    """Run one notebook from top to bottom.

    Parameters
    ----------
    name : str
        Of ``NOTEBOOKS``.
    profile, mode : str
        See :func:`sfusion.experiments.results.open_results`.
    folder, figures, tables : Path
        Where the executed notebook, its figures and its tables go.

    Raises
    ------
    SfusionError
        When a cell fails: names the notebook and the error; or when the disk is full.
    """
    import papermill  # slow to import, and only this needs it
    from traitlets.config import Config

    source = ROOT / "notebooks" / f"{name}.ipynb"
    target = Path(folder) / f"{name}.ipynb"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sfusion-") as sockets:
            # Over files of its own: over TCP every kernel warns that nothing is
            # encrypted. And it calls it an error to be interrupted, as all are before
            # they are shut down; those of cells come by the notebook.
            kernel = {"transport": "ipc", "ip": f"{sockets}/kernel"}
            config = Config(
                KernelManager=kernel,
                NotebookClient={"extra_arguments": ["--log-level=CRITICAL"]},
            )
            papermill.execute_notebook(
                source, target, dict(PROFILE=str(profile), MODE=mode, FIGURES=str(figures), TABLES=str(tables)),
                cwd=source.parent, kernel_name="python3", config=config,
                progress_bar=False,  # several run side by side; one bar counts them all
            )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise SfusionError(
            f"notebook {name} failed at cell {error.exec_count}: {error.ename}: "
            f"{' '.join(error.evalue.split())}; see {target}"
        ) from error
    except OSError as error:
        raise SfusionError(f"cannot write {target}: {error.strerror}") from error


def save_table(name, frame, folder):
    """Write a table as CSV, and return it to be shown.

    Parameters
    ----------
    name : str
        Of a table in ``NOTEBOOKS``.
    frame : DataFrame
    folder : Path

    Returns
    -------
    DataFrame
        The same frame.
    """
    text = frame.to_csv(float_format="%.6g", index=frame.index.name is not None)
    write_atomically(Path(folder) / f"{name}.csv", text.encode())
    return frame
