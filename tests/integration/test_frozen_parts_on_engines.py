"""Networks of which a part is trained, under every engine: the same losses, weights and names."""

import pytest
import torch
from engine_process import Case, run_ranks
from training_stores import STUDENT, make_run

from mke_ray.storage import open_root

pytest.importorskip("transformers", reason="the extra transformers is not installed")
pytest.importorskip("peft", reason="the extra lora is not installed")

CONFIG = {
    "model_type": "wav2vec2",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [4],
    "conv_kernel": [1],
    "conv_stride": [1],
    "num_conv_pos_embeddings": 2,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
WAYS = ["all", "last_1", "lora", "none"]
ENGINES = {
    "torch": {"type": "torch"},
    "fsdp2": {"type": "torch", "shard": "fsdp2"},
    **{
        f"zero{stage}": {"type": "deepspeed", "config": {"zero_optimization": {"stage": stage}}}
        for stage in (2, 3)
    },
}


def fit_of(trainable):
    backbone = {"type": "transformers", "config": CONFIG, "trainable": trainable}
    student = {**STUDENT, "encoders": {**STUDENT["encoders"], "a": backbone}}
    return {"student": student, "num_steps": 4, "global_batch": 8, "ema_decay": 0.9}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every engine on two ranks; ZeRO 3 in processes of its own, since it leaves a patch there."""
    root = tmp_path_factory.mktemp("run")
    make_run(open_root(str(root)), {"labelled": 20, "unlabeled": 60, "probe": 20})
    cases = {
        name: [Case(f"{name}-{way}", engine, fit_of(way), {}) for way in WAYS]
        for name, engine in ENGINES.items()
    }
    first = [case for name in ENGINES if name != "zero3" for case in cases[name]]
    found = {}
    for several in (first, cases["zero3"]):
        folder = tmp_path_factory.mktemp("ranks")
        found |= run_ranks(several, num_ranks=2, root=root, folder=folder)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["fsdp2", "zero2", "zero3"])
def test_engines_agree_with_plain_torch(results, name, way):
    mine, other = results[f"{name}-{way}"], results[f"torch-{way}"]
    torch.testing.assert_close(
        torch.tensor(mine.losses), torch.tensor(other.losses), rtol=0, atol=1e-4
    )
    assert mine.weights.keys() == other.weights.keys()
    for weight, weights in mine.weights.items():
        torch.testing.assert_close(weights, other.weights[weight], rtol=0, atol=1e-3)


def test_only_what_is_trained_moves(results):
    weights = {way: results[f"torch-{way}"].weights for way in WAYS}
    inside = "encoders.a.network.encoder.layers."
    first, last = f"{inside}0.attention.k_proj.weight", f"{inside}1.attention.k_proj.weight"
    assert torch.equal(weights["none"][first], weights["last_1"][first])
    assert torch.equal(weights["none"][last], weights["last_1"][last]) is False
    assert not torch.equal(weights["none"][first], weights["all"][first])
    assert f"{inside}0.attention.k_proj.lora_A.default.weight" in weights["lora"]
    assert weights["lora"][f"{inside}0.attention.k_proj.lora_B.default.weight"].abs().max() > 0
