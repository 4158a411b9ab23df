"""A model directory, tasks and profiles so small that a whole study takes seconds."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value, disable_progress_bars
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, BertTokenizer

from sfusion import SfusionError
from sfusion.experiments.profiles import Profile
from sfusion.experiments.results import FRAMES, UNIT, Results
from sfusion.pruning.strategies import STRATEGIES, expand
from sfusion.signals import MEASURES

THEMES = (
    "river lake water boat fish shore wave rain",
    "iron bolt wheel motor gear weld chain drill",
    "song drum voice choir tune lyric band flute",
)
FILLER = "the a of and in on with for near under over some many this that".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
COMMON = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    # 0.02 leaves so small a model without any say.
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def write_model(folder, layers=4, seed=0):
    """Save a random BERT (hidden 16, 2 heads) with a tokenizer; return the folder."""
    words = [*SPECIAL, *FILLER, *(word for theme in THEMES for word in theme.split())]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        **COMMON | {"num_hidden_layers": layers, "intermediate_size": 32},
        vocab_size=len(words),
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_other_model(folder, kind):
    """Save a random model of another architecture, 4 layers, same tokenizer."""
    write_model(folder)
    config = AutoConfig.for_model(
        kind, **COMMON, vocab_size=len(BertTokenizer.from_pretrained(folder))
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def sentences(count, classes, seed):
    """Invent texts whose words lean to the theme of their label."""
    rng = np.random.default_rng(seed)
    labels = [number % classes for number in range(count)]
    texts = []
    for label in labels:
        theme = THEMES[label].split()
        own = rng.choice(theme, size=rng.integers(1, 4))
        texts.append(" ".join(rng.permutation([*own, *rng.choice(FILLER, size=5)])))
    return texts, labels


def write_task(folder, name, classes=3, sizes=(48, 24, 24), seed=0):
    """Write a task's three splits as Parquet; return the folder for SFUSION_DATA."""
    names = [f"{name} {number}" for number in range(classes)]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    (folder / name).mkdir(parents=True)
    disable_progress_bars()
    offset = int.from_bytes(name.encode()[:3], "big") + 1000 * seed
    for position, (split, size) in enumerate(
        zip(("train", "validation", "test"), sizes, strict=True)
    ):
        texts, labels = sentences(size, classes, offset + position)
        data = Dataset.from_dict({"text": texts, "label": labels}, features=features)
        data.to_parquet(folder / name / f"{split}.parquet")
    return folder


NINE = (
    "newsgroup",
    "dbpedia",
    "arxiv",
    "patent",
    "yahoo",
    "yelp",
    "agnews",
    "imdb",
    "amazon",
)


@functools.cache
def data_folder():
    """Write the nine tasks once a process: workers keep the SFUSION_DATA they had."""
    folder = Path(tempfile.mkdtemp(prefix="sfusion-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for position, name in enumerate(NINE):
        write_task(folder, name, classes=2 + position % 2)
    return folder


def make_profile(model, tasks=("agnews", "imdb"), **changes):
    """Make a profile that a 4-layer model finishes in a second or two."""
    recipe = {"samples": 16, "batch_size": 8, "learning_rate": 0.003}
    content = {
        "name": "tiny",
        "description": "for tests",
        "model": str(model),
        "tasks": tasks,
        "source": "folder",
        "seeds": [0],
        "max_length": 12,
        "sizes": {"train": 48, "validation": 24, "test": 24, "probe": 24},
        "random_orders": 2,
        "subsets": tasks[:1],
        "precision": "fp32",
        "original": {**recipe, "samples": 48},
        "recovery": recipe,
        "distillation": {**recipe, "removals": [1, 2]},
    }
    return Profile(**{**content, **changes})


@contextlib.contextmanager
def refused(*words, match=None):
    """Expect an error for people: one line that holds the words."""
    with pytest.raises(SfusionError, match=match) as error:
        yield error
    message = str(error.value)
    assert message and "\n" not in message
    assert [word for word in words if word not in message] == []


def refusal(function, *arguments, **options):
    """Return the one line with which a call is refused."""
    with refused() as error:
        function(*arguments, **options)
    return str(error.value)


LABELS = tuple(expand(STRATEGIES, 2))
WIDE = 60  # so many layers that every strategy can have a path of its own


def path_of(label, removed):
    """Return a path of its own for every strategy: layer k, then k + 30."""
    number = LABELS.index(label) + 1
    return "-".join(map(str, (number, number + 30)[:removed]))


def sizes_of(layers):
    """Count as a model would: 100 numbers below the layers, 10 in each."""
    parameters = 100 + 10 * layers
    return {
        "layers": layers,
        "parameters": parameters,
        "encoder_parameters": 10 * layers,
        "flops": 1000 * layers,
    }


def make_results(
    score,
    taught=lambda task, seed, condition, removed: (0.5, 0.5),
    tasks=("t", "u", "v"),
    seeds=(0, 1),
    labels=LABELS,
):
    """Write the results of a study by hand: two removals a strategy, distilled at both.

    ``score(task, seed, label, removed)`` and ``taught(task, seed, condition, removed)``
    give validation and test accuracy; the label of the unpruned model is None.
    """
    rng = np.random.default_rng(0)
    nodes, signals, visits, distillation = {}, [], [], []
    units = [(task, seed) for task in tasks for seed in seeds]
    for task, seed in units:
        for label in (None, *labels):
            for removed in range(3) if label else range(1):
                path = path_of(label, removed) if label else ""
                if label:
                    visits.append((task, seed, label, removed, path))
                if label and removed == 0:
                    continue
                validation, test = score(task, seed, label, removed)
                seconds = {"training": 2.0, "evaluation": 0.2, "extraction": 0.1}
                nodes[task, seed, path] = {
                    "removed": removed,
                    "validation_accuracy": validation,
                    "test_accuracy": test,
                    **seconds,
                    **sizes_of(WIDE - removed),
                }
        for name in ("distilled", "same-steps", "original-same-steps"):
            for removed in (0,) if name.startswith("original") else (1, 2):
                path = path_of("random-forest", removed)
                distillation.append(
                    (
                        task,
                        seed,
                        path,
                        removed,
                        name,
                        *taught(task, seed, name, removed),
                    )
                )
    keys = ["task", "seed", "path"]
    for key in nodes:
        for layer in (0, WIDE - 1):
            values = dict(zip(MEASURES, rng.normal(size=len(MEASURES)), strict=True))
            signals.append(
                {**dict(zip(keys, key, strict=True)), "layer": layer, **values}
            )
    accuracies = ["validation_accuracy", "test_accuracy"]
    return Results(
        tasks=pd.DataFrame(
            {
                "task": task,
                "seed": seed,
                "classes": 2,
                "validation": 400,
                "test": 400,
                "fingerprint": f"of {task}",
                "source": "by hand",
                "majority_accuracy": 0.5,
                "tfidf_accuracy": 0.6,
            }
            for task, seed in units
        ),
        nodes=pd.DataFrame(
            [{**dict(zip(keys, key, strict=True)), **row} for key, row in nodes.items()]
        ),
        signals=pd.DataFrame(signals),
        trajectories=pd.DataFrame(
            visits, columns=["task", "seed", "strategy", "removed", "path"]
        ),
        distillation=pd.DataFrame(
            distillation, columns=[*keys, "removed", "condition", *accuracies]
        ),
        manifest={
            "machine": {"processor": "this one", "threads": 1},
            "profile": {"name": "hand"},
        },
    )


def rows_of_bits(rows):
    """Make a frame of accuracies with bits: task, seed, strategy, and what is right."""
    columns = ["task", "seed", "strategy", "bits"]
    frame = pd.DataFrame(rows, columns=columns)
    bits = frame.pop("bits").map(np.array)
    return frame.assign(
        name=frame["strategy"].str.replace(r"-\d+$", "", regex=True),
        test_accuracy=bits.map(np.mean),
        test_correct=bits.map(lambda right: np.packbits(right).tobytes()),
        test_texts=bits.map(len),
    )


def records(folder):
    """Read every record of a store: specification, and result without times."""
    found = {}
    for file in (Path(folder) / "store" / "records").rglob("*.json"):
        record = json.loads(file.read_text())
        found[file.name] = (record["spec"], record["result"]["value"])
    return found


def texts(folder):
    """Read records as their exact text, so that not a bit of a number may differ."""
    return {name: json.dumps(record) for name, record in records(folder).items()}


def run_counted(profile, folder, strategies, log, environment):
    """Run a study in a process of its own and write down how often it trained."""
    from sfusion.experiments.pruning_study import PruningStudy
    from sfusion.pruning import tree

    # A fork server passes on its own environment, that of whichever test started it.
    os.environ.update(environment)
    trained = []

    def counted(train):
        def wrapper(*arguments, **kwargs):
            trained.append(1)
            return train(*arguments, **kwargs)

        return wrapper

    tree.fine_tune = counted(tree.fine_tune)
    PruningStudy(profile, strategies).run(folder, quiet=True)
    Path(log).write_text(str(len(trained)))


def of_units(results, query):
    """Keep the tasks and seeds of a query."""
    units = results.tasks.query(query)[UNIT]
    return replace(
        results,
        **{name: getattr(results, name).merge(units, on=UNIT) for name in FRAMES},
    )


THEME_NAMES = ("boats", "works", "songs")


def write_tuned_model(folder, names=THEME_NAMES, seed=1):
    """Save a tiny BERT that knows its themes by name, with its training texts."""
    import sfusion as sf
    from sfusion.data.encoding import encode
    from sfusion.data.tokenizers import load_tokenizer
    from sfusion.training.recipes import Recipe

    write_model(folder, layers=3)
    texts, labels = sentences(240, 3, seed)
    tokenizer = load_tokenizer(folder)
    model = sf.load_model(folder, label_names=names)
    numbers = [names.index(THEME_NAMES[label]) for label in labels]
    recipe = Recipe(samples=2400, learning_rate=0.003, freeze_embeddings=False)
    sf.fine_tune(model, encode(texts, numbers, tokenizer, 16), recipe, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def labelled(count, seed):
    """Make a frame of texts and the names of their themes."""
    texts, labels = sentences(count, 3, seed)
    return pd.DataFrame(
        {"text": texts, "label": [THEME_NAMES[label] for label in labels]}
    )
