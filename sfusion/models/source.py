"""A model opened once: what its files say, and the classifiers that come of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from sfusion.data.labels import shown
from sfusion.data.pretrained import fingerprint, locate_model
from sfusion.data.tokenizers import load_tokenizer
from sfusion.errors import SfusionError, one_line
from sfusion.models.architectures import architecture_of, layer_stack
from sfusion.models.weights import (
    body_prefixes,
    of_body,
    refuse_adapter,
    refuse_integers,
    refuse_not_finite,
)

# The new classification head is announced as "missing weights" at every load: that is
# intended.
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()

# Types that weights may be stored in.
STORED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# Eager, because the default attention kernels return no attention weights.
_BUILT = {
    "dtype": torch.float32,
    "attn_implementation": "eager",
    "trust_remote_code": False,
}


class _Loaded(NamedTuple):
    """A model, the weights that its files lack, and those that it has no place for.

    Of another size: in the files and in the model.
    """

    model: PreTrainedModel
    missing: list[str]
    unused: tuple[str, ...]
    other_size: list[str]


@dataclass(frozen=True, eq=False)
class SavedClassifier:
    """A classifier as its files hold it.

    Attributes
    ----------
    model : transformers.PreTrainedModel
        In float32, in evaluation mode, with eager attention.
    has_head : bool
        Whether the files hold a head. Without one the model's is drawn, as is a pooler
        that they lack, the same every time.
    unused : tuple of str
        Weights in the files that the model has no place for.
    missing : tuple of str
        Weights of the head that the files lack.
    """

    model: PreTrainedModel
    has_head: bool
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def with_new_head(
        self,
        label_names: Sequence[str],
        seed: int = 0,
    ) -> PreTrainedModel:
        """Copy the model with a classification head drawn anew.

        Parameters
        ----------
        label_names : sequence of str
            Names of the new head's classes.
        seed : int
            Draws the head.

        Returns
        -------
        transformers.PreTrainedModel
            In evaluation mode.
        """
        config = copy.deepcopy(self.model.config)
        config.update({**numbered(label_names), "problem_type": None})
        failed = "a new head cannot be put on the model"
        with one_line(failed), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = AutoModelForSequenceClassification.from_config(config, **_BUILT)
            fresh.base_model.load_state_dict(self.model.base_model.state_dict())
        return fresh.eval()


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A pretrained or fine-tuned model on disk, opened once.

    Each part is read when it is first asked for.

    Attributes
    ----------
    name : str
        As it was asked for.
    directory : Path
        Where its files are.
    end : {"head", "tail"}, optional
        Which end of a text that is too long is read; by default as the tokenizer says.
    """

    name: str
    directory: Path
    end: str | None = None

    @classmethod
    def open(cls, name_or_dir: str | Path, end: str | None = None) -> ModelSource:
        """Find a model.

        Parameters
        ----------
        name_or_dir : str or Path
            As in :func:`sfusion.data.pretrained.locate_model`.
        end : {"head", "tail"}, optional
            See the attribute.

        Returns
        -------
        ModelSource

        Raises
        ------
        SfusionError
            When nothing by that name can be had, or it is an adapter alone.
        """
        name = str(name_or_dir)
        with one_line(f"model {shown(name)} cannot be opened"):
            directory = locate_model(name_or_dir)
            refuse_adapter(directory, name)
        return cls(name, directory, end)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides the model's results."""
        with one_line(self._unreadable):
            return fingerprint(self.directory)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The configuration as it was saved; not to be changed."""
        with one_line(self._unreadable):
            config = AutoConfig.from_pretrained(
                self.directory,
                trust_remote_code=False,
            )
        for setting in ("quantization_config", "compression_config"):
            if getattr(config, setting, None) is not None:
                raise SfusionError(
                    f"model {self.name!r} has {setting}, it is quantised: give its "
                    "weights in floating point"
                )
        stored = config.dtype
        if stored is not None and stored not in STORED:
            raise SfusionError(
                f"model {self.name!r} is stored as {stored} (dtype in config.json): "
                "give its weights as float32, float16 or bfloat16"
            )
        return config

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.directory, self.end)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A copy of the tokenizer: its use leaves settings that would be saved."""
        return copy.deepcopy(self._tokenizer)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the model's classes, in the order of their numbers."""
        names = self.config.id2label
        if set(names) != set(range(len(names))):
            raise SfusionError(
                f"model {self.name!r} numbers its classes {', '.join(map(str, names))} "
                "(id2label in config.json): number them from 0"
            )
        labels = tuple(str(names[number]) for number in range(len(names)))
        for label in labels:
            if labels.count(label) > 1:
                raise SfusionError(
                    f"model {self.name!r} has several classes {label!r} (id2label in "
                    "config.json): name each once"
                )
        return labels

    @property
    def _unreadable(self) -> str:
        return f"model {self.name!r} cannot be loaded"

    def classifier(
        self,
        num_labels: int | None = None,
        label_names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> PreTrainedModel:
        """Load a classifier; see :func:`load_model`."""
        config = copy.deepcopy(self.config)
        if label_names is not None:
            if num_labels not in (None, len(label_names)):
                raise SfusionError(
                    f"num_labels {num_labels} and {len(label_names)} label_names: "
                    "name every class, or give one of the two"
                )
            config.update(numbered(label_names))
        elif num_labels is not None:
            config.num_labels = num_labels
        return self._load(config, seed).model

    def as_saved(self, new_head: bool = False) -> SavedClassifier:
        """Load the classifier that the files hold.

        Parameters
        ----------
        new_head : bool
            Whether the head in the files is left aside, whatever it is.

        Returns
        -------
        SavedClassifier

        Raises
        ------
        SfusionError
            When the model cannot be loaded, its files lack some of the weights below
            the head, hold some that are quantised or not finite, its architecture is
            not known, or it is not a single-label classifier.
        """
        architecture = architecture_of(self.config)
        if not new_head:
            self._check_problem()
        loaded = self._load(self.config, any_head=new_head)
        model = loaded.model
        body = body_prefixes(model, architecture.layers)
        lost = of_body([*loaded.missing, *loaded.other_size], body)
        if lost:
            raise SfusionError(f"model {self.name!r} lacks weights, {lost[0]} for one")
        with one_line(self._unreadable):
            if len(layer_stack(model)) == 0:
                raise SfusionError(f"model {self.name!r} has no layers")
            refuse_integers(self.directory, model, self.name)
            refuse_not_finite(model, self.name)
        has_head = not loaded.missing and not new_head
        return SavedClassifier(model, has_head, loaded.unused, tuple(loaded.missing))

    def _check_problem(self) -> None:
        kind = self.config.problem_type
        if kind == "multi_label_classification":
            raise SfusionError(
                f"model {self.name!r} gives a text several labels "
                "(multi_label_classification), which is not built: give a classifier "
                "with one label per text, or train a new head (--new-head)"
            )
        if kind == "regression":
            raise SfusionError(
                f"model {self.name!r} is made for {kind}: give a classifier with one "
                "label per text, or train a new head (--new-head)"
            )

    def _load(
        self, config: PreTrainedConfig, seed: int = 0, any_head: bool = False
    ) -> _Loaded:
        """Load a classifier, what its files lack drawn by the seed."""
        with one_line(self._unreadable), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                self.directory,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=any_head,
                **_BUILT,
            )
            return _Loaded(
                model.eval(),
                missing=sorted(info["missing_keys"]),
                unused=tuple(sorted(info["unexpected_keys"])),
                other_size=sorted(key for key, *_ in info["mismatched_keys"]),
            )


def load_model(
    name_or_dir: str | Path,
    num_labels: int | None = None,
    label_names: Sequence[str] | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """Load a sequence classifier in float32, in evaluation mode, with eager attention.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`sfusion.data.pretrained.locate_model`.
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
        When the model cannot be found, its weights are not safetensors, or
        ``num_labels`` is not the number of ``label_names``.
    """
    return ModelSource.open(name_or_dir).classifier(num_labels, label_names, seed)


def numbered(names: Sequence[str]) -> dict[str, dict]:
    """Write down classes in the order of their numbers as a configuration does.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    dict
        ``id2label`` and ``label2id``.
    """
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
