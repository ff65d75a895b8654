"""Networks of text whose padding is 1, with tokenizers of words and of pieces."""

import torch
from tiny_pretrained import ONE_LAYER, TWO_LABELS, WORDS

PADDED = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def save_padded(folder, kind="roberta", *, is_unigram=False, head=True, pad_id=1, seed=0):
    """Save a network and its tokenizer, whose ids begin with <s>, <pad>, </s>, <unk>, <mask>."""
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    tokenizer = _tokenizer(is_unigram)
    tokenizer.save_pretrained(folder)
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "intermediate_size": 16}
    known = {"pad_token_id": pad_id, "bos_token_id": 0, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, **ONE_LAYER, **sizes, **known, **TWO_LABELS)
    torch.manual_seed(seed)
    network = (AutoModelForSequenceClassification if head else AutoModel).from_config(config)
    for name, one in network.named_parameters():
        if one.dim() > 1 and "embeddings" not in name:
            torch.nn.init.normal_(one, std=0.3)
    network.eval().save_pretrained(folder)
    return network


def _tokenizer(is_unigram):
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import Unigram, WordLevel
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if is_unigram:
        pieces = [*PADDED, *(f"▁{one}" for one in WORDS), "▁", *"abcdefghijklmnopqrstuvwxyz"]
        own = Tokenizer(Unigram([(one, -2.0) for one in pieces], unk_id=3))
        own.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        names = {one: number for number, one in enumerate([*PADDED, *WORDS])}
        own = Tokenizer(WordLevel(names, unk_token="<unk>"))
        own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
