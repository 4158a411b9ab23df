"""Studies: units measured into rows, with records, manifest and comparison."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pandas as pd

from sfusion.experiments.comparison import Compared, compare_rows
from sfusion.experiments.machine import machine, revision
from sfusion.experiments.parallel import jobs, pool, progress
from sfusion.experiments.profiles import StudyProfile, load_profile, study_class
from sfusion.experiments.results import RowResults, StudyResults
from sfusion.experiments.store import RecordStore
from sfusion.training.precision import (
    choose_precision,
    default_device,
    fixed_threads,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

Row = dict[str, Any]
AnyProfile = TypeVar("AnyProfile", bound=StudyProfile)


class Study(ABC):
    """What is measured under a profile, and how two runs of it are compared.

    Parameters
    ----------
    profile : StudyProfile
        Of the class ``profile_type``.
    """

    profile_type: ClassVar[type[StudyProfile]]
    shown_in_notebooks: ClassVar[bool] = False

    def __init__(self, profile: StudyProfile) -> None:
        self.profile = profile

    def run(self, folder: Path, quiet: bool | None = None) -> StudyResults:
        """Measure whatever has no record yet, and collect everything.

        Parameters
        ----------
        folder : Path
            Records go to ``<folder>/store``; the same call goes on where a killed one
            stopped.
        quiet : bool, optional
            See :func:`sfusion.experiments.parallel.progress`.

        Returns
        -------
        StudyResults

        Raises
        ------
        SfusionError
            For what the profile asks and cannot be had, or an unwritable folder.
        """
        start = time.monotonic()
        store = RecordStore(Path(folder) / "store")
        resumed = (store.folder / "records").exists()
        frames = self.measure_all(store, quiet)
        chosen = choose_precision(self.profile.precision, default_device())
        manifest = {
            "study": self.profile.study,
            "profile": self.profile.model_dump(mode="json"),
            "machine": machine(self.profile),
            "precision_reason": chosen.reason,
            "revision": revision(),
            "jobs": jobs(self.profile.threads),
            # Of the whole study: a part's would pass for it.
            "wall_seconds": None if resumed else round(time.monotonic() - start, 1),
        }
        return self.collect(frames, manifest)

    @abstractmethod
    def measure_all(
        self, store: RecordStore, quiet: bool | None
    ) -> dict[str, pd.DataFrame]:
        """Make the frames of the study, by name.

        Parameters
        ----------
        store : RecordStore
        quiet : bool or None

        Returns
        -------
        dict of str to DataFrame
        """

    @abstractmethod
    def collect(
        self, frames: dict[str, pd.DataFrame], manifest: dict[str, Any]
    ) -> StudyResults:
        """Put frames and manifest together.

        Parameters
        ----------
        frames : dict of str to DataFrame
        manifest : dict

        Returns
        -------
        StudyResults
        """

    @abstractmethod
    def compare(self, new: Any, old: Any) -> pd.DataFrame:
        """Compare two runs.

        Parameters
        ----------
        new, old : StudyResults
            The reproduction and the committed results.

        Returns
        -------
        DataFrame
            A row per thing compared: ``asked``, the counts ``same``, ``within`` and
            ``differs``, and ``passed``.
        """


class RowStudy(Study):
    """A study of a list of units, each of which is measured into rows of named frames.

    A subclass names its ``profile_type`` and its ``frames``, and says
    which units there are and what measuring one means. What it files, it files in the
    store that it is given, by :meth:`sfusion.pruning.tree.PruningTree.record` or
    :meth:`RecordStore.recorded`.
    """

    frames: ClassVar[dict[str, Compared]]

    @abstractmethod
    def rounds(self) -> Sequence[Sequence[Hashable]]:
        """List the units that are measured, in rounds; rows come in this order.

        Returns
        -------
        sequence of sequence
            Plain values, tuples or frozen dataclasses of them: workers are sent them. A
            round begins when the one before it has ended, for units that need what
            others have filed.
        """

    @abstractmethod
    def measure(self, unit: Any, store: RecordStore) -> dict[str, list[Row]]:
        """Measure one unit, as far as it is not filed yet; called in a worker.

        Parameters
        ----------
        unit
            Of :meth:`rounds`.
        store : RecordStore

        Returns
        -------
        dict of str to list of dict
            Rows by the name of their frame.
        """

    def measure_all(
        self, store: RecordStore, quiet: bool | None
    ) -> dict[str, pd.DataFrame]:
        """Measure the units of every round, several at once; see :meth:`Study.run`."""
        study = type(self)(with_chosen_precision(self.profile))
        rows: dict[str, list[Row]] = {name: [] for name in self.frames}
        rounds = self.rounds()
        total = sum(len(units) for units in rounds)
        with (
            pool(self.profile.threads) as run,
            progress(total, self.profile.study, quiet) as bar,
        ):
            for units in rounds:
                calls = [(study, unit, store) for unit in units]
                for measured in run(measure_unit, calls):
                    for name, found in measured.items():
                        rows[name].extend(found)
                    bar.update()
        return {name: self._frame(name, found) for name, found in rows.items()}

    def _frame(self, name: str, rows: list[Row]) -> pd.DataFrame:
        if rows:
            return pd.DataFrame(rows)
        compared = self.frames[name]
        return pd.DataFrame(columns=[*compared.keys, *compared.values])

    def collect(
        self, frames: dict[str, pd.DataFrame], manifest: dict[str, Any]
    ) -> RowResults:
        """See :meth:`Study.collect`."""
        return RowResults(frames, manifest)

    def compare(self, new: RowResults, old: RowResults) -> pd.DataFrame:
        """See :meth:`Study.compare` and :func:`compare_rows`."""
        return compare_rows(new, old, self.frames)


def with_chosen_precision(profile: AnyProfile) -> AnyProfile:
    """Fix the precision that this process has chosen, so that its workers use it too.

    Parameters
    ----------
    profile : StudyProfile

    Returns
    -------
    StudyProfile
    """
    chosen = choose_precision(profile.precision, default_device())
    return profile.model_copy(update={"precision": chosen.precision})


def measure_unit(
    study: RowStudy, unit: Any, store: RecordStore
) -> dict[str, list[Row]]:
    """Measure one unit in a worker; see :meth:`RowStudy.measure`.

    Parameters
    ----------
    study : RowStudy
    unit
    store : RecordStore

    Returns
    -------
    dict of str to list of dict
    """
    with fixed_threads(study.profile.threads):
        rows = study.measure(unit, store)
    store.trim()
    return rows


def load_study(name: str | Path) -> Study:
    """Load a profile with the study that it is of.

    Parameters
    ----------
    name : str or Path
        See :func:`sfusion.experiments.profiles.load_profile`.

    Returns
    -------
    Study
    """
    profile = load_profile(name)
    return study_class(profile.study)(profile)
