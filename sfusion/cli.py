"""The command line: ``python -m sfusion``. Bad input ends with one line and exit code 2."""

import argparse
import sys
import warnings
from pathlib import Path

from sfusion import notebooks
from sfusion.errors import SfusionError
from sfusion.experiments.comparison import compare
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import PROBE, ROOT, load_profile
from sfusion.experiments.results import BUILD, COMMITTED, load_results
from sfusion.pruning.strategies import DEFAULT_STRATEGY


def _folders(profile, mode):
    """Choose where notebooks, figures and tables go: the shown profile's replay is committed."""
    if mode == "replay" and profile.name == notebooks.SHOWN:
        return BUILD / "replay", ROOT / "figures", COMMITTED / profile.name / "tables"
    folder = BUILD / profile.name / ("" if mode == "built" else "replay")
    return folder / "notebooks", folder / "figures", folder / "tables"


def _notebooks(arguments, profile, mode):
    if not notebooks.NOTEBOOKS:
        raise SfusionError(f"no notebooks in {ROOT / 'notebooks'}: run from a checkout")
    given = (
        str(Path(arguments.profile).resolve())
        if arguments.profile.endswith(".yaml")
        else arguments.profile
    )
    # The largest first, which draw most: so that the workers end together.
    books = sorted(
        notebooks.NOTEBOOKS,
        key=lambda name: -(ROOT / "notebooks" / f"{name}.ipynb").stat().st_size,
    )
    calls = [(name, given, mode, *_folders(profile, mode)) for name in books]
    with pool(1) as run, progress(len(calls), "notebooks") as bar:
        for _ in run(notebooks.execute, calls):
            bar.update()


def _reproduce(arguments):
    from sfusion.experiments.pruning_study import run_study

    profile = load_profile(arguments.profile)
    results = run_study(profile, BUILD / profile.name)
    results.save(BUILD / profile.name / "results")
    _notebooks(arguments, profile, "built")
    if arguments.accept:
        results.save(COMMITTED / profile.name)
        print(f"accepted as results/{profile.name}")
    return _compare(arguments)


def _replay(arguments):
    profile = load_profile(arguments.profile)
    load_results(COMMITTED / profile.name)  # all there, before any notebook starts
    _notebooks(arguments, profile, "replay")


def _compare(arguments):
    profile = load_profile(arguments.profile)
    new = load_results(BUILD / profile.name / "results")
    if not (COMMITTED / profile.name).is_dir():
        print(
            f"profile {profile.name!r} has no committed results: nothing to compare with"
        )
        return 0
    table = compare(new, load_results(COMMITTED / profile.name))
    notebooks.save_table("comparison", table, BUILD / profile.name)
    print(table.to_string(index=False))
    passed = bool(table["passed"].all())
    print(
        "the reproduction agrees"
        if passed
        else "the reproduction DIFFERS: see the rows above"
    )
    return 0 if passed else 1


def _signals(asked):
    from sfusion.compression.compress import fit_tokens, load_source
    from sfusion.data.encoding import encode
    from sfusion.data.files import read_rows
    from sfusion.data.splits import draw
    from sfusion.data.tokenizers import load_tokenizer
    from sfusion.signals.extraction import extract_signals

    rows = read_rows(asked.data, asked.text_column, asked.label_column)
    model, _, numbers = load_source(
        asked.model, rows, asked.labels, asked.new_head, asked.seed
    )
    drawn = draw(
        rows.frame["label"].tolist(),
        rows.frame["text"].tolist(),
        PROBE,
        f"probe {asked.seed}",
    )
    frame = rows.frame.iloc[sorted(drawn)]
    tokenizer, texts = load_tokenizer(asked.model), frame["text"].tolist()
    max_length = fit_tokens(tokenizer, model.config, texts, asked.max_length)
    data = encode(texts, frame["label"].map(numbers).tolist(), tokenizer, max_length)
    print(extract_signals(model, data).to_csv(float_format="%.6g"), end="")


def _compress(arguments):
    from sfusion.compression.compress import compress

    own = ("command", "function")  # of the parser, not of the called function
    result = compress(
        **{key: value for key, value in vars(arguments).items() if key not in own}
    )
    print(f"{result}\nwritten to {result.directory}")


class _Parser(argparse.ArgumentParser):
    """A parser whose error is one line, like every other."""

    def error(self, message):
        raise SfusionError(f"{message}; see {self.prog} --help")


def _add_model(command, data, text):
    add = command.add_argument
    add(
        "--model",
        required=True,
        help="directory, Hub name, minilm-l6 or mpnet-base (fetched once)",
    )
    add(f"--{data}", required=True, help=text)
    add("--text-column", default="text")
    add("--label-column", default="label")
    add(
        "--labels",
        type=lambda text: text.split(","),
        help="the data's labels in the model's order, with commas",
    )
    add("--new-head", action="store_true", help="in place of the model's own")
    add(
        "--max-length",
        type=int,
        metavar="TOKENS",
        help="by default what the texts need",
    )
    add("--seed", type=int, default=0, help="of a new head, and of what is drawn")


def _parser():
    parser = _Parser(prog="sfusion", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function, text in (
        ("reproduce", _reproduce, "compute a profile, run its notebooks, compare"),
        (
            "replay",
            _replay,
            "redraw everything from the committed records; trains nothing",
        ),
        ("compare", _compare, "compare build/<profile> with results/<profile>"),
        ("signals", _signals, "print the twelve signals of a model as CSV"),
        ("compress", _compress, "make your own classifier smaller"),
    ):
        commands.add_parser(name, help=text).set_defaults(function=function)
    for name in ("reproduce", "replay", "compare"):
        shown = notebooks.SHOWN if name == "replay" else notebooks.DEFAULT
        commands.choices[name].add_argument("--profile", default=shown)
    text = "commit to the new numbers (maintainers)"
    commands.choices["reproduce"].add_argument(
        "--accept", action="store_true", help=text
    )
    text = f"CSV, JSONL or Parquet; of more than {PROBE} texts so many are drawn, classes in proportion"
    _add_model(commands.choices["signals"], "data", text)
    _add_model(commands.choices["compress"], "train", "CSV, JSONL or Parquet")
    add = commands.choices["compress"].add_argument
    add("--test", help="the same; without it a fifth of the texts is held out")
    target = commands.choices["compress"].add_mutually_exclusive_group()
    target.add_argument("--keep", type=int, metavar="N", help="layers to keep")
    text = "the smallest model that loses no more validation accuracy, such as 0.01"
    target.add_argument("--max-drop", type=float, metavar="SHARE", help=text)
    add("--strategy", default=DEFAULT_STRATEGY, help="default: %(default)s")
    add("--distill", action=argparse.BooleanOptionalAction, default=True)
    add(
        "--unlabelled",
        metavar="FILE",
        help="more texts, for the distillation; labels in it are not read",
    )
    add("--onnx", action="store_true", help="also write model.onnx")
    add(
        "--int8",
        action="store_true",
        help="also write model.int8.onnx, if its accuracy holds",
    )
    add("--learning-rate", type=float)
    add("--threads", type=int, help="by default all cores")
    add("--out", required=True, type=Path, help="directory to create")
    return parser


def main(argv=None):
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        By default the process's own arguments.

    Returns
    -------
    int
        Exit code: 0 done, 1 a comparison failed, 2 bad input.
    """
    warnings.showwarning = lambda message, *_, **__: print(
        f"warning: {message}", file=sys.stderr
    )
    try:
        arguments = _parser().parse_args(argv)
        return arguments.function(arguments) or 0
    except SfusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
