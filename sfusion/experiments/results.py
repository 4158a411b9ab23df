"""Results of studies as tidy frames, and where they are kept."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfusion.disk import write_atomically
from sfusion.errors import SfusionError, first_line
from sfusion.experiments.profiles import ROOT, load_profile
from sfusion.pruning.strategies import lookup

if TYPE_CHECKING:
    from collections.abc import Iterable

UNIT = ["task", "seed"]

FRAMES = ("tasks", "nodes", "signals", "trajectories", "distillation")

COMMITTED = ROOT / "results"

# SFUSION_BUILD puts it elsewhere: on a larger disk, or out of the way of a test.
BUILD = Path(os.environ.get("SFUSION_BUILD", ROOT / "build")).resolve()


class StudyResults:
    """What a study found.

    Attributes
    ----------
    frames : dict of str to DataFrame
        Tidy rows by the name of their file.
    manifest : dict
        ``study`` (its kind), profile, machine with versions, revision of the code.
    """

    frames: dict[str, pd.DataFrame]
    manifest: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the frames as Parquet and the manifest as JSON.

        Parameters
        ----------
        folder : Path
        """
        for name, frame in self.frames.items():
            content = frame.to_parquet(index=False)
            write_atomically(Path(folder) / f"{name}.parquet", content)
        text = json.dumps(self.manifest, indent=1, sort_keys=True) + "\n"
        write_atomically(Path(folder) / "manifest.json", text.encode())


@dataclass(frozen=True, eq=False)
class Results(StudyResults):
    """What a pruning study found. Accuracies are shares, times seconds.

    Nothing changes the frames, so what is derived from them may be kept.

    Attributes
    ----------
    tasks : DataFrame
        A row per task and seed: ``classes``, samples per split (``train``,
        ``validation``, ``test``), ``fingerprint`` of the texts, ``source``, and on test
        ``majority_accuracy`` and logistic regression's ``tfidf_accuracy`` (on TF-IDF of
        the same cut) and ``frozen_accuracy`` (on the mean hidden states of the encoder
        before any fine-tuning).
    nodes : DataFrame
        A row per node: ``task``, ``seed``, ``path``, ``removed``,
        ``validation_accuracy``, ``test_accuracy``, ``test_correct`` (a bit per test
        text, see :func:`sfusion.pruning.node.unpack`), seconds of ``training``,
        ``evaluation`` and ``extraction``, and the sizes of
        :func:`sfusion.models.size.size`.
    signals : DataFrame
        A row per remaining layer of a node (``layer``: number in the original model), a
        column per signal; of the nodes where something reads them.
    trajectories : DataFrame
        A row per task, seed, strategy and number of removed layers: the ``path`` of its
        node.
    distillation : DataFrame
        A row per task, seed, ``path``, ``removed`` and ``condition``: accuracies after
        the extra steps.
    """

    tasks: pd.DataFrame
    nodes: pd.DataFrame
    signals: pd.DataFrame
    trajectories: pd.DataFrame
    distillation: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def depth(self) -> int:
        """Layers of the originals."""
        return int(self.nodes["layers"].max())

    def curves(self) -> pd.DataFrame:
        """Join every strategy's pruning path with what was found at its nodes.

        Returns
        -------
        DataFrame
            A row per task, seed, strategy (random draws apart) and number of removed
            layers; adds ``group``, ``name`` (random draws together), the accuracies
            (shares), the sizes, ``test_texts`` and, where the records have it,
            ``test_correct``.
        """
        seconds = ["training", "evaluation", "extraction"]  # differ from run to run
        nodes = self.with_test_texts(self.nodes.drop(columns=seconds))
        keys = [*UNIT, "path", "removed"]
        frame = self.trajectories.merge(nodes, on=keys, validate="many_to_one")
        strategies = frame["strategy"].map(lookup)
        names = [strategy.name for strategy in strategies]
        groups = [strategy.group for strategy in strategies]
        return frame.assign(name=names, group=groups)

    def with_test_texts(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Say beside each row's bits of right answers how many of them count.

        Parameters
        ----------
        frame : DataFrame
            ``nodes``, ``distillation`` or rows of them.

        Returns
        -------
        DataFrame
            The same rows with ``test_texts``, the size of the task's test split.
        """
        sizes = self.tasks.set_index(UNIT)["test"].rename("test_texts")
        return frame.join(sizes, on=UNIT)

    @property
    def frames(self) -> dict[str, pd.DataFrame]:  # type: ignore[override]  # read alone
        """The frames by name, as they are saved."""
        return {name: getattr(self, name) for name in FRAMES}


@dataclass(frozen=True, eq=False)
class RowResults(StudyResults):
    """What a study of rows found; its module in ``studies/`` says what columns hold."""

    frames: dict[str, pd.DataFrame]
    manifest: dict[str, Any]

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a frame by name; beside bits of right answers, how many count."""
        rows = self.frames[name]
        if "test_correct" not in rows:
            return rows
        right = [int.from_bytes(bits).bit_count() for bits in rows["test_correct"]]
        texts = (right / rows["test_accuracy"]).round().groupby(rows["task"])
        return rows.assign(test_texts=texts.transform("max").astype(int))


def load_report(name: str = "agnews") -> dict[str, Any]:
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
        raise SfusionError(
            f"compression {name!r} is not known: use one of {known or 'none'}"
        )
    return json.loads(file.read_text(encoding="utf-8"))


def load_results(folder: Path) -> StudyResults:
    """Read what :meth:`StudyResults.save` wrote.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    StudyResults
        ``Results`` of a pruning study, ``RowResults`` of another.

    Raises
    ------
    SfusionError
        When a file is missing or damaged.
    """
    folder = Path(folder)
    try:
        manifest = json.loads(_existing(folder, "manifest.json").read_text())
        if manifest.get("study", "pruning") == "pruning":
            return Results(**_read_frames(folder, FRAMES), manifest=manifest)
        names = sorted(file.stem for file in folder.glob("*.parquet"))
        return RowResults(_read_frames(folder, names), manifest)
    except (OSError, ValueError) as error:
        raise SfusionError(
            f"results in {folder} are damaged ({first_line(error)}): restore them"
        ) from error


def _read_frames(folder: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    files = {name: _existing(folder, f"{name}.parquet") for name in names}
    return {name: pd.read_parquet(file) for name, file in files.items()}


def _existing(folder: Path, name: str) -> Path:
    """Name a file that must be there."""
    if not (folder / name).is_file():
        raise SfusionError(
            f"no results in {folder} ({name} is missing): run `make reproduce` for "
            "this profile, `sfusion reproduce --accept` for results to commit"
        )
    return folder / name


def open_results(profile: str | Path = "embedded", mode: str = "replay") -> Any:
    """Open the results of a profile; nothing is computed.

    Parameters
    ----------
    profile : str or Path
        See :func:`sfusion.experiments.profiles.load_profile`.
    mode : {"replay", "built"}
        ``replay`` reads the committed ``results/<profile>``, ``built`` what `make
        reproduce` left in ``build/<profile>/results``.

    Returns
    -------
    StudyResults

    Raises
    ------
    SfusionError
        For an unknown profile or mode, or results that are missing or damaged.
    """
    name = Path(profile).stem
    folders = {"replay": COMMITTED / name, "built": BUILD / name / "results"}
    if mode not in folders:
        raise SfusionError(f"mode {mode!r} is not known: use {' or '.join(folders)}")
    if not folders[mode].is_dir():
        load_profile(profile)  # one that is not known is refused as such
    return load_results(folders[mode])
