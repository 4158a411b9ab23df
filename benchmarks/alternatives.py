"""What an engineer would pick instead of removing layers: accuracy, time, size and work of each.

Accuracy (`accuracy`): on every task and seed the original is fine-tuned as `compress`
does it, and from it come models of fewer layers: by `compress` as it is (one-shot, then
the original teaches), by removing one layer at a time as its default did before, by
other rankings, and a student of the same depth that starts from every second layer and
sees as many samples. Beside them stand the original trained for as many samples in all,
the encoder left frozen and static embeddings made from it (model2vec), each with
logistic regression, and TF-IDF. Of the original and of half of its layers there are
ONNX files too, in 32 and in 8 bits. Fusions learn from the shipped removals on the
other tasks, of the same model where there are any. Rows are written as they come.

Defaults (`defaults`): the default of `compress` and the one before it, one layer at a
time as a forest chooses, at half of the depth on all tasks, on several seeds.

Unlabelled (`unlabelled`): what the option of that name gains where 1,500 texts have
labels and the rest of the training texts have none: half of the layers, taught with and
without the rest, and for as many samples on the labelled ones alone.

Speed (`speed`): all of them in one run in turns, from text to class number.

usage: python benchmarks/alternatives.py accuracy [--models minilm-l6] [--tasks agnews ...] [--seeds 0]
       python benchmarks/alternatives.py defaults --models minilm-l6 --seeds 0 1 python
       benchmarks/alternatives.py unlabelled --models minilm-l6 [--tasks agnews ...]
       [--seeds 0] python benchmarks/alternatives.py speed [--models minilm-l6
       mpnet-base]
"""

import argparse
import itertools
import math
import pickle
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from timeit import timeit

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers import AutoModel

from sfusion.compression import compress, report
from sfusion.data.pretrained import fingerprint, locate_model
from sfusion.data.tasks import load_task
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.baselines import pooled
from sfusion.experiments.machine import machine
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import PROBE, ROOT, load_profile
from sfusion.experiments.results import BUILD
from sfusion.experiments.store import RecordStore
from sfusion.models.layers import copy_model, remove_layers
from sfusion.models.source import load_model
from sfusion.pruning.fusion import fit_fusion, shipped_rows
from sfusion.pruning.identity import identity
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.strategies import (
    DEFAULT_STRATEGY,
    STRATEGIES,
)
from sfusion.pruning.tree import PruningTree, follow, probe_samples, unpack
from sfusion.training.distillation import NO_LABEL, distill
from sfusion.training.evaluation import classified
from sfusion.training.loop import fine_tune
from sfusion.training.precision import default_device, fixed_threads
from sfusion.training.seeds import derive_seed

PROFILE = "nine"  # its tasks, sizes and tokens
DEPTHS = {"minilm-l6": (4, 3, 2), "mpnet-base": (6, 4, 3, 2)}  # layers that are left
RANKINGS = (
    "random-forest",
    "one-shot-random-forest",
    "one-shot-angular-distance",
)  # at half of the depth
KEYS = ["model", "task", "seed", "alternative", "layers", "format"]
SPEED_TASK = "agnews"
BATCHES, ROUNDS, WARM_UP = (1, 32), 25, 3
LABELLED = 1500


def open_experiment(name, task, seed, store, labelled=None):
    """Open the tree of a compression of a named model on a task of the profile, or on its first training texts.

    The other training texts come with it, without their labels.
    """
    profile = load_profile(PROFILE)
    sizes, length = profile.sizes, profile.max_length
    options = {"max_length": length, "tokenizer": name, "source": profile.source}
    data = load_task(
        task, seed=seed, sizes=(sizes.train, sizes.validation, sizes.test), **options
    )
    head = derive_seed("head", seed)
    source = load_model(name, label_names=data.label_names, seed=head).to(
        default_device()
    )
    more = {} if labelled is None else {"labelled": labelled}
    base = identity(
        data,
        fingerprint(name),
        seed,
        length,
        profile.threads,
        profile.precision,
        **more,
    )
    first, rest = (
        data.train.take(range(len(data.train))[part])
        for part in (slice(labelled), slice(labelled, None))
    )
    rest = replace(rest, labels=torch.full_like(rest.labels, NO_LABEL))
    data = replace(data, train=first)
    recipes = compress.recipes(len(data.train), source.config.hidden_size)
    options = {
        "base": base,
        "probe": probe_samples(data, PROBE, seed),
        "strategies": RANKINGS,
    }
    return PruningTree(lambda: source, data, store, recipes, **options), rest


def bits(right):
    return np.packbits(right).tobytes().hex()


def judged(tree, path, condition):
    """Describe a model of the tree on validation and test."""
    return {"path": path.name, "distilled": bool(condition)} | {
        split: tree.outcome(path, split, condition)[1]
        for split in ("validation", "test")
    }


def compressed(tree, strategy, layers, fusion):
    """Compress as :func:`sfusion.compression.compress.compress` does."""
    parts = follow(tree, strategy, layers, fusion, every=False)
    chosen, _ = compress.choose_depth(tree, parts, layers, None, True)
    return judged(tree, *chosen)


def scored(tree, model):
    """Find what a model classifies rightly."""
    splits = {split: getattr(tree.task, split) for split in ("validation", "test")}
    return {
        split: bits(classified(model, data, tree.base["precision"]))
        for split, data in splits.items()
    }


def student(tree, layers):
    """Distil a student of matched size whose layers are spread evenly; the recoveries' samples come on top."""
    kept = [round((k + 1) * tree.depth / layers) - 1 for k in range(layers)]
    gone = [layer for layer in range(tree.depth) if layer not in kept]
    model = taught(
        tree,
        remove_layers(tree.model(ORIGINAL), gone),
        with_recoveries(tree, "distillation", len(gone)),
    )
    return {
        "path": PruningPath.at_once(gone).name,
        "distilled": True,
        **scored(tree, model),
    }


def taught(tree, start, recipe, more=()):
    """Let the original teach a model on the training texts, and on more that have no labels."""
    data, teacher = (
        (tree.task.train + more, tree.model(ORIGINAL))
        if len(more)
        else (tree.task.train, tree.teacher)
    )
    seed, precision = (
        derive_seed("distillation", tree.base["seed"]),
        tree.base["precision"],
    )
    return distill(start, teacher, data, recipe, seed=seed, precision=precision)


def longer(tree):
    """Fine-tune the original for as many samples as a model of half of its layers has seen in all."""
    recipe = with_recoveries(tree, "original", tree.depth - tree.depth // 2)
    recipe = recipe.model_copy(
        update={"samples": recipe.samples + tree.recipes["distillation"].samples}
    )
    model = remove_layers(tree.source(), ()).to(tree.base["device"])
    seed = derive_seed("order", tree.base["seed"], ())
    fine_tune(
        model, tree.task.train, recipe, seed=seed, precision=tree.base["precision"]
    )
    return {"path": "", "distilled": False, **scored(tree, model)}


def with_recoveries(tree, stage, count):
    """Add the samples of some recoveries to a stage."""
    recipe = tree.recipes[stage]
    return recipe.model_copy(
        update={"samples": recipe.samples + count * tree.recipes["recovery"].samples}
    )


def exported(tree, path, condition):
    """Export a model of the tree and judge its files."""
    model, found = copy_model(tree.model(path, condition), torch.float32).cpu(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, entry, run in report.export(
            Path(folder), model, tree.task, True, math.inf
        ):
            found[name] = {"megabytes": entry["bytes"] / 1e6}
            for split in ("validation", "test"):
                data = getattr(tree.task, split)
                batches = zip(
                    data.input_ids.split(64), data.attention_mask.split(64), strict=True
                )
                predicted = np.concatenate(
                    [run(ids, attention_mask=mask) for ids, mask in batches]
                ).argmax(-1)
                found[name][split] = bits(predicted == data.labels.numpy())
    return found


def word_pipelines(name):
    """Return the pipelines that read texts: TF-IDF, and static embeddings of a model (model2vec)."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return {
        "TF-IDF": lambda: make_pipeline(words, LogisticRegression(max_iter=1000)),
        "static embeddings": lambda: make_pipeline(
            FunctionTransformer(static(name).encode),
            StandardScaler(),
            LogisticRegression(max_iter=1000),
        ),
    }


def static(name):
    """Make static embeddings of a pretrained encoder, once: a forward pass per word of its vocabulary."""
    from model2vec import StaticModel
    from model2vec.distill import distill_from_model

    folder = BUILD / "alternatives" / f"static-{name}"
    if not folder.is_dir():
        place = locate_model(name)
        made = distill_from_model(
            AutoModel.from_pretrained(place), load_tokenizer(place), device="cpu"
        )
        made.save_pretrained(folder)
    return StaticModel.from_pretrained(folder)


def read_texts(tree, name):
    """Decode what the model reads, so that nobody reads more."""
    tokenizer = load_tokenizer(name)
    splits = {
        split: getattr(tree.task, split) for split in ("train", "validation", "test")
    }
    return {
        s: tokenizer.batch_decode(data.input_ids, skip_special_tokens=True)
        for s, data in splits.items()
    }, {split: data.labels.numpy() for split, data in splits.items()}


def of_texts(tree, name, kind):
    """Fit a pipeline on texts, and judge it."""
    texts, labels = read_texts(tree, name)
    fitted = word_pipelines(name)[kind]().fit(texts["train"], labels["train"])
    found = {
        split: bits(fitted.predict(texts[split]) == labels[split])
        for split in ("validation", "test")
    }
    return {
        "path": "",
        "distilled": False,
        "megabytes": len(pickle.dumps(fitted)) / 1e6,
        **found,
    }


def frozen(tree):
    """Fit logistic regression on the frozen encoder's mean states."""
    splits = {
        split: getattr(tree.task, split) for split in ("train", "validation", "test")
    }
    states = {split: pooled(tree.source(), data) for split, data in splits.items()}
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    fitted.fit(states["train"], splits["train"].labels.numpy())
    found = {
        s: bits(fitted.predict(states[s]) == splits[s].labels.numpy())
        for s in ("validation", "test")
    }
    return {"path": "", "distilled": False, **found}


def defaults(tree, name, fusion):
    """List the original, the present default and the former one, as :func:`alternatives` does."""
    shown = {
        ("original", tree.depth),
        ("compress", tree.depth // 2),
        (f"compress, {RANKINGS[0]}", tree.depth // 2),
    }
    return [one for one in alternatives(tree, name, fusion) if one[:2] in shown]


def alternatives(tree, name, fusion):
    """List what is compared: alternative, layers left, and how it is made."""
    half = tree.depth // 2
    yield "original", tree.depth, partial(judged, tree, ORIGINAL, None)
    yield "original, trained longer", tree.depth, partial(longer, tree)
    for layers in DEPTHS[name]:
        yield (
            "compress",
            layers,
            partial(compressed, tree, DEFAULT_STRATEGY, layers, fusion),
        )
    yield "student of every second layer", half, partial(student, tree, half)
    for strategy in RANKINGS:
        yield (
            f"compress, {strategy}",
            half,
            partial(compressed, tree, strategy, half, fusion),
        )
    yield "frozen encoder", tree.depth, partial(frozen, tree)
    for kind in word_pipelines(name):
        yield kind, 0, partial(of_texts, tree, name, kind)


def measure(name, task, seed, store, listed=alternatives, only=None, export=True):
    """Return the rows of one model, task and seed, computed unless they are filed."""
    (tree, _), rows = open_experiment(name, task, seed, store), []
    table = shipped_rows()
    table = table[table["task"] != task]
    own = table["model"] == name
    fusion = fit_fusion(
        table[own] if own.any() else table, STRATEGIES[RANKINGS[0]].model
    )
    method = {
        stage: recipe.model_dump(mode="json") for stage, recipe in tree.recipes.items()
    }
    with fixed_threads(tree.base["threads"]):
        for alternative, layers, make in listed(tree, name, fusion):
            if only and alternative not in only:
                continue
            details = {"alternative": alternative, "layers": layers, "method": method}
            details["strategy"] = (
                DEFAULT_STRATEGY if alternative == "compress" else None
            )
            record = tree.record("alternative", ORIGINAL, make, **details)
            found = record["value"]
            common = {
                "model": name,
                "task": task,
                "seed": seed,
                "alternative": alternative,
                "layers": layers,
            }
            size = megabytes(tree, layers) if layers else found["megabytes"]
            rows.append(
                row_of(
                    tree,
                    common,
                    "torch" if layers else "sklearn",
                    found,
                    size,
                    record["seconds"],
                )
            )
            if export and (alternative, layers) in (
                ("original", tree.depth),
                ("compress", tree.depth // 2),
            ):
                path = PruningPath.parse(found["path"])
                node = path, "distilled" if found["distilled"] else None
                files = tree.record(
                    "exported", ORIGINAL, partial(exported, tree, *node), **details
                )
                for form, part in files["value"].items():
                    whole = {**found, **part}
                    rows.append(
                        row_of(
                            tree,
                            common,
                            form,
                            whole,
                            part["megabytes"],
                            record["seconds"],
                        )
                    )
            tree.release()
            tree.trim()
    return rows


def megabytes(tree, layers):
    """Return the size of a model's weights in float32."""
    model = remove_layers(tree.source(), range(layers, tree.depth))
    return sum(p.numel() for p in model.parameters()) * 4 / 1e6


def row_of(tree, common, form, found, size, seconds):
    """Lay out a row; ``test_correct`` has a bit per test text."""
    shares = {
        f"{split}_accuracy": unpack(found[split], len(getattr(tree.task, split))).mean()
        for split in ("validation", "test")
    }
    made = {
        "path": found["path"],
        "distilled": found["distilled"],
        "megabytes": size,
        "seconds": seconds,
    }
    return {**common, "format": form, **made, **shares, "test_correct": found["test"]}


def on_test(tree, path, samples, more):
    """Let the original teach a model of the tree on so many samples, and find what it classifies rightly of test."""
    recipe = tree.recipes["distillation"].model_copy(update={"samples": samples})
    model = taught(tree, tree.model(path), recipe, more)
    return bits(classified(model, tree.task.test, tree.base["precision"]))


def unlabelled(name, task, seed, store):
    """Return the rows of one task and seed: half of the layers, taught by more texts or not."""
    tree, rest = open_experiment(name, task, seed, store, LABELLED)
    usual, most = (
        compress.recipes(LABELLED, tree.source().config.hidden_size, unlabelled=count)[
            "distillation"
        ].samples
        for count in (0, len(rest))
    )
    rows = []
    with fixed_threads(tree.base["threads"]):
        path = follow(tree, DEFAULT_STRATEGY, tree.depth // 2, None, every=False)[-1]
        original = tree.outcome(ORIGINAL, "test", None)[1]
        for more, samples in (((), usual), ((), most), (rest, most)):
            make = partial(on_test, tree, path, samples, more)
            found = tree.record(
                "unlabelled", path, make, samples=samples, texts=len(more)
            )["value"]
            rows.append({"texts": len(more), "samples": samples, "test_correct": found})
    rows.insert(0, {"texts": 0, "samples": 0, "test_correct": original})
    tree.trim()
    shares = [
        {"test_accuracy": unpack(row["test_correct"], len(tree.task.test)).mean()}
        for row in rows
    ]
    common = {
        "model": name,
        "task": task,
        "seed": seed,
        "labelled": len(tree.task.train),
    }
    return [{**common, **share, **row} for share, row in zip(shares, rows, strict=True)]


def speed_calls(name):
    """List what is timed for a model: functions from texts to class numbers."""
    profile = load_profile(PROFILE)
    sizes, length = (
        (profile.sizes.train, max(BATCHES), max(BATCHES)),
        profile.max_length,
    )
    task = load_task(
        SPEED_TASK,
        sizes=sizes,
        max_length=length,
        tokenizer=name,
        source=profile.source,
    )
    source, tokenizer = (
        load_model(name, label_names=task.label_names),
        load_tokenizer(name),
    )
    if source._supports_sdpa:
        source.set_attn_implementation("sdpa")  # as plain transformers loads it
    options = {
        "padding": True,
        "truncation": True,
        "max_length": length,
        "return_tensors": "pt",
    }

    def classify(run, texts):
        tokens = tokenizer(texts, **options)
        logits = run(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return getattr(logits, "logits", logits).argmax(-1)

    calls, depth = {}, source.config.num_hidden_layers
    for layers in (depth, *DEPTHS[name]):
        model = remove_layers(source, range(layers, depth)).eval()
        calls["transformer", layers, "torch"] = partial(classify, model)
        if layers in (depth, depth // 2):
            with tempfile.TemporaryDirectory() as folder:
                for form, _, run in report.export(
                    Path(folder), model, task, True, math.inf
                ):
                    calls["transformer", layers, form] = partial(classify, run)
    for kind, make in word_pipelines(name).items():
        calls[kind, 0, "sklearn"] = (
            make().fit(task.texts["train"], task.train.labels.numpy()).predict
        )
    return calls, task.texts["test"]


def timed(names):
    """Time every alternative in turns, from text to class number, on all cores."""
    calls = {}
    for name in names:
        own, texts = speed_calls(name)
        calls |= {(name, *key): call for key, call in own.items()}
    about, rows = machine(load_profile(PROFILE)), []
    flags = " ".join(
        one
        for one in about["processor"]["instructions"]
        if one.startswith(("avx", "amx"))
    )
    for count in BATCHES:
        rounds = []
        with torch.inference_mode():
            for _ in range(WARM_UP + ROUNDS):
                rounds.append(
                    {
                        key: 1000 * timeit(partial(call, texts[:count]), number=1)
                        for key, call in calls.items()
                    }
                )
        for key in calls:
            times = [each[key] for each in rounds[WARM_UP:]]
            low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
            row = dict(
                zip(("model", "alternative", "layers", "format"), key, strict=True)
            )
            row |= {
                "batch": count,
                "low": low,
                "median": median,
                "high": high,
                "threads": torch.get_num_threads(),
            }
            rows.append(
                row | {"processor": about["processor"]["name"], "instructions": flags}
            )
    return pd.DataFrame(rows)


def write(file, rows, keys=KEYS):
    """Add rows to a table, in place of earlier ones of the same run."""
    found = (
        [pd.read_csv(file, dtype={"test_correct": str, "path": str})]
        if file.is_file()
        else []
    )
    frame = pd.concat([*found, pd.DataFrame(rows)], ignore_index=True)
    frame.drop_duplicates(keys, keep="last").to_csv(
        file, index=False, float_format="%.6g"
    )


def main():
    """Measure what is asked for, and write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("accuracy", "defaults", "unlabelled", "speed"))
    parser.add_argument(
        "--models", nargs="+", default=list(DEPTHS), choices=list(DEPTHS)
    )
    parser.add_argument("--tasks", nargs="+", default=load_profile(PROFILE).tasks)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "alternatives")
    parser.add_argument("--only", nargs="+", help="alternatives, by name")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    if options.what == "speed":
        timed(options.models).to_csv(
            options.out / "speed.csv", index=False, float_format="%.6g"
        )
        return
    store = RecordStore(BUILD / "alternatives" / "store")
    units = itertools.product(options.models, options.seeds, options.tasks)
    calls = [(name, task, seed, store) for name, seed, task in units]
    function, keys = measure, KEYS
    if options.what == "accuracy":
        calls = [(*call, alternatives, options.only) for call in calls]
        for name in (
            options.models
            if "static embeddings" in (options.only or word_pipelines(""))
            else ()
        ):
            static(name)  # workers that begin side by side would each make it
    elif options.what == "defaults":
        calls = [(*call, defaults, None, False) for call in calls]
    else:
        function, keys = unlabelled, ["model", "task", "seed", "texts", "samples"]
    with (
        pool(load_profile(PROFILE).threads) as run,
        progress(len(calls), options.what) as bar,
    ):
        for rows in run(function, calls):
            if (
                options.what == "defaults"
            ):  # what a table before has filed took no time here
                rows = [
                    {key: value for key, value in row.items() if key != "seconds"}
                    for row in rows
                ]
            write(options.out / f"{options.what}.csv", rows, keys)
            bar.update()


if __name__ == "__main__":
    main()
