"""The pruning tree: what removing layers makes of one model on one task, on demand.

A node is a pruning path: the layers removed so far, step by step. A node's weights and
numbers are a pure function of the path and of what the tree was made of; random numbers
derive from seed and path, so neither other strategies nor the order of the work change
a bit. A study is many trees and strategies; a compression is one of each.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfusion.data.splits import draw
from sfusion.models.architectures import architecture_of, layer_stack
from sfusion.models.layers import remove_layers
from sfusion.pruning.node import NodeResult, Outcome, pack
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.setting import Setting
from sfusion.pruning.strategies import lookup
from sfusion.pruning.weights import Spec, Store, WeightsCache
from sfusion.signals.definitions import MEASURES, SIGNALS
from sfusion.signals.extraction import extract_signals
from sfusion.training.distillation import distill
from sfusion.training.evaluation import classified, predict_logits
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast
from sfusion.training.seeds import derive_seed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded
    from sfusion.data.tasks import Task
    from sfusion.training.recipes import Recipe

CONDITIONS = {
    # name: (which model is trained on, whether the original teaches); the others are
    # controls.
    "distilled": ("pruned", True),
    "same-steps": ("pruned", False),
    "original-same-steps": ("original", False),
}

# glibc would keep what a training has freed: of a large model, most of what the process
# then holds.
_return_memory = getattr(ctypes.pythonapi, "malloc_trim", int)


class PruningTree:
    """Models, accuracies, signals and distillations of one experiment, each filed.

    Parameters
    ----------
    source : callable
        Returns the pretrained classifier; it is never changed.
    task : Task
    store : Store
    recipes : dict of str to Recipe
        Keys ``original``, ``recovery`` and ``distillation``.
    base : dict
        Whatever else decides the results, plain JSON values; among it ``seed``,
        ``task``, ``precision``, ``threads`` and ``device``.
    probe : sequence of int
        Training samples that the signals are extracted from.
    strategies : iterable of str
        Which of them, by name, read more than the twelve signals decides what is
        extracted.
    unlabelled : Encoded, optional
        Texts that the original teaches besides the training samples.
    tuned : bool
        Whether the source is fine-tuned already and taken as it is.
    keep_distilled : bool
        Whether the weights of distilled models are cached too.
    on_work : callable, optional
        Called with the work done: samples times layers.
    """

    def __init__(
        self,
        source: Callable[[], PreTrainedModel],
        task: Task,
        store: Store,
        recipes: dict[str, Recipe],
        *,
        base: dict[str, Any],
        probe: Sequence[int],
        strategies: Iterable[str] = (),
        unlabelled: Encoded | None = None,
        tuned: bool = False,
        keep_distilled: bool = False,
        on_work: Callable[[int], object] | None = None,
    ) -> None:
        self.source = source
        self.task = task
        self.store = store
        self.recipes = recipes
        self.base = base
        self.probe = probe
        self.taught = task.train if unlabelled is None else task.train + unlabelled
        self.tuned = tuned
        self.keep_distilled = keep_distilled
        self.on_work = on_work
        read = set(SIGNALS).union(*(lookup(name).measures for name in strategies))
        self._measures = {
            name: measure for name, measure in MEASURES.items() if name in read
        }
        frozen = all(recipe.freeze_embeddings for recipe in recipes.values())
        self._weights = WeightsCache(store, frozen)
        # The one model in memory, by path and condition; and whose work was reported.
        self._held: tuple[tuple[PruningPath, str | None], PreTrainedModel] | None = None
        self._counted: set[tuple[PruningPath, str | None]] = set()

    @functools.cached_property
    def depth(self) -> int:
        """Layers of the source."""
        return len(layer_stack(self.source()))

    @functools.cached_property
    def fixed(self) -> tuple[int, ...]:
        """Layers that must stay, by number."""
        return architecture_of(self.source().config).fixed

    @property
    def setting(self) -> Setting:
        """What strategies choose by, besides signals."""
        return Setting(self.depth, self.fixed, self.base["seed"], self.base["task"])

    @property
    def lowest(self) -> int:
        """Fewest layers that can be left."""
        return self.setting.lowest

    def spec(self, kind: str, path: PruningPath, **details: Any) -> Spec:
        """Write down everything that decides a result.

        Parameters
        ----------
        kind : str
        path : PruningPath
        **details : object
            What else the kind needs, None left out; ``condition`` stands for extra
            steps of distillation.

        Returns
        -------
        dict
            Plain JSON values.
        """
        given = {key: value for key, value in details.items() if value is not None}
        stages = []
        if not self.tuned:
            stages.append("original")
        if path:
            stages.append("recovery")
        if given.get("condition"):
            stages.append("distillation")
        recipes = {
            stage: self.recipes[stage].model_dump(exclude={"removals"})
            for stage in stages
        }
        decided = {"kind": kind, "path": path.name, "recipes": recipes}
        return {**self.base, **decided, **given}

    def record(
        self,
        kind: str,
        path: PruningPath,
        compute: Callable[[], Any],
        **details: Any,
    ) -> dict[str, Any]:
        """Return a result and the seconds it took, computed unless it is filed.

        Parameters
        ----------
        kind, path
            See :meth:`spec`.
        compute : callable
            Returns plain JSON values.
        **details : object
            See :meth:`spec`.

        Returns
        -------
        dict
            ``value``; ``seconds`` of the processor, which other work on the machine
            does not lengthen; on a GPU, of the clock.
        """
        on_cpu = self.base["device"] == "cpu"
        clock = time.process_time if on_cpu else time.perf_counter
        return self.store.recorded(self.spec(kind, path, **details), compute, clock)

    def model(self, path: PruningPath, condition: str | None = None) -> PreTrainedModel:
        """Return the model at a path, trained or out of the cache of weights.

        Parameters
        ----------
        path : PruningPath
        condition : str, optional
            Of ``CONDITIONS``: the model after the extra steps.

        Returns
        -------
        transformers.PreTrainedModel
            In evaluation mode, on the tree's device. One is held in memory; do not
            change it.
        """
        if not path and self.tuned and condition is None:
            return self.source()
        key = (path, condition)
        if self._held is None or self._held[0] != key:
            self._held = key, self._make(path, condition)
        return self._held[1]

    def _make(self, path: PruningPath, condition: str | None) -> PreTrainedModel:
        """Load a model out of the cache of weights, or train it."""
        key = (path, condition)
        recipe = self._recipe(path, condition)
        layers = len(path.remaining(self.depth))
        spec = self.spec("weights", path, condition=condition)
        model = self._weights.load(
            spec, lambda: remove_layers(self.source(), path.removed)
        )
        if model is not None:
            if key not in self._counted:  # an earlier run has done it
                self._report(recipe.samples * layers)
            model = model.to(self.base["device"])
        else:
            model = self._train(
                path, condition, recipe, lambda count: self._report(count * layers)
            )
            _return_memory(0)
            if condition is None or self.keep_distilled:
                self._weights.save(spec, model)
        self._counted.add(key)
        return model

    def _recipe(self, path: PruningPath, condition: str | None) -> Any:
        if condition:
            return self.recipes["distillation"]
        return self.recipes["recovery" if path else "original"]

    def _report(self, work: int) -> None:
        if self.on_work is not None:
            self.on_work(work)

    def _train(
        self,
        path: PruningPath,
        condition: str | None,
        recipe: Any,
        on_batch: Callable[[int], object],
    ) -> PreTrainedModel:
        options = {"precision": self.base["precision"], "on_batch": on_batch}
        if condition is not None:
            # The order of samples is the same in every condition: the teacher alone
            # differs.
            seed = derive_seed("distillation", self.base["seed"])
            teacher = self.teacher if CONDITIONS[condition][1] else None
            return distill(
                self.model(path), teacher, self.taught, recipe, seed=seed, **options
            )
        if path:
            left = path.parent.remaining(self.depth)
            model = remove_layers(self.model(path.parent), map(left.index, path.last))
            samples = recipe.samples * max(1, len(path.last))
            recipe = recipe.model_copy(update={"samples": samples})
        else:
            model = remove_layers(self.source(), ()).to(self.base["device"])
        self.release()
        seed = derive_seed("order", self.base["seed"], path.seed_parts)
        fine_tune(model, self.task.train, recipe, seed=seed, **options)
        return model

    @functools.cached_property
    def teacher(self) -> torch.Tensor:
        """Logits of the original over the samples it teaches, once for all depths."""
        original = cast(self.model(ORIGINAL), self.base["precision"])
        return predict_logits(original, self.taught)

    def release(self) -> None:
        """Drop the model in memory."""
        self._held = None
        _return_memory(0)

    def trim(self) -> None:
        """Cut the cache of weights to its limit; the original goes last."""
        self.store.trim(last=self.spec("weights", ORIGINAL))

    def evaluate(
        self, path: PruningPath, split: str, condition: str | None = None
    ) -> float:
        """Measure a model's accuracy.

        Parameters
        ----------
        path : PruningPath
        split : {"validation", "test"}
        condition : str, optional
            See :meth:`model`.

        Returns
        -------
        float
            Share of the split's samples.
        """
        return self.outcome(path, split, condition).accuracy

    def outcome(
        self, path: PruningPath, split: str, condition: str | None = None
    ) -> Outcome:
        """Measure which texts of a split a model classifies rightly.

        Parameters
        ----------
        path, split, condition
            See :meth:`evaluate`.

        Returns
        -------
        Outcome
        """
        data = getattr(self.task, split)

        def compute() -> str:
            model = self.model(path, condition)
            return pack(classified(model, data, self.base["precision"]))

        record = self.record(
            "evaluation", path, compute, split=split, condition=condition
        )
        return Outcome(record["value"], len(data), record["seconds"])

    def signals(self, path: PruningPath) -> pd.DataFrame:
        """Extract the signals of a path's model.

        Parameters
        ----------
        path : PruningPath

        Returns
        -------
        DataFrame
            A row per remaining layer, a column per measure of ``MEASURES``; NaN for a
            signal that the architecture does not have, or that no strategy reads.
        """
        return self._timed_signals(path)[0]

    def _timed_signals(self, path: PruningPath) -> tuple[pd.DataFrame, float]:
        def compute() -> dict[str, list[float | None]]:
            table = extract_signals(
                self.model(path),
                self.task.train.take(self.probe),
                precision=self.base["precision"],
                measures=self._measures,
            )
            # Records hold numbers, and NaN is none.
            return table.astype(object).where(table.notna(), None).to_dict("list")

        record = self.record("signals", path, compute, measures=list(self._measures))
        columns = list(MEASURES)
        frame = pd.DataFrame(record["value"], columns=columns, dtype=float)
        return frame, record["seconds"]

    def visit(
        self, path: PruningPath, signals: bool = True, condition: str | None = None
    ) -> NodeResult:
        """Train and evaluate a node, and extract its signals where they are read.

        Parameters
        ----------
        path : PruningPath
        signals : bool
        condition : str, optional
            See :meth:`model`.

        Returns
        -------
        NodeResult
        """

        def train() -> None:
            self.model(path, condition)

        trained = self.record("training", path, train, condition=condition)
        result = NodeResult(
            validation=self.outcome(path, "validation", condition),
            test=self.outcome(path, "test", condition),
            training=trained["seconds"],
        )
        if not signals:
            return result
        frame, seconds = self._timed_signals(path)
        return replace(result, signals=frame, extraction=seconds)


def probe_samples(task: Task, count: int, seed: int) -> list[int]:
    """Draw the training samples that give the signals, classes in proportion.

    Parameters
    ----------
    task : Task
    count : int
        Samples; all of them where there are fewer.
    seed : int

    Returns
    -------
    list of int
    """
    classes = task.train.labels.tolist()
    return draw(classes, range(len(classes)), count, f"probe {seed}")
