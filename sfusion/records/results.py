"""Results of a study as tidy frames, and where they are kept."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from sfusion import SfusionError
from sfusion.records.profiles import ROOT
from sfusion.records.store import write_atomically

STAGES = ("signals", "sweep", "fusion", "distillation")
FRAMES = ("tasks", "nodes", "signals", "trajectories", "distillation")
COMMITTED = ROOT / "results"
# SFUSION_BUILD puts it elsewhere: on a larger disk, or out of the way of a test.
BUILD = Path(os.environ.get("SFUSION_BUILD", ROOT / "build")).resolve()


@dataclass(frozen=True)
class Results:
    """What a study found. Accuracies are shares, times seconds.

    Attributes
    ----------
    tasks : DataFrame
        A row a task and seed: ``classes``, samples a split (``train``, ``validation``,
        ``test``), ``fingerprint`` of the texts, ``source``, and on test ``majority_accuracy``
        and ``tfidf_accuracy`` (TF-IDF with logistic regression on the same cut).
    nodes : DataFrame
        A row a node: ``task``, ``seed``, ``path``, ``removed``, ``validation_accuracy``,
        ``test_accuracy``, seconds of ``training``, ``evaluation`` and ``extraction``, and the
        sizes of :func:`sfusion.models.loading.size`.
    signals : DataFrame
        A row a node and layer that is left (``layer``: number in the original model), a column
        a signal.
    trajectories : DataFrame
        A row a task, seed, strategy and number of removed layers: the ``path`` of its node.
    distillation : DataFrame
        A row a task, seed, ``path``, ``removed`` and ``condition``: accuracies after the extra steps.
    manifest : dict
        Profile, versions, machine, revision of the code.
    """

    tasks: pd.DataFrame
    nodes: pd.DataFrame
    signals: pd.DataFrame
    trajectories: pd.DataFrame
    distillation: pd.DataFrame
    manifest: dict

    def matching(self, other):
        """Keep the tasks and seeds that another study has, too.

        Parameters
        ----------
        other : Results

        Returns
        -------
        Results
        """
        units = other.tasks[["task", "seed"]]
        frames = {name: getattr(self, name).merge(units, on=["task", "seed"]) for name in FRAMES}
        return replace(self, **frames)

    def save(self, folder):
        """Write the frames as Parquet and the manifest as JSON.

        Parameters
        ----------
        folder : Path
        """
        for name in FRAMES:
            content = getattr(self, name).to_parquet(index=False)
            write_atomically(Path(folder) / f"{name}.parquet", content)
        text = json.dumps(self.manifest, indent=1, sort_keys=True) + "\n"
        write_atomically(Path(folder) / "manifest.json", text.encode())


def load_report(name="agnews"):
    """Read the report of a committed compression.

    Parameters
    ----------
    name : str
        Of a file in ``results/compress``, without ``.json``.

    Returns
    -------
    dict
        See :attr:`sfusion.compression.compress.CompressionResult.report`.

    Raises
    ------
    SfusionError
        When there is none of that name.
    """
    file = COMMITTED / "compress" / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(other.stem for other in file.parent.glob("*.json")))
        raise SfusionError(f"compression {name!r} is not known: use one of {known or 'none'}")
    return json.loads(file.read_text(encoding="utf-8"))


def load_results(folder):
    """Read what :meth:`Results.save` wrote.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Results

    Raises
    ------
    SfusionError
        When a file is missing or damaged.
    """
    folder = Path(folder)
    for name in (*(f"{frame}.parquet" for frame in FRAMES), "manifest.json"):
        if not (folder / name).is_file():
            raise SfusionError(
                f"no results in {folder} ({name} is missing): run `make reproduce` for this "
                "profile, `sfusion reproduce --accept` for results to commit"
            )
    try:
        frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in FRAMES}
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SfusionError(f"results in {folder} are damaged ({reason}): restore them") from error
    return Results(**frames, manifest=manifest)
