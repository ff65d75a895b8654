"""Texts as ids of tokens, by tokenizers saved as a user's are."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import SPECIAL, WORDS, save_bert
from tiny_texts import save_padded
from transformers import AutoTokenizer, BertTokenizer

from mke_ray.errors import ConfigError, MediaError, StoreError
from mke_ray.schema import TokenSpec
from mke_ray.tokens import TextTokenizer, facts_beside, tokenizer_facts

TEXT = "A drama of number 1, nobody knows how it ends."


def tokenizer_in(folder, num_tokens=16):
    spec = TokenSpec(num_tokens, **tokenizer_facts(str(folder), None))
    return TextTokenizer(str(folder), None, spec)


def test_ids_are_those_of_the_tokenizer_itself_padded_and_cut(tmp_path):
    save_bert(tmp_path)
    own = AutoTokenizer.from_pretrained(tmp_path)
    for num in (16, 8):
        wanted = own(TEXT, truncation=True, padding="max_length", max_length=num)["input_ids"]
        found_L = tokenizer_in(tmp_path, num).ids(TEXT)
        assert found_L.dtype == np.int32 and found_L.tolist() == wanted
    assert wanted[0] == SPECIAL.index("[CLS]") and wanted[-1] == SPECIAL.index("[SEP]")
    again = tokenizer_in(tmp_path).ids(TEXT)
    texts = [TEXT, "of a drama"] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tokenizer_in(tmp_path).ids, texts))
    assert all(np.array_equal(one, again) for one in found[::2])


def test_special_tokens_in_a_text_are_words_as_any_other(tmp_path):
    save_bert(tmp_path)
    found_L = tokenizer_in(tmp_path).ids("a [PAD] [SEP] drama")
    words = found_L[1 : np.flatnonzero(found_L == SPECIAL.index("[SEP]"))[-1]]
    assert SPECIAL.index("[PAD]") not in words and SPECIAL.index("[SEP]") not in words
    assert words[-1] == len(SPECIAL) + WORDS.index("drama")


def test_pieces_that_are_written_as_special_tokens_are_unknown_words(tmp_path):
    save_padded(tmp_path, is_unigram=True)
    facts = tokenizer_facts(str(tmp_path), None)
    assert facts["pad_id"] == 1 and facts["special_ids"] == [0, 1, 2, 4]
    found = tokenizer_in(tmp_path).ids("a <pad> drama </s> of <mask>").tolist()
    end = found.index(2)
    assert found[end + 1 :] == [1] * (15 - end) and found[0] == 0
    assert found[1:end].count(3) == 3 and not {0, 1, 2, 4} & set(found[1:end])
    plain = tokenizer_in(tmp_path).ids("a drama of").tolist()
    assert set(plain[1:4]) < set(found) and plain[4:] == [2, *[1] * 11]


def test_a_token_of_many_meanings_stays_special_and_pieces_without_one_fall_out(tmp_path):
    save_padded(tmp_path, is_unigram=True)
    own = AutoTokenizer.from_pretrained(tmp_path)
    own.unk_token = "</s>"
    own.save_pretrained(tmp_path / "many")
    assert tokenizer_facts(str(tmp_path / "many"), None)["special_ids"] == [0, 1, 2, 4]
    many = tokenizer_in(tmp_path / "many").ids("a <pad> drama").tolist()
    own.unk_token = None
    own.save_pretrained(tmp_path / "none")
    found = tokenizer_in(tmp_path / "none").ids("a <pad> drama").tolist()
    assert found[0] == 0 and 1 not in found[: found.index(2)] and 3 not in found
    assert many == found


def test_the_number_of_ids_is_that_of_the_highest_and_not_of_the_words(tmp_path):
    vocabulary = {name: number for number, name in enumerate([*SPECIAL, *WORDS])}
    BertTokenizer(vocab={**vocabulary, "far": 70000}).save_pretrained(tmp_path)
    assert tokenizer_facts(str(tmp_path), None)["num_ids"] == 70001


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "spm.model", "spiece.model"])
def test_pieces_of_sentences_beside_a_network_are_not_overlooked(tmp_path, name):
    (tmp_path / name).write_bytes(b"no pieces")
    with pytest.raises(ConfigError, match="cannot be read"):
        facts_beside(str(tmp_path))


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_text_without_a_token_is_empty(tmp_path, text):
    save_bert(tmp_path)
    with pytest.raises(MediaError, match="no token") as caught:
        tokenizer_in(tmp_path).ids(text)
    assert caught.value.reason == "empty"


def test_a_digest_is_of_the_words_and_not_of_files_nor_of_calls_before(tmp_path):
    save_bert(tmp_path / "one")
    facts = tokenizer_facts(str(tmp_path / "one"), None)
    assert facts["special_ids"] == [0, 2, 3, 4]  # an unknown word is a word
    assert (facts["pad_id"], facts["mask_id"]) == (0, 4)
    assert facts["num_ids"] == len(SPECIAL) + 2 * len(WORDS)
    own = AutoTokenizer.from_pretrained(tmp_path / "one")
    own(TEXT, truncation=True, max_length=7, padding="max_length")
    own.save_pretrained(tmp_path / "alone")
    assert tokenizer_facts(str(tmp_path / "alone"), None) == facts
    save_bert(tmp_path / "other", words=WORDS[::-1])
    assert tokenizer_facts(str(tmp_path / "other"), None)["digest"] != facts["digest"]
    assert facts_beside(str(tmp_path)) is None and facts_beside(str(tmp_path / "one")) == facts


def test_another_tokenizer_than_was_planned_with_stops_the_reader(tmp_path):
    save_bert(tmp_path)
    spec = TokenSpec(8, **{**tokenizer_facts(str(tmp_path), None), "digest": "0" * 64})
    with pytest.raises(StoreError, match=r"has the digest .* here, and had 000.* planned"):
        TextTokenizer(str(tmp_path), None, spec)


def test_what_is_no_tokenizer_is_named_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match="neither a folder here nor owner/name of the Hub"):
        tokenizer_facts(str(tmp_path / "none"), None)
    with pytest.raises(ConfigError, match=r"cannot be read.*save_pretrained"):
        tokenizer_facts(str(tmp_path), None)
    with pytest.raises(ConfigError, match="revision=main is no commit"):
        tokenizer_facts("owner/name", "main")


@pytest.mark.parametrize("pad", ["[SEP]", None])
def test_a_tokenizer_without_a_token_for_padding_alone_is_refused(tmp_path, pad):
    vocabulary = {name: number for number, name in enumerate([*SPECIAL, *WORDS])}
    own = BertTokenizer(vocab=vocabulary, pad_token=pad)
    own.pad_token = pad
    own.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no token for padding alone"):
        tokenizer_facts(str(tmp_path), None)


def test_ids_are_text_again_without_what_stands_around_it(tmp_path):
    save_bert(tmp_path / "bert")
    tokenizer = tokenizer_in(tmp_path / "bert")
    assert tokenizer.text(tokenizer.ids("A drama of number")) == "a drama of number"
    save_padded(tmp_path / "roberta")
    other = tokenizer_in(tmp_path / "roberta")
    assert other.text(other.ids("a drama of number")) == "a drama of number"
