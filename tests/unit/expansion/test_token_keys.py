"""Modalities of tokens in a configuration: what a run fills in, and what is refused."""

import pytest
from composed import composed

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from published_data import write_mm_imdb
from tiny_pretrained import WORDS, save_bert
from tiny_texts import save_padded

from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.probing import census, probe
from mke_ray.expansion.token_keys import token_lines
from mke_ray.expansion.work import samples_of
from mke_ray.tokens import tokenizer_facts

GENRES = {number: str(number) for number in range(23)}


@pytest.fixture
def folder(tmp_path):
    write_mm_imdb(tmp_path / "data", train=6, dev=2, test=2)
    save_bert(tmp_path / "bert")
    return tmp_path


def job_in(folder, *more, experiment="mm_imdb_tokens", bert="bert"):
    overrides = [
        f"experiment={experiment}",
        f"+smoke={experiment}",
        f"source.root={folder / 'data'}",
        f"root={folder / 'run'}",
        "scaling=local",
        "labelling=local",
        "engine=torch",
    ]
    if experiment == "mm_imdb_tokens":
        overrides.append(f"decode.plot.tokenizer={folder / bert}")
    return composed(*overrides, *more)[0]


def test_a_run_fills_in_what_the_tokenizer_says_and_a_store_is_of_its_digest(folder):
    job = job_in(folder)
    run = check_job(job)
    facts = tokenizer_facts(str(folder / "bert"), None)
    assert {key: job.decode["plot"][key] for key in facts} == facts
    assert job.source["tokenizers"]["plot"]["path"] == str(folder / "bert")
    assert job.views["plot"]["mask_id"] == facts["mask_id"]
    name = samples_of(run).name
    assert check_job(job).decode == run.decode
    (folder / "bert").rename(folder / "moved")
    assert samples_of(check_job(job_in(folder, bert="moved"))).name == name
    save_bert(folder / "other", words=WORDS[::-1])
    assert samples_of(check_job(job_in(folder, bert="other"))).name != name


def test_a_network_without_weights_pads_as_the_tokenizer_does(folder):
    save_padded(folder / "roberta")
    sizes = "hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 50"
    plain = f"student.encoders.plot.config={{model_type: bert, {sizes}}}"
    job = job_in(folder, "student.encoders.plot.path=null", plain, bert="roberta")
    check_job(job)
    known = job.student.encoders["plot"]
    assert known["input"]["pad_id"] == known["config"]["pad_token_id"] == 1
    pads = "+student.encoders.plot.config.pad_token_id=2"
    two = ["student.encoders.plot.path=null", "+student.encoders.plot.input={pad_id: 2}"]
    with pytest.raises(ConfigError, match=r"pads with 2, .*decode\.plot with 1; set student\.enc"):
        check_job(job_in(folder, *two, plain, pads, bert="roberta"))
    other = "+student.encoders.plot.input={pad_id: 2}"
    with pytest.raises(ConfigError, match=r"says pad_token_id=1, and its text is padded with 2"):
        check_job(job_in(folder, "student.encoders.plot.path=null", plain, other, bert="roberta"))


def test_a_dry_run_says_how_many_texts_are_as_long_as_is_stored(folder):
    for num, full in ((5, 9), (40, 0)):
        run = check_job(job_in(folder, f"decode.plot.num_tokens={num}"))
        good, _ = probe(run.source, census(run.source, select_fraction=0.5).in_turn(), run.decode)
        (line,) = token_lines(run.decode, good)
        num_texts = sum("plot" in one.stored.pieces for one in good)
        assert f"{min(full, num_texts)} of {num_texts} texts that were read fill all {num}" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["decode.plot.tokenizer=/nowhere"], r"decode\.plot\.tokenizer: path=/nowhere is neither"),
        (["decode.plot.tokenizer=null"], r"decode\.plot\.tokenizer is missing"),
        (["+decode.plot.digest=abc"], r"decode\.plot\.digest=abc: the tokenizer .* has the digest"),
        (
            ["decode.plot.tokenizer=null", "+decode.plot.digest=abc"],
            r"decode\.plot\.tokenizer is missing",
        ),
        (
            ["objective=mke", "objective.mix={type: mixup}"],
            r"\.mix: plot is stored as ids",
        ),
        (["objective=mke", "objective.alpha={plot: 1.0}"], r"alpha\.plot=1\.0.*TokenView"),
        (["views.plot.mask=1.5"], r"mask=1\.5; give a share"),
        (["source=ravdess"], r"decode\.plot\.kind=tokens: source=.*gives no text"),
        (["decode.plot.num_tokens=80"], r"expects at most num_tokens=64, decode\.plot\.num_tok"),
    ],
)
def test_what_does_not_suit_tokens_is_refused_with_its_key(folder, more, said):
    with pytest.raises(ConfigError, match=said):
        check_job(job_in(folder, *more))


def test_a_network_of_another_tokenizer_is_refused_as_student_and_as_teacher(folder):
    save_bert(folder / "other", words=WORDS[::-1], id2label=GENRES)
    student = [
        f"student.encoders.plot.path={folder / 'other'}",
        "student.encoders.plot.config=null",
    ]
    with pytest.raises(ConfigError, match=r"encoders\.plot: the tokens of 'plot' are of a tok"):
        check_job(job_in(folder, *student))
    teacher = ["teacher=pretrained_text", "teacher.modality=plot", "teacher.network.kind=multi"]
    path = f"teacher.network.path={folder / 'other'}"
    with pytest.raises(StoreError, match=r"the teacher: the tokens of 'plot' are of a tokenizer"):
        check_job(job_in(folder, *teacher, path))
    hashed = job_in(folder, *teacher, path, experiment="mm_imdb")
    with pytest.raises(StoreError, match=r"needs kind=tokens of 'plot' .*kind is features"):
        check_job(hashed)
