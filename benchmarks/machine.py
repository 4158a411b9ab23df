"""What the machine can do, and where a step's and a node's time goes.

Two numbers judge the step: its operations over the machine's matrix rate, and its bytes
over the memory's rate; each as a share of the time that the step takes.

usage: python benchmarks/machine.py
"""

import contextlib
import copy
import json
import statistics
import tempfile
import time
from unittest import mock

import torch
from joblib import Parallel, delayed
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sfusion import training
from sfusion.experiments.profiles import load_profile
from sfusion.experiments.store import RecordStore, content_key
from sfusion.experiments.trees import Experiment, open_tree, visit_node
from sfusion.models.architectures import embedding_parameters
from sfusion.pruning import tree as engine
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.searches import Request
from sfusion.signals.extraction import extract_signals
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast, fixed_threads

REPEATS = 5
QUICK = {"sizes": {"train": 160, "probe": 32}, "samples": {"recovery": 64}}
MATRIX = (
    1024,
    384,
    1536,
)  # 32 sequences of 32 tokens through the model's feed-forward map
STREAM = 2**28  # bytes, far beyond any cache

KINDS = {
    # what a step spends time on: the beginnings of the operators' names; the first that
    # fits counts
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm"),
    "optimiser and clipping": (
        "aten::_fused_adamw_",
        "aten::_foreach",
        "aten::linalg_vector",
    ),
    "casts and copies": ("aten::copy_", "aten::cat", "aten::index", "aten::embedding"),
    "softmax, GELU, layer norm": (
        "aten::_softmax",
        "aten::_log_softmax",
        "aten::gelu",
        "aten::native_layer_norm",
    ),
    "additions and other element-wise": (
        "aten::add",
        "aten::mul",
        "aten::div",
        "aten::sum",
    ),
}
REST = "Python, dispatch and the rest"


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function, repeats=REPEATS):
    function()  # the first call pays for kernels and memory that later ones reuse
    return statistics.median(seconds(function) for _ in range(repeats))


class Operators(TorchDispatchMode):
    """Note every matrix product, with operands of the same shapes and strides, and every byte.

    The bytes are of all operators' arguments and results: what would move without
    caches. Products of a kind share their operands, so that these are in the cache
    oftener than in the step: the rate of ``run`` is rather too high than too low.
    """

    def __init__(self):
        super().__init__()
        self.products, self.operands, self.bytes = [], {}, 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        name = function._schema.name
        if name in KINDS["matrix products"]:
            key = (name, *((a.shape, a.stride()) for a in arguments))
            if key not in self.operands:
                self.operands[key] = [torch.randn_like(a) for a in arguments]
            self.products.append((function, self.operands[key]))
        if not function.is_view:
            moved = tree_leaves((arguments, kwargs, result))
            self.bytes += sum(t.nbytes for t in moved if isinstance(t, torch.Tensor))
        return result

    def run(self):
        for function, operands in self.products:
            function(*operands)


def best_product_rate(kind):
    """Measure operations per second of the step's best product, again and again on one pair."""
    rows, inner, columns = MATRIX
    left, right = (
        torch.randn(rows, inner, dtype=kind),
        torch.randn(inner, columns, dtype=kind),
    )
    count = 20

    def products():
        for _ in range(count):
            left @ right

    return 2 * rows * inner * columns * count / median_seconds(products)


def memory_rate():
    """Measure bytes per second of a copy: as many are read as are written."""
    source = torch.zeros(STREAM, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * STREAM / median_seconds(lambda: target.copy_(source))


def make_experiment(sizes=(), samples=(), seed=0, **changes):
    """Return an experiment of the embedded profile, with other numbers of samples where they are given."""
    own = load_profile("embedded")
    recipes = {
        stage: getattr(own, stage).model_copy(update={"samples": n})
        for stage, n in dict(samples).items()
    }
    changes = {"sizes": own.sizes.model_copy(update=dict(sizes)), **recipes, **changes}
    return Experiment(
        own.model_copy(update={**changes, "tasks": ("subject",), "seeds": (seed,)}),
        "subject",
        seed,
    )


def open_unfiled(experiment):
    """Return the tree of an experiment for its samples and its model; nothing is filed."""
    return open_tree(experiment, RecordStore(tempfile.gettempdir()))


def recovery(experiment):
    """Return a function that fine-tunes a copy of the model as after a removal."""
    tree, recipe = open_unfiled(experiment), experiment.profile.recovery
    options = {"seed": 0, "precision": tree.base["precision"]}
    return lambda: fine_tune(
        copy.deepcopy(tree.source()), tree.task.train, recipe, **options
    )


def step(quick=False):
    """Compare a fine-tuning step with the machine; the budgets' two ratios among the results."""
    experiment = make_experiment(**QUICK if quick else {})
    tree, recipe, steps = (
        open_unfiled(experiment),
        experiment.profile.recovery,
        recovery(experiment),
    )
    model, precision, probe = (
        tree.source(),
        tree.base["precision"],
        tree.task.train.take(tree.probe),
    )
    passes = cast(copy.deepcopy(model), precision)
    for parameter in embedding_parameters(passes):
        parameter.requires_grad_(False)

    def forward_backward():
        for batch in map(probe.take, torch.arange(len(probe)).split(recipe.batch_size)):
            logits = passes(batch.input_ids, batch.attention_mask).logits.float()
            torch.nn.functional.cross_entropy(logits, batch.labels).backward()
            passes.zero_grad()

    with fixed_threads(experiment.profile.threads):
        base = median_seconds(forward_backward)
        signals = median_seconds(
            lambda: extract_signals(model, probe, precision=precision)
        )
        median = median_seconds(steps, 3)
        with Operators() as noted:
            steps()
        with FlopCounterMode(display=False) as operations:
            steps()
        products, best, stream = (
            median_seconds(noted.run),
            best_product_rate(passes.dtype),
            memory_rate(),
        )
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            steps()
    spent = dict.fromkeys([*KINDS, REST], 0.0)
    for event in profiler.key_averages():
        kind = next(
            (kind for kind, names in KINDS.items() if event.key.startswith(names)), REST
        )
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    flops = operations.get_total_flops()
    return {
        "precision": precision,
        "threads": experiment.profile.threads,
        "matrix_gflops_per_second": round(flops / products / 1e9, 1),
        "best_product_gflops_per_second": round(best / 1e9, 1),
        "memory_gb_per_second": round(stream / 1e9, 1),
        "training_samples_per_second": round(recipe.samples / median, 1),
        "share_of_matrix_rate": round(products / median, 3),
        "share_of_best_product_rate": round(flops / median / best, 3),
        "share_of_memory_rate": round(noted.bytes / median / stream, 3),
        "signals_over_forward_backward": round(signals / base, 2),
        "shares_of_time": {
            kind: round(time / total, 3) for kind, time in spent.items()
        },
    }


PARTS = {
    # of a node: (object, name of the function); time in a part that another calls is
    # that part's alone
    "fine-tuning": (training, "fine_tune"),
    "evaluation": (training, "classified"),
    "signals": (engine, "extract_signals"),
    "reading the parent's weights": (engine.PruningTree, "_cached"),
    "checking the parent's weights": (RecordStore, "get_weights"),
    "writing weights": (RecordStore, "put_weights"),
    "writing the record": (RecordStore, "put"),
}


def node(quick=False):
    """Share the time of a node among its parts: layer 2 removed, the parent's weights cached."""
    samples = {"original": 64, **(QUICK["samples"] if quick else {})}
    experiment = make_experiment(QUICK["sizes"] if quick else {}, samples)
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part, function):
        def call(*arguments, **kwargs):
            start, before = time.perf_counter(), sum(spent.values())
            try:
                return function(*arguments, **kwargs)
            finally:
                spent[part] += (
                    time.perf_counter() - start - (sum(spent.values()) - before)
                )

        return call

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        store = RecordStore(folder)
        key = content_key(open_tree(experiment, store).base)
        visit_node(experiment, Request(ORIGINAL, signals=True), store, key)
        for part, (owner, name) in PARTS.items():
            stack.enter_context(
                mock.patch.object(owner, name, timed(part, getattr(owner, name)))
            )
        total = seconds(
            lambda: visit_node(
                experiment, Request(PruningPath.of(2), signals=True), store, key
            )
        )
    shares = {part: round(value / total, 3) for part, value in spent.items()}
    shares["the rest"] = round(1 - sum(shares.values()), 3)
    return {"seconds": round(total, 2), "shares_of_time": shares}


def _samples_per_second(quick, threads):
    experiment = make_experiment(**QUICK if quick else {})
    with fixed_threads(threads):
        return experiment.profile.recovery.samples / median_seconds(
            recovery(experiment), 3
        )


def threads(quick=False):
    """Compare two runs of one thread side by side with one run of two threads."""
    apart = Parallel(n_jobs=2)(delayed(_samples_per_second)(quick, 1) for _ in range(2))
    together = _samples_per_second(quick, 2)
    return {
        "two_runs_of_one_thread": round(sum(apart), 1),
        "one_run_of_two_threads": round(together, 1),
        "ratio": round(sum(apart) / together, 2),
    }


if __name__ == "__main__":
    for measured in (step(), node(), threads()):
        print(json.dumps(measured, indent=1))
