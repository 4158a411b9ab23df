"""Every notebook, figure and table, listed once; and how a notebook is executed."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sfusion import SfusionError
from sfusion.records.profiles import ROOT
from sfusion.records.store import write_atomically

SHOWN = "nine"  # the profile whose results the notebooks, figures/ and README show
DEFAULT = "embedded"  # the one that a fresh machine can reproduce


@dataclass(frozen=True)
class Notebook:
    """One notebook: its title, and the figures and tables it makes."""

    title: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


NOTEBOOKS = {
    "00_start_here": Notebook("The question, the answer, the map"),
    "01_signals": Notebook(
        "Twelve signals of a layer",
        figures=("signal_profile", "signal_correlation"),
        tables=("signal_definitions", "tasks"),
    ),
    "02_single_strategy_sweeps": Notebook(
        "Removing layers, one strategy at a time",
        figures=(
            *("accuracy_by_depth", "removal_order", "maximum_accuracy"),
            "accuracy_by_depth_all",
        ),
        tables=("maximum_accuracy",),
    ),
    "03_fusion_training": Notebook(
        "Fusing the signals",
        figures=("fusion_fit", "fusion_coefficients", "fusion_importance"),
        tables=("fusion_quality",),
    ),
    "04_knowledge_distillation": Notebook(
        "The original teaches the pruned",
        figures=("distillation_by_depth", "distillation_gain"),
        tables=("distillation",),
    ),
    "05_accuracy_to_size": Notebook(
        "Accuracy against size, and the scoreboard",
        figures=("accuracy_to_size", "ratio_by_denominator", "protocol_gap", "scoreboard"),
        tables=("ratio_readings", "protocols", "scoreboard"),
    ),
    "06_beyond_the_paper": Notebook(
        "Beyond the paper: controls, compute cost, other settings",
        figures=(
            *("contrasts", "controls", "regret", "overhead"),
            *("longer_texts", "longer_contrasts"),
            *("twelve_depths", "twelve_contrasts", "six_orders", "twelve_orders"),
        ),
        tables=("contrasts", "controls", "regret", "overhead", "longer_texts", "twelve_depths"),
    ),
    "07_compress_your_own_model": Notebook(
        "Compress your own model",
        figures=("compression_curve",),
        tables=("compression", "cost_of_depth", "strategies_ranked"),
    ),
}


def execute(name, profile, mode, folder, figures, tables):
    """Run one notebook from top to bottom.

    Parameters
    ----------
    name : str
        Of ``NOTEBOOKS``.
    profile, mode : str
        See :func:`sfusion.records.results.open_results`.
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
            # Over files of its own: over TCP every kernel warns that nothing is encrypted.
            kernel = {"transport": "ipc", "ip": f"{sockets}/kernel"}
            papermill.execute_notebook(
                source,
                target,
                parameters={
                    "PROFILE": str(profile),
                    "MODE": mode,
                    "FIGURES": str(figures),
                    "TABLES": str(tables),
                },
                cwd=ROOT / "notebooks",
                kernel_name="python3",
                progress_bar=False,  # several run side by side; one bar counts them all
                config=Config(KernelManager=kernel),
            )
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
