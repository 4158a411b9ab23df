"""The sweep as a user would write it: a path per strategy, ``Trainer``, twelve passes.

The original is fine-tuned once. Then every strategy follows a pruning path of its own:
take each signal in a pass of its own, remove a layer, fine-tune, evaluate.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from plain_signals import PASSES
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded
    from sfusion.data.tasks import Task
    from sfusion.training.recipes import Recipe

HIGHEST_FIRST = {"attention-entropy"}


def rows(data: Encoded) -> list[dict[str, Any]]:
    """List samples as the collator wants them, without their padding."""
    lengths = data.attention_mask.sum(1).tolist()
    columns = (data.input_ids.tolist(), lengths, data.labels.tolist())
    return [
        {"input_ids": ids[:length], "attention_mask": [1] * length, "label": label}
        for ids, length, label in zip(*columns, strict=True)
    ]


def load(directory: Path, task: Task) -> PreTrainedModel:
    """Load the pretrained model with a new head."""
    return AutoModelForSequenceClassification.from_pretrained(
        directory, num_labels=len(task.label_names)
    )


def make_trainer(
    model: PreTrainedModel,
    directory: Path,
    train: list[dict[str, Any]],
    recipe: Recipe,
    seed: int,
    **changes: Any,
) -> Trainer:
    """Set a Trainer up with a recipe's values, all else as it comes."""
    options = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        max_steps=-(-recipe.samples // recipe.batch_size),
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=128,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,  # below 1: a share of the steps
        weight_decay=recipe.weight_decay,
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **changes,
    )
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(directory))
    trainer = Trainer(
        model=model, args=options, train_dataset=train, data_collator=collator
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class PlainSweep:
    """Follow every strategy's pruning path, one after the other.

    Attributes
    ----------
    nodes : list of dict
        A row per node of a path: ``strategy``, ``removed`` and ``path``, accuracies,
        and seconds of ``training``, ``evaluation`` and of each signal's pass.
    """

    def __init__(
        self, directory: Path, task: Task, recovery: Recipe, probe: Encoded, seed: int
    ) -> None:
        self.directory = directory
        self.task = task
        self.recovery = recovery
        self.probe = probe
        self.seed = seed
        self.train = rows(task.train)
        self.splits = {
            "validation": rows(task.validation),
            "test": rows(task.test),
        }
        self.nodes: list[dict[str, Any]] = []

    def run(self, original: Recipe, strategies: list[str]) -> pd.DataFrame:
        """Fine-tune the original, then follow strategies: signals or ``random-...``."""
        torch.manual_seed(self.seed)
        model = load(self.directory, self.task)
        self._add_node(model, original, "original", ())
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        root = self.nodes[0] | {"training": 0.0, "evaluation": 0.0}
        for strategy in strategies:
            model = load(self.directory, self.task)
            model.load_state_dict(weights)
            self.nodes.append(root | {"strategy": strategy})
            self._follow(model, strategy)
        return pd.DataFrame(self.nodes).fillna(0.0)

    def _follow(self, model: PreTrainedModel, strategy: str) -> None:
        layers = model.bert.encoder.layer
        left = list(range(len(layers)))
        order = np.random.default_rng(self.seed).permutation(len(left))
        path: tuple[int, ...] = ()
        while len(left) > 1:
            signals = self._take_signals(model)
            if strategy in signals:
                values = np.array(signals[strategy])
                turned = strategy in HIGHEST_FIRST
                position = int(values.argmax() if turned else values.argmin())
            else:
                position = left.index(order[len(path)])
            path = (*path, left.pop(position))
            del layers[position]
            model.config.num_hidden_layers = len(layers)
            self._add_node(model, self.recovery, strategy, path)

    def _take_signals(self, model: PreTrainedModel) -> dict[str, list[float]]:
        model.eval()
        signals = {}
        for name, take in PASSES.items():
            start = time.perf_counter()
            signals[name] = take(model, self.probe)
            self.nodes[-1][name] = time.perf_counter() - start
        return signals

    def _add_node(
        self, model: PreTrainedModel, recipe: Recipe, strategy: str, path: tuple
    ) -> None:
        start = time.perf_counter()
        trainer = make_trainer(model, self.directory, self.train, recipe, self.seed)
        trainer.train()
        trained = time.perf_counter()
        node = {"strategy": strategy, "removed": len(path), "path": path}
        for split, samples in self.splits.items():
            found = trainer.predict(samples)
            is_right = found.predictions.argmax(-1) == found.label_ids
            node[f"{split}_accuracy"] = float(is_right.mean())
        node["training"] = trained - start
        node["evaluation"] = time.perf_counter() - trained
        self.nodes.append(node)
