"""Networks of text whose padding is not 0, by tokenizers of words and of pieces."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import TWO_LABELS
from tiny_texts import save_padded
from transformers import AutoTokenizer

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.backbones import BackboneEncoder
from mke_ray.models.seeing import represented
from mke_ray.models.teachers import check_needs
from mke_ray.models.text import TextTeacher
from mke_ray.schema import TokenSpec
from mke_ray.tokens import TextTokenizer, tokenizer_facts

TEXTS = ["a drama of number 1", "nobody knows how it ends", "western"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def stored(folder, num_tokens=12):
    spec = TokenSpec(num_tokens, **tokenizer_facts(str(folder), None))
    tokenizer = TextTokenizer(str(folder), None, spec)
    return spec, np.stack([tokenizer.ids(text) for text in TEXTS])


@pytest.mark.parametrize("is_unigram", [False, True])
@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta-xl", "bert"])
def test_a_student_sees_no_padding_whatever_its_id_is(tmp_path, kind, is_unigram):
    save_padded(tmp_path, kind, is_unigram=is_unigram, head=False)
    spec, short_BL = stored(tmp_path)
    most = 40 if kind == "bert" else 38
    encoder = BackboneEncoder("plot", path=str(tmp_path), num_features=5).eval()
    needs = {"digest": spec.digest, "num_ids": spec.num_ids, "pad_id": 1, "num_tokens": most}
    assert encoder.needs == {"kind": "tokens", **needs}
    arrays = short_BL, stored(tmp_path, num_tokens=30)[1]
    with torch.no_grad():
        found = [encoder(encoder.represent(torch.from_numpy(one))) for one in arrays]
        torch.testing.assert_close(found[0], found[1])
        num = int((short_BL[2] != 1).sum())
        alone = encoder(torch.from_numpy(short_BL[2:, :num]).long())
        torch.testing.assert_close(alone, found[0][2:])


def test_a_text_that_is_not_there_is_padding_alone(tmp_path):
    save_padded(tmp_path, head=False)
    encoder = BackboneEncoder("plot", path=str(tmp_path), num_features=5)
    x_BL = torch.from_numpy(stored(tmp_path)[1])
    seen_BL = represented(encoder, x_BL, torch.tensor([True, False, True]))
    assert (seen_BL[1] == 1).all() and seen_BL[::2].equal(x_BL[::2].long())


@pytest.mark.parametrize("is_unigram", [False, True])
def test_a_classifier_answers_as_its_pipeline_whatever_its_padding_is(tmp_path, is_unigram):
    network = save_padded(tmp_path, is_unigram=is_unigram)
    spec, ids_BL = stored(tmp_path)
    teacher = TextTeacher(str(tmp_path), modality="plot", batch_size=2)
    check_needs(teacher, {"plot": spec})
    own = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = network(own["input_ids"], attention_mask=own["attention_mask"]).logits
    np.testing.assert_allclose(teacher.predict(ids_BL), wanted, atol=1e-5)


def test_a_network_that_pads_with_another_id_than_its_tokenizer_is_refused(tmp_path):
    save_padded(tmp_path, pad_id=0)
    with pytest.raises(ConfigError, match=r"path=.*says pad_token_id=0, .* padded with 1; set"):
        TextTeacher(str(tmp_path), modality="plot")
    with pytest.raises(ConfigError, match=r"encoders\.plot: .*says pad_token_id=0, .*with 1"):
        BackboneEncoder("plot", path=str(tmp_path))


def test_a_store_that_pads_with_another_id_than_a_network_is_refused(tmp_path):
    save_padded(tmp_path)
    teacher = TextTeacher(str(tmp_path), modality="plot")
    facts = {**tokenizer_facts(str(tmp_path), None), "pad_id": 0}
    with pytest.raises(StoreError, match=r"needs pad_id=1 of 'plot'.*pad_id is 0"):
        check_needs(teacher, {"plot": TokenSpec(12, **facts)})
    config = {"model_type": "roberta", "vocab_size": 50, "pad_token_id": 1, **SIZES}
    assert BackboneEncoder("plot", config=config).needs["pad_id"] == 1


def test_a_network_without_a_limit_of_its_positions_reads_texts_of_any_length():
    sizes = {"vocab_size": 50, "d_model": 8, "n_layer": 1, "n_head": 2, "pad_token_id": 5}
    encoder = BackboneEncoder("plot", config={"model_type": "xlnet", **sizes})
    assert encoder.needs == {"kind": "tokens", "num_ids": 50, "pad_id": 5}


def test_an_encoder_with_a_decoder_is_refused_and_its_encoder_alone_is_read():
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = {"model_type": "t5", "vocab_size": 50, **sizes}
    with pytest.raises(ConfigError, match=r"t5 is an encoder and a decoder.*tower=encoder"):
        BackboneEncoder("plot", config=config)
    alone = BackboneEncoder("plot", config=config, tower="encoder").eval()
    assert torch.isfinite(alone(torch.arange(2, 10)[None])).all()


def test_a_network_of_pictures_with_a_vocabulary_of_patches_reads_pictures():
    sizes = {"vocab_size": 8192, "image_size": 32, "patch_size": 8, "intermediate_size": 16}
    given = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"model_type": "beit", **SIZES, **sizes, **TWO_LABELS}
    encoder = BackboneEncoder("seen", config=config, stored="image", input=given)
    assert encoder.reads == "frames" and encoder.needs == {"kind": "image"}
