"""A model that is loaded once and takes one method after the other, in place.

Its weights lie under the class that a conversion ships. Frequency methods run as a rotary embedding under `original`,
whose attention is the base's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor
from transformers import AutoTokenizer, DynamicCache

from ropext.converter.baking import bake
from ropext.converter.checkpoint import read_checkpoint
from ropext.converter.config import extended_config
from ropext.converter.errors import InvalidPreset, UsageError
from ropext.converter.presets import Preset, check_fit, make_preset
from ropext.converter.rope import base_inv_freq
from ropext.modeling.rope_ext_frequencies import FrequencyMethod
from ropext.modeling.rope_ext_methods import build_method
from ropext.modeling.rope_ext_original import Original

from .answers import Answer

if TYPE_CHECKING:
    from .needles import Prompt

__all__ = ["SwitchableModel"]


class SwitchableModel:
    """A base model, and its tokenizer, that reads by any preset.

    Attributes:
        facts: of the base's configuration.
        tokenizer: the base's.
        model: the model itself, of transformers.
    """

    def __init__(self, folder: Path, *, device: str = "auto", dtype: str = "auto") -> None:
        """Load it.

        Args:
            folder: with the base's weights.
            device: `cpu`, `cuda`, `cuda:1`, …; `auto` spreads it over the GPUs there are (by accelerate), or takes the
                CPU where there is none.
            dtype: `float32`, `bfloat16`, `float16`; `auto`: as the configuration says, on a CPU float32.

        Raises:
            RopextError: the folder holds nothing that can be converted.
            UsageError: the device or the type is unknown.
        """
        checkpoint = read_checkpoint(folder)
        self.facts = checkpoint.facts
        self._config = checkpoint.config
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model = self._load(folder, device, dtype)
        self._rotary = self.model.base_model.rotary_emb

    def use(self, preset: Preset | None) -> None:
        """Read by a preset from now on; by None, as the base does.

        Raises:
            InvalidPreset: it does not fit the model.
        """
        config = self.model.config
        config.rope_ext = self._written(preset or self._original())["rope_ext"]
        method, decoder = build_method(config), self.model.base_model
        decoder.rotary_emb = self._rotary
        if isinstance(method, FrequencyMethod):
            decoder.rotary_emb = method.rotary()
            method = Original(config.rope_ext)
        decoder._rope_ext_method = method
        for layer in decoder.layers:
            layer.self_attn.rope_ext_method = method

    @torch.inference_mode()
    def answers(self, prompt: Prompt) -> list[Answer]:
        """Read a text once and answer its questions, each as if it were the only one."""
        cache, device = DynamicCache(), self.model.device
        self.model(_row(prompt.input_ids, device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        found = []
        for question in prompt.questions:
            right = torch.tensor(question.answer_ids, device=device)
            ids = _row((*question.input_ids, *question.answer_ids[:-1]), device)
            logits = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=len(right)).logits[0]
            chances = logits.float().log_softmax(-1).gather(1, right[:, None])
            found.append(Answer(float(chances.sum()), bool((logits.argmax(-1) == right).all())))
            cache.crop(-ids.shape[1])
        return found

    @torch.inference_mode()
    def read(self, input_ids: Tensor) -> None:
        """Run the decoder alone over a text [T], for those who watch its layers."""
        self.model.base_model(input_ids[None].to(self.model.device), use_cache=False)

    @contextmanager
    def watched(self, see: Callable[[int, Tensor, Tensor], None]) -> Iterator[None]:
        """While it lasts, every layer shows its index, queries [B, H, T, D] and keys [B, K, T, D], not rotated."""
        layers = [layer.self_attn for layer in self.model.base_model.layers]
        for index, attention in enumerate(layers):
            attention.project = _shown(attention.project, index, see)
        try:
            yield
        finally:
            for attention in layers:
                del attention.project  # the class has its own

    def _original(self) -> Preset:
        return make_preset(
            {
                "name": "original",
                "description": "the base",
                "base_model": self.facts.source,
                "initial_window": self.facts.trained_length,
                "target_window": self.facts.trained_length,
                "method": "original",
                "parameters": {},
            }
        )

    def _written(self, preset: Preset) -> dict[str, Any]:
        """The configuration of the model as it would be converted."""
        problems = check_fit(preset, self.facts)
        if problems:
            raise InvalidPreset(problems)
        baked = bake(preset, self.facts, base_inv_freq(self._config))
        return extended_config(self._config, self.facts, preset, baked)

    def _load(self, folder: Path, device: str, dtype: str) -> Any:
        written = self._written(self._original())
        (architecture,), classes = written["architectures"], written["auto_map"]
        if not architecture.endswith("ForCausalLM"):
            raise UsageError(f"{folder}: {self.facts.architecture} answers no questions; give a language model")
        file, _, config_class = classes["AutoConfig"].partition(".")
        module = import_module(f"ropext.modeling.{file}")
        config = getattr(module, config_class)(**written)
        device = _device(device)
        kind = {_DTYPE: _dtype(dtype, written, device)}
        place = {} if device == "cpu" else {"device_map": device}
        return getattr(module, architecture).from_pretrained(folder, config=config, **kind, **place).eval()


_DTYPE = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"


def _device(name: str) -> str:
    if name == "auto":
        return "auto" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return name


def _dtype(name: str, config: dict[str, Any], device: str) -> torch.dtype:
    if name == "auto":
        name = "float32" if device == "cpu" else config.get("dtype") or "float32"
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"--dtype {name}: there are float32, bfloat16 and float16")
    return dtype


def _row(ids: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor([ids], device=device)


def _shown(
    project: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], index: int, see: Callable[[int, Tensor, Tensor], None]
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    def projected(hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = project(hidden_states)
        see(index, query, key)
        return query, key, value

    return projected
