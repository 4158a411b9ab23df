"""The sweep as a user would write it: a path per strategy, ``transformers.Trainer``, twelve passes.

The original is fine-tuned once. Then every strategy follows a pruning path of its own:
take each signal in a pass of its own, remove a layer, fine-tune, evaluate.
"""

import tempfile
import time

import numpy as np
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

HIGHEST_FIRST = {"attention-entropy"}


def rows(data):
    """List samples as the collator wants them, without their padding."""
    lengths = data.attention_mask.sum(1).tolist()
    return [
        {"input_ids": ids[:length], "attention_mask": [1] * length, "label": label}
        for ids, length, label in zip(
            data.input_ids.tolist(), lengths, data.labels.tolist(), strict=True
        )
    ]


def load(directory, task):
    return AutoModelForSequenceClassification.from_pretrained(
        directory, num_labels=len(task.label_names)
    )


def make_trainer(model, tokenizer, train, recipe, seed, **changes):
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
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(
        model=model, args=options, train_dataset=train, data_collator=collator
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def remove_layer(model, position):
    layers = model.bert.encoder.layer
    del layers[position]
    model.config.num_hidden_layers = len(layers)


def sweep(directory, task, strategies, original, recovery, probe, seed=0):
    """Follow every strategy's pruning path.

    Strategies are names of signals, or ``random-...``. Returns a row per node of a
    path: accuracies, the path, and seconds of training, evaluation and of each signal's
    pass.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    train, validation, test = map(rows, (task.train, task.validation, task.test))
    nodes = []

    def add_node(model, recipe, strategy, path):
        start = time.perf_counter()
        trainer = make_trainer(model, tokenizer, train, recipe, seed)
        trainer.train()
        trained = time.perf_counter()
        scores = {}
        for split, samples in (("validation", validation), ("test", test)):
            found = trainer.predict(samples)
            accuracy = (found.predictions.argmax(-1) == found.label_ids).mean()
            scores[f"{split}_accuracy"] = float(accuracy)
        evaluated = time.perf_counter()
        seconds = {"training": trained - start, "evaluation": evaluated - trained}
        nodes.append({"strategy": strategy, "path": path, **scores, "seconds": seconds})

    def take_signals(model):
        model.eval()
        table = {}
        for name, passes in PASSES.items():
            start = time.perf_counter()
            table[name] = passes(model, probe)
            nodes[-1]["seconds"][name] = time.perf_counter() - start
        return table

    torch.manual_seed(seed)
    model = load(directory, task)
    add_node(model, original, "original", ())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for strategy in strategies:
        model = load(directory, task)
        model.load_state_dict(weights)
        left, path = list(range(len(model.bert.encoder.layer))), ()
        order = np.random.default_rng(seed).permutation(len(left))
        nodes.append({**nodes[0], "strategy": strategy, "seconds": {}})
        while len(left) > 1:
            table = take_signals(model)
            if strategy in table:
                values = np.array(table[strategy])
                position = int(
                    (values if strategy in HIGHEST_FIRST else -values).argmax()
                )
            else:
                position = left.index(order[len(path)])
            path += (left.pop(position),)
            remove_layer(model, position)
            add_node(model, recovery, strategy, path)
    return nodes
