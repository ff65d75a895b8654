"""What a network of text needs of the ids of tokens that are stored."""

from typing import Any

DIGEST = "digest"
AT_MOST = ("num_tokens", "num_ids")

# Networks whose positions begin behind the id of padding.
_LATE = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")


def token_needs(network: Any, digest: str | None) -> dict[str, Any]:
    """Return what has to be stored for a network of text.

    Args:
        network: The network.
        digest: Digest of its tokenizer, None where it has none beside it.
    """
    config = network.config
    needs = {"kind": "tokens", **({DIGEST: digest} if digest else {}), "num_ids": config.vocab_size}
    most = getattr(config, "max_position_embeddings", None)
    if most is None:
        return needs
    offset = config.pad_token_id + 1 if config.model_type in _LATE else 0
    return {**needs, "num_tokens": most - offset}


def another_tokenizer(modality: str, needed: str, found: str | None) -> str:
    """Return that stored ids are of another tokenizer than a network knows, and the way out."""
    return (
        f"the tokens of {modality!r} are of a tokenizer with the digest {str(found)[:12]}, and the "
        f"network was trained with one of {needed[:12]}: the same ids are other words to it; set "
        f"decode.{modality}.tokenizer to the folder of the network (the samples are then stored "
        "anew), or choose another network"
    )
