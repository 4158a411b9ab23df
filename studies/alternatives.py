"""What an engineer would pick instead of removing layers: accuracy, time and size.

*Accuracy*: on every task and seed the original is fine-tuned as ``compress`` does it,
and from it come models of fewer layers: by ``compress`` as it is (at once, then the
original teaches), by removing one layer at a time as its default did before, by other
rankings, and a student of the same depth that starts from every second layer and sees
as many samples. Beside them stand the original trained for as many samples in all, the
frozen encoder and static embeddings made from it (model2vec), each with logistic
regression, and TF-IDF. Of the original and of half of its layers there are ONNX files
too, in 32 and in 8 bits. Fusions learn from the shipped removals on the other tasks, of
the same model where there are any.

*Defaults*: the default of ``compress`` and the one before it, one layer at a time as a
forest chooses, at half of the depth on all tasks, on several seeds.

*Unlabelled*: half of the layers, taught with and without the texts that have no labels,
and for as many samples on the labelled ones alone.

*Speed*: all of them in one run in turns, from text to class number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt

from sfusion.compression.budgets import recipes
from sfusion.compression.quantisation import PARTLY, VARIANTS
from sfusion.data.encoding import Encoded
from sfusion.data.pretrained import fingerprint
from sfusion.data.tasks import load_task
from sfusion.experiments.comparison import SINGLE_ACCURACY, Compared
from sfusion.experiments.profiles import (
    PROBE,
    Names,
    Profile,
    Seeds,
    StudyProfile,
    load_profile,
)
from sfusion.experiments.store import RecordStore
from sfusion.experiments.study import Row, RowStudy
from sfusion.models.layers import remove_layers
from sfusion.models.source import load_model
from sfusion.pruning.fusion import fit_fusion, shipped_rows
from sfusion.pruning.identity import identity
from sfusion.pruning.node import pack, unpack
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.searches import follow
from sfusion.pruning.strategies import DEFAULT_STRATEGY
from sfusion.pruning.tree import PruningTree, probe_samples
from sfusion.training.distillation import NO_LABEL
from sfusion.training.evaluation import classified
from sfusion.training.precision import default_device
from sfusion.training.recipes import StrictModel
from sfusion.training.seeds import derive_seed
from studies import makers
from studies.speed import time_models

# At half of the depth; the first is the default of `compress` before.
RANKINGS = (
    "random-forest",
    "one-shot-random-forest",
    "one-shot-angular-distance",
)
FORMER = f"compress, {RANKINGS[0]}"


class ComparedModel(StrictModel):
    """A model whose alternatives are judged.

    Attributes
    ----------
    model : str
    tasks : tuple of str
    seeds : tuple of int
    depths : tuple of int
        Layers that are left by ``compress``.
    without : tuple of str
        Alternatives that are left out.
    """

    model: str
    tasks: Annotated[Names, Field(min_length=1)]
    seeds: Seeds
    depths: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()
    without: Names = ()


class UnlabelledTexts(ComparedModel):
    """Where texts without labels are tried.

    Attributes
    ----------
    labelled : int
        Training texts that keep their labels.
    """

    labelled: PositiveInt


class AlternativesProfile(StudyProfile):
    """What is judged.

    Attributes
    ----------
    profile : str
        The pruning study whose sizes and tokens are used.
    accuracy, defaults : tuple of ComparedModel
    unlabelled : tuple of UnlabelledTexts
    speed_task : str
        Whose test texts are timed.
    """

    study: Literal["alternatives"]
    profile: str
    accuracy: Annotated[tuple[ComparedModel, ...], Field(strict=False)]
    defaults: Annotated[tuple[ComparedModel, ...], Field(strict=False)]
    unlabelled: Annotated[tuple[UnlabelledTexts, ...], Field(strict=False)]
    speed_task: str


@dataclass(frozen=True)
class AlternativeRun:
    """The rows of one frame, of one model on one task and seed."""

    frame: Literal["accuracy", "defaults", "unlabelled"]
    asked: ComparedModel
    task: str
    seed: int


SPEED = "speed"  # the unit that times all of them


@dataclass(frozen=True)
class Alternative:
    """One thing that is compared.

    Attributes
    ----------
    name : str
    layers : int
        That are left; 0 where it is no transformer.
    make : callable
        Returns what :mod:`studies.makers` describes.
    """

    name: str
    layers: int
    make: Callable[[], makers.Made]


def list_alternatives(
    tree: PruningTree, asked: ComparedModel, task: str
) -> Iterator[Alternative]:
    """List what is compared of one experiment.

    Parameters
    ----------
    tree : PruningTree
    asked : ComparedModel
    task : str
        Which fusions have not learned from.

    Yields
    ------
    Alternative
    """
    half = tree.depth // 2
    rows = shipped_rows()
    rows = rows[rows["task"] != task]
    own = rows["model"] == asked.model
    fusion = fit_fusion(rows[own] if own.any() else rows, RANKINGS[0])
    yield Alternative("original", tree.depth, partial(makers.original, tree))
    yield Alternative(
        "original, trained longer", tree.depth, partial(makers.trained_longer, tree)
    )
    for layers in asked.depths:
        make = partial(makers.compressed, tree, DEFAULT_STRATEGY, layers, fusion)
        yield Alternative("compress", layers, make)
    make = partial(makers.student, tree, half)
    yield Alternative("student of every second layer", half, make)
    for strategy in RANKINGS:
        make = partial(makers.compressed, tree, strategy, half, fusion)
        yield Alternative(f"compress, {strategy}", half, make)
    make = partial(makers.frozen_encoder, tree)
    yield Alternative("frozen encoder", tree.depth, make)
    for kind in makers.text_pipelines(asked.model):
        make = partial(makers.of_texts, tree, asked.model, kind)
        yield Alternative(kind, 0, make)


def open_compression(
    profile: Profile,
    model: str,
    task: str,
    seed: int,
    store: RecordStore,
    labelled: int | None = None,
) -> tuple[PruningTree, Encoded]:
    """Open the tree of a compression of a model on a task of a profile.

    Parameters
    ----------
    profile : Profile
        Its sizes and tokens.
    model, task : str
    seed : int
    store : RecordStore
    labelled : int, optional
        Training texts to take, the first ones; by default all.

    Returns
    -------
    PruningTree
    Encoded
        The other training texts, without their labels.
    """
    sizes = profile.sizes
    data = load_task(
        task,
        seed=seed,
        sizes=(sizes.train, sizes.validation, sizes.test),
        max_length=profile.max_length,
        tokenizer=model,
        source=profile.source,
    )
    head = derive_seed("head", seed)
    source = load_model(model, label_names=data.label_names, seed=head)
    source.to(default_device())
    more = {} if labelled is None else {"labelled": labelled}
    base = identity(
        data,
        fingerprint(model),
        seed,
        profile.max_length,
        profile.threads,
        profile.precision,
        **more,
    )
    count = len(data.train) if labelled is None else labelled
    rest = data.train.take(range(count, len(data.train)))
    rest = replace(rest, labels=torch.full_like(rest.labels, NO_LABEL))
    data = replace(data, train=data.train.take(range(count)))
    tree = PruningTree(
        lambda: source,
        data,
        store,
        recipes(count, source.config.hidden_size),
        base=base,
        probe=probe_samples(data, PROBE, seed),
        strategies=RANKINGS,
    )
    return tree, rest


def accuracy_rows(
    tree: PruningTree, unit: AlternativeRun, names: tuple[str, ...], exports: bool
) -> list[Row]:
    """Make and judge the alternatives of one experiment.

    Parameters
    ----------
    tree : PruningTree
    unit : AlternativeRun
    names : tuple of str
        Which alternatives; none: all.
    exports : bool
        Whether the original and half of its layers are exported too.

    Returns
    -------
    list of dict
    """
    half = tree.depth // 2
    method = {}
    for stage, recipe in tree.recipes.items():
        method[stage] = recipe.model_dump(mode="json")
    rows = []
    for one in list_alternatives(tree, unit.asked, unit.task):
        if one.name in unit.asked.without or (names and one.name not in names):
            continue
        strategy = DEFAULT_STRATEGY if one.name == "compress" else None
        details = {
            "alternative": one.name,
            "layers": one.layers,
            "method": method,
            "strategy": strategy,
        }
        record = tree.record("alternative", ORIGINAL, one.make, **details)
        made = {**record["value"], "seconds": record["seconds"]}
        key = {
            "model": unit.asked.model,
            "task": unit.task,
            "seed": unit.seed,
            "alternative": one.name,
            "layers": one.layers,
        }
        if one.layers:
            made["megabytes"] = float_megabytes(tree, one.layers)
        form = "torch" if one.layers else "sklearn"
        rows.append(_row(tree, {**key, "format": form}, made))
        exported = {("original", tree.depth), ("compress", half)}
        if exports and (one.name, one.layers) in exported:
            make = partial(makers.exported, tree, record["value"])
            ways = [*VARIANTS, PARTLY]
            files = tree.record("exported", ORIGINAL, make, ways=ways, **details)
            for form, file in files["value"].items():
                file = {**file, "seconds": record["seconds"]}
                rows.append(_row(tree, {**key, "format": form}, file))
        tree.release()
        tree.trim()
    return rows


def float_megabytes(tree: PruningTree, layers: int) -> float:
    """Compute the size of a model's weights in float32.

    Parameters
    ----------
    tree : PruningTree
    layers : int
        That are left.

    Returns
    -------
    float
        MB (10^6 bytes).
    """
    model = remove_layers(tree.source(), range(layers, tree.depth))
    return sum(parameter.numel() for parameter in model.parameters()) * 4 / 1e6


def _share(digits: str, count: int) -> float:
    return float(unpack(digits, count).mean())


def _row(tree: PruningTree, key: Row, made: dict[str, Any]) -> Row:
    row = {**key}
    for column in ("path", "distilled", "megabytes", "seconds"):
        row[column] = made[column]
    for split in makers.SPLITS:
        count = len(getattr(tree.task, split))
        row[f"{split}_accuracy"] = _share(made[split], count)
    return {**row, "test_correct": bytes.fromhex(made["test"])}


def unlabelled_rows(
    tree: PruningTree, rest: Encoded, unit: AlternativeRun
) -> list[Row]:
    """Teach half of the layers with and without texts that have no labels.

    Parameters
    ----------
    tree : PruningTree
    rest : Encoded
        The texts without labels.
    unit : AlternativeRun

    Returns
    -------
    list of dict
        The original, taught as usual, for longer, and with more texts.
    """
    labelled = len(tree.task.train)
    hidden = tree.source().config.hidden_size
    usual = recipes(labelled, hidden)["distillation"].samples
    longer = recipes(labelled, hidden, unlabelled=len(rest))["distillation"].samples
    path = follow(tree, DEFAULT_STRATEGY, tree.depth // 2, None, every=False)[-1]
    found = [(0, 0, tree.outcome(ORIGINAL, "test").digits)]
    for more, samples in ((None, usual), (None, longer), (rest, longer)):
        texts = 0 if more is None else len(more)
        make = partial(_taught_on, tree, path, samples, more)
        record = tree.record("unlabelled", path, make, samples=samples, texts=texts)
        found.append((texts, samples, record["value"]))
    rows = []
    for texts, samples, digits in found:
        rows.append(
            {
                "model": unit.asked.model,
                "task": unit.task,
                "seed": unit.seed,
                "labelled": labelled,
                "test_accuracy": _share(digits, len(tree.task.test)),
                "texts": texts,
                "samples": samples,
                "test_correct": bytes.fromhex(digits),
            }
        )
    return rows


def _taught_on(
    tree: PruningTree, path: PruningPath, samples: int, more: Encoded | None
) -> str:
    recipe = tree.recipes["distillation"].model_copy(update={"samples": samples})
    model = makers.taught(tree, tree.model(path), recipe, more)
    right = classified(model, tree.task.test, tree.base["precision"])
    return pack(right)


class AlternativesStudy(RowStudy):
    """Rows of four frames; their speed is measured last, when nothing else runs."""

    profile_type = AlternativesProfile
    profile: AlternativesProfile
    frames = {
        "accuracy": Compared(
            keys=("model", "task", "seed", "alternative", "layers", "format"),
            values=("validation_accuracy", "test_accuracy"),
            tolerance=SINGLE_ACCURACY,
        ),
        "defaults": Compared(
            keys=("model", "task", "seed", "alternative", "layers", "format"),
            values=("validation_accuracy", "test_accuracy"),
            tolerance=SINGLE_ACCURACY,
        ),
        "unlabelled": Compared(
            keys=("model", "task", "seed", "texts", "samples"),
            values=("test_accuracy",),
            tolerance=SINGLE_ACCURACY,
        ),
        # Times are of one machine: only that each thing was timed is compared.
        "speed": Compared(keys=("model", "alternative", "layers", "format", "batch")),
    }

    def rounds(self) -> Sequence[Sequence[AlternativeRun | str]]:
        """Time the models when all others are done."""
        return [self._judged(), [SPEED]]

    def _judged(self) -> list[AlternativeRun]:
        runs = []
        for frame in ("accuracy", "defaults", "unlabelled"):
            for asked in getattr(self.profile, frame):
                for seed in asked.seeds:
                    for task in asked.tasks:
                        runs.append(AlternativeRun(frame, asked, task, seed))
        return runs

    def measure(
        self, unit: AlternativeRun | str, store: RecordStore
    ) -> dict[str, list[Row]]:
        """Make and judge the alternatives of one unit."""
        profile = load_profile(self.profile.profile)
        if isinstance(unit, str):
            models = {one.model: one.depths for one in self.profile.accuracy}
            return {SPEED: time_models(profile, models, self.profile.speed_task)}
        labelled = getattr(unit.asked, "labelled", None)
        tree, rest = open_compression(
            profile, unit.asked.model, unit.task, unit.seed, store, labelled
        )
        if unit.frame == "unlabelled":
            return {"unlabelled": unlabelled_rows(tree, rest, unit)}
        if unit.frame == "accuracy":
            return {"accuracy": accuracy_rows(tree, unit, (), exports=True)}
        names = ("original", "compress", FORMER)
        rows = accuracy_rows(tree, unit, names, exports=False)
        for row in rows:
            # What another frame has filed took no time here.
            del row["seconds"]
        return {"defaults": rows}


STUDY = AlternativesStudy
