"""One training loop for fine-tuning, recovery after a removal and distillation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from transformers import get_linear_schedule_with_warmup

from sfusion.errors import SfusionError
from sfusion.models.architectures import embedding_parameters, head_parameters
from sfusion.training.precision import cast

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import ModelOutput

    from sfusion.data.encoding import Encoded
    from sfusion.training.recipes import Recipe

Objective = Callable[["ModelOutput", "Tensor", "Tensor"], "Tensor"]

CLIP_NORM = 1.0

# Steps that a GPU runs as they are before it records one: they allocate what stays.
FIRST_STEPS = 3


def fine_tune(
    model: PreTrainedModel,
    data: Encoded,
    recipe: Recipe,
    *,
    seed: int,
    precision: str = "fp32",
    objective: Objective | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> float:
    """Train a classifier in place.

    Parameters
    ----------
    model : PreTrainedModel
        float32; trained in place, and left in evaluation mode.
    data : Encoded
        Training samples.
    recipe : Recipe
    seed : int
        Fixes the order of samples and the dropout.
    precision : {"fp32", "bf16"}
    objective : callable, optional
        ``(output, labels, indices) -> Tensor``: the loss of a batch from the model's
        output, the batch's labels and the numbers of its samples; by default the
        labels' cross-entropy.
    on_batch : callable, optional
        Called with the number of samples after every step.

    Returns
    -------
    float
        Mean loss over the samples seen.

    Raises
    ------
    SfusionError
        When the training diverged.
    """
    weights = MasterWeights(model, recipe, precision)
    device = weights.working.device
    order = _sample_order(len(data), recipe.samples, seed).to(device)
    optimiser = _optimiser(model, weights.masters, recipe)
    schedule = _schedule(optimiser, recipe)
    step = TrainingStep(weights, optimiser, data.to(device), objective or _label_loss)
    on_gpu = device.type == "cuda"
    take_step = ReplayedStep(step, recipe.batch_size, device) if on_gpu else step
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.manual_seed(seed)
        weights.working.train(recipe.dropout)
        for indices in order.split(recipe.batch_size):
            take_step(indices)
            schedule.step()
            if on_batch is not None:
                on_batch(len(indices))
    if on_gpu:
        del take_step
        torch.cuda.empty_cache()  # what a recorded step has held serves no other
    model.requires_grad_(True).eval()
    total_loss = float(step.total_loss)
    if not math.isfinite(total_loss):
        raise SfusionError(
            f"training diverged (loss {total_loss}): "
            f"lower learning_rate {recipe.learning_rate}"
        )
    return total_loss / recipe.samples


class MasterWeights:
    """The float32 weights that AdamW updates, and the model that runs the passes.

    In float32 the two are one. In bfloat16 the passes run on a working copy
    (Micikevicius et al. 2018, arXiv:1710.03740), since bfloat16 alone would round small
    updates away.

    Attributes
    ----------
    working : PreTrainedModel
        The model that runs the passes.
    masters : list of Parameter
        What is trained, in float32.
    """

    def __init__(self, model: PreTrainedModel, recipe: Recipe, precision: str) -> None:
        self.working = cast(model, precision)
        frozen = set()
        if recipe.freeze_embeddings:
            frozen = {id(p) for p in embedding_parameters(self.working)}
        self.masters = []
        self._parameters = []
        pairs = zip(model.parameters(), self.working.parameters(), strict=True)
        for master, parameter in pairs:
            is_trained = id(parameter) not in frozen
            parameter.requires_grad_(is_trained)
            if is_trained:
                self.masters.append(master)
                self._parameters.append(parameter)
        self._are_apart = self.working is not model

    def fetch_gradients(self) -> None:
        """Move the gradients of the working copy to the master weights."""
        if not self._are_apart:
            return
        gradients = []
        copies = []
        for master, parameter in zip(self.masters, self._parameters, strict=True):
            if parameter.grad is not None:  # the forward pass has used it
                master.grad = torch.empty_like(parameter.grad, dtype=master.dtype)
                gradients.append(parameter.grad)
                copies.append(master.grad)
        torch._foreach_copy_(copies, gradients)  # one call, not one per parameter
        self.working.zero_grad()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the updated master weights to the working copy."""
        if self._are_apart:
            torch._foreach_copy_(self._parameters, self.masters)


class TrainingStep:
    """One step of AdamW over a batch, in which nothing waits for the device.

    Attributes
    ----------
    total_loss : Tensor
        Sum over the samples seen, on the device; to be read once, at the end.
    """

    def __init__(
        self,
        weights: MasterWeights,
        optimiser: torch.optim.Optimizer,
        data: Encoded,
        objective: Objective,
    ) -> None:
        self._weights = weights
        self._optimiser = optimiser
        self._data = data
        self._objective = objective
        device = weights.working.device
        self.total_loss = torch.zeros((), dtype=torch.float64, device=device)

    def __call__(self, indices: Tensor) -> None:
        """Train on the samples of these numbers."""
        weights = self._weights
        batch = self._data.take(indices)
        if not indices.is_cuda:  # a GPU replays steps of one shape
            batch = batch.trim()
        output = weights.working(batch.input_ids, attention_mask=batch.attention_mask)
        loss = self._objective(output, batch.labels, indices)
        loss.backward()
        weights.fetch_gradients()
        torch.nn.utils.clip_grad_norm_(weights.masters, CLIP_NORM)
        self._optimiser.step()
        self._optimiser.zero_grad()
        weights.publish()
        self.total_loss.add_(loss.detach().double(), alpha=len(indices))


class ReplayedStep:
    """A step that a GPU records once and replays from then on.

    Launching the kernels of a small model takes longer than the kernels do. The first
    steps, and one of fewer samples, run as they are.
    """

    def __init__(
        self, step: Callable[[Tensor], None], batch_size: int, device: torch.device
    ) -> None:
        self._step = step
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._graph = torch.cuda.CUDAGraph()
        self._indices = torch.zeros(batch_size, dtype=torch.long, device=device)
        self._steps_taken = 0

    def __call__(self, indices: Tensor) -> None:
        """Take the step for the samples of these numbers."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            is_whole = len(indices) == len(self._indices)
            if self._steps_taken >= FIRST_STEPS and is_whole:
                self._replay(indices)
            else:
                self._step(indices)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._steps_taken += 1

    def _replay(self, indices: Tensor) -> None:
        self._indices.copy_(indices)
        if self._steps_taken == FIRST_STEPS:
            self._graph.capture_begin(capture_error_mode="thread_local")
            self._step(self._indices)
            self._graph.capture_end()
        self._graph.replay()


def _label_loss(output: ModelOutput, labels: Tensor, _: Tensor) -> Tensor:
    return functional.cross_entropy(output.logits.float(), labels)


def _sample_order(count: int, samples: int, seed: int) -> Tensor:
    """Draw indices of ``samples``: whole shuffled epochs, the last one cut short."""
    generator = torch.Generator().manual_seed(seed)
    epochs = math.ceil(samples / count)
    orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
    return torch.cat(orders)[:samples]


def _optimiser(
    model: PreTrainedModel, parameters: list[torch.nn.Parameter], recipe: Recipe
) -> torch.optim.AdamW:
    """Make AdamW over parameters of a model, with a rate of its own for the head."""
    device = parameters[0].device
    on_gpu = device.type == "cuda"
    head = {id(p) for p in head_parameters(model)}
    rates = {False: recipe.learning_rate, True: recipe.learning_rate * recipe.head_rate}
    groups = []
    for in_head, rate in rates.items():
        # A step that a GPU replays reads its rate from the GPU's memory.
        groups.append(
            {
                "params": [p for p in parameters if (id(p) in head) == in_head],
                "lr": torch.tensor(rate, device=device) if on_gpu else rate,
            }
        )
    return torch.optim.AdamW(
        groups, weight_decay=recipe.weight_decay, fused=True, capturable=on_gpu
    )


def _schedule(optimiser: torch.optim.AdamW, recipe: Recipe) -> LambdaLR:
    """Let the rates rise over the warm-up, and then fall to zero."""
    steps = math.ceil(recipe.samples / recipe.batch_size)
    warmup_steps = int(recipe.warmup * steps)
    return get_linear_schedule_with_warmup(optimiser, warmup_steps, steps)
