"""The command line: ``sfusion``, or ``python -m sfusion``.

Every command is a typed function, from whose signature and docstring typer makes
options and help. Bad input ends with one line on stderr and exit code 2.
"""

import io
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Annotated

# typer is there already, for huggingface-hub needs it; it writes options with hyphens
# and in pairs (--distill/--no-distill), which jsonargparse does not.
import typer

from sfusion import notebooks
from sfusion.disk import write_atomically
from sfusion.errors import SfusionError, need_extra, one_line
from sfusion.experiments.profiles import PROBE, PROFILES, load_profile, need_checkout
from sfusion.experiments.results import BUILD, COMMITTED, load_results
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES, DEFAULT_STRATEGY

STOPPED = 130  # exit code after Ctrl-C

app = typer.Typer(
    help="Strategic fusion of layer signals, for smaller text classifiers.",
    epilog="Every command has its own help: sfusion compress --help",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_PROFILES = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yaml")))
_STRATEGIES = textwrap.fill(
    ", ".join(COMPRESSION_STRATEGIES),
    width=76,
    initial_indent="  ",
    subsequent_indent="  ",
    break_on_hyphens=False,
)


def _example(*lines: str, before: str = "") -> str:
    """Lay out an example for the end of a help text."""
    indented = textwrap.indent(" \\\n    ".join(lines), "  ")
    return f"{before}\b\nExample:\n{indented}"  # \b: lines are kept as they are


Profile = Annotated[
    str,
    typer.Option(metavar="NAME", help=f"One of {_PROFILES}; or a .yaml file."),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="DIR_OR_NAME",
        help="Directory, Hub name, minilm-l6 or mpnet-base (fetched once).",
    ),
]
# What sfusion.data.forms reads.
FORMS = "CSV or TSV, JSON or JSON lines, Parquet; text also as .gz"

TextColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Column of the texts in all files.")
]
LabelColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Column of the labels in all files.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B,...",
        help="The data's labels in the order of the model's classes: with commas; or "
        "the option once for each, where names hold commas; or a file with a name on "
        "each line. By default the model's own names.",
    ),
]
NewHead = Annotated[
    bool,
    typer.Option("--new-head", help="Train a new head in place of the model's own."),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        metavar="TOKENS",
        help="Tokens per text. By default what 95% of the texts need, at most 128.",
    ),
]
Threads = Annotated[int | None, typer.Option(metavar="N", help="By default all cores.")]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Varies what is drawn, and a new head.")
]


@app.command(epilog=_example("sfusion reproduce --profile smoke"))
def reproduce(
    profile: Profile = notebooks.DEFAULT,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Commit to the new numbers (for maintainers)."),
    ] = False,
) -> int:
    """Compute a profile, run its notebooks, compare with results/."""
    from sfusion.experiments.study import load_study

    need_checkout("reproduce")
    study = load_study(profile)
    name = study.profile.name
    if study.shown_in_notebooks:
        need_extra("notebooks")
    results = study.run(BUILD / name)
    results.save(BUILD / name / "results")
    if study.shown_in_notebooks:
        notebooks.execute_all(profile, "built")
    code = _compare_study(profile)  # with what is committed, before it is replaced
    if not accept:
        return code
    results.save(COMMITTED / name)
    print(f"accepted as results/{name}")
    return 0


@app.command(epilog=_example("sfusion replay --profile base"))
def replay(profile: Profile = notebooks.SHOWN) -> None:
    """Redraw all figures and tables from the committed records."""
    need_checkout("replay")
    need_extra("notebooks")
    load_results(COMMITTED / load_profile(profile).name)  # all there, before any work
    notebooks.execute_all(profile, "replay")


def _compare_study(profile: str) -> int:
    from sfusion.experiments.study import load_study

    study = load_study(profile)
    name = study.profile.name
    new = load_results(BUILD / name / "results")
    if not (COMMITTED / name).is_dir():
        print(f"profile {name!r} has no committed results: nothing to compare with")
        return 0
    table = study.compare(new, load_results(COMMITTED / name))
    text = table.to_csv(index=False, float_format="%.6g")
    write_atomically(BUILD / name / "comparison.csv", text.encode())
    print(table.to_string(index=False))
    if table["passed"].all():
        print("the reproduction agrees")
        return 0
    print("the reproduction DIFFERS: see the rows above")
    return 1


@app.command(
    epilog=_example(
        "sfusion compare --data test.csv my-model smaller",
        before="Of classifiers it prints accuracy, its paired difference from the "
        "first, the share of texts with the same label, recall where it differs most, "
        "milliseconds and megabytes.\n\n\b\nA study instead, as make compare does:\n"
        "  sfusion compare --profile smoke\n\n",
    )
)
def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIR",
            help="Two or more classifiers: directories or names. The others stand "
            "beside the first. model.onnx and model.int8.onnx in them are compared "
            "too.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=f"Labelled texts that no model was trained on: {FORMS}.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of classifiers: compare build/NAME with results/NAME. "
            f"By default {notebooks.DEFAULT}.",
        ),
    ] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    labels: Labels = None,
    max_length: MaxLength = None,
    threads: Threads = None,
) -> int:
    """Measure classifiers side by side on one file, or check a reproduced study."""
    if not models:
        if data is not None:
            raise SfusionError("--data is for classifiers: name two or more of them")
        if profile is None and not (BUILD / notebooks.DEFAULT / "results").is_dir():
            raise SfusionError(
                "give two or more classifiers and --data FILE; or --profile NAME, of "
                "a study that was reproduced here"
            )
        return _compare_study(profile or notebooks.DEFAULT)
    if profile is not None:
        raise SfusionError("give classifiers or --profile, not both")
    if data is None:
        raise SfusionError("give the labelled texts to compare on: --data FILE")
    from sfusion.compression.comparison import compare_classifiers

    found = compare_classifiers(
        models,
        data,
        text_column=text_column,
        label_column=label_column,
        labels=_listed(labels),
        max_length=max_length,
        threads=threads,
    )
    print(found)
    return 0


@app.command(
    epilog=_example(
        "sfusion signals --model my-model --data reviews.csv",
        before="Where a signal ranks the layers, the one with its lowest value goes "
        "first; of attention-entropy it is the highest. Gradients and mutual "
        "information read the labels, and gradients the head: a new one is not "
        "trained here.\n\n",
    )
)
def signals(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help=f"Labelled texts: {FORMS}. Of more than {PROBE} so many are drawn, "
            "classes in proportion.",
        ),
    ],
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    labels: Labels = None,
    new_head: Annotated[
        bool,
        typer.Option(
            "--new-head", help="Put a new, untrained head in place of the model's own."
        ),
    ] = False,
    max_length: MaxLength = None,
    seed: Seed = 0,
) -> None:
    """Print the signals of a model's layers as CSV, one row each."""
    from sfusion.compression.probing import probe_signals

    table = probe_signals(
        model,
        data,
        text_column=text_column,
        label_column=label_column,
        labels=_listed(labels),
        new_head=new_head,
        max_length=max_length,
        seed=seed,
    )
    print(table.to_csv(float_format="%.6g"), end="")


@app.command(
    epilog=_example(
        "sfusion compress --model my-model --train train.csv --test test.csv",
        "--max-drop 0.01 --onnx --int8 --out smaller",
        before=f"\b\nStrategies:\n{_STRATEGIES}\n\n",
    )
)
def compress(
    model: Model,
    train: Annotated[
        str, typer.Option(metavar="FILE", help=f"Labelled texts: {FORMS}.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to create.")],
    test: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Read once, for the report. By default a fifth of the training "
            "texts, held out.",
        ),
    ] = None,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    keep: Annotated[
        int | None, typer.Option(metavar="N", help="How many layers to keep.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Instead of --keep: the smallest model whose validation accuracy is "
            "at most so far below the original's, such as 0.01 for one percentage "
            "point. With neither, the smallest within one standard error of it.",
        ),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What chooses the layers: one of those named below. By default "
            "layers from the middle go, all at once.",
        ),
    ] = DEFAULT_STRATEGY,
    distill: Annotated[
        bool, typer.Option(help="Whether the original teaches the smaller model.")
    ] = True,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="More texts for the distillation; labels in it are not read.",
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also write model.int8.onnx: of several ways to round, the best on "
            "validation, if its accuracy holds.",
        ),
    ] = False,
    trim_vocabulary: Annotated[
        bool,
        typer.Option(
            "--trim-vocabulary",
            help="Leave out pieces of the vocabulary that no training or unlabelled "
            "text uses, if validation accuracy stays. Texts of other domains suffer.",
        ),
    ] = False,
    labels: Labels = None,
    new_head: NewHead = False,
    max_length: MaxLength = None,
    read: Annotated[
        str | None,
        typer.Option(
            metavar="END",
            help="Which end of a longer text is read, head or tail; saved with the "
            "model. By default as its tokenizer says, mostly the head.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="One learning rate for all stages. By default it depends on the "
            "stage and on the model's hidden units.",
        ),
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
) -> None:
    """Make your own classifier smaller, and report what that costs."""
    from sfusion.compression import compress as compression

    result = compression.compress(
        model,
        train,
        test,
        out=out,
        text_column=text_column,
        label_column=label_column,
        keep=keep,
        max_drop=max_drop,
        strategy=strategy,
        distill=distill,
        unlabelled=unlabelled,
        onnx=onnx,
        int8=int8,
        trim_vocabulary=trim_vocabulary,
        labels=_listed(labels),
        new_head=new_head,
        max_length=max_length,
        read=read,
        learning_rate=learning_rate,
        threads=threads,
        seed=seed,
    )
    print(f"{result}\nwritten to {result.directory}")


def _listed(given: list[str] | None) -> list[str] | None:
    """Read names: each given by itself, on a line of a file, or between commas."""
    if not given:
        return None
    if len(given) > 1:
        return given
    file = Path(given[0])
    with one_line(f"labels {given[0]!r} cannot be read"):
        if file.is_file():
            lines = file.read_text("utf-8-sig").splitlines()
            return [line.strip() for line in lines if line.strip()]
    return [name.strip() for name in given[0].split(",")]


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Say a warning in one line, without the code that gave it."""
    print(f"warning: {message}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : list of str, optional
        By default the process's own.

    Returns
    -------
    int
        Exit code: 0 done, 1 a comparison failed, 2 bad input, 130 stopped.
    """
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console may lack a character
    try:
        code: int = app(arguments, prog_name="sfusion", standalone_mode=False) or 0
    except SfusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except typer.TyperException as error:  # of what was typed
        message = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "sfusion"
        print(f"error: {message}; see {command} --help", file=sys.stderr)
        return 2
    if code == STOPPED:
        print("stopped: the same command goes on from here", file=sys.stderr)
    return code
