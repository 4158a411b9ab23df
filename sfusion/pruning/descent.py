"""The way down from one classifier: remove a layer, fine-tune, look, and so on; then distil.

Unlike the walk of a study it follows one strategy on one model, and stops where the user wants.
Every trained model and every number is filed by what decided it, so a stopped run goes on.
"""

import numpy as np
import pandas as pd
from safetensors.torch import load, save

from sfusion import SfusionError
from sfusion.data.splits import draw
from sfusion.models.layers import architecture_of, embedding_parameters, layer_stack, remove_layers
from sfusion.pruning.distillation import distill
from sfusion.pruning.fusion import SHIPPED_ROWS, fit_fusion
from sfusion.pruning.strategies import View, choose, remaining
from sfusion.records.profiles import Distillation, Recipe
from sfusion.signals import MEASURES
from sfusion.signals.extraction import extract_signals
from sfusion.training import derive_seed, fine_tune, lower, predict_logits

PROBE = 128  # training samples from which the signals are taken

# Samples seen: passes over the training set, but at least and at most so many. The learning rate
# is the study's, for 384 hidden units. All declared here.
BUDGETS = {
    # stage: (passes, at least, at most)
    "original": (4, 2000, 9000),
    "recovery": (1, 640, 2000),
    "distillation": (3, 1280, 6000),
}
LEARNING_RATE, HIDDEN = 3e-4, 384


def recipes(samples, hidden, effort=1.0, learning_rate=None):
    """Fix how each stage trains.

    Parameters
    ----------
    samples : int
        Training samples there are.
    hidden : int
        Hidden units: wider models learn at a lower rate, by the square of the width.
    effort : float
        Multiplies the samples seen.
    learning_rate : float, optional
        In place of that rule.

    Returns
    -------
    dict of str to Recipe
        Keys of ``BUDGETS``.
    """
    rate = learning_rate or LEARNING_RATE * min(1.0, HIDDEN / hidden) ** 2
    seen = {
        stage: max(1, round(effort * min(max(passes * samples, least), most)))
        for stage, (passes, least, most) in BUDGETS.items()
    }
    return {
        "original": Recipe(samples=seen["original"], learning_rate=rate),
        "recovery": Recipe(samples=seen["recovery"], learning_rate=rate),
        "distillation": Distillation(
            samples=seen["distillation"], learning_rate=rate, removals=(1,)
        ),
    }


def shipped_fusion(strategy):
    """Fit the fusion of a strategy on the removals that come with the package.

    Parameters
    ----------
    strategy : Strategy

    Returns
    -------
    sklearn regressor or None
        None for a strategy that learns nothing.
    """
    if strategy.learned_from is None:
        return None
    table = pd.read_parquet(SHIPPED_ROWS)
    table = table[table["reads"] == strategy.reads].dropna(axis=1, how="all")
    return fit_fusion(table, strategy.model)


class Descent:
    """The models on one strategy's way down.

    Parameters
    ----------
    source : transformers.PreTrainedModel
        Where it begins.
    task : Task
        Its ``train`` and ``validation`` are read, ``test`` never.
    strategy : Strategy
    store : RecordStore
    stages : dict of str to Recipe
        From :func:`recipes`.
    tuned : bool
        Whether the source is fine-tuned already: then it is taken as it is.
    base : dict
        What else decides the results: fingerprints, seed, precision, threads, versions.
    on_work : callable, optional
        Told the work done: samples times layers.
    """

    def __init__(self, source, task, strategy, store, stages, *, tuned, base, on_work=None):
        self.source, self.task, self.store, self.stages = source, task, store, stages
        self.strategy, self.tuned, self.base = strategy, tuned, base
        self.seed, self.precision = base["seed"], base["precision"]
        self.depth = len(layer_stack(source))
        self.fixed = architecture_of(source.config).fixed
        self._on_work, self._counted = on_work or (lambda _: None), set()
        self._fusion, self._held = shipped_fusion(strategy), (None, None)

    def _spec(self, kind, path):
        stages = {"original": None if self.tuned else self.stages["original"].model_dump()}
        if path:
            stages["recovery"] = self.stages["recovery"].model_dump()
        if kind == "distilled":
            stages["distillation"] = self.stages["distillation"].model_dump(exclude={"removals"})
        return {**self.base, "kind": f"compress {kind}", "path": list(path), "stages": stages}

    def _record(self, kind, path, compute):
        spec = self._spec(kind, path)
        record = self.store.get(spec)
        if record is None:
            record = compute()
            self.store.put(spec, record)
        return record

    def work(self, stage, layers):
        """Count the work of a stage on so many layers: samples times layers."""
        return self.stages[stage].samples * layers

    def _skip(self, what, work):
        """Count work that an earlier run has done, once."""
        if what not in self._counted:
            self._on_work(work)
        self._counted.add(what)

    def _cached(self, kind, path):
        """Put saved weights into a copy of the source without the path's layers; None if absent."""
        content = self.store.get_weights(self._spec(kind, path))
        if content is None:
            return None
        model = remove_layers(self.source, path)
        missing, unexpected = model.load_state_dict(load(content), strict=False)
        trained = {name for name, _ in self._trained(model)}
        return None if unexpected or trained & set(missing) else model

    def _trained(self, model):
        """List the parameters that training changes."""
        frozen = set()
        if all(stage.freeze_embeddings for stage in self.stages.values()):
            frozen = {id(p) for p in embedding_parameters(model)}
        return [(name, p) for name, p in model.named_parameters() if id(p) not in frozen]

    def _keep(self, kind, path, model):
        state = {name: p.detach().cpu().contiguous() for name, p in self._trained(model)}
        self.store.put_weights(self._spec(kind, path), save(state))
        # The original teaches at every depth, and is the dearest to train again.
        self.store.trim(last=self._spec("model", ()))
        self._counted.add((kind, path))

    def model(self, path):
        """Give the model at a path, trained or out of the store.

        Parameters
        ----------
        path : tuple of int
            Layers removed, in order, by their number in the source.

        Returns
        -------
        transformers.PreTrainedModel
        """
        if not path and self.tuned:
            return self.source
        if self._held[0] == path:
            return self._held[1]
        stage, layers = "recovery" if path else "original", self.depth - len(path)
        model = self._cached("model", path)
        if model is not None:
            self._skip(("model", path), self.work(stage, layers))
        else:
            parent = self.model(path[:-1]) if path else self.source
            left = remaining(path[:-1], self.depth)
            model = remove_layers(parent, [left.index(path[-1])] if path else ())
            fine_tune(
                model,
                self.task.train,
                self.stages[stage],
                seed=derive_seed("order", self.seed, path),
                precision=self.precision,
                on_batch=lambda samples: self._on_work(samples * layers),
            )
            self._keep("model", path, model)
        self._held = (path, model)
        return model

    def _accuracy(self, model):
        data = self.task.validation
        predicted = predict_logits(lower(model, self.precision), data).argmax(-1)
        return {"validation_accuracy": float((predicted == data.labels).double().mean())}

    def validation(self, path):
        """Measure a path's model on the validation split, as a share."""
        record = self._record("accuracy", path, lambda: self._accuracy(self.model(path)))
        return record["validation_accuracy"]

    def _signals(self, path):
        def compute():
            labels = self.task.train.labels.tolist()
            chosen = draw(labels, range(len(labels)), PROBE, f"probe {self.seed}")
            table = extract_signals(
                self.model(path),
                self.task.train.take(chosen),
                precision=self.precision,
                measures=MEASURES,
            )
            # A signal that this architecture does not have is no number; records hold numbers.
            return {
                name: [None if np.isnan(value) else value for value in table[name]]
                for name in table
            }

        record = self._record("signals", path, compute)
        return pd.DataFrame(record, columns=list(MEASURES), dtype=float)

    def next_layer(self, path):
        """Let the strategy name the layer that goes next.

        Parameters
        ----------
        path : tuple of int

        Returns
        -------
        int
            Number of a layer in the source.

        Raises
        ------
        SfusionError
            When the strategy reads a signal that the architecture does not have.
        """
        left = remaining(path, self.depth)
        places = [place for place, layer in enumerate(left) if layer not in self.fixed]
        if self.strategy.group == "search":  # no rule: train every child and look
            tried = [left[place] for place in places]
            return max(tried, key=lambda layer: (self.validation((*path, layer)), layer))
        signals = self._signals(path)
        if self.strategy.name in MEASURES and signals[self.strategy.name].isna().any():
            raise SfusionError(
                f"strategy {self.strategy.name!r}: a {self.source.config.model_type} has no such "
                "signal; choose another"
            )
        view = View(
            layers=tuple(left[place] for place in places),
            signals=signals.iloc[places],
            rng=np.random.default_rng(derive_seed("strategy", self.seed, self.strategy.name)),
            fusion=self._fusion,
            depth=self.depth,
        )
        return choose(self.strategy, view)

    def follow(self, layers):
        """Go down until so many layers are left.

        Parameters
        ----------
        layers : int

        Returns
        -------
        tuple of int
            Layers removed, in order.
        """
        path = ()
        while len(path) < self.depth - layers:
            self.validation(path)
            path = (*path, self.next_layer(path))
        self.validation(path)
        return path

    def distilled(self, path):
        """Let the original teach a path's model.

        Parameters
        ----------
        path : tuple of int

        Returns
        -------
        tuple of (transformers.PreTrainedModel, float)
            The taught model and its validation accuracy.
        """
        layers = self.depth - len(path)
        model = self._cached("distilled", path)
        if model is not None:
            self._skip(("distilled", path), self.work("distillation", layers))
        else:
            recipe, train = self.stages["distillation"], self.task.train
            student, teacher = self.model(path), self.model(())
            model = distill(
                student,
                teacher,
                train.take(range(min(len(train), recipe.samples))),
                recipe,
                seed=derive_seed("distillation", self.seed),
                precision=self.precision,
                on_batch=lambda samples: self._on_work(samples * layers),
            )
            self._keep("distilled", path, model)
        record = self._record("distilled accuracy", path, lambda: self._accuracy(model))
        return model, record["validation_accuracy"]
