"""A text recogniser that was trained by others, asked which single symbol a picture shows."""

# B pictures, H height, W width, T steps in time, V symbols of the network, C symbols asked for.

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports] - of the extra onnx
import torch
from torch import nn

HEIGHT = 48  # what the network was trained with
BLANK = 0
_SMALLEST = 1e-9
_BATCH = 64


def read_one(arrays_BHW3: np.ndarray, *, model: str, symbols: Sequence[str]) -> np.ndarray:
    """Return the logarithm [B, C + 1] of the probability that a picture shows just one symbol.

    The last one is that of anything else.

    Args:
        arrays_BHW3: Pictures, uint8.
        model: ONNX file of the recogniser, which lists its symbols.
        symbols: The symbols asked for.
    """
    session, known = _session(model)
    places = [known.index(one) + 1 for one in symbols]  # the blank stands before them
    x_B3HW = torch.from_numpy(np.asarray(arrays_BHW3)).permute(0, 3, 1, 2).float()
    x_B3HW = nn.functional.interpolate(x_B3HW, (HEIGHT, HEIGHT), mode="bilinear", antialias=True)
    shares = [
        just_one(session.run(None, {"x": part.numpy()})[0], places)
        for part in (x_B3HW / 127.5 - 1.0).split(_BATCH)
    ]
    share_BC = np.concatenate(shares)
    rest_B1 = 1.0 - share_BC.sum(axis=1, keepdims=True)
    return np.log(np.concatenate([share_BC, rest_B1], axis=1).clip(min=_SMALLEST))


def just_one(share_BTV: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Return the probability [B, C] that the text is one symbol: of all its paths together.

    Source:
        Graves et al., Connectionist temporal classification, ICML 2006, equation 3.
    """
    symbol_BTC = share_BTV[:, :, places].astype(np.float64)
    blank_BT1 = share_BTV[:, :, [BLANK]].astype(np.float64)
    before_BC = np.ones_like(symbol_BTC[:, 0])
    within_BC, after_BC = np.zeros_like(before_BC), np.zeros_like(before_BC)
    for step in range(share_BTV.shape[1]):
        blank_B1 = blank_BT1[:, step]
        after_BC = (within_BC + after_BC) * blank_B1
        within_BC = (before_BC + within_BC) * symbol_BTC[:, step]
        before_BC = before_BC * blank_B1
    return within_BC + after_BC


@lru_cache
def _session(model: str) -> tuple[Any, list[str]]:
    """Return a session, and the symbols in order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session, session.get_modelmeta().custom_metadata_map["character"].splitlines()
