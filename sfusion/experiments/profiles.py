"""Profiles: what to run. One YAML file each in ``profiles/``, checked on loading."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from sfusion.errors import SfusionError
from sfusion.training.recipes import Distillation, Recipe, StrictModel

_ABOVE = Path(__file__).resolve().parents[1]

# In a checkout profiles lie beside the package, in an installed wheel within it; then
# what is made goes to the working directory.
CHECKOUT = (_ABOVE.parent / "profiles").is_dir() and (
    _ABOVE.parent / "pyproject.toml"
).is_file()

ROOT = _ABOVE.parent if CHECKOUT else Path.cwd()

PROFILES = (_ABOVE.parent if CHECKOUT else _ABOVE) / "profiles"


def need_checkout(command: str) -> None:
    """Refuse what reads or writes the project's own folders where there are none.

    Parameters
    ----------
    command : str
        What was asked for.

    Raises
    ------
    SfusionError
        When the package is not that of a checkout.
    """
    if not CHECKOUT:
        raise SfusionError(
            f"{command} needs a checkout of the repository, with its notebooks and "
            "committed results: run it there"
        )


def _each_once(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        raise ValueError("list each one once")
    return values


# In YAML a list; each item stands in it once.
Names = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_each_once)]
Seeds = Annotated[
    tuple[int, ...], Field(strict=False, min_length=1), AfterValidator(_each_once)
]


class Sizes(StrictModel):
    """Samples per split, None takes all; ``probe`` of them give the signals."""

    train: PositiveInt | None
    validation: PositiveInt | None
    test: PositiveInt | None
    probe: PositiveInt = 128


# Texts: a pass over more would cost as much as a training.
PROBE = Sizes.model_fields["probe"].default


class StudyProfile(StrictModel):
    """What every study's profile has; a study adds its own.

    Attributes
    ----------
    name, description : str
        File name without ``.yaml``, and what it is for.
    study : str
        Which study: ``pruning``, or a module in ``studies/``.
    threads : int
        Threads per run: results are bitwise stable only while this is fixed.
    precision : {"auto", "fp32", "bf16"}
        ``auto`` takes bfloat16 where it is measured to be faster, see
        :func:`sfusion.training.precision.choose_precision`.
    """

    name: str
    description: str
    study: str
    threads: PositiveInt = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class Profile(StudyProfile):
    """One complete pruning study.

    Attributes
    ----------
    model : str
        See :func:`sfusion.data.pretrained.locate_model`.
    tasks : tuple of str
        Names in ``sfusion.data.tasks.TASKS``.
    source : {"auto", "embedded", "folder", "hub"}
        Where the tasks come from.
    seeds : tuple of int
        Each varies training and validation split, order of samples and head together.
    max_length : int
        Tokens per sequence.
    sizes : Sizes
        Samples per split.
    strategies : tuple of str
        Names in ``sfusion.pruning.strategies.STRATEGIES``; none: all but the reversed
        signals.
    random_orders : int
        Draws of each random baseline per task and seed.
    subsets : tuple of str
        Tasks on which every set of layers is trained, to know the best one; the lookup
        table of a task averages those of the others.
    original, recovery : Recipe
        Fine-tuning of the unpruned model, and after every removal.
    distillation : Distillation
        At the end.
    """

    study: Literal["pruning"] = "pruning"
    model: str
    tasks: Annotated[Names, Field(min_length=1)]
    source: Literal["auto", "embedded", "folder", "hub"] = "auto"
    seeds: Seeds
    max_length: PositiveInt = 32
    sizes: Sizes
    strategies: Names = ()
    random_orders: Annotated[int, Field(ge=0)] = 5
    subsets: Names = ()
    original: Recipe
    recovery: Recipe
    distillation: Distillation

    @property
    def recipes(self) -> dict[str, Recipe]:
        """How each stage trains."""
        return {
            "original": self.original,
            "recovery": self.recovery,
            "distillation": self.distillation,
        }

    @field_validator("subsets")
    @classmethod
    def _are_tasks(
        cls, names: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        if set(names) - set(info.data.get("tasks", names)):
            raise ValueError("name some of its tasks")
        return names


def study_class(kind: str) -> type[Any]:
    """Find the class of a study.

    Parameters
    ----------
    kind : str
        ``pruning``, or the name of a module in ``studies/``, whose ``STUDY`` it is.

    Returns
    -------
    type

    Raises
    ------
    SfusionError
        When there is no such study.
    """
    if kind == "pruning":
        module = "sfusion.experiments.pruning_study"
    else:
        need_checkout(f"the study {kind!r}")
        module = f"studies.{kind}"
        if str(ROOT) not in sys.path:
            sys.path.append(str(ROOT))
    try:
        return importlib.import_module(module).STUDY
    except ModuleNotFoundError as error:
        if error.name not in ("studies", module):
            raise
        files = (ROOT / "studies").glob("[!_]*.py")
        known = ", ".join(["pruning", *sorted(file.stem for file in files)])
        raise SfusionError(f"study {kind!r} is not known: use one of {known}") from None


def load_profile(name: str | Path) -> Any:
    """Read and check a profile.

    Parameters
    ----------
    name : str or Path
        A file name in ``profiles/`` without ``.yaml``, or the path of a YAML file.

    Returns
    -------
    StudyProfile
        A ``Profile``, where the file names no other ``study``.

    Raises
    ------
    SfusionError
        When there is no such profile, or a value is missing, unknown or of a wrong
        type.
    """
    file = Path(name) if str(name).endswith(".yaml") else PROFILES / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise SfusionError(
            f"profile {str(name)!r} is not known: use one of {known}, or a .yaml file"
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not all(
            isinstance(key, str) for key in content
        ):
            raise SfusionError(
                f"profile {str(name)!r}: the file holds no keys and values"
            )
        if "name" in content:
            raise SfusionError(
                f"profile {str(name)!r}: remove 'name', the file's name is used"
            )
        kind = content.get("study", "pruning")
        checked = Profile if kind == "pruning" else study_class(kind).profile_type
        return checked(name=file.stem, **content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SfusionError(
            f"profile {str(name)!r} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        value = "" if first["type"] == "missing" else f" = {first['input']!r}"
        raise SfusionError(
            f"profile {str(name)!r}: {key}{value}: {first['msg']}"
        ) from error
