"""The pass that gives all signals: the probe set, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch.nn import functional

from sfusion.data.tasks import Task
from sfusion.errors import SfusionError
from sfusion.models.architectures import architecture_of, layer_stack
from sfusion.models.layers import copy_model
from sfusion.signals.gradients import (
    add_gradients,
    add_squared_gradients,
    has_rule,
    modules_with_parameters,
    watch_gradients,
)
from sfusion.signals.layer_pass import LayerPass, ProbeBatch
from sfusion.signals.registry import REDUNDANCY, SIGNALS, Signal

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded

# Larger products waste less, until they outgrow the cache; so many tokens of a model of
# 6 layers of 384 hidden units, of a larger one fewer: its activations would take more
# memory than its training.
TOKENS_PER_PASS = 4096
UNITS = 6 * 384


def extract_signals(
    model: PreTrainedModel,
    data: Encoded | Task,
    *,
    batch_size: int | None = None,
    precision: str = "fp32",
    measures: dict[str, Signal] | None = None,
) -> pd.DataFrame:
    """Compute the twelve signals of every layer in one pass over a probe set.

    Parameters
    ----------
    model : PreTrainedModel
        A classifier; a copy of it does the work, so it is left as it is.
    data : Encoded or Task
        The probe set, N samples of T tokens; of a task, its training split.
    batch_size : int, optional
        Samples per forward and backward pass, by default as many as make
        ``TOKENS_PER_PASS``, fewer of a large model; changes the results by rounding
        only.
    precision : {"fp32", "bf16"}
        ``"fp32"`` keeps the model's own type; ``"bf16"`` runs the passes in bfloat16.
        The statistics are in float32 at least. The weight signals always read the
        model's own weights.
    measures : dict of str to Signal, optional
        What to compute; by default ``SIGNALS``.

    Returns
    -------
    DataFrame
        A row per layer (index ``layer``, from the embeddings up), a column per signal,
        in the order of ``measures`` and in the units given there.

    Raises
    ------
    SfusionError
        For an empty probe set, one with a single class, or an unknown precision.
    """
    if isinstance(data, Task):
        data = data.train
    measures = SIGNALS if measures is None else measures
    if batch_size is None:
        batch_size = _samples_per_pass(model, data)
    _check(data, batch_size, precision)
    probing = _Probing(model, data, batch_size, precision)
    if "removal-loss" in measures:  # before the layers are watched
        probing.bridge_each_layer()
    probing.run(compares_inputs=not REDUNDANCY.keys().isdisjoint(measures))
    rows = []
    for layer in probing.layers:
        rows.append({slug: signal.compute(layer) for slug, signal in measures.items()})
    return pd.DataFrame(rows).rename_axis("layer")


class _Probing:
    """The copy of a model that is probed, and what is collected for its layers."""

    def __init__(
        self, model: PreTrainedModel, data: Encoded, batch_size: int, precision: str
    ) -> None:
        own = next(model.parameters()).dtype
        runs_in = torch.bfloat16 if precision == "bf16" else own
        # bfloat16 passes are summed in float32, whatever the model's type.
        kept_in = torch.float32 if precision == "bf16" else own
        self.dtype = torch.promote_types(kept_in, torch.float32)
        self.data = data
        self.batch_size = batch_size
        self.working = copy_model(model, runs_in, share=True)
        self.working.eval().requires_grad_(False)
        self.working.set_attn_implementation("eager")
        self.stack = layer_stack(self.working).requires_grad_(True)
        self.architecture = architecture_of(model.config)
        self.layers = [
            LayerPass(
                samples=len(data),
                tokens=int(data.attention_mask.sum()),
                labels=data.labels.numpy(),
                parameters=[p.detach().to(self.dtype) for p in module.parameters()],
            )
            for module in layer_stack(model)
        ]

    def bridge_each_layer(self) -> None:
        """Measure the loss without each layer, in a pass for each."""
        for module, layer in zip(self.stack, self.layers, strict=True):
            handle = module.register_forward_hook(_bridge)
            layer.loss_without = self._mean_loss()
            handle.remove()

    def run(self, compares_inputs: bool) -> None:
        """Pass over the probe set, forward and backward, and fill the layers."""
        modules = modules_with_parameters(self.stack)
        has_rules = not self.architecture.shared and all(map(has_rule, modules))
        batch = ProbeBatch(self.architecture.reads)
        for module, layer in zip(self.stack, self.layers, strict=True):
            _watch_layer(module, layer, batch, compares_inputs)
            if has_rules:
                for part in modules_with_parameters(module):
                    watch_gradients(part, layer)
        # Without rules, a sample's gradient is that of a batch of one.
        batch_size = self.batch_size if has_rules else 1
        predictions = []
        for indices in torch.arange(len(self.data)).split(batch_size):
            logits, attentions = self._pass(indices, batch)
            predictions.append(logits.argmax(-1).cpu())
            collected = zip(self.stack, self.layers, attentions, strict=True)
            for module, layer, attention in collected:
                layer.add_attention(attention.detach().to(self.dtype), batch.mask)
                if not has_rules:
                    add_squared_gradients(module, layer)
                add_gradients(module, layer)
        for layer in self.layers:
            layer.predictions = torch.cat(predictions).numpy()

    def _pass(
        self, indices: Tensor, batch: ProbeBatch
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run one batch forward and backward; return its logits and its attention."""
        texts = self.data.take(indices).to(self.working.device)
        batch.enter(texts.attention_mask.to(self.dtype))
        with torch.enable_grad():
            output = self.working(
                texts.input_ids,
                attention_mask=texts.attention_mask,
                output_attentions=True,
            )
            self._loss(output.logits, texts.labels).backward()
        return output.logits.detach().to(self.dtype), output.attentions

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits.to(self.dtype), labels, reduction="sum")

    @torch.no_grad()
    def _mean_loss(self) -> float:
        total = 0.0
        for indices in torch.arange(len(self.data)).split(self.batch_size):
            texts = self.data.take(indices).trim().to(self.working.device)
            output = self.working(texts.input_ids, attention_mask=texts.attention_mask)
            total += float(self._loss(output.logits, texts.labels))
        return total / len(self.data)


def _bridge(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
    """Let a layer return its input: a forward hook."""
    if isinstance(output, tuple):
        return (inputs[0], *output[1:])
    return inputs[0]


def _watch_layer(
    module: nn.Module, layer: LayerPass, batch: ProbeBatch, compares_inputs: bool
) -> None:
    """Let a layer's forward pass add what it returns to what is collected."""

    def forward_hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        hidden = hidden.detach().to(layer.dtype)
        if compares_inputs:
            layer.add_change(inputs[0].detach().to(layer.dtype), hidden, batch)
        layer.add_output(hidden, batch.mask)

    module.register_forward_hook(forward_hook)


def _samples_per_pass(model: PreTrainedModel, data: Encoded) -> int:
    units = model.config.hidden_size * len(layer_stack(model))
    tokens = TOKENS_PER_PASS * UNITS // max(UNITS, units)
    return max(1, tokens // data.input_ids.shape[1])


def _check(data: Encoded, batch_size: int, precision: str) -> None:
    """Refuse what cannot be probed."""
    if len(data) == 0:
        raise SfusionError("the probe set is empty: give at least two samples")
    if len(data.labels.unique()) < 2:
        raise SfusionError(
            f"the probe set has the single class {int(data.labels[0])}: "
            "give two classes or more"
        )
    if batch_size < 1:
        raise SfusionError(f"batch size {batch_size}: give 1 or more")
    if precision not in ("fp32", "bf16"):
        raise SfusionError(f"precision {precision!r} is not known: use fp32 or bf16")
