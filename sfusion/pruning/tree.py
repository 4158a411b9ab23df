"""The pruning tree: what removing layers makes of one model on one task, computed when asked for.

A node is a pruning path: the layers removed so far, step by step. A node's weights and
numbers are a pure function of the path and of what the tree was made of; random numbers derive from seed and path,
so neither other strategies nor the order of the work change a bit. A study is many
trees and strategies; a compression is one of each.
"""

import ctypes
import functools
import time

import numpy as np
import pandas as pd
from safetensors.torch import load, save

from sfusion.data.splits import draw
from sfusion.models.architectures import (
    architecture_of,
    embedding_parameters,
    layer_stack,
)
from sfusion.models.layers import remove_layers
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.strategies import View, choose, lookup
from sfusion.signals.definitions import MEASURES, SIGNALS
from sfusion.signals.extraction import extract_signals
from sfusion.training.distillation import distill
from sfusion.training.evaluation import classified, predict_logits
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast
from sfusion.training.seeds import derive_seed

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
    """Models, accuracies, signals and distillations of one experiment, each filed in a store.

    Parameters
    ----------
    source : callable
        Returns the pretrained classifier; it is never changed.
    task : Task
    store : RecordStore
    recipes : dict of str to Recipe
        Keys ``original``, ``recovery`` and ``distillation``.
    base : dict
        Whatever else decides the results, plain JSON values; among it ``seed``,
        ``precision``, ``threads`` and ``device``.
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
        self, source, task, store, recipes, *, base, probe, strategies=(),
        unlabelled=None, tuned=False, keep_distilled=False, on_work=None,
    ):  # fmt: skip
        self.source, self.task, self.store = source, task, store
        self.recipes, self.base, self.probe = recipes, base, probe
        self.taught = task.train if unlabelled is None else task.train + unlabelled
        self.tuned, self.keep_distilled = tuned, keep_distilled
        read = set(SIGNALS).union(*(lookup(name).measures for name in strategies))
        self._measures = {
            name: measure for name, measure in MEASURES.items() if name in read
        }
        self.on_work, self._counted = on_work or (lambda _: None), set()
        self._held = None
        self._frozen = all(recipe.freeze_embeddings for recipe in recipes.values())

    @functools.cached_property
    def depth(self):
        """Layers of the source."""
        return len(layer_stack(self.source()))

    @functools.cached_property
    def fixed(self):
        """Layers that must stay, by number."""
        return architecture_of(self.source().config).fixed

    @property
    def lowest(self):
        """Fewest layers that can be left."""
        return max(1, len(self.fixed))

    def spec(self, kind, path, **details):
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
        details = {key: value for key, value in details.items() if value is not None}
        ran = {
            "original": not self.tuned,
            "recovery": len(path) > 0,
            "distillation": details.get("condition"),
        }
        recipes = {
            name: self.recipes[name].model_dump(exclude={"removals"})
            for name, done in ran.items()
            if done
        }
        return {
            **self.base,
            "kind": kind,
            "path": path.name,
            "recipes": recipes,
            **details,
        }

    def record(self, kind, path, compute, **details):
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

    def model(self, path, condition=None):
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
        key = path, condition
        if self._held is None or self._held[0] != key:
            recipe = self.recipes[
                "distillation" if condition else "recovery" if path else "original"
            ]
            layers = len(path.remaining(self.depth))
            model = self._cached(path, condition)
            if model is None:
                model = self._train(
                    path, condition, recipe, lambda n: self.on_work(n * layers)
                )
                _return_memory(0)
                if condition is None or self.keep_distilled:
                    state = {
                        n: p.detach().cpu().contiguous()
                        for n, p in self._learned(model)
                    }
                    self.store.put_weights(
                        self.spec("weights", path, condition=condition), save(state)
                    )
            elif key not in self._counted:  # an earlier run has done it
                self.on_work(recipe.samples * layers)
            self._counted.add(key)
            self._held = key, model
        return self._held[1]

    def _train(self, path, condition, recipe, on_batch):
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
            recipe = recipe.model_copy(
                update={"samples": recipe.samples * max(1, len(path.last))}
            )
        else:
            model = remove_layers(self.source(), ()).to(self.base["device"])
        self.release()
        seed = derive_seed("order", self.base["seed"], path.seed_parts)
        fine_tune(model, self.task.train, recipe, seed=seed, **options)
        return model

    @functools.cached_property
    def teacher(self):
        """Logits of the original over the samples it teaches, once for all depths."""
        return predict_logits(
            cast(self.model(ORIGINAL), self.base["precision"]), self.taught
        )

    def _learned(self, model):
        """List the parameters that training changes, by name."""
        frozen = {id(p) for p in embedding_parameters(model)} if self._frozen else set()
        return [
            (name, p) for name, p in model.named_parameters() if id(p) not in frozen
        ]

    def _cached(self, path, condition):
        """Put cached weights into a copy of the source; None if there are none that fit."""
        content = self.store.get_weights(
            self.spec("weights", path, condition=condition)
        )
        if content is None:
            return None
        model = remove_layers(self.source(), path.removed)
        missing, unexpected = model.load_state_dict(load(content), strict=False)
        # Other library versions may name parameters anew.
        lacking = {name for name, _ in self._learned(model)} & set(missing)
        return None if unexpected or lacking else model.to(self.base["device"])

    def release(self):
        """Drop the model in memory."""
        self._held = None
        _return_memory(0)

    def trim(self):
        """Cut the cache of weights to its limit; the original, which teaches, goes last."""
        self.store.trim(last=self.spec("weights", ORIGINAL))

    def evaluate(self, path, split, condition=None):
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
        return self.outcome(path, split, condition)[0]

    def outcome(self, path, split, condition):
        """Measure which texts of a split a model classifies rightly.

        Parameters
        ----------
        path, split, condition
            See :meth:`evaluate`.

        Returns
        -------
        tuple of (float, str, float)
            Accuracy, a share; a bit per text as hexadecimal digits, see :func:`unpack`;
            seconds.
        """
        data = getattr(self.task, split)

        def compute():
            found = classified(
                self.model(path, condition), data, self.base["precision"]
            )
            return np.packbits(found).tobytes().hex()

        record = self.record(
            "evaluation", path, compute, split=split, condition=condition
        )
        return (
            float(unpack(record["value"], len(data)).mean()),
            record["value"],
            record["seconds"],
        )

    def signals(self, path):
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
        return signal_frame(self._signals(path)["value"])

    def _signals(self, path):
        def compute():
            options = {"precision": self.base["precision"], "measures": self._measures}
            table = extract_signals(
                self.model(path), self.task.train.take(self.probe), **options
            )
            # Records hold numbers, and NaN is none.
            return {
                n: [None if np.isnan(v) else v for v in table[n].tolist()]
                for n in table
            }

        return self.record("signals", path, compute, measures=list(self._measures))

    def visit(self, path, signals=True, condition=None):
        """Train, evaluate and, where something reads them, extract the signals of a node.

        Parameters
        ----------
        path : PruningPath
        signals : bool
        condition : str, optional
            See :meth:`model`.

        Returns
        -------
        dict
            ``validation_accuracy`` and ``test_accuracy``, shares; ``test_correct``, see
            :func:`unpack`; ``signals``, a list per measure, where asked for; seconds of
            ``training``, ``evaluation`` and ``extraction``.
        """
        trained = self.record(
            "training",
            path,
            lambda: self.model(path, condition) and None,
            condition=condition,
        )
        validation, _, looked = self.outcome(path, "validation", condition)
        test, correct, tested = self.outcome(path, "test", condition)
        record = {
            "validation_accuracy": validation,
            "test_accuracy": test,
            "test_correct": correct,
        }
        record |= {"training": trained["seconds"], "evaluation": looked + tested}
        if signals:
            found = self._signals(path)
            record |= {"signals": found["value"], "extraction": found["seconds"]}
        return record


def unpack(digits, count):
    """Read which texts were classified rightly: hexadecimal digits, eight texts a byte.

    Parameters
    ----------
    digits : str
    count : int
        Texts.

    Returns
    -------
    ndarray of shape (count,)
        Zeros and ones.
    """
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=count)


def probe_samples(task, count, seed):
    """Draw the training samples that the signals are extracted from, classes in proportion.

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


def signal_frame(signals):
    """Turn recorded signals, a list per measure, into a frame; None becomes NaN."""
    return pd.DataFrame(signals, columns=list(MEASURES), dtype=float)


def next_path(label, path, signals, *, depth, base, fixed=(), fusion=None):
    """Let one strategy take one layer more.

    Parameters
    ----------
    label : str
        Of a strategy, see :func:`sfusion.pruning.strategies.expand`.
    path : PruningPath
        Layers removed so far.
    signals : callable
        ``path -> DataFrame or None``, see :meth:`PruningTree.signals`; asked for the
        node that the strategy reads, if it reads one.
    depth : int
        Layers of the original model.
    base : dict
        From :func:`identity`; random orders are drawn anew for every seed and task.
    fixed : tuple of int
        Layers that must stay.
    fusion : sklearn regressor, optional
        For a fusion.

    Returns
    -------
    PruningPath
        The longer path; of a one-shot strategy, which reads the original alone, one
        step.
    """
    strategy = lookup(label)
    parent, kept = path, fixed
    if strategy.once:
        parent = ORIGINAL
        kept = (*fixed, *path.removed)
    rng = np.random.default_rng(
        derive_seed("strategy", base["seed"], base["task"], label)
    )
    read = signals(parent) if strategy.reads_signals else None
    layer = choose(
        strategy, View(parent.remaining(depth), read, rng, fusion, depth, kept)
    )
    if strategy.once:
        return PruningPath.at_once((*path.removed, layer))
    return path.then(layer)


def follow(tree, label, layers, fusion=None, every=True):
    """Follow one strategy until so many layers are left.

    Parameters
    ----------
    tree : PruningTree
    label : str
        See :func:`next_path`.
    layers : int
    fusion : sklearn regressor, optional
    every : bool
        Whether a one-shot strategy, whose models owe nothing to each other, makes those
        between the original and the last one too.

    Returns
    -------
    list of PruningPath
        The original's first; each model has been evaluated on validation.
    """
    path, parts = ORIGINAL, []
    while True:
        left = len(path.remaining(tree.depth))
        if every or not lookup(label).once or left in (layers, tree.depth):
            tree.evaluate(path, "validation")
            tree.trim()
            parts.append(path)
        if left == layers:
            return parts
        options = {
            "depth": tree.depth,
            "base": tree.base,
            "fixed": tree.fixed,
            "fusion": fusion,
        }
        path = next_path(label, path, tree.signals, **options)
