"""Models: opened, with their own head or a new one."""

import copy

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as hf_logging

from sfusion.data.pretrained import locate_model
from sfusion.errors import SfusionError, first_line
from sfusion.models.architectures import architecture_of

# The new classification head is announced as "missing weights" at every load: that is
# intended.
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()


def load_model(name_or_dir, num_labels=None, label_names=None, seed=0):
    """Load a sequence classifier in float32, in evaluation mode, with eager attention.

    Eager, because the default attention kernels return no attention weights.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.
    num_labels : int, optional
        Size of the classification head; by default that of ``label_names``, or the
        model's own.
    label_names : sequence of str, optional
        Names to write into the configuration.
    seed : int
        Draws the head where the model has none of this size.

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    SfusionError
        When the model cannot be found or its weights are not safetensors.
    """
    kwargs = {} if label_names is None else numbered(label_names)
    if num_labels is not None:
        kwargs["num_labels"] = num_labels
    return _load(name_or_dir, seed, **kwargs)[0].eval()


def numbered(names):
    """Write down classes in the order of their numbers as a configuration does."""
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _load(name_or_dir, seed=0, **kwargs):
    """Load a classifier, what its files lack drawn by the seed; and return what that was."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForSequenceClassification.from_pretrained(
                locate_model(name_or_dir), dtype=torch.float32, attn_implementation="eager", use_safetensors=True,
                trust_remote_code=False, output_loading_info=True, **kwargs,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise SfusionError(
            f"model {str(name_or_dir)!r} cannot be loaded: {first_line(error)}"
        ) from error


def load_classifier(name_or_dir):
    """Load a model and check whether it has been fine-tuned as a classifier.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.

    Returns
    -------
    tuple of (transformers.PreTrainedModel, bool)
        The model as :func:`load_model` gives it, and whether its files hold a head.
        Without one the model's is drawn, as is a pooler that they lack, the same every
        time: see :func:`with_new_head`.

    Raises
    ------
    SfusionError
        When the model cannot be loaded, its files lack some of the layers or
        embeddings, its architecture is not known, or it is not a single-label
        classifier.
    """
    model, info = _load(name_or_dir)
    architecture = architecture_of(model.config)
    body = tuple(f"{path}." for path in (architecture.layers, *architecture.embeddings))
    missing = sorted(info["missing_keys"])
    if lost := [name for name in missing if name.startswith(body)]:
        raise SfusionError(
            f"model {str(name_or_dir)!r} lacks weights, {lost[0]} for one"
        )
    if not missing and model.config.problem_type in (
        "regression",
        "multi_label_classification",
    ):
        made_for = f"model {str(name_or_dir)!r} is made for {model.config.problem_type}"
        raise SfusionError(f"{made_for}: give a classifier with one label per text")
    return model.eval(), not missing


def with_new_head(model, label_names, seed=0):
    """Copy a model with a classification head drawn anew.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Left as it is.
    label_names : sequence of str
        Names of the new head's classes.
    seed : int
        Draws the head.

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode.
    """
    config = copy.deepcopy(model.config)
    config.update({**numbered(label_names), "problem_type": None})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = AutoModelForSequenceClassification.from_config(
            config,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
        )
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh.eval()
