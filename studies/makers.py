"""How each alternative to removing layers is made, of the tree of one experiment.

A maker returns plain values: ``path`` and ``distilled`` of the model, ``megabytes``
where it is no transformer, and for validation and test a bit per text that is
classified rightly, as hexadecimal digits.
"""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers import AutoModel

from sfusion.compression.depth import choose_depth
from sfusion.compression.quantisation import write_onnx
from sfusion.compression.request import Target
from sfusion.data.pretrained import locate_model
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.baselines import pooled
from sfusion.experiments.results import BUILD
from sfusion.models.layers import copy_model, remove_layers
from sfusion.pruning.node import pack
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.searches import follow
from sfusion.pruning.tree import PruningTree
from sfusion.training.distillation import distill
from sfusion.training.evaluation import classified
from sfusion.training.loop import fine_tune
from sfusion.training.recipes import Distillation
from sfusion.training.seeds import derive_seed

if TYPE_CHECKING:
    from model2vec import StaticModel
    from sklearn.base import RegressorMixin
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded
    from sfusion.training.recipes import Recipe

Made = dict[str, Any]

SPLITS = ("validation", "test")


def _model_made(tree: PruningTree, path: PruningPath, model: PreTrainedModel) -> Made:
    """Judge a model that is no node of the tree."""
    made: Made = {"path": path.name, "distilled": path != ORIGINAL}
    for split in SPLITS:
        right = classified(model, getattr(tree.task, split), tree.base["precision"])
        made[split] = pack(right)
    return made


def _node_made(tree: PruningTree, path: PruningPath, condition: str | None) -> Made:
    made: Made = {"path": path.name, "distilled": condition is not None}
    for split in SPLITS:
        made[split] = tree.outcome(path, split, condition).digits
    return made


def original(tree: PruningTree) -> Made:
    """Judge the original, fine-tuned as ``compress`` does it.

    Parameters
    ----------
    tree : PruningTree

    Returns
    -------
    dict
    """
    return _node_made(tree, ORIGINAL, None)


def compressed(
    tree: PruningTree, strategy: str, layers: int, fusion: RegressorMixin | None
) -> Made:
    """Compress as :func:`sfusion.compression.compress.compress` does.

    Parameters
    ----------
    tree : PruningTree
    strategy : str
    layers : int
        To keep.
    fusion : sklearn regressor, optional

    Returns
    -------
    dict
    """
    paths = follow(tree, strategy, layers, fusion, every=False)
    chosen = choose_depth(tree, paths, Target(keep=layers), distill=True).chosen
    return _node_made(tree, chosen.path, chosen.condition)


def with_more_samples(recipe: Recipe, samples: int) -> Recipe:
    """Lengthen a recipe.

    Parameters
    ----------
    recipe : Recipe
    samples : int

    Returns
    -------
    Recipe
    """
    return recipe.model_copy(update={"samples": recipe.samples + samples})


def taught(
    tree: PruningTree,
    start: PreTrainedModel,
    recipe: Recipe,
    more: Encoded | None = None,
) -> PreTrainedModel:
    """Let the original teach a model.

    Parameters
    ----------
    tree : PruningTree
    start : PreTrainedModel
    recipe : Distillation
    more : Encoded, optional
        Texts beside the training samples, without labels.

    Returns
    -------
    PreTrainedModel
    """
    data = tree.task.train
    teacher = tree.teacher
    if more is not None:
        data = data + more
        teacher = tree.model(ORIGINAL)
    seed = derive_seed("distillation", tree.base["seed"])
    assert isinstance(recipe, Distillation)
    precision = tree.base["precision"]
    return distill(start, teacher, data, recipe, seed=seed, precision=precision)


def student(tree: PruningTree, layers: int) -> Made:
    """Distil a student of matched size whose layers are spread evenly.

    Parameters
    ----------
    tree : PruningTree
    layers : int
        The recoveries that a pruned model of so many has had come on top, as samples.

    Returns
    -------
    dict
    """
    kept = {round((place + 1) * tree.depth / layers) - 1 for place in range(layers)}
    gone = [layer for layer in range(tree.depth) if layer not in kept]
    recoveries = len(gone) * tree.recipes["recovery"].samples
    recipe = with_more_samples(tree.recipes["distillation"], recoveries)
    model = taught(tree, remove_layers(tree.model(ORIGINAL), gone), recipe)
    return _model_made(tree, PruningPath.at_once(gone), model)


def trained_longer(tree: PruningTree) -> Made:
    """Fine-tune the original for as many samples as half of its layers have seen.

    Parameters
    ----------
    tree : PruningTree

    Returns
    -------
    dict
    """
    removals = tree.depth - tree.depth // 2
    recoveries = removals * tree.recipes["recovery"].samples
    extra = recoveries + tree.recipes["distillation"].samples
    model = remove_layers(tree.source(), ()).to(tree.base["device"])
    fine_tune(
        model,
        tree.task.train,
        with_more_samples(tree.recipes["original"], extra),
        seed=derive_seed("order", tree.base["seed"], ORIGINAL.seed_parts),
        precision=tree.base["precision"],
    )
    return _model_made(tree, ORIGINAL, model)


def exported(tree: PruningTree, made: Made) -> dict[str, Made]:
    """Export a model of the tree to ONNX, in 32 and in 8 bits, and judge its files.

    Parameters
    ----------
    tree : PruningTree
    made : dict
        Of the model, from :func:`original` or :func:`compressed`.

    Returns
    -------
    dict of str to dict
        By format, with ``megabytes`` of the file.
    """
    path = PruningPath.parse(made["path"])
    condition = "distilled" if made["distilled"] else None
    model = copy_model(tree.model(path, condition), torch.float32).cpu()
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        exported = write_onnx(Path(folder), model, tree.task, limit=math.inf)
        for form, written in exported.items():
            assert written.run is not None  # no size is too large for it
            file: Made = {**made, "megabytes": written.entry["bytes"] / 1e6}
            for split in SPLITS:
                data = getattr(tree.task, split)
                # Alone, without padding: activations in 8 bits depend on it.
                predicted = written.run.logits(data, batch=1).argmax(-1)
                file[split] = pack(predicted == data.labels.numpy())
            files[form] = file
    return files


def frozen_encoder(tree: PruningTree) -> Made:
    """Fit logistic regression on the frozen encoder's mean states.

    Parameters
    ----------
    tree : PruningTree

    Returns
    -------
    dict
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    train = tree.task.train
    classifier.fit(pooled(tree.source(), train), train.labels.numpy())
    made: Made = {"path": "", "distilled": False}
    for split in SPLITS:
        data = getattr(tree.task, split)
        predicted = classifier.predict(pooled(tree.source(), data))
        made[split] = pack(predicted == data.labels.numpy())
    return made


def static_embeddings(name: str) -> StaticModel:
    """Make static embeddings of a pretrained encoder (model2vec), once a machine.

    Parameters
    ----------
    name : str
        Of the model: a forward pass per word of its vocabulary.

    Returns
    -------
    model2vec.StaticModel
    """
    from model2vec import StaticModel
    from model2vec.distill import distill_from_model

    folder = BUILD / "alternatives" / f"static-{name}"
    if not folder.is_dir():
        encoder = AutoModel.from_pretrained(locate_model(name))
        made = distill_from_model(encoder, load_tokenizer(name), device="cpu")
        made.save_pretrained(folder)
    return StaticModel.from_pretrained(folder)


def text_pipelines(name: str) -> dict[str, Callable[[], Pipeline]]:
    """List the classifiers that read texts and no tokens of a transformer.

    Parameters
    ----------
    name : str
        Of the model whose static embeddings are used.

    Returns
    -------
    dict of str to callable
        Each makes a pipeline that is not fitted yet.
    """

    def of_words() -> Pipeline:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return make_pipeline(words, LogisticRegression(max_iter=1000))

    def of_embeddings() -> Pipeline:
        encode = FunctionTransformer(static_embeddings(name).encode)
        return make_pipeline(
            encode, StandardScaler(), LogisticRegression(max_iter=1000)
        )

    return {"TF-IDF": of_words, "static embeddings": of_embeddings}


def of_texts(tree: PruningTree, name: str, kind: str) -> Made:
    """Fit a pipeline on what the transformer reads of the texts, and judge it.

    Parameters
    ----------
    tree : PruningTree
    name : str
        Of the model, whose tokenizer cuts the texts.
    kind : str
        Of :func:`text_pipelines`.

    Returns
    -------
    dict
    """
    tokenizer = load_tokenizer(name)
    read = partial(tokenizer.batch_decode, skip_special_tokens=True)
    train = tree.task.train
    pipeline = text_pipelines(name)[kind]()
    pipeline.fit(read(train.input_ids), train.labels.numpy())
    size = len(pickle.dumps(pipeline)) / 1e6
    made: Made = {"path": "", "distilled": False, "megabytes": size}
    for split in SPLITS:
        data = getattr(tree.task, split)
        predicted = pipeline.predict(read(data.input_ids))
        made[split] = pack(predicted == data.labels.numpy())
    return made
