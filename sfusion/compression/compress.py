"""Compress the user's own classifier: a smaller plain model and a report come out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from joblib import cpu_count

from sfusion.compression.budgets import recipes
from sfusion.compression.depth import choose_depth, count_work, tabulate
from sfusion.compression.inputs import (
    check_label_order,
    encode_unlabelled,
    load_start,
    read_texts,
    tokenise_splits,
)
from sfusion.compression.output import workplace, write_output
from sfusion.compression.report import Job, Stopwatch, summary
from sfusion.compression.request import (
    Target,
    check_options,
    check_place,
    check_target,
)
from sfusion.compression.tokens import fit_tokens
from sfusion.data import corpora
from sfusion.errors import SfusionError, need_extra
from sfusion.experiments.parallel import progress
from sfusion.experiments.profiles import PROBE
from sfusion.experiments.store import RecordStore
from sfusion.models.architectures import architecture_of, layer_stack
from sfusion.models.source import ModelSource
from sfusion.pruning.fusion import fit_fusion, shipped_rows
from sfusion.pruning.identity import identity
from sfusion.pruning.searches import follow
from sfusion.pruning.strategies import DEFAULT_STRATEGY, lookup
from sfusion.pruning.tree import PruningTree, probe_samples
from sfusion.training.precision import fixed_threads

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin
    from tqdm import tqdm

    from sfusion.data.files import Source


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
    report: dict[str, Any]
    curve: pd.DataFrame

    def __str__(self) -> str:
        """Return the report in a few lines."""
        return summary(self.report)


def compress(
    model: str | Path,
    train: Source,
    test: Source | None = None,
    *,
    out: str | Path,
    text_column: str = "text",
    label_column: str = "label",
    keep: int | None = None,
    max_drop: float | None = None,
    strategy: str = DEFAULT_STRATEGY,
    distill: bool = True,
    unlabelled: Source | None = None,
    onnx: bool = False,
    int8: bool = False,
    labels: Sequence[str] | None = None,
    new_head: bool = False,
    max_length: int | None = None,
    learning_rate: float | None = None,
    threads: int | None = None,
    seed: int = 0,
    quiet: bool | None = None,
) -> CompressionResult:
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
        CSV, JSON or Parquet. Without a test file a fifth of the training texts is held
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
        See :func:`sfusion.compression.budgets.recipes`.
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
    stopwatch = Stopwatch()
    out = Path(os.path.abspath(out))  # "." has no name of its own
    target = Target(keep, max_drop)
    check_target(target)
    check_options(strategy, seed, learning_rate, threads)
    check_place(out)
    if unlabelled is not None and not distill:
        raise SfusionError(
            "unlabelled texts are for the distillation, which is switched off: leave "
            "out one of the two"
        )
    if onnx or int8:
        need_extra("onnx")

    texts = read_texts(train, test, unlabelled, (text_column, label_column), seed)
    source = ModelSource.open(model)
    start = load_start(source, texts.rows, labels, new_head, seed)
    depth = len(layer_stack(start.model))
    lowest = max(1, len(architecture_of(start.model.config).fixed))
    target.check_depth(lowest, depth)
    tokenizer = source.tokenizer
    train_texts = texts.split["train"]["text"].tolist()
    length = fit_tokens(tokenizer, start.model.config, train_texts, max_length)
    task = tokenise_splits(texts, start, tokenizer, length)
    if labels is None:  # else the user has said which is which
        check_label_order(start, task, texts.rows.where)

    decided: dict[str, Any] = {"labels": list(task.label_names), "new_head": new_head}
    more = None
    if texts.unlabelled is not None:
        rows = texts.unlabelled
        more = encode_unlabelled(rows, task, tokenizer, texts.most, seed)
        decided["unlabelled"] = corpora.fingerprint(rows.frame)
    threads = threads or cpu_count()
    base = identity(task, source.fingerprint, seed, length.tokens, threads, **decided)
    stages = recipes(
        len(task.train),
        start.model.config.hidden_size,
        learning_rate,
        unlabelled=0 if more is None else len(more),
    )
    start.model.to(base["device"])
    job = Job(source, start, texts, length, strategy, target)
    with (
        workplace(out) as work,
        fixed_threads(threads),
        progress(1, "compress", quiet) as bar,
    ):
        tree = PruningTree(
            lambda: start.model,
            task,
            RecordStore(work),
            stages,
            base=base,
            probe=probe_samples(task, PROBE, seed),
            strategies=[strategy],
            unlabelled=more,
            tuned=start.is_tuned,
            keep_distilled=True,
            on_work=partial(_advance, bar),
        )
        last = lowest if keep is None else keep
        planned = count_work(tree, strategy, last, target, distill)
        bar.reset(total=planned.pruning + planned.distillation)
        fusion = _fit_shipped(strategy)
        paths = follow(tree, strategy, last, fusion, every=keep is None)
        _reach(bar, planned.pruning, "distil" if distill else "choose")
        choice = choose_depth(tree, paths, target, distill)
        _reach(bar, bar.total, "measure")
        curve = tabulate(tree, choice)
        report = write_output(
            out,
            work,
            job,
            tree,
            choice,
            curve,
            onnx=onnx,
            int8=int8,
            stopwatch=stopwatch,
        )
        # A curve is there to be chosen from: its work makes the choice quick.
        if not target.is_open:
            shutil.rmtree(work, ignore_errors=True)
    return CompressionResult(out, report, curve)


def _fit_shipped(strategy: str) -> RegressorMixin | None:
    """Fit a fusion on the rows of the package's study; None for other strategies."""
    chosen = lookup(strategy)
    if chosen.model is None:
        return None
    return fit_fusion(shipped_rows(chosen.reads), chosen.model, chosen.reads)


def _advance(bar: tqdm, work: int) -> None:
    """Move the bar, and never beyond its end: models are loaded again at the end."""
    bar.update(min(work, bar.total - bar.n))


def _reach(bar: tqdm, done: int, following: str) -> None:
    """Move the bar to where a stage ends: what an earlier run has done counts, too."""
    bar.update(max(0, done - bar.n))
    bar.set_description(following)
