"""Results of a study as tidy frames, and where they are kept."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sfusion.errors import SfusionError
from sfusion.profiles import ROOT, load_profile
from sfusion.runs import write_atomically

STAGES = ("signals", "sweep", "fusion", "distillation")
FRAMES = ("tasks", "nodes", "signals", "visits", "distillation")
COMMITTED = ROOT / "results"
BUILD = Path(os.environ.get("SFUSION_BUILD", ROOT / "build"))  # elsewhere: a larger disk, a test


@dataclass(frozen=True)
class Results:
    """What a study found. Accuracies are shares, times seconds.

    Attributes
    ----------
    tasks : DataFrame
        A row a task and seed: ``classes``, samples a split (``train``, ``validation``,
        ``test``), ``fingerprint`` of the texts, ``source``, and on test ``majority_accuracy``
        and ``floor_accuracy`` (TF-IDF with logistic regression on the same cut).
    nodes : DataFrame
        A row a node: ``task``, ``seed``, ``path``, ``removed``, ``validation_accuracy``,
        ``test_accuracy``, seconds of ``training``, ``evaluation`` and ``probing``, and the
        sizes of :func:`sfusion.models.size`.
    signals : DataFrame
        A row a node and layer that is left (``layer``: number in the original model), a column
        a signal.
    visits : DataFrame
        A row a task, seed, strategy and number of removed layers: the ``path`` of its node.
    distillation : DataFrame
        A row a task, seed, ``path``, ``removed`` and ``arm``: accuracies after the extra steps.
    manifest : dict
        Profile, versions, machine, revision of the code.
    """

    tasks: pd.DataFrame
    nodes: pd.DataFrame
    signals: pd.DataFrame
    visits: pd.DataFrame
    distillation: pd.DataFrame
    manifest: dict

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
    try:
        frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in FRAMES}
        manifest = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError as error:
        missing = Path(error.filename or folder).name
        raise SfusionError(
            f"no results in {folder} ({missing} is missing): run `make reproduce` for this profile"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SfusionError(f"results in {folder} are damaged ({reason}): restore them") from error
    return Results(**frames, manifest=manifest)


def open_results(profile="embedded", mode="replay", upto=STAGES[-1], *, folder=None, quiet=None):
    """Give the results of a profile: read from the committed records, or computed.

    Parameters
    ----------
    profile : str or Path
        See :func:`sfusion.profiles.load_profile`.
    mode : {"replay", "built", "reproduce"}
        ``replay`` reads the committed ``results/<profile>``, ``built`` what `make reproduce` left
        in ``build/<profile>/results``: neither trains. ``reproduce`` computes what
        ``build/<profile>`` does not hold yet.
    upto : str
        Last stage to compute, of ``STAGES``; a replay gives all.
    folder : Path, optional
        In place of the mode's own folder.
    quiet : bool, optional
        See :func:`sfusion.parallel.progress`.

    Returns
    -------
    Results
        After ``signals`` and ``sweep``, the frames of later stages lack rows.

    Raises
    ------
    SfusionError
        For an unknown profile, mode or stage, and whatever the stages meet.
    """
    checked = load_profile(profile)
    if upto not in STAGES:
        raise SfusionError(f"stage {upto!r} is not known: use one of {', '.join(STAGES)}")
    if mode == "replay":
        return load_results(folder or COMMITTED / checked.name)
    if mode == "built":
        return load_results(folder or BUILD / checked.name / "results")
    if mode == "reproduce":
        # Imported here, not at the top: a replay needs neither torch nor transformers.
        from sfusion.study import compute

        return compute(checked, folder or BUILD / checked.name, upto=upto, quiet=quiet)
    raise SfusionError(f"mode {mode!r} is not known: use replay, built or reproduce")
