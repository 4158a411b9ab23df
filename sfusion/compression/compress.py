"""Compress the user's own classifier: data and model in, a smaller plain model and a report out."""

import contextlib
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from huggingface_hub.utils import WeakFileLock
from joblib import cpu_count

from sfusion.compression import report
from sfusion.data import corpora
from sfusion.data.encoding import encode
from sfusion.data.files import read_rows
from sfusion.data.labels import order_labels, resolve_labels
from sfusion.data.splits import draw, split_rows
from sfusion.data.tasks import tokenise
from sfusion.errors import SfusionError
from sfusion.experiments.parallel import progress
from sfusion.experiments.profiles import PROBE
from sfusion.experiments.store import RecordStore
from sfusion.models.architectures import architecture_of, layer_stack, token_limit
from sfusion.models.layers import remove_layers
from sfusion.models.size import size
from sfusion.models.source import ModelSource, numbered
from sfusion.pruning.fusion import fit_fusion, shipped_rows
from sfusion.pruning.identity import identity
from sfusion.pruning.path import ORIGINAL
from sfusion.pruning.searches import follow
from sfusion.pruning.strategies import (
    COMPRESSION_STRATEGIES,
    DEFAULT_STRATEGY,
    STRATEGIES,
)
from sfusion.pruning.tree import PruningTree, probe_samples
from sfusion.training.distillation import NO_LABEL
from sfusion.training.precision import fixed_threads
from sfusion.training.recipes import Distillation, Recipe
from sfusion.training.seeds import derive_seed

LONGEST = 128  # tokens, unless the user asks for more

# Samples seen: passes over the training set, but at least and at most so many. Rates,
# by hidden units, were found on validation (results/recipe.csv): an untrained head
# learns fast, a recovery slowly, for a high rate costs even a model that loses nothing,
# and what the original teaches fast again. All declared here.
BUDGETS = {
    # stage: (kind of recipe, passes, at least, at most)
    "original": (Recipe, 4, 2000, 9000),
    "recovery": (Recipe, 1, 1000, 2000),
    "distillation": (Distillation, 5, 2000, 10000),
}
RATES = {
    384: {"original": 1e-4, "recovery": 3e-5, "distillation": 3e-4},
    768: {"original": 1e-4, "recovery": 1.5e-5, "distillation": 1e-4},
}
HEAD_RATE = 10.0  # of the original, whose head starts untrained


@dataclass(frozen=True, eq=False)
class CompressionResult:
    """What a compression made.

    Attributes
    ----------
    directory : Path
        The model that was written: plain transformers.
    report : dict
        The contents of ``report.json``.
    curve : DataFrame
        A row per model on the pruning path: ``layers``, ``distilled``, ``chosen``,
        ``path``, ``validation_accuracy`` with its 95% interval ``low`` and ``high``,
        ``parameters``, ``flops``.
    """

    directory: Path
    report: dict
    curve: pd.DataFrame

    def __str__(self):
        return report.summary(self.report)


def recipes(samples, hidden, learning_rate=None, unlabelled=0):
    """Fix how each stage trains.

    Parameters
    ----------
    samples : int
        Training samples there are.
    hidden : int
        Hidden units: the rates are those of the next width in ``RATES``; above the last
        one they fall inversely to the width.
    learning_rate : float, optional
        In place of that rule, in every stage.
    unlabelled : int
        More samples for the distillation.

    Returns
    -------
    dict of str to Recipe
        Keys of ``BUDGETS``.
    """
    width = next((width for width in RATES if width >= hidden), max(RATES))
    return {
        stage: kind(
            samples=min(
                max(passes * (samples + unlabelled * (kind is Distillation)), least),
                most,
            ),
            learning_rate=learning_rate
            or RATES[width][stage] * min(1.0, width / hidden),
            head_rate=HEAD_RATE if stage == "original" else 1.0,
        )
        for stage, (kind, passes, least, most) in BUDGETS.items()
    }


def compress(
    model, train, test=None, *, out, text_column="text", label_column="label", keep=None, max_drop=None,
    strategy=DEFAULT_STRATEGY, distill=True, unlabelled=None, onnx=False, int8=False, labels=None, new_head=False,
    max_length=None, learning_rate=None, threads=None, seed=0, quiet=None,
):  # fmt: skip
    """Make a classifier smaller by removing layers, and report what that cost.

    A model that is already fine-tuned on the data's labels is taken as it is, any other
    is fine-tuned first. Layers go as the strategy chooses, one at a time with
    fine-tuning after each or, by a one-shot strategy, at once with as much of it; at
    the end the original teaches what is left, which is kept if validation agrees. Test
    texts are read once, by the finished models.

    Parameters
    ----------
    model : str or Path
        A directory, a Hub name, ``minilm-l6`` or ``mpnet-base``, see
        :func:`sfusion.data.pretrained.locate_model`. Safetensors only; no code of a
        model is run.
    train, test : str, Path, DataFrame or datasets.Dataset
        CSV, JSONL or Parquet. Without a test file a fifth of the training texts is held
        out.
    out : str or Path
        Directory to create. While it is being made, work lies in ``.<name>.sfusion``
        beside it: the same call goes on from there after a stop, and it is removed at
        the end.
    text_column, label_column : str
        Columns of both files.
    keep : int, optional
        Layers to keep.
    max_drop : float, optional
        Instead: write the smallest model whose validation accuracy is at most this
        share below the original's. With neither, all depths are tried, and written is
        the smallest model within one standard error of the original (Breiman et al.
        1984); the work stays, so that a second call with ``keep`` is quick.
    strategy : str
        A name in ``COMPRESSION_STRATEGIES``. Fusions come fitted, from the package's
        own study.
    distill : bool
        Whether the original teaches at the end.
    unlabelled : str, Path, DataFrame or datasets.Dataset, optional
        More texts, whose labels are not read: the original teaches with its own answers
        to them.
    onnx, int8 : bool
        Also write ``model.onnx``, and its weights in 8 bits as ``model.int8.onnx``:
        that only if it loses no more validation accuracy than ``max_drop``, or one
        percentage point.
    labels : sequence of str, optional
        The data's labels in the order of the model's class numbers, where its own names
        differ.
    new_head : bool
        Train a new head instead of the model's own.
    max_length : int, optional
        Tokens per text; by default as many as 95% of the training texts need, at most
        128.
    learning_rate : float, optional
        See :func:`recipes`.
    threads : int, optional
        By default all cores.
    seed : int
        Varies splits, head, and order of samples.
    quiet : bool, optional
        See :func:`sfusion.experiments.parallel.progress`.

    Returns
    -------
    CompressionResult

    Raises
    ------
    SfusionError
        For whatever is wrong with the input; then nothing has been written.
    """
    started = time.perf_counter(), time.process_time()
    out = Path(os.path.abspath(out))  # "." has no name of its own
    _check_options(
        out,
        keep,
        max_drop,
        strategy,
        seed,
        learning_rate,
        threads,
        unlabelled is not None and not distill,
    )
    if onnx or int8:
        report.check_onnx()
    rows = read_rows(train, text_column, label_column)
    tests = None if test is None else read_rows(test, text_column, label_column)
    most = max(stage.samples for stage in recipes(len(rows.frame), 1).values())
    more = None if unlabelled is None else read_rows(unlabelled, text_column, None)
    split = split_rows(rows, tests, seed=seed, limit=most)
    opened = ModelSource.open(model)
    source, tuned, numbers = load_source(opened, rows, labels, new_head, seed)
    depth, lowest = (
        len(layer_stack(source)),
        max(1, len(architecture_of(source.config).fixed)),
    )
    if keep is not None and not lowest <= keep < depth:
        raise SfusionError(f"cannot keep {keep} layers: give {lowest} to {depth - 1}")
    tokenizer = opened.tokenizer
    task = _task(split, numbers, source.config, tokenizer, max_length)
    options = {"labels": list(task.label_names), "new_head": new_head}
    extra = None
    if more is not None:
        extra = _unlabelled(more, task, tokenizer, most, seed)
        options["unlabelled"] = corpora.fingerprint(more.frame)
    base = identity(
        task,
        opened.fingerprint,
        seed,
        task.train.input_ids.shape[1],
        threads or cpu_count(),
        **options,
    )
    source.to(base["device"])
    work, last = out.parent / f".{out.name}.sfusion", lowest if keep is None else keep
    with (
        _writing(out, work),
        fixed_threads(base["threads"]),
        progress(1, "compress", quiet) as bar,
    ):
        stages = recipes(
            len(task.train),
            source.config.hidden_size,
            learning_rate,
            0 if extra is None else len(extra),
        )
        probe = probe_samples(task, PROBE, seed)
        tree = PruningTree(
            lambda: source, task, RecordStore(work), stages, base=base, probe=probe, strategies=[strategy],
            unlabelled=extra, tuned=tuned, keep_distilled=True, on_work=bar.update,
        )  # fmt: skip
        one = STRATEGIES[strategy]
        bar.reset(total=_work(tree, last, distill, one.once, keep is None))
        fusion = (
            fit_fusion(shipped_rows(one.reads), one.model, one.reads)
            if one.learned_from
            else None
        )
        parts = follow(tree, strategy, last, fusion, every=keep is None)
        bar.set_description("distil" if distill else "choose")
        chosen, accuracies = choose_depth(tree, parts, keep, max_drop, distill)
        curve = tabulate(tree, chosen, accuracies)
        bar.set_description("measure")
        bar.refresh()
        asked = {"strategy": strategy, "target": {"keep": keep, "max_drop": max_drop}}
        shutil.rmtree(output := work / "output", ignore_errors=True)  # of a killed run
        output.mkdir()
        written = report.build(
            output,
            tree,
            chosen,
            curve,
            opened,
            asked,
            held_out=test is None,
            onnx=onnx,
            int8=int8,
            started=started,
        )
        os.replace(output, out)  # an empty directory gives way
        # A curve is there to be chosen from: its work makes the choice quick.
        if keep is not None or max_drop is not None:
            shutil.rmtree(work, ignore_errors=True)
    return CompressionResult(out, written, curve)


def _check_options(out, keep, max_drop, strategy, seed, rate, threads, untaught):
    """Refuse before anything is read what can be refused."""
    known, drop = ", ".join(COMPRESSION_STRATEGIES), max_drop is not None
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    for wrong, message in (
        (
            strategy not in COMPRESSION_STRATEGIES,
            f"strategy {strategy!r} is not known: use one of {known}",
        ),
        (keep is not None and drop, "give keep or max_drop, not both"),
        (
            drop and not 0 <= max_drop < 1,
            f"max_drop {max_drop}: give a share such as 0.01, one percentage point",
        ),
        (
            keep is not None and keep < 1,
            f"cannot keep {keep} layers: keep at least one",
        ),
        (seed < 0, f"seed {seed}: give 0 or more"),
        (
            rate is not None and not 0 < rate < math.inf,
            f"learning_rate {rate}: give a positive number",
        ),
        (
            threads is not None and not 0 < threads < math.inf,
            f"threads {threads}: give a positive number",
        ),
        (
            untaught,
            "unlabelled texts are for the distillation, which is switched off: leave out one of the two",
        ),
        (out.is_symlink(), f"{out} is a link: give the directory itself"),
        (taken, f"{out} exists already and is not empty: give a new directory"),
        (not out.parent.is_dir(), f"{out.parent} is not a directory; create it first"),
        (
            not os.access(out.parent, os.W_OK),
            f"{out.parent} cannot be written: choose another directory",
        ),
    ):
        if wrong:
            raise SfusionError(message)


def load_source(opened, train, labels=None, new_head=False, seed=0):
    """Load a model for labelled texts, and map the labels to its classes.

    Parameters
    ----------
    opened : ModelSource
    train : Rows
        The texts.
    labels, new_head, seed
        See :func:`compress`.

    Returns
    -------
    tuple of (transformers.PreTrainedModel, bool, dict of str to int)
        The model, whether it was fine-tuned on these labels, and their class numbers.

    Raises
    ------
    SfusionError
        When the model cannot be loaded, or its labels are not those of the texts.
    """
    if labels is not None and len(set(labels)) < len(labels):
        raise SfusionError(f"labels {', '.join(map(str, labels))}: name each once")
    saved = opened.as_saved()
    found = sorted(set(train.frame["label"]))
    if saved.has_head and not new_head:
        numbers = resolve_labels(found, opened.labels, train.where, labels)
        saved.model.config.update(numbered(labels or opened.labels))
        return saved.model, True, numbers
    if labels is not None and (strange := sorted(set(found) - set(labels))):
        raise SfusionError(
            f"{train.where} has the label {strange[0]!r}, which labels do not name"
        )
    names = tuple(labels or order_labels(train.names, [train.frame], train.where))
    head = saved.with_new_head(names, derive_seed("head", seed))
    return head, False, {label: names.index(label) for label in found}


def fit_tokens(tokenizer, config, texts, max_length=None):
    """Determine how many tokens a text has: what the texts need and the model can take.

    Parameters
    ----------
    tokenizer, config
        See :func:`sfusion.compression.report.ready_tokenizer`, which changes both.
    texts : sequence of str
    max_length : int, optional
        See :func:`compress`.

    Returns
    -------
    int

    Raises
    ------
    SfusionError
        When the model takes no texts of that length, or not this tokenizer's.
    """
    report.ready_tokenizer(tokenizer, config)
    limit = min(
        token_limit(config) or tokenizer.model_max_length, tokenizer.model_max_length
    )
    if max_length is None:
        enough = int(
            pd.Series(map(len, tokenizer(texts)["input_ids"])).quantile(
                0.95, interpolation="higher"
            )
        )
        max_length = min(-(-max(enough, 8) // 8) * 8, LONGEST, limit)
    if not 3 <= max_length <= limit:
        raise SfusionError(
            f"max_length {max_length}: the model takes 3 to {limit} tokens"
        )
    return max_length


def _task(split, numbers, config, tokenizer, max_length):
    """Tokenise the splits."""
    max_length = fit_tokens(
        tokenizer, config, split["train"]["text"].tolist(), max_length
    )
    names = [config.id2label[number] for number in range(config.num_labels)]
    whole = [split["train"], split["validation"]]
    return tokenise(
        "own",
        split,
        numbers,
        names,
        tokenizer,
        max_length,
        whole=whole,
        source="files",
    )


def _unlabelled(rows, task, tokenizer, most, seed):
    """Draw, of texts that are in no split, at most so many and tokenise them."""
    known = {text for texts in task.texts.values() for text in texts}
    texts = [text for text in dict.fromkeys(rows.frame["text"]) if text not in known]
    if not texts:
        raise SfusionError(
            f"{rows.where}: every text is among the labelled ones: give others"
        )
    texts = [
        texts[i] for i in draw([""] * len(texts), texts, most, f"unlabelled {seed}")
    ]
    return encode(
        texts, [NO_LABEL] * len(texts), tokenizer, task.train.input_ids.shape[1]
    )


def _work(tree, last, distill, once, every):
    """Count the work of a compression: samples times layers."""
    gone = tree.depth - last
    steps = range(gone if once and not every else 1, gone + 1)
    recovered = sum((count if once else 1) * (tree.depth - count) for count in steps)
    layers = {
        "original": 0 if tree.tuned else tree.depth,
        "recovery": recovered,
        "distillation": distill * last,
    }
    return sum(tree.recipes[stage].samples * count for stage, count in layers.items())


def choose_depth(tree, parts, keep, max_drop, distill):
    """Choose on validation how many layers to remove, and distil that model.

    Parameters
    ----------
    tree : PruningTree
    parts : list of PruningPath
        From :func:`sfusion.pruning.tree.follow`.
    keep, max_drop : int or float, optional
        See :func:`compress`.
    distill : bool

    Returns
    -------
    tuple of (tuple, dict)
        The chosen model: its path and None or ``"distilled"``; and by these the
        validation accuracy of all that were measured.
    """
    found = {(part, None): tree.evaluate(part, "validation") for part in parts}
    original, samples = found[ORIGINAL, None], len(tree.task.validation)
    spread = (original * (1 - original) / samples) ** 0.5
    # A difference of whole samples: rounding of the shares must not decide.
    floor = original - (spread if max_drop is None else max_drop) - 0.5 / samples / 1000
    best = (
        parts[-1]
        if keep is not None
        else [part for part in parts if found[part, None] >= floor][-1]
    )
    # The teacher may bring back what fine-tuning could not: try on while it does.
    for part in parts[max(1, parts.index(best)) :] if distill else ():
        found[part, "distilled"] = tree.evaluate(part, "validation", "distilled")
        tree.trim()
        if max(found[part, None], found[part, "distilled"]) < floor:
            break
        best = part
    taught = found.get((best, "distilled"), -1.0) >= found[best, None]
    return (best, "distilled" if taught else None), found


def tabulate(tree, chosen, accuracies):
    """Tabulate what :func:`choose_depth` measured, see :class:`CompressionResult`."""
    rows, samples = [], len(tree.task.validation)
    for (part, condition), accuracy in sorted(
        accuracies.items(), key=lambda item: len(item[0][0].removed)
    ):
        cost = size(remove_layers(tree.source(), part.removed), tree.base["max_length"])
        interval = report.accuracy_interval(round(accuracy * samples), samples)
        row = {
            "layers": cost["layers"],
            "distilled": condition is not None,
            "chosen": (part, condition) == chosen,
        }
        row |= {
            "path": part.name,
            "validation_accuracy": accuracy,
            "low": interval["low"],
        }
        rows.append(
            row
            | {
                "high": interval["high"],
                "parameters": cost["parameters"],
                "flops": cost["flops"],
            }
        )
    return pd.DataFrame(rows)


@contextlib.contextmanager
def _writing(out, work):
    """Hold the work's folder for this process alone, and turn a disk's errors into one line."""
    try:
        work.mkdir(exist_ok=True)
        with WeakFileLock(work / "lock", timeout=0.1):
            yield
    except TimeoutError:  # of the lock: nothing else here waits
        raise SfusionError(
            f"{out} is being made by another process: wait for it, or give another place"
        ) from None
    except OSError as error:
        raise SfusionError(f"cannot write {out}: {error.strerror or error}") from error
