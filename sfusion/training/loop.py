"""One training loop for fine-tuning, recovery after a removal and distillation."""

import math

import torch
from torch.nn import functional
from transformers import get_linear_schedule_with_warmup

from sfusion.errors import SfusionError
from sfusion.models.architectures import embedding_parameters, head_parameters
from sfusion.training.precision import cast

CLIP_NORM = 1.0


def _sample_order(count, samples, generator):
    """Draw ``samples`` indices: whole shuffled epochs, the last one cut short."""
    epochs = -(-samples // count)
    return torch.cat(
        [torch.randperm(count, generator=generator) for _ in range(epochs)]
    )[:samples]


def _optimiser(model, parameters, recipe):
    """Make AdamW over parameters of a model, and the schedule of its rates."""
    on_gpu, head = parameters[0].is_cuda, {id(p) for p in head_parameters(model)}
    groups = []
    for above, times in ((False, 1.0), (True, recipe.head_rate)):
        rate = recipe.learning_rate * times
        # A step that a GPU replays reads its rate from the GPU's memory.
        rate = torch.tensor(rate, device=parameters[0].device) if on_gpu else rate
        groups.append(
            {"params": [p for p in parameters if (id(p) in head) == above], "lr": rate}
        )
    optimiser = torch.optim.AdamW(
        groups, weight_decay=recipe.weight_decay, fused=True, capturable=on_gpu
    )
    steps = -(-recipe.samples // recipe.batch_size)
    return optimiser, get_linear_schedule_with_warmup(
        optimiser, int(recipe.warmup * steps), steps
    )


def _replayed(step, batch_size, device, first=3):
    """Let a GPU record a step and replay it: to launch the kernels of a small model takes longer than they do.

    The first steps, which allocate what stays, and one of fewer samples run as they
    are.
    """
    stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
    held, taken = torch.zeros(batch_size, dtype=torch.long, device=device), 0

    def take(indices):
        nonlocal taken
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            if taken < first or len(indices) < batch_size:
                step(indices)
            else:
                held.copy_(indices)
                if taken == first:
                    graph.capture_begin(capture_error_mode="thread_local")
                    step(held)
                    graph.capture_end()
                graph.replay()
        torch.cuda.current_stream(device).wait_stream(stream)
        taken += 1

    return take


def fine_tune(
    model, data, recipe, *, seed, precision="fp32", objective=None, on_batch=None
):
    """Train a classifier in place.

    In bfloat16 the passes run on a working copy while AdamW updates float32 master
    weights (Micikevicius et al. 2018, arXiv:1710.03740): bfloat16 alone would round
    small updates away.

    Parameters
    ----------
    model : transformers.PreTrainedModel
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
    """
    working = cast(model, precision)
    low, device = working is not model, next(working.parameters()).device
    on_gpu = device.type == "cuda"
    objective = objective or (
        lambda output, labels, _: functional.cross_entropy(
            output.logits.float(), labels
        )
    )
    frozen = (
        {id(p) for p in embedding_parameters(working)}
        if recipe.freeze_embeddings
        else set()
    )
    for parameter in working.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    pairs = [
        (m, p)
        for m, p in zip(model.parameters(), working.parameters(), strict=True)
        if p.requires_grad
    ]
    masters = [master for master, _ in pairs]
    optimiser, schedule = _optimiser(model, masters, recipe)
    total = torch.zeros((), dtype=torch.float64, device=device)
    order = _sample_order(
        len(data), recipe.samples, torch.Generator().manual_seed(seed)
    ).to(device)
    data = data.to(device)

    def step(indices):
        """Take one step, in which nothing waits for the device."""
        batch = data.take(indices) if on_gpu else data.take(indices).trim()
        loss = objective(
            working(batch.input_ids, attention_mask=batch.attention_mask),
            batch.labels,
            indices,
        )
        loss.backward()
        if low:  # all in one call, not one per parameter
            used = [
                (master, p.grad) for master, p in pairs if p.grad is not None
            ]  # by the forward pass
            for master, gradient in used:
                master.grad = torch.empty_like(gradient, dtype=master.dtype)
            torch._foreach_copy_(
                [master.grad for master, _ in used], [gradient for _, gradient in used]
            )
            working.zero_grad()
        torch.nn.utils.clip_grad_norm_(masters, CLIP_NORM)
        optimiser.step()
        optimiser.zero_grad()
        if low:
            with torch.no_grad():
                torch._foreach_copy_([parameter for _, parameter in pairs], masters)
        total.add_(loss.detach().double(), alpha=len(indices))  # read once, at the end

    take = _replayed(step, recipe.batch_size, device) if on_gpu else step
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.manual_seed(seed)
        working.train(recipe.dropout)
        for indices in order.split(recipe.batch_size):
            take(indices)
            schedule.step()
            if on_batch is not None:
                on_batch(len(indices))
    if on_gpu:
        del take
        torch.cuda.empty_cache()  # what a recorded step has held serves no other
    model.requires_grad_(True).eval()
    total = float(total)
    if not math.isfinite(total):
        raise SfusionError(
            f"training diverged (loss {total}): lower learning_rate {recipe.learning_rate}"
        )
    return total / recipe.samples
