"""Distillation as published, with controls that take the same steps without a teacher.

Layers are removed along one fixed path, the same for every task and seed: 2, 3, 1 and,
for the cut below half of the depth, 4: from the middle, so that the first and the last
layer stay. Then every condition trains for the same number of steps; conditions differ
in the model that they start from, the loss and the texts. The rate is the one that
validation prefers for a teacher (results/recipe.csv); the controls stand at the rate of
the recoveries too, so that they can be had at their best. Students of matched size
start from layers of the original and have the recoveries' steps on top, so that all
models of three layers have seen as many samples. Validation and test accuracy are
written for every run; nothing is chosen on either.

usage: python benchmarks/distillation.py [--profile nine] [--tasks agnews ...] [--seeds 0 1 2]
       [--epochs 10] [--out results/distillation.csv]
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from sfusion.data.encoding import Encoded
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import ROOT, load_profile
from sfusion.experiments.results import BUILD
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.models.layers import remove_layers
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.tree import unpack
from sfusion.training.distillation import NO_LABEL, distillation_loss
from sfusion.training.evaluation import classified, predict_logits
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast, default_device, fixed_threads
from sfusion.training.recipes import Distillation
from sfusion.training.seeds import derive_seed

HALF = PruningPath.of(2, 3, 1)
DEEP = HALF.then(4)
EPOCHS, LEARNING_RATE, LOW_RATE = 10, 3e-4, 3e-5
HARD_WEIGHT = 0.5  # of the labels, beside a teacher
UNIFORM, SKIP = (
    (2, 4, 6),
    (2, 4),
)  # outputs of the original's layers that a student's first ones imitate
KEYS = ["task", "seed", "condition", "layers_left", "samples"]


def real_mean(values, mask):
    """Average over the real tokens: values of shape (B, T)."""
    return (values * mask).sum() / mask.sum()


def hidden_error(student, teacher, mask):
    """Mean squared difference of hidden states."""
    return real_mean((student.float() - teacher.float()).square().mean(-1), mask)


def attention_divergence(student, teacher, mask):
    """KL(teacher || student) of attention over the keys, mean over heads and real queries."""
    student, teacher = (maps.float().clamp_min(1e-9) for maps in (student, teacher))
    return real_mean((teacher * (teacher / student).log()).sum(-1).mean(1), mask)


def score_error(student, teacher, mask):
    """Mean squared difference of attention scores, centred over the keys of a query.

    A model returns attention after the softmax; the logarithm gives back the scores but
    for a constant per query, which attention does not depend on.
    """
    scores = [maps.float().clamp_min(1e-9).log() for maps in (student, teacher)]
    difference, keys = scores[0] - scores[1], mask[:, None, None]
    count = keys.sum(-1, keepdim=True)
    difference = difference - (difference * keys).sum(-1, keepdim=True) / count
    return real_mean(
        ((difference.square() * keys).sum(-1) / count[..., 0]).mean(1), mask
    )


def last_hidden(student, teacher, mask):
    return hidden_error(student.hidden_states[-1], teacher.hidden_states[-1], mask)


def last_attention(student, teacher, mask):
    return attention_divergence(student.attentions[-1], teacher.attentions[-1], mask)


def last_cosine(student, teacher, mask):
    states = (output.hidden_states[-1].float() for output in (student, teacher))
    return real_mean(1 - functional.cosine_similarity(*states, dim=-1), mask)


def patient(student, teacher, mask):
    """Squared distance of the first tokens' normalised states, mean over the layers of the map."""
    error = 0
    for own, other in enumerate(SKIP, 1):
        states = [
            output.hidden_states[i][:, 0].float()
            for output, i in ((student, own), (teacher, other))
        ]
        left, right = (functional.normalize(state, dim=-1) for state in states)
        error = error + (left - right).square().sum(-1).mean() / len(SKIP)
    return error


def layerwise(student, teacher, mask):
    """Hidden states and attention scores of mapped layers, summed over the layers."""
    error = 0
    for own, other in enumerate(UNIFORM, 1):
        error = error + hidden_error(
            student.hidden_states[own], teacher.hidden_states[other], mask
        )
        error = error + score_error(
            student.attentions[own - 1], teacher.attentions[other - 1], mask
        )
    return error


@dataclass(frozen=True)
class Condition:
    """How one model is trained after the original was.

    Attributes
    ----------
    removed : PruningPath
    temperature : float, optional
        Of the teacher's logits; None: the labels alone teach.
    term : callable, optional
        ``(student's output, teacher's, mask of the real tokens) -> Tensor``, added to
        the loss.
    first : callable, optional
        Such a term, alone the loss during the first half of the steps.
    recovery : {"labels", "teacher", None}
        Who teaches in a recovery after each removal; None: no recoveries, their steps
        come on top.
    hard_weight : float
        Of the labels' cross-entropy; the rest is the teacher's.
    later : bool
        Whether it reads, besides the training samples, what follows in their texts.
    learning_rate : float
    """

    removed: PruningPath = HALF
    temperature: float | None = None
    term: Callable | None = None
    first: Callable | None = None
    recovery: str | None = "labels"
    hard_weight: float = HARD_WEIGHT
    later: bool = False
    learning_rate: float = LEARNING_RATE


EVERY_SECOND, FIRST_HALF = PruningPath.of(1, 3, 5), PruningPath.of(3, 4, 5)
CONDITIONS = {
    # Controls: the same steps without a teacher.
    "original, labels only": Condition(ORIGINAL),
    "original, labels only, low rate": Condition(ORIGINAL, learning_rate=LOW_RATE),
    "pruned, labels only": Condition(),
    "pruned, labels only, low rate": Condition(learning_rate=LOW_RATE),
    # Logits with the labels: Hinton et al. 2015; T from 1 (Minitron, Muralidharan et
    # al. 2024) to 4.
    "KD T=1": Condition(temperature=1.0),
    "KD T=2": Condition(temperature=2.0),
    "KD T=4": Condition(temperature=4.0),
    # Prune, distil, prune: Minitron's rule for large cuts, here one layer at a time.
    "KD in every recovery": Condition(temperature=2.0, recovery="teacher"),
    # The last layer's states (as TinyBERT compares states, Jiao et al. 2020) or
    # attention (MiniLM, Wang et al. 2020, without its relations of values), of weight 1
    # beside the logits.
    "KD T=2 + hidden states": Condition(temperature=2.0, term=last_hidden),
    "KD T=2 + attention": Condition(temperature=2.0, term=last_attention),
    # Texts without labels, which the teacher alone explains (Turc et al. 2019,
    # Well-Read Students). No training text is left over for that, so these are what
    # follows in the texts themselves.
    "KD T=2 + later text": Condition(temperature=2.0, later=True),
    # Below half of the depth, where Minitron finds that intermediate losses help.
    "deep, labels only": Condition(DEEP),
    "deep, labels only, low rate": Condition(DEEP, learning_rate=LOW_RATE),
    "deep, KD T=2": Condition(DEEP, temperature=2.0),
    "deep, KD T=2 + hidden states": Condition(DEEP, temperature=2.0, term=last_hidden),
    "deep, KD T=2 + attention": Condition(DEEP, temperature=2.0, term=last_attention),
    # Students of three layers. All start from the fine-tuned original's layers and head
    # (declared here; PKD and TinyBERT start from pretrained ones), so that losses and
    # maps differ, not data.
    "every second layer, labels only": Condition(EVERY_SECOND, recovery=None),
    "every second layer, labels only, low rate": Condition(
        EVERY_SECOND, recovery=None, learning_rate=LOW_RATE
    ),
    # Sanh et al. 2019, its three losses with equal weights.
    "DistilBERT-style": Condition(EVERY_SECOND, 2.0, last_cosine, recovery=None),
    # Sun et al. 2019: PKD-skip. Beta 1 on the sum over units is 384 on their mean (its
    # grid: 10 to 1000).
    "PKD-style": Condition(FIRST_HALF, 2.0, patient, recovery=None),
    # Jiao et al. 2020, task distillation without augmentation; embeddings are frozen,
    # so their loss is 0.
    "TinyBERT-style": Condition(
        EVERY_SECOND, 1.0, first=layerwise, recovery=None, hard_weight=0.0
    ),
}


def make_objective(condition, teacher, data, logits, first=False):
    """Make the loss of a condition for :func:`sfusion.training.fine_tune`, of its first half if asked for."""
    term, device = condition.first if first else condition.term, default_device()
    data, logits = data.to(device), None if logits is None else logits.to(device)

    def objective(output, labels, indices):
        loss = 0
        if not first and condition.temperature is None:
            loss = functional.cross_entropy(output.logits.float(), labels)
        elif not first:
            soft = logits[indices]
            hard = condition.hard_weight
            loss = distillation_loss(
                output.logits.float(), soft, labels, condition.temperature, hard
            )
        if term:
            batch = data.take(indices)
            batch = (
                batch if labels.is_cuda else batch.trim()
            )  # as the student has read it
            with torch.no_grad():
                taught = teacher(
                    batch.input_ids, attention_mask=batch.attention_mask,
                    output_hidden_states=True, output_attentions=True,
                )  # fmt: skip
            loss = loss + term(output, taught, batch.attention_mask)
        return loss

    return objective


def later_texts(profile, task):
    """Encode, of every training text that is long enough, the tokens after the first ``max_length``.

    Returns
    -------
    Encoded
        Texts without labels, of at least half as many tokens.
    """
    length = profile.max_length
    options = {
        "padding": "max_length",
        "truncation": True,
        "max_length": length,
        "return_tensors": "pt",
    }
    windows = load_tokenizer(profile.model)(
        task.texts["train"], return_overflowing_tokens=True, **options
    )
    sample = windows["overflow_to_sample_mapping"]
    second = torch.zeros(len(sample), dtype=torch.bool)
    second[1:] = sample[1:] == sample[:-1]
    second[2:] &= sample[2:] != sample[:-2]
    keep = second & (windows["attention_mask"].sum(1) >= length // 2)
    ids, mask = windows["input_ids"][keep], windows["attention_mask"][keep]
    return Encoded(ids, mask, torch.full((len(ids),), NO_LABEL))


def start(tree, condition, logits):
    """Return the model from which a condition starts, a copy."""
    if condition.recovery == "labels":
        return remove_layers(tree.model(condition.removed), ())
    if condition.recovery is None:
        return remove_layers(tree.model(ORIGINAL), condition.removed.removed)
    model = tree.model(ORIGINAL)
    for count in range(
        1, len(condition.removed) + 1
    ):  # as the tree does it, but for who teaches
        path = PruningPath(condition.removed.steps[:count])
        left = path.parent.remaining(tree.depth)
        model = remove_layers(model, map(left.index, path.last))
        seed = derive_seed("order", tree.base["seed"], path.seed_parts)
        objective = make_objective(condition, None, tree.task.train, logits)
        options = {
            "seed": seed,
            "precision": tree.base["precision"],
            "objective": objective,
        }
        fine_tune(model, tree.task.train, tree.recipes["recovery"], **options)
    return model


def train(tree, condition, data, samples):
    """Train the model of a condition on as many samples."""
    precision, seed = (
        tree.base["precision"],
        derive_seed("distillation", tree.base["seed"]),
    )
    teacher = cast(tree.model(ORIGINAL), precision)
    logits = predict_logits(teacher, data) if condition.temperature else None
    model = start(tree, condition, logits)
    if condition.term or condition.first:
        for one in (model, teacher):
            one.set_attn_implementation(
                "eager"
            )  # the other kernels return no attention
        model.config.output_hidden_states = model.config.output_attentions = True
    parts = (
        [(True, samples // 2), (False, samples - samples // 2)]
        if condition.first
        else [(False, samples)]
    )
    for first, count in parts:
        objective = make_objective(condition, teacher, data, logits, first)
        recipe = Distillation(samples=count, learning_rate=condition.learning_rate)
        fine_tune(
            model, data, recipe, seed=seed, precision=precision, objective=objective
        )
    model.config.output_hidden_states = model.config.output_attentions = False
    return model


def row_of(tree, name, removed, samples, texts, digits, seconds):
    """Lay out a row; ``digits`` tell the rightly classified texts of validation and test."""
    scores = {
        f"{split}_accuracy": unpack(found, len(getattr(tree.task, split))).mean()
        for split, found in digits.items()
    }
    kept = PruningPath.of(*removed.remaining(tree.depth))
    row = {
        "task": tree.task.name,
        "seed": tree.base["seed"],
        "condition": name,
        "layers_left": len(kept),
    }
    row |= {"kept": kept.name, "samples": samples, "texts": texts, **scores}
    return {**row, "test_correct": digits["test"], "seconds": seconds}


def filing(tree, name, epochs, recoveries):
    """Return what the record of a condition is filed under, as arguments of ``tree.spec``."""
    condition = CONDITIONS[name]
    fields = {
        key: getattr(value, "__name__", value) for key, value in vars(condition).items()
    }
    samples = epochs * len(tree.task.train) + (0 if condition.recovery else recoveries)
    method = {**fields, "removed": condition.removed.name, "samples": samples}
    return (
        "published distillation",
        condition.removed if condition.recovery else ORIGINAL,
    ), {"method": method}


def prepare(experiment, epochs, store):
    """Train the original and the pruned models, whose weights are then cached, and return their rows."""
    tree, rows, each = (
        open_tree(experiment, store),
        [],
        experiment.profile.recovery.samples,
    )
    filed = (
        filing(tree, name, epochs, len(condition.removed) * each)
        for name, condition in CONDITIONS.items()
    )
    needed = any(
        store.get(tree.spec(*place, **details)) is None for place, details in filed
    )
    with fixed_threads(experiment.profile.threads):
        for count in range(len(DEEP) + 1):
            path = PruningPath(DEEP.steps[:count])
            trained = tree.record(
                "training", path, lambda path=path: tree.model(path) and None
            )
            if needed:
                tree.model(path)  # the cache may have lost what is recorded
            digits = {
                split: tree.outcome(path, split, None)[1]
                for split in ("validation", "test")
            }
            if name := {ORIGINAL: "original", HALF: "pruned", DEEP: "deep"}.get(path):
                seen = count * each, len(tree.task.train)
                rows.append(row_of(tree, name, path, *seen, digits, trained["seconds"]))
    tree.release()
    return rows


def measure(experiment, name, epochs, store):
    """Return the row of a condition, computed unless it is filed.

    ``samples`` counts all that was seen since the original was trained, recoveries
    among it.
    """
    tree, condition, profile = (
        open_tree(experiment, store),
        CONDITIONS[name],
        experiment.profile,
    )
    recoveries = len(condition.removed) * profile.recovery.samples
    place, details = filing(tree, name, epochs, recoveries)
    samples, data = details["method"]["samples"], tree.task.train

    def compute():
        texts = data + later_texts(profile, tree.task) if condition.later else data
        model, found = train(tree, condition, texts, samples), {"texts": len(texts)}
        for split in ("validation", "test"):
            right = classified(model, getattr(tree.task, split), tree.base["precision"])
            found[split] = np.packbits(right).tobytes().hex()
        return found

    with fixed_threads(profile.threads):
        record = tree.record(*place, compute, **details)
    tree.release()
    digits = dict(record["value"])
    seen = samples + (recoveries if condition.recovery else 0), digits.pop("texts")
    return [row_of(tree, name, condition.removed, *seen, digits, record["seconds"])]


def write(file, rows):
    """Add rows to a table, in place of earlier ones of the same run."""
    found = (
        [pd.read_csv(file, dtype={"test_correct": str, "kept": str})]
        if file.is_file()
        else []
    )
    frame = pd.concat([*found, pd.DataFrame(rows)], ignore_index=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.drop_duplicates(KEYS, keep="last").to_csv(
        file, index=False, float_format="%.6g"
    )


def main():
    """Run all conditions, as far as their records are not there yet, and write rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="nine")
    parser.add_argument("--tasks", nargs="+", help="by default the profile's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--epochs",
        type=int,
        default=EPOCHS,
        help="over the training samples (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "results" / "distillation.csv"
    )
    options = parser.parse_args()
    profile, store = (
        load_profile(options.profile),
        RecordStore(BUILD / "distillation" / "store"),
    )
    tasks = options.tasks or profile.tasks
    experiments = [
        Experiment(profile, task, seed) for seed in options.seeds for task in tasks
    ]
    # Models first: workers that begin a task side by side would each train its
    # original.
    waves = {
        "models": (
            prepare,
            [(experiment, options.epochs, store) for experiment in experiments],
        ),
        "conditions": (
            measure,
            [
                (e, name, options.epochs, store)
                for e in experiments
                for name in CONDITIONS
            ],
        ),
    }
    with pool(profile.threads) as run:
        for title, (function, calls) in waves.items():
            with progress(len(calls), title) as bar:
                for rows in run(function, calls):
                    write(options.out, rows)
                    bar.update()


if __name__ == "__main__":
    main()
