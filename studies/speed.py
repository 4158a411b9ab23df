"""How long each alternative takes from text to class number, all timed in turns."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joblib import cpu_count

from sfusion.compression.quantisation import write_onnx
from sfusion.data.tasks import Task, load_task
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.machine import machine
from sfusion.experiments.study import Row
from sfusion.models.layers import remove_layers
from sfusion.models.source import load_model
from sfusion.training.precision import fixed_threads
from studies.makers import text_pipelines

if TYPE_CHECKING:
    from sfusion.experiments.profiles import Profile

BATCHES = (1, 32)
ROUNDS = 25
WARM_UP = 3

Timed = Callable[[list[str]], Any]


def classifiers(name: str, task: Task, depths: Iterable[int]) -> dict[tuple, Timed]:
    """Make the classifiers that are timed, of random heads: none needs training.

    Parameters
    ----------
    name : str
        Of the model.
    task : Task
    depths : iterable of int
        Layers that are left, beside the original.

    Returns
    -------
    dict of (str, int, str) to callable
        By alternative, layers and format: from texts to class numbers.
    """
    source = load_model(name, label_names=task.label_names)
    if source._supports_sdpa:
        source.set_attn_implementation("sdpa")  # as plain transformers loads it
    tokenizer = load_tokenizer(name)
    length = task.train.input_ids.shape[1]

    def classify(run: Callable[..., Any], texts: list[str]) -> Any:
        tokens = tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        logits = run(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return getattr(logits, "logits", logits).argmax(-1)

    depth = source.config.num_hidden_layers
    made: dict[tuple[str, int, str], Callable[[list[str]], Any]] = {}
    for layers in (depth, *depths):
        model = remove_layers(source, range(layers, depth)).eval()
        made["transformer", layers, "torch"] = partial(classify, model)
        if layers in (depth, depth // 2):
            with tempfile.TemporaryDirectory() as folder:
                files = write_onnx(Path(folder), model, task, limit=math.inf)
                for form, file in files.items():
                    assert file.run is not None  # no size is too large for it
                    made["transformer", layers, form] = partial(classify, file.run)
    for kind, make in text_pipelines(name).items():
        pipeline = make().fit(task.texts["train"], task.train.labels.numpy())
        made[kind, 0, "sklearn"] = pipeline.predict
    return made


def time_models(
    profile: Profile, models: dict[str, tuple[int, ...]], task_name: str
) -> list[Row]:
    """Time every alternative in turns, on all cores.

    Parameters
    ----------
    profile : Profile
        Its sizes and tokens.
    models : dict of str to tuple of int
        Depths by model.
    task_name : str

    Returns
    -------
    list of dict
        A row per alternative and batch: quartiles in milliseconds.
    """
    most = max(BATCHES)
    calls = {}
    for name, depths in models.items():
        task = load_task(
            task_name,
            sizes=(profile.sizes.train, most, most),
            max_length=profile.max_length,
            tokenizer=name,
            source=profile.source,
        )
        for key, call in classifiers(name, task, depths).items():
            calls[name, *key] = call
    processor = machine(profile)["processor"]
    vectors = [n for n in processor["instructions"] if n.startswith(("avx", "amx"))]
    rows = []
    with fixed_threads(cpu_count()), torch.inference_mode():
        for count in BATCHES:
            texts = task.texts["test"][:count]
            for key, times in _in_turns(calls, texts).items():
                low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
                model, alternative, layers, form = key
                rows.append(
                    {
                        "model": model,
                        "alternative": alternative,
                        "layers": layers,
                        "format": form,
                        "batch": count,
                        "low": low,
                        "median": median,
                        "high": high,
                        "threads": torch.get_num_threads(),
                        "processor": processor["name"],
                        "instructions": " ".join(vectors),
                    }
                )
    return rows


def _in_turns(calls: dict[tuple, Timed], texts: list[str]) -> dict[tuple, list[float]]:
    """Time all calls once in every round, in milliseconds."""
    times: dict[tuple, list[float]] = {key: [] for key in calls}
    for turn in range(WARM_UP + ROUNDS):
        for key, call in calls.items():
            seconds = timeit(partial(call, texts), number=1)
            if turn >= WARM_UP:
                times[key].append(1000 * seconds)
    return times
