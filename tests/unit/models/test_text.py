"""Networks of text of transformers, as encoders of a student and as teachers."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import WORDS, save_bert, save_vit
from transformers import AutoTokenizer

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models import build_student, load_student, save_student
from mke_ray.models.backbone_spec import pinned, portable
from mke_ray.models.backbones import BackboneEncoder
from mke_ray.models.encoders import Encoder
from mke_ray.models.teachers import Teacher, check_needs
from mke_ray.models.text import TextTeacher
from mke_ray.schema import LabelSpace, TokenSpec
from mke_ray.tokens import TextTokenizer, tokenizer_facts

TEXTS = ["a drama of number 1", "nobody knows how it ends.", "western"]


def stored(folder, num_tokens=12):
    spec = TokenSpec(num_tokens, **tokenizer_facts(str(folder), None))
    tokenizer = TextTokenizer(str(folder), None, spec)
    return spec, np.stack([tokenizer.ids(text) for text in TEXTS])


def encoder_of(folder, **settings):
    torch.manual_seed(0)
    return BackboneEncoder("plot", path=str(folder), num_features=5, **settings)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_network_of_text_is_an_encoder_and_every_weight_gets_its_gradient(tmp_path, kind):
    wanted = save_bert(tmp_path, kind=kind)
    spec, ids_BL = stored(tmp_path)
    encoder = encoder_of(tmp_path)
    most = 39 if kind == "roberta" else 40
    needs = {"digest": spec.digest, "num_ids": spec.num_ids, "pad_id": 0, "num_tokens": most}
    assert isinstance(encoder, Encoder) and encoder.needs == {"kind": "tokens", **needs}
    base = dict(wanted.base_model.named_parameters())
    for name, weight in encoder.network.named_parameters():
        torch.testing.assert_close(weight, base[name])
    found = encoder.train()(encoder.represent(torch.from_numpy(ids_BL)))
    found.sum().backward()
    assert all(one.grad is not None for one in encoder.parameters() if one.requires_grad)


def test_the_mean_is_over_the_tokens_of_a_text_however_much_padding_there_is(tmp_path):
    save_bert(tmp_path)
    encoder = encoder_of(tmp_path).eval()
    _, short_BL = stored(tmp_path)
    _, long_BL = stored(tmp_path, num_tokens=30)
    with torch.no_grad():
        found = [encoder(encoder.represent(torch.from_numpy(one))) for one in (short_BL, long_BL)]
        torch.testing.assert_close(found[0], found[1])
        x_BL = encoder.represent(torch.from_numpy(short_BL[2:]))
        num = int((x_BL != 0).sum())
        hidden = encoder.network(input_ids=x_BL[:, :num]).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(encoder.project(hidden), found[0][2:])
        nothing = encoder(torch.zeros(1, 12, dtype=torch.int64))
    assert torch.isfinite(nothing).all()


@pytest.mark.parametrize(("trainable", "num"), [("none", 0), ("last_1", 16), ("lora", 12)])
def test_text_networks_are_frozen_wholly_or_in_part_or_have_low_rank(tmp_path, trainable, num):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    save_bert(tmp_path)
    encoder = encoder_of(tmp_path, trainable=trainable)
    trained = [name for name, one in encoder.network.named_parameters() if one.requires_grad]
    assert len(trained) == num
    assert trainable != "lora" or all("lora_" in name for name in trained)


def test_a_text_student_is_pinned_saved_and_loaded_without_its_files(tmp_path):
    save_bert(tmp_path / "bert")
    one = {"type": "transformers", "path": str(tmp_path / "bert"), "num_features": 5}
    spec = pinned({"encoders": {"plot": one}, "fusion": {"type": "concat"}, "head_hidden": []})
    known = spec["encoders"]["plot"]
    facts = tokenizer_facts(str(tmp_path / "bert"), None)
    assert known["input"] == {"pad_id": 0, "tokenizer": facts["digest"]}
    assert known["reads"] == "tokens" and "path" not in portable(spec)["encoders"]["plot"]
    student = build_student(spec, 2).eval()
    save_student(tmp_path / "student", student, spec=spec, label_space=LabelSpace(("a", "b")))
    _, ids_BL = stored(tmp_path / "bert")
    arrays = {"plot": torch.from_numpy(ids_BL)}, {"plot": torch.ones(3, dtype=torch.bool)}
    with torch.no_grad():
        again = load_student(tmp_path / "student").student(*arrays)
        torch.testing.assert_close(again, student(*arrays))


def test_a_network_without_files_knows_no_tokenizer(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = BackboneEncoder("plot", config={"model_type": "bert", "vocab_size": 50, **sizes})
    assert encoder.needs == {"kind": "tokens", "num_ids": 50, "pad_id": 0, "num_tokens": 512}


def test_a_text_classifier_answers_as_its_pipeline(tmp_path):
    network = save_bert(tmp_path)
    spec, ids_BL = stored(tmp_path)
    teacher = TextTeacher(str(tmp_path), modality="plot", batch_size=2)
    assert isinstance(teacher, Teacher) and teacher.label_space.classes == ("calm", "loud")
    check_needs(teacher, {"plot": spec})
    own = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(teacher.predict(ids_BL), network(**own).logits, atol=1e-5)
    before = teacher.fingerprint()
    save_bert(tmp_path, seed=1)
    assert TextTeacher(str(tmp_path), modality="plot").fingerprint() != before


def test_ids_of_another_tokenizer_and_texts_that_are_too_long_are_refused(tmp_path):
    save_bert(tmp_path / "one")
    save_bert(tmp_path / "other", words=WORDS[::-1])
    teacher = TextTeacher(str(tmp_path / "one"), modality="plot")
    with pytest.raises(StoreError, match=r"of a tokenizer with the dig.*decode\.plot\.tokenizer"):
        check_needs(teacher, {"plot": stored(tmp_path / "other")[0]})
    with pytest.raises(StoreError, match=r"needs at most num_tokens=40 .*num_tokens is 41"):
        check_needs(teacher, {"plot": stored(tmp_path / "one", num_tokens=41)[0]})


def test_what_is_no_text_classifier_is_named(tmp_path):
    save_vit(tmp_path / "vit")
    with pytest.raises(ConfigError, match="is no AutoModelForSequenceClassification"):
        TextTeacher(str(tmp_path / "vit"))
    save_bert(tmp_path / "bert", head=False)
    with pytest.raises(ConfigError, match="lacks weights"):
        TextTeacher(str(tmp_path / "bert"))
    save_bert(tmp_path / "alone")
    (tmp_path / "alone" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="has no tokenizer"):
        TextTeacher(str(tmp_path / "alone"))
