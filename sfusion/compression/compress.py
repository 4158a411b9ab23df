"""Compress the user's own classifier: a smaller plain model and a report come out."""

from __future__ import annotations

import base64
import html
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from joblib import cpu_count

from sfusion.compression.budgets import recipes
from sfusion.compression.depth import choose_depth, count_work, tabulate
from sfusion.compression.inputs import (
    encode_unlabelled,
    load_start,
    read_texts,
    tokenise_splits,
)
from sfusion.compression.output import workplace, write_output
from sfusion.compression.report import Job, Stopwatch, summary
from sfusion.compression.request import (
    Forms,
    Target,
    check_options,
    check_place,
    check_space,
    check_target,
)
from sfusion.compression.tokens import fit_tokens
from sfusion.compression.understanding import understand_texts
from sfusion.compression.vocabulary import check_trimmable
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

    from sfusion.compression.depth import Choice
    from sfusion.compression.inputs import Start, Texts
    from sfusion.compression.tokens import TextLength
    from sfusion.compression.understanding import Understanding
    from sfusion.data.encoding import Encoded
    from sfusion.data.files import Source
    from sfusion.data.tasks import Task


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
    work : Path or None
        Where the models of all depths lie, after a run without a target depth.
    """

    directory: Path
    report: dict[str, Any]
    curve: pd.DataFrame
    work: Path | None = None

    def __str__(self) -> str:
        """Return the report in a few lines, and what else lies on the disk."""
        lines = [summary(self.report)]
        if self.work is not None and self.work.is_dir():
            files = [file for file in self.work.rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files) / 1e6
            lines.append(
                f"the models of all depths are left in {self.work} ({size:,.0f} MB). "
                "To take another depth without its training: rename "
                f"{self.directory.name}, and make the same call again with a number of "
                "layers to keep (--keep) and the same place to write to; the models "
                "are then removed. To take none, delete that folder."
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the report with its curve in a notebook."""
        shown = f"<pre>{html.escape(str(self))}</pre>"
        figure = self.directory / "curve.png"
        if not figure.is_file():  # moved or removed since
            return shown
        data = base64.b64encode(figure.read_bytes()).decode()
        return (
            f'{shown}\n<img src="data:image/png;base64,{data}" '
            'alt="Validation accuracy of every model on the pruning path">'
        )


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
    trim_vocabulary: bool = False,
    labels: Sequence[str] | None = None,
    new_head: bool = False,
    max_length: int | None = None,
    read: str | None = None,
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
        several ways are tried, and the best on validation is kept if it loses no more
        accuracy than ``max_drop``, or one percentage point.
    trim_vocabulary : bool
        Leave out the pieces of the vocabulary that neither training nor unlabelled
        texts use, nor other words are spelled with, if validation accuracy stays: for
        WordPiece and byte-level byte pairs. Texts of other domains suffer.
    labels : sequence of str, optional
        The data's labels in the order of the model's class numbers, where its own names
        differ.
    new_head : bool
        Train a new head instead of the model's own.
    max_length : int, optional
        Tokens per text; by default as many as 95% of the training texts need, at most
        128.
    read : {"head", "tail"}, optional
        Which end of a longer text is read; by default as the tokenizer says, mostly the
        head. It is saved with the tokenizer.
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
    forms = Forms(onnx, int8, trim_vocabulary)
    check_target(target)
    check_options(strategy, seed, learning_rate, threads, read)
    check_place(out)
    if unlabelled is not None and not distill:
        raise SfusionError(
            "unlabelled texts are for the distillation, which is switched off: leave "
            "out one of the two"
        )
    if onnx or int8:
        need_extra("onnx")

    texts = read_texts(train, test, unlabelled, (text_column, label_column), seed)
    source = ModelSource.open(model, read)
    start = load_start(source, texts.rows, labels, new_head, seed)
    target.check_depth(_lowest(start), len(layer_stack(start.model)))
    if trim_vocabulary:
        check_trimmable(source.tokenizer)
    ready = _prepare(source, start, texts, labels, max_length, seed)
    understood = ready.understood
    job = Job(source, start, texts, ready.length, strategy, target, understood)
    check_space(out, start.model, forms)
    understood.say(quiet)
    threads = threads or cpu_count()
    with (
        workplace(out) as work,
        fixed_threads(threads),
        progress(1, "compress", quiet) as bar,
    ):
        tree = _plant(
            work,
            job,
            ready,
            partial(_advance, bar),
            new_head=new_head,
            learning_rate=learning_rate,
            threads=threads,
            seed=seed,
        )
        choice = _search(tree, job, distill, bar)
        curve = tabulate(tree, choice)
        report = write_output(
            out, work, job, tree, choice, curve, forms=forms, stopwatch=stopwatch
        )
        # A curve is there to be chosen from: its work makes the choice quick.
        if not target.is_open:
            shutil.rmtree(work, ignore_errors=True)
    return CompressionResult(out, report, curve, work if target.is_open else None)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The texts as the model reads them."""

    task: Task
    length: TextLength
    unlabelled: Encoded | None
    understood: Understanding


def _lowest(start: Start) -> int:
    """Fewest layers that can be left of a model."""
    return max(1, len(architecture_of(start.model.config).fixed))


def _prepare(
    source: ModelSource,
    start: Start,
    texts: Texts,
    labels: Sequence[str] | None,
    max_length: int | None,
    seed: int,
) -> _Prepared:
    """Tokenise the texts as far as they need."""
    tokenizer = source.tokenizer
    train_texts = texts.split["train"]["text"].tolist()
    length = fit_tokens(tokenizer, start.model.config, train_texts, max_length)
    task = tokenise_splits(texts, start, tokenizer, length)
    understood = understand_texts(texts, start, task, tokenizer, length, labels)
    more = None
    if texts.unlabelled is not None:
        more = encode_unlabelled(texts.unlabelled, task, tokenizer, texts.most, seed)
    return _Prepared(task, length, more, understood)


def _plant(
    work: Path,
    job: Job,
    ready: _Prepared,
    on_work: Callable[[int], object],
    *,
    new_head: bool,
    learning_rate: float | None,
    threads: int,
    seed: int,
) -> PruningTree:
    """Make the tree, filed under everything that decides its results."""
    task = ready.task
    model = job.start.model
    decided: dict[str, Any] = {"labels": list(task.label_names), "new_head": new_head}
    if job.source.end is not None:
        decided["read"] = job.source.end
    if job.texts.unlabelled is not None:
        decided["unlabelled"] = corpora.fingerprint(job.texts.unlabelled.frame)
    fingerprint = job.source.fingerprint
    base = identity(task, fingerprint, seed, ready.length.tokens, threads, **decided)
    stages = recipes(
        len(task.train),
        model.config.hidden_size,
        learning_rate,
        unlabelled=0 if ready.unlabelled is None else len(ready.unlabelled),
    )
    model.to(base["device"])
    return PruningTree(
        lambda: model,
        task,
        RecordStore(work),
        stages,
        base=base,
        probe=probe_samples(task, PROBE, seed),
        strategies=[job.strategy],
        unlabelled=ready.unlabelled,
        tuned=job.start.is_tuned,
        keep_distilled=True,
        on_work=on_work,
    )


def _search(tree: PruningTree, job: Job, distill: bool, bar: tqdm) -> Choice:
    """Train along the strategy's path, and choose where to stop."""
    target = job.target
    last = tree.lowest if target.keep is None else target.keep
    planned = count_work(tree, job.strategy, last, target, distill)
    bar.reset(total=planned.pruning + planned.distillation)
    fusion = _fit_shipped(job.strategy)
    paths = follow(tree, job.strategy, last, fusion, every=target.keep is None)
    _reach(bar, planned.pruning, "distil" if distill else "choose")
    choice = choose_depth(tree, paths, target, distill)
    _reach(bar, bar.total, "measure")
    return choice


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
