"""Tasks: splitting, the three sources, and every input that is turned down."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfusion import SfusionError
from sfusion.data import corpora, readers, tasks
from sfusion.models.loading import load_tokenizer

EMBEDDED = sorted(corpora.CORPORA)
NINE = ["newsgroup", "dbpedia", "arxiv", "patent", "yahoo", "yelp", "agnews", "imdb", "amazon"]
COLOURS = ["red", "green", "blue"]


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch):
    monkeypatch.delenv("SFUSION_DATA", raising=False)
    readers.read_pool.cache_clear()
    readers._revision.cache_clear()


def _texts(split, count, colours=COLOURS):
    labels = [number % len(colours) for number in range(count)]
    texts = [f"The {colours[label]} boat number {split}{i} sails" for i, label in enumerate(labels)]
    return {"text": texts, "label": labels}


def _write(path, columns, names=COLOURS):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = datasets.Dataset.from_dict(columns)
    if names:
        data = data.cast_column("label", datasets.ClassLabel(names=list(names)))
    data.to_parquet(path)


@pytest.fixture
def folder(tmp_path):
    """A data folder with one task of 3 classes: 60 training, 12 validation, 24 test texts."""
    for split, count in (("train", 60), ("validation", 12), ("test", 24)):
        _write(tmp_path / "boats" / f"{split}.parquet", _texts(split, count))
    return tmp_path


def _load(folder, **arguments):
    return tasks.load_task("boats", source="folder", folder=folder, **arguments)


def _sizes(task):
    return [len(task.train), len(task.validation), len(task.test)]


def _fails(message, *arguments, function=tasks.load_task, **keywords):
    with pytest.raises(SfusionError, match=message) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)


# --- the registry ----------------------------------------------------------------------------


def test_registry_holds_the_embedded_and_the_nine():
    assert sorted(tasks.TASKS) == sorted([*EMBEDDED, *NINE])
    assert all(name == spec.name for name, spec in tasks.TASKS.items())
    assert [name for name, spec in tasks.TASKS.items() if not spec.repo] == list(corpora.CORPORA)


# --- embedded tasks --------------------------------------------------------------------------


def _sources(name, task):
    frame = corpora.build(name).set_index("text")
    return {split: set(frame.loc[texts, "source"]) for split, texts in task.texts.items()}


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_task_is_large_enough_and_no_object_is_in_two_splits(name):
    task = tasks.load_task(name, sizes=(1600, 500, 600))
    assert _sizes(task) == [1600, 500, 600]
    assert task.source == f"embedded: {corpora.versions(name)}"
    assert task.label_names == corpora.CORPORA[name].label_names
    for split in readers.SPLITS:
        assert set(getattr(task, split).labels.tolist()) == set(range(len(task.label_names)))
    found = _sources(name, task)
    assert not found["train"] & found["validation"]
    assert not (found["train"] | found["validation"]) & found["test"]


def test_seed_changes_train_and_validation_but_not_test():
    first, second = (tasks.load_task("subject", seed=s, sizes=(200, 80, 90)) for s in (0, 1))
    again = tasks.load_task("subject", seed=0, sizes=(200, 80, 90))
    assert first.texts["test"] == second.texts["test"]
    assert first.fingerprint == second.fingerprint
    assert set(first.texts["train"]) != set(second.texts["train"])
    assert set(first.texts["validation"]) != set(second.texts["validation"])
    common = set(first.texts["train"]) & set(second.texts["train"])
    orders = [[text for text in t.texts["train"] if text in common] for t in (first, second)]
    assert len(common) > 2 and orders[0] != orders[1]
    assert first.texts == again.texts
    assert torch.equal(first.train.input_ids, again.train.input_ids)


def test_test_part_does_not_depend_on_the_other_sizes():
    small = tasks.load_task("subject", sizes=(40, 20, 90))
    large = tasks.load_task("subject", sizes=(900, 400, 90))
    assert small.texts["test"] == large.texts["test"]


def test_test_part_is_a_quarter():
    task = tasks.load_task("scipy-subpackage")
    assert sum(_sizes(task)) == len(corpora.build("scipy-subpackage"))
    assert len(task.test) == pytest.approx(sum(_sizes(task)) / 4, rel=0.05)
    assert len(task.validation) == pytest.approx(len(task.train) / 4, rel=0.05)


def test_another_process_draws_the_same():
    code = (
        "import hashlib, json; from sfusion.data.tasks import load_task;"
        "t = load_task('input-or-output', seed=3, sizes=(50, 20, 30));"
        "print(t.fingerprint, hashlib.sha256(json.dumps(t.texts).encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    task = tasks.load_task("input-or-output", seed=3, sizes=(50, 20, 30))
    digest = corpora.hashlib.sha256(json.dumps(task.texts).encode()).hexdigest()
    assert run.stdout == f"{task.fingerprint} {digest}\n"


def test_encoding():
    task = tasks.load_task("input-or-output", sizes=(30, 10, 20), max_length=16)
    tokenizer = load_tokenizer("minilm-l6")
    for split in readers.SPLITS:
        part, texts = getattr(task, split), task.texts[split]
        assert part.input_ids.shape == part.attention_mask.shape == (len(part), 16)
        assert part.input_ids.dtype == part.attention_mask.dtype == part.labels.dtype == torch.long
        for ids, real, text in zip(part.input_ids, part.attention_mask, texts, strict=True):
            expected = tokenizer(text)["input_ids"]
            length = min(len(expected), 16)
            assert real.tolist() == [1] * length + [0] * (16 - length)
            assert ids[: length - 1].tolist() == expected[: length - 1]
            assert ids[length - 1] == tokenizer.sep_token_id
            assert set(ids[length:].tolist()) <= {tokenizer.pad_token_id}


def test_labels_belong_to_their_texts():
    frame = corpora.build("scipy-subpackage").set_index("text")["label"]
    task = tasks.load_task("scipy-subpackage", sizes=(100, 50, 60))
    for split in readers.SPLITS:
        named = [task.label_names[number] for number in getattr(task, split).labels]
        assert named == frame.loc[task.texts[split]].tolist()


def test_take_keeps_rows_together():
    part = tasks.load_task("input-or-output", sizes=(30, 10, 20)).train
    taken = part.take([4, 0, 4])
    assert len(taken) == 3
    for field in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(getattr(taken, field), getattr(part, field)[[4, 0, 4]])


def test_trim_cuts_shared_padding_off_and_nothing_else():
    part = tasks.load_task("input-or-output", sizes=(30, 10, 20), max_length=64).train
    lengths = part.attention_mask.sum(1)
    rows = lengths.argsort()[:5]
    cut = part.take(rows).trim()
    width = int(lengths[rows].max())
    assert cut.input_ids.shape == cut.attention_mask.shape == (5, width)
    assert torch.equal(cut.input_ids, part.input_ids[rows, :width])
    assert torch.equal(cut.labels, part.labels[rows])
    # Padding in front stays: positions would move.
    ids, mask = part.input_ids[rows].flip(1), part.attention_mask[rows].flip(1)
    assert tasks.Encoded(ids, mask, part.labels[rows]).trim().input_ids.shape == ids.shape


def test_tokenizer_may_be_given_as_such():
    tokenizer = load_tokenizer("minilm-l6")
    named = tasks.load_task("input-or-output", sizes=(20, 10, 10))
    given_ = tasks.load_task("input-or-output", sizes=(20, 10, 10), tokenizer=tokenizer)
    assert torch.equal(named.train.input_ids, given_.train.input_ids)


# --- splitting -------------------------------------------------------------------------------

FAST = settings(deadline=None, max_examples=60)
COUNTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=1)
ITEMS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=1, max_size=80)


@FAST
@given(COUNTS, st.integers(0, 200))
def test_allocate_sums_up_in_proportion(counts, n):
    places = readers.allocate(counts, n)
    total = sum(counts.values())
    assert sum(places.values()) == min(n, total)
    assert all(0 <= places[label] <= count for label, count in counts.items())
    if n >= len(counts):
        assert min(places.values()) >= 1
    if n <= total:
        for label, count in counts.items():
            assert abs(places[label] - n * count / total) < 2 + len(counts) * count / total


@FAST
@given(ITEMS, st.floats(0.0, 0.9), st.integers(0, 5))
def test_hold_out_keeps_groups_whole_and_classes_covered(items, share, seed):
    # A group has one class here, as an object has one module.
    labels = [label for label, _ in items]
    groups = [f"{label}{group}" for label, group in items]
    held = readers.hold_out(labels, groups, share, f"validation {seed}")
    inside = {group for group, out in zip(groups, held, strict=True) if out}
    outside = {group for group, out in zip(groups, held, strict=True) if not out}
    assert held.shape == (len(items),)
    assert not inside & outside
    assert {label for label, out in zip(labels, held, strict=True) if not out} == set(labels)
    for label in set(labels):
        sizes = [groups.count(group) for group in {g for g in groups if g[0] == label}]
        taken = sum(1 for i, name in enumerate(labels) if name == label and held[i])
        assert taken <= share * sum(sizes) + 2 + max(sizes) / 2


@FAST
@given(ITEMS, st.floats(0.0, 1.0))
def test_hold_out_of_groups_of_one_is_exact(items, share):
    labels = [label for label, _ in items]
    held = readers.hold_out(labels, range(len(items)), share, "salt")
    quota = readers.allocate(readers._counts(labels), round(share * len(items)))
    for label in set(labels):
        taken = sum(out for name, out in zip(labels, held, strict=True) if name == label)
        assert taken == min(quota[label], labels.count(label) - 1)


@FAST
@given(ITEMS, st.randoms(use_true_random=False))
def test_hold_out_does_not_depend_on_the_order(items, random):
    def chosen(rows):
        labels, groups = [row[0] for row in rows], [row[1] for row in rows]
        held = readers.hold_out(labels, groups, 0.3, "salt")
        return {group for group, out in zip(groups, held, strict=True) if out}

    mixed = list(items)
    random.shuffle(mixed)
    assert chosen(items) == chosen(mixed)


@FAST
@given(ITEMS, st.none() | st.integers(1, 100), st.integers(0, 3))
def test_draw_takes_different_items_of_every_class(items, n, seed):
    labels = [label for label, _ in items]
    drawn = readers.draw(labels, range(len(items)), n, f"train {seed}")
    assert len(drawn) == len(set(drawn)) == min(n or len(items), len(items))
    counts = readers._counts(labels)
    expected = readers.allocate(counts, n or len(items))
    got = {label: sum(labels[i] == label for i in drawn) for label in counts}
    assert got == expected


@FAST
@given(ITEMS, st.integers(1, 20))
def test_draw_does_not_depend_on_the_order(items, n):
    rows = [(label, i) for i, (label, _) in enumerate(items)]

    def chosen(rows):
        return [rows[i] for i in readers.draw([r[0] for r in rows], [r[1] for r in rows], n, "salt")]

    assert chosen(rows) == chosen(rows[::-1])


def test_draw_is_shuffled_and_salted():
    labels, items = ["a"] * 50 + ["b"] * 50, list(range(100))
    first, second = (readers.draw(labels, items, None, salt) for salt in ("one", "two"))
    assert sorted(first) == sorted(second) == items
    assert first != items and first != second
    assert {labels[i] for i in first[:20]} == {"a", "b"}


# --- folders ---------------------------------------------------------------------------------


def test_folder_task(folder):
    task = _load(folder)
    assert task.label_names == ("red", "green", "blue")  # as the file declares them
    assert _sizes(task) == [60, 12, 24]
    assert task.source == "folder"
    for split in readers.SPLITS:
        labels = getattr(task, split).labels.tolist()
        assert [text.split()[1] for text in task.texts[split]] == [COLOURS[i] for i in labels]


def test_folder_train_and_validation_are_pooled_and_split_by_seed(folder):
    first, second = _load(folder, seed=0), _load(folder, seed=1)
    assert first.texts["test"] == second.texts["test"]
    assert set(first.texts["validation"]) != set(second.texts["validation"])
    for task in (first, second):
        pooled = set(task.texts["train"] + task.texts["validation"])
        assert pooled == set(_texts("train", 60)["text"] + _texts("validation", 12)["text"])
        assert torch.bincount(task.validation.labels).tolist() == [4, 4, 4]


def test_sizes_are_respected_as_far_as_there_are_texts(folder):
    assert _sizes(_load(folder, sizes=(30, 9, 6))) == [30, 9, 6]
    assert _sizes(_load(folder, sizes=(None, None, 6))) == [60, 12, 6]
    assert _sizes(_load(folder, sizes=(60, 12, 24))) == [60, 12, 24]
    assert _sizes(_load(folder, sizes=(900, 300, 400))) == [54, 18, 24]
    assert torch.bincount(_load(folder, sizes=(30, 9, 6)).train.labels).tolist() == [10] * 3


def test_order_of_the_rows_does_not_matter(folder):
    before = _load(folder, sizes=(30, 9, 10)).texts
    for split, count in (("train", 60), ("validation", 12), ("test", 24)):
        columns = {key: values[::-1] for key, values in _texts(split, count).items()}
        _write(folder / "boats" / f"{split}.parquet", columns)
    assert _load(folder, sizes=(30, 9, 10)).texts == before


def test_validation_file_may_be_missing(folder):
    (folder / "boats" / "validation.parquet").unlink()
    assert _sizes(_load(folder)) == [48, 12, 24]


def test_repeats_and_test_texts_leave_the_training_part(folder):
    train, test = _texts("train", 60), _texts("test", 24)
    columns = {key: train[key] + train[key][:5] + test[key][:7] for key in train}
    _write(folder / "boats" / "train.parquet", columns)
    task = _load(folder)
    assert len(task.train) + len(task.validation) == 72
    pooled = task.texts["train"] + task.texts["validation"]
    assert len(set(pooled)) == 72
    assert not set(pooled) & set(task.texts["test"])


def test_fingerprint_covers_every_split_but_no_sampling(folder):
    prints = [_load(folder, sizes=sizes, seed=3).fingerprint for sizes in ((None,) * 3, (30, 9, 6))]
    for split in readers.SPLITS:
        columns = _texts(split, {"train": 60, "validation": 12, "test": 24}[split])
        columns["text"][3] += " home"
        _write(folder / "boats" / f"{split}.parquet", columns)
        prints.append(_load(folder).fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_string_labels_are_sorted(folder):
    for split in readers.SPLITS:
        columns = _texts(split, 24)
        columns["label"] = [COLOURS[number] for number in columns["label"]]
        _write(folder / "boats" / f"{split}.parquet", columns, names=None)
    task = _load(folder)
    assert task.label_names == ("blue", "green", "red")
    colours = [task.label_names[number] for number in task.test.labels]
    assert colours == [text.split()[1] for text in task.texts["test"]]


def test_numbers_without_names_are_sorted_by_value(folder):
    for split in readers.SPLITS:
        columns = _texts(split, 24)
        columns["label"] = [(10, 9, 2)[number] for number in columns["label"]]
        _write(folder / "boats" / f"{split}.parquet", columns, names=None)
    assert _load(folder).label_names == ("2", "9", "10")


def test_rows_without_text_or_label_go(folder):
    columns = _texts("train", 60)
    columns["text"][:3] = [None, "", "  "]
    columns["label"] = [None, *(COLOURS[number] for number in columns["label"][1:])]
    columns["label"][9] = None
    _write(folder / "boats" / "train.parquet", columns, names=None)
    task = _load(folder)
    assert len(task.train) + len(task.validation) == 60 - 4 + 12


def test_long_texts_and_many_rows_are_cut(folder, monkeypatch):
    columns = _texts("train", 60)
    columns["text"] = [text + " far" * 5000 for text in columns["text"]]
    _write(folder / "boats" / "train.parquet", columns)
    assert max(len(text) for text in _load(folder).texts["train"]) == readers.TEXT_LIMIT
    readers.read_pool.cache_clear()
    monkeypatch.setattr(readers, "ROW_LIMIT", 40)
    first, second = _load(folder, seed=0), _load(folder, seed=1)
    assert _sizes(first)[0] + _sizes(first)[1] == 40 + 12
    pools = [set(t.texts["train"] + t.texts["validation"]) for t in (first, second)]
    assert pools[0] == pools[1]


def test_folder_comes_from_the_environment(folder, monkeypatch):
    os.rename(folder / "boats", folder / "imdb")
    monkeypatch.setenv("SFUSION_DATA", str(folder))
    assert tasks.load_task("imdb").source == "folder"
    assert tasks.load_task("input-or-output", sizes=(9, 9, 9)).source.startswith("embedded")


def test_files_are_read_once_until_they_change(folder, monkeypatch):
    before = _load(folder).fingerprint
    calls = []
    read = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda path: calls.append(path) or read(path))
    assert _load(folder, seed=5).fingerprint == before
    assert calls == []
    _write(folder / "boats" / "test.parquet", _texts("other", 24))
    assert _load(folder).fingerprint != before
    assert len(calls) == 3


# --- the Hub, on local copies of the same shape -----------------------------------------------

CLASSES = {"newsgroup": 20, "dbpedia": 14, "arxiv": 11, "patent": 9, "yahoo": 10, "yelp": 5}
CLASSES |= {"agnews": 4, "imdb": 2, "amazon": 2}
SHA = "0123456789abcdef0123456789abcdef01234567"


def _hub_split(name, split):
    """Columns of a Hub set, under the names that its card gives, with invented texts."""
    names = [f"{name} class {number:02d}" for number in range(CLASSES[name])]
    labels = [number % len(names) for number in range(4 * len(names))]
    lines = [f"{split} line {i} on {names[label]}" for i, label in enumerate(labels)]
    number = {"label": labels}
    columns = {
        "newsgroup": {"text": lines, **number, "label_text": [names[i] for i in labels]},
        "dbpedia": {**number, "title": ["Title"] * len(lines), "content": lines},
        "amazon": {**number, "title": ["Title"] * len(lines), "content": lines},
        "yahoo": {
            "id": list(range(len(lines))),
            "topic": labels,
            "question_title": ["Why?"] * len(lines),
            "question_content": ["" for _ in lines],
            "best_answer": lines,
        },
    }.get(name, {"text": lines, **number})
    data = datasets.Dataset.from_dict(columns)
    if name != "newsgroup":  # its numbers have no names
        label = "topic" if name == "yahoo" else "label"
        data = data.cast_column(label, datasets.ClassLabel(names=names))
    return data


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that holds the nine, as Parquet files in the layout that each of them has there."""
    load = datasets.load_dataset
    seen = []

    def info(repo, revision=None, timeout=None):
        assert timeout is not None and timeout <= 10
        seen.append((repo, revision))
        return SimpleNamespace(sha=SHA)

    def load_local(repo, data_files=None, revision=None):
        assert revision == SHA
        (name,) = (name for name, spec in tasks.TASKS.items() if spec.repo == repo)
        splits = ["train", "test", *(["validation"] if name in ("arxiv", "patent") else [])]
        for split in [*splits, *(["unsupervised"] if name == "imdb" else [])]:
            # The Hub's own conversion has a folder a configuration and a split.
            config = {"arxiv": "no_ref", "patent": "abstract"}.get(name)
            folder = f"{config}/{split}" if config else "data"
            file = "0000.parquet" if config else f"{split}-00000-of-00001.parquet"
            path = tmp_path / "hub" / name / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            _hub_split(name, split).to_parquet(path)
        return load(str(tmp_path / "hub" / name), data_files=data_files, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(huggingface_hub, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load_local)
    return seen


@pytest.mark.parametrize("name", NINE)
def test_hub_task(hub, name):
    task = tasks.load_task(name)
    spec = tasks.TASKS[name]
    classes = CLASSES[name]
    texts = [text for split in task.texts.values() for text in split]
    assert task.source == f"hub: {spec.repo}@{SHA}"
    assert hub == [(spec.repo, spec.revision)]
    assert task.label_names == tuple(f"{name} class {number:02d}" for number in range(classes))
    rest = (2 if name in ("arxiv", "patent") else 1) * 4 * classes
    assert _sizes(task)[0] + _sizes(task)[1] == rest
    assert _sizes(task)[2] == 4 * classes
    start = {"dbpedia": "Title t", "amazon": "Title t", "yahoo": "Why?  t"}.get(name, "t")
    assert all(text.replace("validation", "train").startswith(start) for text in texts)
    for split in readers.SPLITS:
        named = [task.label_names[number] for number in getattr(task, split).labels]
        assert named == [text.partition(" on ")[2] for text in task.texts[split]]


def test_the_hub_is_asked_for_a_revision_once_a_process(hub):
    for seed in (0, 1):
        readers.read_pool.cache_clear()
        tasks.load_task("agnews", seed=seed)
    assert hub == [("fancyzhx/ag_news", None)]


@pytest.mark.parametrize("name", ["arxiv", "patent"])
def test_scripted_sets_are_read_from_the_parquet_conversion(name):
    assert tasks.TASKS[name].revision == "refs/convert/parquet"
    assert tasks.TASKS[name].config


def test_large_hub_split_is_drawn_before_it_is_read(hub, monkeypatch):
    sizes = []
    columns = datasets.Dataset.select_columns
    monkeypatch.setattr(
        datasets.Dataset, "select_columns", lambda self, names: sizes.append(len(self)) or columns(self, names)
    )
    monkeypatch.setattr(readers, "ROW_LIMIT", 6)
    tasks.load_task("agnews")
    assert sizes == [6, 6]


def test_hub_column_that_has_gone(hub, monkeypatch):
    spec = readers.TaskSpec("agnews", "fancyzhx/ag_news", ("headline",))
    monkeypatch.setitem(tasks.TASKS, "agnews", spec)
    _fails(f"fancyzhx/ag_news@{SHA} has no column 'headline': it has label", "agnews")


@pytest.mark.parametrize("how", ["switch", "unreachable"])
def test_offline_fails_at_once_and_names_the_folder_form(monkeypatch, how):
    if how == "switch":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:  # nothing listens on the discard port
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    start = time.monotonic()
    _fails(
        r"task 'imdb': stanfordnlp/imdb cannot .* set SFUSION_DATA to a folder that holds "
        r"imdb/\{train,validation,test\}.parquet",
        "imdb",
    )
    assert time.monotonic() - start < 10


# --- inputs that are turned down --------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "name", "arguments"),
    [
        ("unknown task 'nope': choose one of input-or-output, .*amazon", "nope", {}),
        ("unknown source 'web': choose one of auto,", "imdb", {"source": "web"}),
        ("task 'imdb' has no embedded source", "imdb", {"source": "embedded"}),
        ("task 'subject' has no hub source", "subject", {"source": "hub"}),
        ("task 'imdb' from a folder: set SFUSION_DATA", "imdb", {"source": "folder"}),
        ("no file .*missing.imdb.train.parquet", "imdb", {"folder": "missing"}),
        (r"sizes \(1, 2\): give 3 positive", "subject", {"sizes": (1, 2)}),
        (r"sizes \(0, 9, 9\): give 3 positive", "subject", {"sizes": (0, 9, 9)}),
        ("max_length 2: give 3 to 512 tokens", "subject", {"max_length": 2}),
        ("max_length 513: give 3 to 512 tokens", "subject", {"max_length": 513}),
    ],
)
def test_bad_arguments(message, name, arguments):
    _fails(message, name, **arguments)


def test_split_file_that_is_missing(folder):
    (folder / "boats" / "test.parquet").unlink()
    _fails("no file .*boats.test.parquet: a task folder holds", "boats", source="folder", folder=folder)


@pytest.mark.parametrize("column", ["text", "label"])
def test_missing_column(folder, column):
    columns = _texts("train", 6)
    columns["other"] = columns.pop(column)
    _write(folder / "boats" / "train.parquet", columns, names=None)
    _fails(f"train.parquet has no column '{column}': it has .*other", "boats", source="folder", folder=folder)


@pytest.mark.parametrize("split", readers.SPLITS)
def test_empty_file(folder, split):
    _write(folder / "boats" / f"{split}.parquet", {"text": [], "label": []}, names=None)
    _fails(f"the {split} split is empty", "boats", source="folder", folder=folder)


def test_file_that_is_no_parquet(folder):
    (folder / "boats" / "train.parquet").write_text("text,label\na,1\n")
    _fails("train.parquet is not a readable Parquet file: ", "boats", source="folder", folder=folder)


def test_one_class_is_too_few(folder):
    for split in ("train", "validation"):
        _write(folder / "boats" / f"{split}.parquet", _texts(split, 9, ["red"]))
    _fails("the train split has 1 class", "boats", source="folder", folder=folder)


def test_label_number_without_a_name(folder):
    table = pq.read_table(folder / "boats" / "train.parquet")
    labels = pa.array([3, *table["label"].to_pylist()[1:]])
    table = table.set_column(1, table.schema.field("label"), labels)
    pq.write_table(table, folder / "boats" / "train.parquet")
    _fails("train.parquet has label 3: there are 3 label names", "boats", source="folder", folder=folder)


def test_training_texts_that_are_all_test_texts(folder):
    for split in ("train", "validation"):
        _write(folder / "boats" / f"{split}.parquet", _texts("test", 24))
    _fails("every training text occurs in the test split", "boats", source="folder", folder=folder)


def test_too_few_texts_for_a_validation_split(folder):
    (folder / "boats" / "validation.parquet").unlink()
    _write(folder / "boats" / "train.parquet", _texts("train", 3))
    _fails("too few texts for a validation split", "boats", source="folder", folder=folder)
