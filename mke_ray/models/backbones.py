"""A student's encoder that is a network of ``transformers``, pretrained or not."""

# B samples, T frames, H height, W width, N sound samples, F bands, L tokens, D features, X any.

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.backbone_spec import BANKS, CLIPS, FRAMES, MAPS, TOKENS, WAVES, resolved
from mke_ray.models.normaliser import Normaliser
from mke_ray.models.pretrained import Pretrained, load_whole
from mke_ray.models.sound_input import filter_banks, standardised_waves
from mke_ray.models.token_input import check_padding, token_needs
from mke_ray.models.tuning import ALL, NONE, blocks_in, frozen_parts, tune
from mke_ray.pretrained_folders import transformers_library

# Weights that only pretraining uses: they would get no gradient, which ranks wait for.
_UNREAD = ("pooler.", "masked_spec_embed", "embeddings.mask_token")
# Masks and left-out layers are drawn from numpy's own state, which no seed of ours determines.
_CALM = {"layerdrop": 0.0, "apply_spec_augment": False}


class BackboneEncoder(nn.Module):
    """A vision, video, audio or text network of transformers, and a layer from its features to D.

    Its last hidden state is averaged, over frames too and of a text over its tokens, unless the
    network pools itself.

    Args:
        modality: Name of the modality.
        path: Folder of ``save_pretrained`` or ``owner/name`` of the Hub, of the weights to start
            from; None starts from random ones.
        revision: Commit of the Hub.
        digest: SHA-256 that the files of ``path`` must have; a run fills it in.
        config: Configuration of the network with ``model_type``; with a path it is that of the
            path, and a run fills it in.
        tower: Part of a network of two (``vision_model`` of CLIP, ``audio_model`` of CLAP).
        stored: ``video`` or ``image``, of pictures.
        reads: ``frames``, ``clips``, ``waves``, ``banks`` or ``tokens``; None as ``config`` says.
        input: What the network wants of pictures (``size``, ``mean``, ``std``), of sound
            (``sample_rate_hz``; ``standardise``, or ``num_mel_bins``, ``max_length``, ``mean``,
            ``std``) or of text (``pad_id``; ``tokenizer``, the digest that it has to have); with a
            path what is beside it, which a run fills in.
        trainable: ``all``, ``none``, ``last_n`` (as ``last_2``) or ``lora``.
        lora: ``r``, ``lora_alpha``, ``lora_dropout``, ``target_modules``.
        num_features: Features D.

    Raises:
        ConfigError: There is no such network, or a setting does not fit it.
    """

    def __init__(  # noqa: PLR0913
        self,
        modality: str,
        *,
        path: str | None = None,
        revision: str | None = None,
        digest: str | None = None,
        config: Mapping[str, Any] | None = None,
        tower: str | None = None,
        stored: str = "video",
        reads: str | None = None,
        input: Mapping[str, Any] | None = None,
        trainable: str = ALL,
        lora: Mapping[str, Any] | None = None,
        num_features: int = 64,
    ) -> None:
        super().__init__()
        key = f"student.encoders.{modality}"
        given = {"path": path, "revision": revision, "digest": digest, "config": config}
        whole, found = resolved({**given, "reads": reads, "input": input, "tower": tower}, key)
        if whole["reads"] == MAPS:
            raise ConfigError(f"{key}.reads={MAPS} is for labels at every pixel, with a decoder")
        self.modality = modality
        self.num_features = num_features
        self.reads: str = whole["reads"]
        self._input: Mapping[str, Any] = whole["input"]
        self.empty: int = self._input["pad_id"] if self.reads == TOKENS else 0
        self._num_frames = whole["config"].get("num_frames")
        self.normaliser = Normaliser(1, axis=1, enabled=False)
        self.network = _network(whole["config"], tower, found, key)
        if self.reads == TOKENS:
            _check_text(self.network, whole["input"]["pad_id"], tower, key)
        self.needs = _needs(self.reads, stored, whole, self.network)
        tune(self.network, trainable, lora=lora, key=key)
        self._is_frozen = trainable == NONE
        for name, weight in self.network.named_parameters():
            if name.startswith(_UNREAD):
                weight.requires_grad = False
        self._frozen = tuple(frozen_parts(self.network))
        width = _width(self.network, key)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_features), nn.ReLU())

    def raw(self, x_BX: Tensor) -> Tensor:
        """Return pictures [B, (T,) 3, H, W] in [0, 1], waves [B, N], banks [B, T, F] or ids [B, L].

        Ids stay whole numbers.
        """
        if self.reads == TOKENS:
            return x_BX.to(torch.int64)
        if self.reads == WAVES:
            return x_BX.to(torch.float32)
        if self.reads == BANKS:
            sizes = {name: self._input[name] for name in ("num_mel_bins", "max_length")}
            rate_hz = self._input["sample_rate_hz"]
            return filter_banks(x_BX.to(torch.float32), sample_rate_hz=rate_hz, **sizes)
        if self.reads == CLIPS and x_BX.shape[1] != self._num_frames:
            chosen_T = torch.linspace(0, x_BX.shape[1] - 1, int(self._num_frames or 1))
            x_BX = x_BX[:, chosen_T.round().long()]
        return _resized(x_BX, tuple(self._input["size"]))

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return what the network reads, standardised as it was pretrained."""
        raw_BX = self.raw(x_BX)
        if self.reads == TOKENS:
            return raw_BX
        if self.reads == WAVES:
            return standardised_waves(raw_BX) if self._input["standardise"] else raw_BX
        mean, std = raw_BX.new_tensor(self._input["mean"]), raw_BX.new_tensor(self._input["std"])
        if self.reads == BANKS:
            return (raw_BX - mean) / (2 * std)
        return (raw_BX - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    def forward(self, x_BX: Tensor) -> Tensor:
        """Return features [B, D] of a representation."""
        if not self._is_frozen:
            return self.project(self._pooled(x_BX))
        with torch.no_grad():
            pooled_BW = self._pooled(x_BX)
        return self.project(pooled_BW)

    def train(self, mode: bool = True) -> "BackboneEncoder":
        """Set the mode; what is frozen stays in evaluation, without dropout."""
        super().train(mode)
        for one in self._frozen:
            one.eval()
        return self

    def recomputed_blocks(self) -> list[nn.Module]:
        """Return the blocks that may be computed again in the backward pass."""
        return [] if self._is_frozen else blocks_in(self.network)

    def _pooled(self, x_BX: Tensor) -> Tensor:
        """Return one vector per sample."""
        if self.reads == TOKENS:
            return self._pooled_tokens(x_BX)
        sees_frames = self.reads == FRAMES and x_BX.dim() == 5
        x_IX = x_BX.flatten(0, 1) if sees_frames else x_BX
        name = "pixel_values" if self.reads in (FRAMES, CLIPS) else "input_values"
        said = self.network(**{name: x_IX})
        pooled = getattr(said, "pooler_output", None)
        if pooled is None:
            hidden = said.last_hidden_state
            axes = (2, 3) if hidden.dim() == 4 else (1,)
            pooled = hidden.mean(dim=axes)
        pooled_IW = pooled.flatten(1)
        return pooled_IW.unflatten(0, x_BX.shape[:2]).mean(dim=1) if sees_frames else pooled_IW

    def _pooled_tokens(self, x_BL: Tensor) -> Tensor:
        """Return the mean of the last hidden state over the tokens of each text.

        Source:
            Reimers, Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks,
            EMNLP 2019, section 3 (the default, MEAN).
        """
        is_token_BL = x_BL != self._input["pad_id"]
        is_token_BL[:, 0] = True  # of no text at all the softmax would be over nothing
        said = self.network(input_ids=x_BL, attention_mask=is_token_BL.to(torch.int64))
        weight_BL1 = is_token_BL.unsqueeze(2).to(said.last_hidden_state.dtype)
        return (said.last_hidden_state * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1)


def _network(
    plain: Mapping[str, Any], tower: str | None, found: Pretrained | None, key: str
) -> nn.Module:
    """Return a network without what only its pretraining uses."""
    library = transformers_library()
    settings = {name: value for name, value in plain.items() if name != "model_type"}
    try:
        config = library.AutoConfig.for_model(plain["model_type"], **settings)
        for name, value in _CALM.items():
            if hasattr(config, name):
                setattr(config, name, value)
        if found is None:
            network = library.AutoModel.from_config(config, trust_remote_code=False)
        else:
            network = load_whole(found, "AutoModel", unread=_UNREAD, config=config)
    except (ValueError, KeyError, TypeError, ImportError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"{key}.config: {said}") from error
    if tower is not None:
        network = getattr(network, tower, None)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"{key}.tower={tower} is no part of {plain['model_type']}")
    pooler = getattr(network, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        setattr(network, "pooler", None)  # noqa: B010 - which of its networks it is, transformers chose
    return network


def _check_text(network: nn.Module, pad_id: int, tower: str | None, key: str) -> None:
    """Refuse a network of text that wants a second text, or pads with another id."""
    config: Any = network.config
    if tower is None and getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{key}: {config.model_type} is an encoder and a decoder, which reads a second text; "
            f"set {key}.tower=encoder, or take a network that is an encoder alone, as BERT"
        )
    check_padding(network, pad_id, key)


def _needs(reads: str, stored: str, whole: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """Return what has to be stored."""
    if reads == TOKENS:
        return token_needs(network, whole["input"]["tokenizer"], whole["input"]["pad_id"])
    if reads in (WAVES, BANKS):
        return {"kind": "audio", "sample_rate_hz": whole["input"]["sample_rate_hz"]}
    if reads == CLIPS:
        return {"kind": "video", "num_frames": whole["config"]["num_frames"]}
    if stored not in ("video", "image"):
        raise ConfigError(f"stored={stored}; an encoder of pictures reads video or image")
    return {"kind": stored}


def _width(network: Any, key: str) -> int:
    """Return the width of the last hidden state."""
    config = network.config
    sizes = getattr(config, "hidden_sizes", None)
    width = sizes[-1] if sizes else getattr(config, "hidden_size", None)
    if not isinstance(width, int):
        raise ConfigError(f"{key}: {type(network).__name__} does not say its hidden_size")
    return width


def _resized(x_BXHW3: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return [B, (T,) 3, h, w] in [0, 1] of uint8 pictures."""
    lead = x_BXHW3.shape[:-3]
    x_IHW3 = x_BXHW3.reshape(-1, *x_BXHW3.shape[-3:])
    x_I3HW = x_IHW3.permute(0, 3, 1, 2).to(torch.float32) / 255.0
    if x_I3HW.shape[2:] != size:
        x_I3HW = nn.functional.interpolate(x_I3HW, size, mode="bilinear", antialias=True)
    return x_I3HW.reshape(*lead, *x_I3HW.shape[1:])
