"""Profiles: what to run. One YAML file each in ``profiles/``, checked on loading."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError

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


class Sizes(StrictModel):
    """Samples per split; None takes all. ``probe`` of the training samples give the signals."""

    train: PositiveInt | None
    validation: PositiveInt | None
    test: PositiveInt | None
    probe: PositiveInt = 128


PROBE = Sizes.model_fields[
    "probe"
].default  # texts: mutual information compares all pairs of them


class Profile(StrictModel):
    """One complete study.

    Attributes
    ----------
    name, description : str
        File name without ``.yaml``, and what it is for.
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
        Tasks on which every set of layers is trained, to know the best one.
    threads : int
        Threads per run: results are bitwise stable only while this is fixed.
    precision : {"auto", "fp32", "bf16"}
        ``auto`` takes bfloat16 where the processor multiplies matrices in it.
    original, recovery : Recipe
        Fine-tuning of the unpruned model, and after every removal.
    distillation : Distillation
        At the end.
    """

    name: str
    description: str
    model: str
    tasks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    source: Literal["auto", "embedded", "folder", "hub"] = "auto"
    seeds: Annotated[tuple[int, ...], Field(strict=False, min_length=1)]
    max_length: PositiveInt = 32
    sizes: Sizes
    strategies: Annotated[tuple[str, ...], Field(strict=False)] = ()
    random_orders: Annotated[int, Field(ge=0)] = 5
    subsets: Annotated[tuple[str, ...], Field(strict=False)] = ()
    threads: PositiveInt = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    original: Recipe
    recovery: Recipe
    distillation: Distillation


def load_profile(name):
    """Read and check a profile.

    Parameters
    ----------
    name : str or Path
        A file name in ``profiles/`` without ``.yaml``, or the path of a YAML file.

    Returns
    -------
    Profile

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
        for key in ("seeds", "tasks"):
            values = content.get(key)
            if isinstance(values, list) and len({str(v) for v in values}) < len(values):
                raise SfusionError(
                    f"profile {str(name)!r}: {key} = {values}: list each one once"
                )
        profile = Profile(name=file.stem, **content)
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
    if set(profile.subsets) - set(profile.tasks):
        raise SfusionError(
            f"profile {str(name)!r}: subsets = {list(profile.subsets)}: name some of its tasks"
        )
    return profile
