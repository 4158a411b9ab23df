"""Distillation as published, with controls that take the same steps without a teacher.

Layers go along one fixed path, the same for every task and seed: 2, 3, 1 and, for the
cut below half of the depth, 4: from the middle, so that the first and the last layer
stay. Then every condition trains for the same number of steps; conditions differ in the
model that they start from, the loss and the texts. The rate is the one that validation
prefers for a teacher (the study ``recipe``); controls stand at the rate of the
recoveries too, so that they can be had at their best. Students of matched size start
from layers of the original and have the recoveries' steps on top, so that all models of
three layers have seen as many samples. Nothing is chosen on either accuracy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch.nn import functional

from sfusion.data.encoding import Encoded
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.comparison import SINGLE_ACCURACY, Compared
from sfusion.experiments.profiles import Names, Seeds, StudyProfile, load_profile
from sfusion.experiments.store import RecordStore
from sfusion.experiments.study import Row, RowStudy
from sfusion.experiments.trees import Experiment, load_samples, open_tree
from sfusion.models.layers import remove_layers
from sfusion.pruning.node import pack, unpack
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.training.distillation import NO_LABEL, distillation_loss
from sfusion.training.evaluation import classified, predict_logits
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast, default_device
from sfusion.training.recipes import Distillation
from sfusion.training.seeds import derive_seed
from studies.losses import (
    Term,
    last_attention,
    last_cosine,
    last_hidden,
    layerwise,
    patient,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from sfusion.pruning.tree import PruningTree

# In the order of the study recipe, whose rates are used here.
HALF = PruningPath.of(2, 3, 1)
DEEP = PruningPath.of(2, 3, 1, 4)

# Layers that students of three layers leave out.
EVERY_SECOND = PruningPath.of(1, 3, 5)
FIRST_HALF = PruningPath.of(3, 4, 5)

STARTS = {"original": ORIGINAL, "pruned": HALF, "deep": DEEP}


class DistillationProfile(StudyProfile):
    """Where the conditions are compared.

    Attributes
    ----------
    profile : str
        The pruning study whose originals and recoveries they start from.
    epochs : int
        Over the training samples, after the recoveries.
    learning_rate, low_rate : float
        Of all conditions, and of those that are named so.
    """

    study: Literal["distillation"]
    profile: str
    tasks: Annotated[Names, Field(min_length=1)]
    seeds: Seeds
    epochs: PositiveInt
    learning_rate: PositiveFloat
    low_rate: PositiveFloat


@dataclass(frozen=True)
class Condition:
    """How one model is trained after the original was.

    Attributes
    ----------
    removed : PruningPath
    temperature : float, optional
        Of the teacher's logits; None: the labels alone teach.
    term : callable, optional
        Added to the loss, see :mod:`studies.losses`.
    first : callable, optional
        Such a term, alone the loss during the first half of the steps.
    recovery : {"labels", "teacher", None}
        Who teaches in a recovery after each removal; None: no recoveries, their steps
        come on top.
    hard_weight : float
        Of the labels' cross-entropy; the rest is the teacher's.
    reads_later_text : bool
        Whether it reads, besides the training samples, what follows in their texts.
    low_rate : bool
    """

    removed: PruningPath = HALF
    temperature: float | None = None
    term: Term | None = None
    first: Term | None = None
    recovery: str | None = "labels"
    hard_weight: float = 0.5
    reads_later_text: bool = False
    low_rate: bool = False


def _with_low_rate(name: str, condition: Condition) -> dict[str, Condition]:
    """Name a control at both rates."""
    slower = replace(condition, low_rate=True)
    return {name: condition, f"{name}, low rate": slower}


_STUDENT = Condition(EVERY_SECOND, recovery=None)

CONDITIONS = {
    # Controls: the same steps without a teacher.
    **_with_low_rate("original, labels only", Condition(ORIGINAL)),
    **_with_low_rate("pruned, labels only", Condition()),
    # Logits with the labels: Hinton et al. 2015; T from 1 (Minitron, Muralidharan et
    # al. 2024) to 4.
    "KD T=1": Condition(temperature=1.0),
    "KD T=2": Condition(temperature=2.0),
    "KD T=4": Condition(temperature=4.0),
    # Prune, distil, prune: Minitron's rule for large cuts, here one layer at a time.
    "KD in every recovery": Condition(temperature=2.0, recovery="teacher"),
    # The last layer's states or attention, of weight 1 beside the logits.
    "KD T=2 + hidden states": Condition(temperature=2.0, term=last_hidden),
    "KD T=2 + attention": Condition(temperature=2.0, term=last_attention),
    # Texts without labels, which the teacher alone explains (Turc et al. 2019,
    # Well-Read Students). No training text is left over for that, so these are what
    # follows in the texts themselves.
    "KD T=2 + later text": Condition(temperature=2.0, reads_later_text=True),
    # Below half of the depth, where Minitron finds that intermediate losses help.
    **_with_low_rate("deep, labels only", Condition(DEEP)),
    "deep, KD T=2": Condition(DEEP, temperature=2.0),
    "deep, KD T=2 + hidden states": Condition(DEEP, 2.0, last_hidden),
    "deep, KD T=2 + attention": Condition(DEEP, 2.0, last_attention),
    # Students of three layers. All start from the fine-tuned original's layers and head
    # (declared here; PKD and TinyBERT start from pretrained ones), so that losses and
    # maps differ, not data.
    **_with_low_rate("every second layer, labels only", _STUDENT),
    # Sanh et al. 2019, its three losses with equal weights.
    "DistilBERT-style": replace(_STUDENT, temperature=2.0, term=last_cosine),
    # Sun et al. 2019: PKD-skip. Beta 1 on the sum over units is 384 on their mean (its
    # grid: 10 to 1000).
    "PKD-style": Condition(FIRST_HALF, 2.0, patient, recovery=None),
    # Jiao et al. 2020, task distillation without augmentation; embeddings are frozen,
    # so their loss is 0.
    "TinyBERT-style": replace(
        _STUDENT, temperature=1.0, first=layerwise, hard_weight=0.0
    ),
}


@dataclass(frozen=True)
class ConditionRun:
    """One condition, or one model that conditions start from, on one task and seed."""

    task: str
    seed: int
    name: str


def make_objective(
    condition: Condition,
    teacher: PreTrainedModel | None,
    data: Encoded,
    logits: torch.Tensor | None,
    first_half: bool = False,
) -> Callable[..., torch.Tensor]:
    """Make the loss of a condition for :func:`sfusion.training.loop.fine_tune`.

    Parameters
    ----------
    condition : Condition
    teacher : PreTrainedModel, optional
        For a condition with a term.
    data : Encoded
        N training samples.
    logits : Tensor of shape (N, classes), optional
        The teacher's.
    first_half : bool
        Whether it is the loss of the first half of the steps, where that differs.

    Returns
    -------
    callable
        ``(output, labels, indices) -> Tensor``.
    """
    term = condition.first if first_half else condition.term
    device = default_device()
    data = data.to(device)
    logits = None if logits is None else logits.to(device)

    def of_logits(
        output: Any, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        student = output.logits.float()
        if condition.temperature is None or logits is None:
            return functional.cross_entropy(student, labels)
        return distillation_loss(
            student,
            logits[indices],
            labels,
            condition.temperature,
            condition.hard_weight,
        )

    def of_term(
        output: Any, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        assert teacher is not None and term is not None  # of a condition with a term
        # As the student has read it.
        batch = data.take(indices)
        if not labels.is_cuda:
            batch = batch.trim()
        with torch.no_grad():
            taught = teacher(
                batch.input_ids,
                attention_mask=batch.attention_mask,
                output_hidden_states=True,
                output_attentions=True,
            )
        return term(output, taught, batch.attention_mask)

    def objective(
        output: Any, labels: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        if first_half:
            return of_term(output, labels, indices)
        if term is None:
            return of_logits(output, labels, indices)
        return of_logits(output, labels, indices) + of_term(output, labels, indices)

    return objective


def later_texts(model: str, texts: list[str], length: int) -> Encoded:
    """Encode, of every text that is long enough, the tokens after the first ones.

    Parameters
    ----------
    model : str
        Whose tokenizer is used.
    texts : list of str
    length : int
        Tokens of a sequence, and tokens of each text that are left out.

    Returns
    -------
    Encoded
        Texts without labels, of at least half as many tokens.
    """
    windows = load_tokenizer(model)(
        texts,
        return_overflowing_tokens=True,
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    text = windows["overflow_to_sample_mapping"]
    second = torch.zeros(len(text), dtype=torch.bool)
    second[1:] = text[1:] == text[:-1]
    second[2:] &= text[2:] != text[:-2]
    long_enough = windows["attention_mask"].sum(1) >= length // 2
    ids = windows["input_ids"][second & long_enough]
    mask = windows["attention_mask"][second & long_enough]
    return Encoded(ids, mask, torch.full((len(ids),), NO_LABEL))


def starting_model(
    tree: PruningTree, condition: Condition, logits: torch.Tensor | None
) -> PreTrainedModel:
    """Return the model from which a condition starts, a copy.

    Parameters
    ----------
    tree : PruningTree
    condition : Condition
    logits : Tensor of shape (N, classes), optional
        The teacher's on the training samples.

    Returns
    -------
    PreTrainedModel
    """
    if condition.recovery == "labels":
        return remove_layers(tree.model(condition.removed), ())
    if condition.recovery is None:
        return remove_layers(tree.model(ORIGINAL), condition.removed.removed)
    model, path = tree.model(ORIGINAL), ORIGINAL
    for layer in condition.removed.removed:  # as the tree does it, but for who teaches
        place = path.remaining(tree.depth).index(layer)
        model = remove_layers(model, [place])
        path = path.then(layer)
        fine_tune(
            model,
            tree.task.train,
            tree.recipes["recovery"],
            seed=derive_seed("order", tree.base["seed"], path.seed_parts),
            precision=tree.base["precision"],
            objective=make_objective(condition, None, tree.task.train, logits),
        )
    return model


def train_condition(
    tree: PruningTree, condition: Condition, data: Encoded, samples: int, rate: float
) -> PreTrainedModel:
    """Train the model of a condition.

    Parameters
    ----------
    tree : PruningTree
    condition : Condition
    data : Encoded
        Training samples.
    samples : int
        To see, in all.
    rate : float
        Learning rate.

    Returns
    -------
    PreTrainedModel
    """
    precision = tree.base["precision"]
    teacher = cast(tree.model(ORIGINAL), precision)
    logits = predict_logits(teacher, data) if condition.temperature else None
    model = starting_model(tree, condition, logits)
    compares_layers = condition.term is not None or condition.first is not None
    if compares_layers:
        for one in (model, teacher):
            # The other kernels return no attention.
            one.set_attn_implementation("eager")
        model.config.output_hidden_states = True
        model.config.output_attentions = True
    parts = {False: samples}
    if condition.first is not None:
        parts = {True: samples // 2, False: samples - samples // 2}
    for first_half, count in parts.items():
        fine_tune(
            model,
            data,
            Distillation(samples=count, learning_rate=rate),
            seed=derive_seed("distillation", tree.base["seed"]),
            precision=precision,
            objective=make_objective(condition, teacher, data, logits, first_half),
        )
    model.config.output_hidden_states = False
    model.config.output_attentions = False
    return model


def _described(condition: Condition) -> dict[str, Any]:
    """Write a condition as plain values, for its record."""
    values = {}
    for field, value in asdict(condition).items():
        values[field] = getattr(value, "__name__", value)
    return {**values, "removed": condition.removed.name}


class DistillationStudy(RowStudy):
    """Accuracy of every condition and of the models that they start from."""

    profile_type = DistillationProfile
    profile: DistillationProfile
    frames = {
        "rows": Compared(
            keys=("task", "seed", "condition"),
            values=("validation_accuracy", "test_accuracy"),
            tolerance=SINGLE_ACCURACY,
        )
    }

    def rounds(self) -> list[list[ConditionRun]]:
        """Train what conditions start from first, or workers would each train it."""
        others = [name for name in STARTS if name != "deep"]
        return [self._runs(names) for names in (["deep"], others, list(CONDITIONS))]

    def _runs(self, names: list[str]) -> list[ConditionRun]:
        runs = []
        for seed in self.profile.seeds:
            for task in self.profile.tasks:
                runs += [ConditionRun(task, seed, name) for name in names]
        return runs

    def measure(self, unit: ConditionRun, store: RecordStore) -> dict[str, list[Row]]:
        """Train and evaluate one model."""
        profile = load_profile(self.profile.profile)
        experiment = Experiment(profile, unit.task, unit.seed)
        tree = open_tree(experiment, store)
        if unit.name in STARTS:
            row = self._measure_start(tree, unit.name)
        else:
            row = self._measure_condition(tree, experiment, unit.name)
        tree.release()
        return {"rows": [row]}

    def _measure_start(self, tree: PruningTree, name: str) -> Row:
        path = STARTS[name]
        trained = tree.record("training", path, lambda: tree.model(path) and None)
        correct = {}
        for split in ("validation", "test"):
            correct[split] = tree.outcome(path, split).correct
        samples = len(path) * tree.recipes["recovery"].samples
        return self._row(
            tree, name, path, samples, len(tree.task.train), correct, trained["seconds"]
        )

    def _measure_condition(
        self, tree: PruningTree, experiment: Experiment, name: str
    ) -> Row:
        condition = CONDITIONS[name]
        recoveries = len(condition.removed) * tree.recipes["recovery"].samples
        samples = self.profile.epochs * len(tree.task.train)
        if condition.recovery is None:
            samples += recoveries
        rate = self.profile.learning_rate
        if condition.low_rate:
            rate = self.profile.low_rate

        def compute() -> dict[str, Any]:
            data = tree.task.train
            if condition.reads_later_text:
                texts = load_samples(experiment).texts["train"]
                length = data.input_ids.shape[1]
                model = experiment.profile.model
                data = data + later_texts(model, texts, length)
            trained = train_condition(tree, condition, data, samples, rate)
            found: dict[str, Any] = {"texts": len(data)}
            for split in ("validation", "test"):
                split_data = getattr(tree.task, split)
                right = classified(trained, split_data, tree.base["precision"])
                found[split] = pack(right)
            return found

        method = {**_described(condition), "samples": samples, "learning_rate": rate}
        start = condition.removed if condition.recovery else ORIGINAL
        record = tree.record("published distillation", start, compute, method=method)
        found = record["value"]
        correct = {
            split: bytes.fromhex(found[split]) for split in ("validation", "test")
        }
        seen = samples + recoveries if condition.recovery else samples
        path = condition.removed
        return self._row(
            tree, name, path, seen, found["texts"], correct, record["seconds"]
        )

    def _row(
        self,
        tree: PruningTree,
        name: str,
        path: PruningPath,
        samples: int,
        texts: int,
        correct: dict[str, bytes],
        seconds: float,
    ) -> Row:
        """Lay out a row; ``samples`` counts all seen since the original was trained."""
        kept = path.remaining(tree.depth)
        row = {
            "task": tree.task.name,
            "seed": tree.base["seed"],
            "condition": name,
            "layers_left": len(kept),
            "kept": PruningPath.of(*kept).name,
            "samples": samples,
            "texts": texts,
        }
        for split, bits in correct.items():
            right = unpack(bits.hex(), len(getattr(tree.task, split)))
            row[f"{split}_accuracy"] = float(right.mean())
        return {**row, "test_correct": correct["test"], "seconds": seconds}


STUDY = DistillationStudy
