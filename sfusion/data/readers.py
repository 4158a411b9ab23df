"""Readers: labelled texts from the user's files, a task's folder, the Hub or a corpus; and their splits.

A task, whatever its source, is read into a pool: texts to be split by seed, and the test part.
Splitting and drawing go by the hash of each item: the same on every machine and for every version of
every library, whatever the order in which the items come.
"""

import functools
import hashlib
import json
import numbers
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion import SfusionError, first_line
from sfusion.data import corpora

SPLITS = ("train", "validation", "test")
# Held out of an embedded corpus for testing; and of what is left, for validation, where neither
# sizes nor a validation file say how much.
CORPUS_TEST_SHARE, VALIDATION_SHARE = 0.25, 0.2
# Of the user's own texts, where there is no test file; and the most texts for validation.
OWN_TEST_SHARE, VALIDATION_LIMIT = 0.2, 2000
# Of a larger split a fixed draw of this many rows is read; of a longer text, this many characters
# (some hundreds of tokens).
ROW_LIMIT, TEXT_LIMIT = 50_000, 4_000
CONVERTED = "refs/convert/parquet"  # the Hub's own conversion, for sets made with loading scripts
ASK_FOLDER = "set SFUSION_DATA to a folder that holds {}/{{train,validation,test}}.parquet"
HUB_TIMEOUT = 5  # seconds; an offline machine must say so at once


def _shuffled(items, salt):
    digests = [hashlib.sha256(f"{salt}\n{item}".encode()).digest() for item in items]
    return sorted(range(len(items)), key=digests.__getitem__)


def allocate(counts, n):
    """Share n places among classes in proportion to their counts.

    Parameters
    ----------
    counts : mapping of str to int
        Items per class.
    n : int
        Places to share.

    Returns
    -------
    dict of str to int
        Places per class: never more than its count, at least one each where n suffices; they sum
        to n, or to all there are.
    """
    n = min(n, sum(counts.values()))
    places = {label: int(n >= len(counts)) for label in counts}
    room = {label: count - places[label] for label, count in counts.items()}
    rest, total = n - sum(places.values()), max(1, sum(room.values()))
    for label in counts:
        places[label] += rest * room[label] // total
    # Largest remainders first; sorted() keeps the order of the classes among equals.
    for label in sorted(counts, key=lambda label: -(rest * room[label] % total))[: n - sum(places.values())]:
        places[label] += 1
    return places


def _counts(labels):
    return dict(sorted(Counter(labels).items()))


def hold_out(labels, groups, share, salt):
    """Choose whole groups that hold about a share of every class.

    A group counts as its most frequent class. It is taken while that brings the class nearer to
    its quota, and never if it is the last one of its class. Groups of one reach quotas exactly.

    Parameters
    ----------
    labels, groups : sequence, length N
        Class and group of each item.
    share : float
        Share to hold out.
    salt : str
        Names the draw.

    Returns
    -------
    numpy.ndarray of bool, shape (N,)
        Whether an item is held out.
    """
    members = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        members[group][label] += 1
    quota = allocate(_counts(labels), round(share * len(labels)))
    main = {group: min(held, key=lambda label: (-held[label], label)) for group, held in members.items()}
    left, taken, chosen = Counter(main.values()), Counter(), set()
    names = list(members)
    for group in (names[i] for i in _shuffled(names, salt)):
        label, size = main[group], members[group].total()
        if left[label] > 1 and taken[label] + size / 2 <= quota[label]:
            chosen.add(group)
            left[label] -= 1
            taken += members[group]
    return np.array([group in chosen for group in groups], dtype=bool)


def draw(labels, items, n, salt):
    """Draw n items, classes in proportion; all of them, shuffled, where n is None or too large.

    Parameters
    ----------
    labels, items : sequence, length N
        Class and identity of each item.
    n : int or None
        Items to draw.
    salt : str
        Names the draw.

    Returns
    -------
    list of int
        Positions, in the order drawn.
    """
    places = allocate(_counts(labels), len(labels) if n is None else n)
    chosen = []
    for i in _shuffled(items, salt):
        if places[labels[i]]:
            places[labels[i]] -= 1
            chosen.append(i)
    return chosen


@dataclass(frozen=True)
class TaskSpec:
    """One line of the registry of tasks; without ``repo`` the task is an embedded corpus.

    Attributes
    ----------
    name : str
        Slug.
    repo : str
        Dataset repository on the Hub. Label names come with it.
    text : tuple of str
        Columns that are joined, with a space, into the text.
    label : str
        Column of class numbers (with names in the features) or of class names.
    config : str, optional
        Configuration, for a set that is read from the Hub's own conversion.
    """

    name: str
    repo: str = ""
    text: tuple[str, ...] = ("text",)
    label: str = "label"
    config: str | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """All there is of a task.

    Attributes
    ----------
    rest : DataFrame
        What is split by seed: ``text``, ``label`` and maybe more.
    test : DataFrame
        Columns ``text`` and ``label``.
    group : str
        Column of ``rest`` whose equal rows stay together.
    label_names : tuple of str
    validation_share : float
        Of ``rest``, where nothing else is asked for.
    source : str
        As in ``Task``.
    """

    rest: pd.DataFrame
    test: pd.DataFrame
    group: str
    label_names: tuple[str, ...]
    validation_share: float
    source: str


def _held_out(frame, group, share, salt):
    held = hold_out(frame["label"].tolist(), frame[group].tolist(), share, salt)
    return frame[~held], frame[held]


def divide(pool, sizes, seed, where):
    """Divide the rest of a pool into training and validation, and draw from these and its test part.

    Parameters
    ----------
    pool : Pool
    sizes : sequence of 3 ints or None
        Texts of train, validation and test; None, or too many, for all there are.
    seed : int
        Varies the training and validation texts and their order; the test texts stay the same.
    where : str
        Source, for the message.

    Returns
    -------
    dict of str to DataFrame
        ``train``, ``validation`` and ``test``: rows in the order drawn, classes in proportion.

    Raises
    ------
    SfusionError
        When there are too few texts for one of them.
    """
    share = sizes[1] / (sizes[0] + sizes[1]) if sizes[0] and sizes[1] else pool.validation_share
    parts = *_held_out(pool.rest, pool.group, share, f"validation {seed}"), pool.test
    drawn, salts = {}, (f"train {seed}", f"validation {seed}", "test")
    for name, part, size, salt in zip(SPLITS, parts, sizes, salts, strict=True):
        if part.empty:
            raise SfusionError(f"{where}: too few texts for a {name} split")
        drawn[name] = part.iloc[draw(part["label"].tolist(), part["text"].tolist(), size, salt)]
    return drawn


def _require(raw, columns, where):
    for column in columns:
        if column not in raw:
            raise SfusionError(f"{where} has no column {column!r}: it has {', '.join(map(str, raw)) or 'none'}")


def _named(numbers, names, where):
    """Look up the names of class numbers."""
    known = {str(number): name for number, name in enumerate(names)}
    if wrong := [number for number in numbers if str(number) not in known]:
        raise SfusionError(f"{where} has label {wrong[0]}: there are {len(names)} label names")
    return [known[str(number)] for number in numbers]


def _tidy(raw, text, label, names, where):
    """Bring a table to the columns text and label (class names); rows without either go."""
    _require(raw, (*text, label), where)
    raw = raw[raw[label].notna()]
    texts = [
        " ".join(part for part in parts if isinstance(part, str))[:TEXT_LIMIT].strip()
        for parts in zip(*(raw[column] for column in text), strict=True)
    ]
    labels = raw[label].astype(str).tolist() if names is None else _named(raw[label].astype(int), names, where)
    frame = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    return frame[frame["text"] != ""]


def order_labels(declared, frames, where):
    """Put class names in order: as declared, else sorted, numbers by value.

    Parameters
    ----------
    declared : sequence of str
        Names in the order of the class numbers; they count if they cover all that are used.
    frames : sequence of DataFrame
        Columns text and label.
    where : str
        Source, for the message.

    Returns
    -------
    tuple of str

    Raises
    ------
    SfusionError
        When fewer than two classes are used.
    """
    found = {name for frame in frames for name in frame["label"]}
    if len(found) < 2:
        raise SfusionError(f"{where} has {len(found)} class(es): at least 2 are needed")
    if set(declared) >= found:
        return tuple(declared)
    return tuple(sorted(found, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name)))


def class_names(schema, label):
    """Read the names of a ClassLabel column from the metadata that `datasets` writes.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of a Parquet file.
    label : str
        Column.

    Returns
    -------
    list of str or None
    """
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(label, {})
    return feature.get("names") if isinstance(feature, dict) else None


def _rows(count):
    """Row numbers to read: all, or the same draw of `ROW_LIMIT` at every seed."""
    return np.sort(np.random.default_rng(0).permutation(count)[:ROW_LIMIT])


def _embedded(name):
    rest, test = _held_out(corpora.build(name), "source", CORPUS_TEST_SHARE, "test")
    names, source = corpora.CORPORA[name].label_names, f"embedded: {corpora.versions(name)}"
    return Pool(rest, test, "source", names, VALIDATION_SHARE, source)


def _pooled(splits, text, label, source, where):
    """Join train and validation, without repeats and without texts of the test split.

    ``splits`` holds of each split raw tables, the declared class names and the place for messages.
    """
    parts, declared = {}, {}
    for split, (tables, names, place) in splits.items():
        parts[split] = pd.concat([_tidy(raw, text, label, names, place) for raw in tables], ignore_index=True)
        declared |= dict.fromkeys(names or ())
    for split in {"train": "", "test": "", **parts}:
        if split not in parts or parts[split].empty:
            raise SfusionError(f"{where}: the {split} split is {'empty' if split in parts else 'missing'}")
    test = parts.pop("test")
    rest = pd.concat(parts.values(), ignore_index=True)
    share = len(parts["validation"]) / len(rest) if "validation" in parts else VALIDATION_SHARE
    rest = rest[~rest["text"].isin(test["text"])].drop_duplicates("text", ignore_index=True)
    if rest.empty:
        raise SfusionError(f"{where}: every training text occurs in the test split")
    order_labels((), [rest], f"{where}: the train split")
    return Pool(rest, test, "text", order_labels(declared, [rest, test], where), share, source)


def _folder(name, folder):
    where, splits = Path(folder, name), {}
    for split in SPLITS:
        file = where / f"{split}.parquet"
        if file.is_file():
            raw, *declared = _load(file, "label")
            splits[split] = [raw.iloc[_rows(len(raw))]], *declared
        elif split != "validation":
            raise SfusionError(f"no file {file}: a task folder holds train, validation and test.parquet")
    return _pooled(splits, ("text",), "label", "folder", where)


@functools.cache
def _revision(repo, revision):
    """Resolve a branch once per process, so that one that moves changes no result midway."""
    return huggingface_hub.dataset_info(repo, revision=revision, timeout=HUB_TIMEOUT).sha


def _hub(spec):
    import datasets  # slow to import, and needed for the Hub alone

    # The conversion names its files config/split/*.parquet.
    files = spec.config and {split: f"{spec.config}/*{split}/*.parquet" for split in SPLITS}
    # The errors of both libraries have no common base.
    try:
        revision = _revision(spec.repo, spec.config and CONVERTED)
        loaded = datasets.load_dataset(spec.repo, data_files=files, revision=revision)
    except Exception as error:
        line = f"task {spec.name!r}: {spec.repo} cannot be had from the Hub ({first_line(error)}); offline, "
        raise SfusionError(line + ASK_FOLDER.format(spec.name)) from error
    splits, where = {}, f"{spec.repo}@{revision}"
    for split in (split for split in SPLITS if split in loaded):
        data = loaded[split]
        wanted = [column for column in data.column_names if column in (*spec.text, spec.label)]
        names = getattr(data.features.get(spec.label), "names", None)
        # In batches, so that of long texts no more than the part that is kept stays in memory.
        batches = data.select(_rows(len(data))).select_columns(wanted).to_pandas(batch_size=1000, batched=True)
        splits[split] = batches, names, where
    return _pooled(splits, spec.text, spec.label, f"hub: {where}", where)


@functools.lru_cache(maxsize=16)
def read_pool(spec, source, folder, stamp):
    """Read a task, once per process.

    Parameters
    ----------
    spec : TaskSpec
    source : {"embedded", "folder", "hub"}
    folder : str or None
        For ``"folder"``.
    stamp : tuple
        Times and sizes of the folder's files, so that new files are noticed.

    Returns
    -------
    Pool
    """
    if source == "folder":
        return _folder(spec.name, folder)
    return _embedded(spec.name) if source == "embedded" else _hub(spec)


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled texts as they were given.

    Attributes
    ----------
    frame : DataFrame
        Columns ``text`` and ``label`` (class names), strings.
    names : tuple of str
        Names in the order of the class numbers, where the source declares them.
    where : str
        The source, for messages.
    """

    frame: pd.DataFrame
    names: tuple[str, ...]
    where: str


def _load(source, label):
    """Return a table, the class names it declares, and its name in messages."""
    if isinstance(source, pd.DataFrame):
        return source, None, "the data frame"
    if hasattr(source, "to_pandas") and hasattr(source, "features"):  # a datasets.Dataset
        return source.to_pandas(), getattr(source.features.get(label), "names", None), "the data set"
    if not isinstance(source, str | Path):
        raise SfusionError(f"data of type {type(source).__name__}: give a file or a data frame")
    path = Path(source)
    if not path.is_file():
        raise SfusionError(f"no file {path}")
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        raise SfusionError(f"{path}: the suffix must be .csv, .jsonl or .parquet")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            return table.to_pandas(), class_names(table.schema, label), str(path)
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, encoding="utf-8", dtype=False, convert_axes=False), None, str(path)
        # Every column as it is written: a text "NA" is a text, and a label 01 is not 1.
        frame = pd.read_csv(path, dtype=str, na_filter=False)
        # pandas takes surplus fields at the front of every row for row names.
        if not isinstance(frame.index, pd.RangeIndex):
            raise ValueError("rows have more fields than the header: put texts with commas in quotes")
        return frame, None, str(path)
    except TypeError:
        raise SfusionError(f'{path}: a line is not an object such as {{"text": "...", "label": "..."}}') from None
    except UnicodeDecodeError as error:
        raise SfusionError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        kind = "Parquet file" if path.suffix == ".parquet" else "file"
        raise SfusionError(f"{path} is not a readable {kind}: {first_line(error)}") from None


def _class_name(value):
    """Write a label as text; None where there is none, or it is neither a name nor an integer."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    # A column of integers with a gap is read as one of floats.
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return str(int(value))
    return value or None if isinstance(value, str) else None


def read_rows(source, text_column="text", label_column="label"):
    """Read labelled texts, every row of them.

    Parameters
    ----------
    source : str, Path, DataFrame or datasets.Dataset
        A file is CSV, JSONL or Parquet, by its suffix.
    text_column, label_column : str
        Columns; labels are class names or integers, where `datasets` declares class names their
        numbers. Without a label column the texts are read alone.

    Returns
    -------
    Rows

    Raises
    ------
    SfusionError
        If the file is missing, unreadable, not UTF-8 or empty, a column is missing, or a row has
        no text or no label.
    """
    raw, names, where = _load(source, label_column)
    _require(raw, [column for column in (text_column, label_column) if column is not None], where)
    if raw.empty:
        raise SfusionError(f"{where} holds no text")
    texts, values = raw[text_column].tolist(), [""] * len(raw) if label_column is None else raw[label_column].tolist()
    labels = values if label_column is None else list(map(_class_name, values))
    for number, (text, value, label) in enumerate(zip(texts, values, labels, strict=True), 1):
        if not isinstance(text, str) or not text.strip():
            raise SfusionError(f"{where}: row {number} has no text in column {text_column!r}: remove such rows")
        if label is None:
            raise SfusionError(f"{where}: row {number} has the label {value!r}: give a name or an integer, or drop it")
    if names is not None:
        labels = _named(labels, names, where)
    return Rows(pd.DataFrame({"text": texts, "label": labels}, dtype=object), tuple(names or ()), where)


def split_rows(train, test, *, seed, limit):
    """Split labelled texts into training, validation and test, classes in proportion.

    A text is in one split only: texts of the test file are taken out of the training file, and
    of equal training texts the first stays. A test file is kept whole.

    Parameters
    ----------
    train : Rows
    test : Rows or None
        Without it a fifth of the training texts is held out.
    seed : int
        Varies the splits.
    limit : int
        Training texts to keep; more are not needed.

    Returns
    -------
    dict of str to DataFrame
        ``train``, ``validation``, ``test``: columns ``text`` and ``label``.

    Raises
    ------
    SfusionError
        When there is one class alone, the test file has a label that the training file lacks, or
        too few texts are left for a split.
    """
    order_labels((), [train.frame], train.where)
    rest = train.frame.drop_duplicates("text", ignore_index=True)
    if test is None:
        rest, held = _held_out(rest, "text", OWN_TEST_SHARE, f"test {seed}")
    else:
        held = test.frame
        known = set(train.frame["label"])
        if strange := [label for label in held["label"] if label not in known]:
            raise SfusionError(
                f"{test.where} has the label {strange[0]!r}, {train.where} has not: it has {_listed(sorted(known))}"
            )
        rest = rest[~rest["text"].isin(held["text"])]
        if rest.empty:
            raise SfusionError(f"{train.where}: every text occurs in {test.where}")
    order_labels((), [rest], train.where)
    share = min(VALIDATION_SHARE, VALIDATION_LIMIT / len(rest))
    parts = divide(Pool(rest, held, "text", (), share, train.where), (limit, None, None), seed, train.where)
    # A user's validation and test texts keep the order of the file.
    kept = {name: parts[name].sort_index() for name in ("validation", "test")}
    return {name: part.reset_index(drop=True) for name, part in {**parts, **kept}.items()}


def _listed(names, most=8):
    """Write names in one short line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def resolve_labels(found, own, where, labels=None):
    """Map the labels of the data to the numbers that a trained classifier has for them.

    Parameters
    ----------
    found : sequence of str
        Labels of the data: the classifier's names, all or some, or its class numbers, all.
    own : sequence of str
        The classifier's names, in the order of its class numbers.
    where : str
        The data, for messages.
    labels : sequence of str, optional
        The names to use for the classifier's classes, in its order.

    Returns
    -------
    dict of str to int
        Class number of each label of the data.

    Raises
    ------
    SfusionError
        When they do not match: which label is which is never guessed.
    """
    if labels is not None and len(labels) != len(own):
        raise SfusionError(f"{len(labels)} labels are given for the model's {len(own)} classes: name each once")
    names = tuple(labels or own)
    strange = [label for label in found if label not in names]
    if not strange:
        return {label: names.index(label) for label in found}
    # All of them: of some, one could not tell whether they are counted from 0 or from 1.
    if set(found) == {str(number) for number in range(len(names))}:
        return {label: int(label) for label in found}
    raise SfusionError(
        f"{where} has the label {strange[0]!r}, the model's classes are {_listed(names)}: name "
        "the data's labels in the model's order (--labels), or train a new head (--new-head)"
    )
