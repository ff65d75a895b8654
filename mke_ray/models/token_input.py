"""What a network of text needs of the ids of tokens that are stored."""

from typing import Any

from mke_ray.errors import ConfigError

DIGEST, PAD_ID = "digest", "pad_id"
AT_MOST = ("num_tokens", "num_ids")


def token_needs(network: Any, digest: str | None, pad_id: int) -> dict[str, Any]:
    """Return what has to be stored for a network of text.

    Args:
        network: The network.
        digest: Digest of its tokenizer, None where it has none beside it.
        pad_id: Id of padding, which it attends not to.
    """
    of_tokenizer = {DIGEST: digest} if digest else {}
    needs = {"kind": "tokens", **of_tokenizer, "num_ids": network.config.vocab_size}
    needs[PAD_ID] = pad_id
    most = getattr(network.config, "max_position_embeddings", None)
    if most is None or most < 1:  # XLNet says -1: no limit
        return needs
    return {**needs, "num_tokens": most - _first_position(network)}


def check_padding(network: Any, pad_id: int, key: str) -> None:
    """Refuse a network that takes another id for padding; one that names none takes this one.

    RoBERTa numbers the positions of a text by it, and classifiers that decode look for the last
    token by it.

    Args:
        network: The network.
        pad_id: Id of padding.
        key: Where it stands in the configuration.

    Raises:
        ConfigError: It takes another one.
    """
    own = getattr(network.config, "pad_token_id", None)
    if own is None:
        network.config.pad_token_id = pad_id
    elif own != pad_id:
        raise ConfigError(
            f"{key}: the configuration of the network says pad_token_id={own}, and its text is "
            f"padded with {pad_id}; set pad_token_id in the configuration to what the network was "
            "trained with, and take the tokenizer of that"
        )


def _first_position(network: Any) -> int:
    """Return the number of the first position: networks like RoBERTa begin behind padding."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] == "position_embeddings":
            padding = getattr(module, "padding_idx", None)
            return 0 if padding is None else padding + 1
    return 0


def another_tokenizer(modality: str, needed: str, found: str | None) -> str:
    """Return that stored ids are of another tokenizer than a network knows, and the way out."""
    return (
        f"the tokens of {modality!r} are of a tokenizer with the digest {str(found)[:12]}, and the "
        f"network was trained with one of {needed[:12]}: the same ids are other words to it; set "
        f"decode.{modality}.tokenizer to the folder of the network (the samples are then stored "
        "anew), or choose another network"
    )
