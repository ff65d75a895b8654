"""Which library decodes frames here: loaded when chosen, and proved by a clip of its own."""

import importlib
import io
from functools import lru_cache

import av
import numpy as np

from mke_ray.data.containers import LIMITS, open_container, wanted_streams
from mke_ray.data.decoder import PYAV, Decoder, NotExactError, VideoClip
from mke_ray.data.frame_choice import choose_frames
from mke_ray.data.packets import WHOLE, read_packets
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import Backend, DecodeSpec, VideoSpec

_INSTALL = {
    Backend.DECORD: "pip install 'decord>=0.6,<0.7' (Linux on x86-64)",
    Backend.TORCHCODEC: (
        "pip install 'mke-ray[torchcodec]', in the version that fits torch, with the shared "
        "libraries of FFmpeg 4 to 8 where the loader finds them"
    ),
}

_CLASSES = {
    Backend.DECORD: ("mke_ray.data.decoder_decord", "DecordDecoder"),
    Backend.TORCHCODEC: ("mke_ray.data.decoder_torchcodec", "TorchcodecDecoder"),
}

_PROOF_SIZE = 64
_PROOF_LEVELS = (40, 90, 140, 190)


def prove_decoders(spec: DecodeSpec) -> None:
    """Prove that the libraries decode that a specification names.

    Raises:
        ConfigError: One does not.
    """
    for one in spec.values():
        if isinstance(one, VideoSpec):
            load_decoder(one.backend)


def decode_frames(clip: VideoClip, spec: VideoSpec) -> tuple[np.ndarray, str]:
    """Return the wanted frames, and the name and version of the library that decoded them.

    Raises:
        ConfigError: The back end of the specification does not work here.
        MediaError: The frames cannot be decoded.
    """
    decoder = load_decoder(spec.backend)
    try:
        return decoder.frames(clip, spec), decoder.version
    except NotExactError:
        return PYAV.frames(clip, spec), PYAV.version


@lru_cache
def load_decoder(backend: str) -> Decoder:
    """Return a back end that is proved to work.

    Args:
        backend: One of ``schema.Backend``.

    Raises:
        ConfigError: Its library is not installed, does not load or decodes wrongly.
    """
    if backend == Backend.PYAV:
        return PYAV
    chosen = Backend(backend)
    try:
        decoder = _import_decoder(chosen)
        _prove(decoder)
    except (ImportError, OSError, RuntimeError, NotExactError, MediaError) as error:
        raise ConfigError(
            f"decode.video.backend={backend} does not work here: {error}; {_INSTALL[chosen]}, "
            "or set decode.video.backend=pyav"
        ) from error
    return decoder


def _import_decoder(backend: Backend) -> Decoder:
    module, name = _CLASSES[backend]
    return getattr(importlib.import_module(module), name)()


def _prove(decoder: Decoder) -> None:
    """Decode a clip that was made here, and compare the brightness of its frames.

    Raises:
        RuntimeError: They are not what they should be.
    """
    file = io.BytesIO(_proof_clip())
    spec = VideoSpec(len(_PROOF_LEVELS), _PROOF_SIZE // 2, _PROOF_SIZE // 2)
    with open_container(file, LIMITS) as container:
        streams, _ = wanted_streams(container, {"video": spec}, LIMITS)
        packets = read_packets(container, list(streams.values()), max_packets=LIMITS.num_packets)
        if not packets:
            raise RuntimeError("PyAV finds no video stream in its own clip")
        choice = choose_frames(packets[0], spec, WHOLE)
        clip = VideoClip(file, packets[0], choice, LIMITS.num_frames)
        levels_T = decoder.frames(clip, spec).mean(axis=(1, 2, 3))
    if np.abs(levels_T - _PROOF_LEVELS).max() > 8:
        raise RuntimeError(
            f"frames of brightness {list(_PROOF_LEVELS)} are decoded as {levels_T.round(1)}"
        )


def _proof_clip() -> bytes:
    """Return a small MP4 file, of a codec that every FFmpeg can write."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = _PROOF_SIZE
        for level in _PROOF_LEVELS:
            picture = np.full((_PROOF_SIZE, _PROOF_SIZE, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
