"""Recipes: how a model is trained."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

Share = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """Frozen settings that refuse unknown names and values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Recipe(StrictModel):
    """How a model is trained. Every value is declared here: the paper's are not known.

    Attributes
    ----------
    samples : int
        Samples seen, over as many epochs as that takes.
    learning_rate : float
        Peak of a linear schedule with warm-up.
    batch_size : int
        Sequences per step.
    warmup : float
        Share of the steps over which the rate rises.
    weight_decay : float
        AdamW's decoupled decay.
    head_rate : float
        Times the rate of what stands above the layers: a head, and a pooler, that start
        untrained.
    dropout : bool
        Whether the model's dropout is on.
    freeze_embeddings : bool
        Whether the embeddings stay as they were pretrained.
    """

    samples: PositiveInt
    learning_rate: PositiveFloat = 3e-4
    batch_size: PositiveInt = 32
    warmup: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    head_rate: PositiveFloat = 1.0
    dropout: bool = False
    freeze_embeddings: bool = True


class Distillation(Recipe):
    """How the original teaches the pruned model (Hinton et al. 2015, arXiv:1503.02531).

    Attributes
    ----------
    temperature : float
        Softens teacher and student alike.
    hard_weight : float
        Weight of the cross-entropy with the labels; the rest is the teacher's.
    removals : tuple of int
        Numbers of removed layers at which the random-forest path is distilled.
    """

    temperature: PositiveFloat = 2.0
    hard_weight: Share = 0.5
    removals: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()
