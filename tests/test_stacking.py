"""The stand-in of twelve layers: what it is made of, and that it is made whole or not at all."""

import pytest
import tiny
import torch
from sfusion.models.stacking import stack
from transformers import AutoModel

from sfusion import SfusionError, load_model
from sfusion.models import loading as models
from sfusion.models.layers import layer_stack
from sfusion.models.loading import STACKED_MODELS, fingerprint, load_tokenizer, locate_model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("stack") / "model", layers=3)


def test_layers_come_twice_in_block_order(source, tmp_path):
    made = stack(source, tmp_path / "deep")
    shallow, deep = load_model(source, num_labels=2), load_model(made, num_labels=2)
    assert len(layer_stack(deep)) == deep.config.num_hidden_layers == 6
    for number, layer in enumerate(layer_stack(deep)):
        twin = layer_stack(shallow)[number % 3].state_dict()
        assert all(torch.equal(twin[name], value) for name, value in layer.state_dict().items())
    below = shallow.base_model.embeddings.state_dict()
    for name, value in deep.base_model.embeddings.state_dict().items():
        assert torch.equal(below[name], value)
    ids = torch.tensor([[2, 7, 9, 3]])
    again = AutoModel.from_pretrained(made)
    hidden = again(ids).last_hidden_state
    torch.testing.assert_close(hidden, deep.base_model(ids).last_hidden_state, atol=1e-5, rtol=0)
    assert load_tokenizer(made).get_vocab() == load_tokenizer(source).get_vocab()


def test_a_stack_is_made_once(source, tmp_path):
    made = stack(source, tmp_path / "deep")
    before = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    assert stack(source, tmp_path / "deep") == made
    assert {file.name: file.stat().st_mtime_ns for file in made.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["deep"]


def test_a_folder_that_cannot_be_written_is_one_line(source, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SfusionError) as error:
        stack(source, tmp_path / "file" / "deep")
    assert "SFUSION_CACHE" in tiny.one_line(error)


def test_the_registered_stand_in_is_found_and_cached(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SFUSION_CACHE", str(tmp_path))
    assert set(STACKED_MODELS.values()) <= set(models.EMBEDDED_MODELS)
    monkeypatch.setitem(STACKED_MODELS, "stand-in", str(source))
    found = locate_model("stand-in")
    assert found.parent == tmp_path
    assert fingerprint("stand-in") != fingerprint(source)
    assert locate_model("stand-in") == found
