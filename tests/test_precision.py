"""The precision that pays: measured once a machine, never flipped by noise."""

import json
from dataclasses import asdict
from types import MappingProxyType

import numpy as np
import pytest
import tiny
import torch

from sfusion.experiments import pruning_study, study
from sfusion.training import precision
from sfusion.training.precision import (
    PrecisionChoice,
    choose_precision,
    resolve_precision,
)


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """Return a maker of processors that name bfloat16, of a speed in it."""
    monkeypatch.setenv("SFUSION_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "TOKENS", 1)

    def make(speed, noise=lambda: 1.0):
        def product_seconds(pairs):
            is_float32 = pairs[0][0].dtype == torch.float32
            return noise() * (speed if is_float32 else 1.0)

        able = MappingProxyType({"avx512_bf16": True})
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
        monkeypatch.setattr(precision, "_product_seconds", product_seconds)
        precision._kept_choice.cache_clear()

    yield make
    precision._kept_choice.cache_clear()


@pytest.mark.parametrize(
    "speed, expected", [(0.57, "fp32"), (1.1, "fp32"), (1.3, "bf16"), (2.0, "bf16")]
)
def test_auto_takes_bf16_where_it_is_faster(speed, expected, processor):
    processor(speed)
    choice = choose_precision("auto")
    assert choice.precision == expected
    assert f"{speed:.2f} times float32's rate" in choice.reason


@pytest.mark.parametrize("speed, expected", [(0.57, "fp32"), (2.0, "bf16")])
def test_noise_does_not_flip_the_choice(speed, expected, processor):
    rng = np.random.default_rng(0)
    processor(speed, lambda: rng.lognormal(sigma=0.1) * (1 + 9 * (rng.random() < 0.05)))
    choices = {precision._measured_choice().precision for _ in range(300)}
    assert choices == {expected}


def test_a_machine_is_measured_once(processor, tmp_path):
    processor(0.57)
    choice = choose_precision("auto")
    processor(2.0)
    assert choose_precision("auto") == choice
    (file,) = tmp_path.rglob("*.json")
    file.unlink()
    assert choose_precision("auto") == choice, "a process keeps to its choice"


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"precision": "fp8", "reason": "none"}']
)
def test_a_damaged_file_is_measured_again(content, processor, tmp_path):
    processor(2.0)
    choice = choose_precision("auto")
    (file,) = tmp_path.rglob("*.json")
    file.write_text(content)
    processor(2.0)
    assert choose_precision("auto") == choice
    assert json.loads(file.read_text()) == asdict(choice)


def test_a_cache_that_cannot_be_written_is_done_without(
    processor, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFUSION_CACHE", str(tmp_path / "file"))
    processor(2.0)
    assert resolve_precision("auto") == "bf16"


@pytest.mark.parametrize(
    "name, able, expected",
    [
        ("fp32", {"amx_bf16": True}, "fp32"),
        ("bf16", {}, "bf16"),
        ("auto", {}, "fp32"),
        ("auto", {"avx512_f": True, "amx_tile": True}, "fp32"),
    ],
)
def test_what_is_asked_for_or_cannot_be_is_not_measured(
    name, able, expected, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(precision, "bfloat16_speed", None)
    assert resolve_precision(name) == expected


@pytest.mark.parametrize("name", ["fp16", "", None, "BF16"])
def test_an_unknown_precision_is_one_line(name):
    with tiny.refused(repr(name)):
        resolve_precision(name)


def test_workers_use_what_the_parent_has_chosen(tiny_data, monkeypatch, tmp_path):
    class Asked(Exception):
        pass

    def search(experiments, *_):
        raise Asked({experiment.profile.precision for experiment in experiments})

    chosen = PrecisionChoice("bf16", "it is faster")
    monkeypatch.setattr(study, "choose_precision", lambda *_: chosen)
    monkeypatch.setattr(pruning_study, "Forest", search)
    profile = tiny.make_profile("none").model_copy(update={"precision": "auto"})
    with pytest.raises(Asked, match="bf16"):
        pruning_study.PruningStudy(profile).run(tmp_path, quiet=True)
