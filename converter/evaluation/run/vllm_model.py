"""A model that vLLM runs: a base, a native export, or a converted checkpoint by the plugin in `ropext.serving.vllm`.

Imported only where it is asked for; vLLM is no dependency.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer

from ropext.converter.checkpoint.facts import read_config
from ropext.converter.errors import RopextError, UsageError
from ropext.converter.evaluation.asking import Answer, prompt_ids
from ropext.converter.preset import Preset

from .devices import dtype_of

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Prompt

__all__ = ["NO_ATTENTION", "VllmModel", "vllm_version"]

NO_ATTENTION = "--backend vllm does not show what its attention sees; leave it out"

NO_KV_DTYPE = "--kv-dtype: vLLM keeps keys and values as it was told at its start; leave out --backend"

_MORE = 1024
"""Tokens that an answer may have beyond the length that its prompt is made for."""

_AT_ONCE = 2048
"""Tokens whose logits are held at once: vLLM sets no memory aside for those of prompts."""


class VllmModel:
    """A model and its tokenizer.

    Attributes:
        tokenizer: the model's.
    """

    def __init__(self, folder: Path, longest: int, *, dtype: str = "auto") -> None:
        """Load it, onto all GPUs that `CUDA_VISIBLE_DEVICES` names, or onto the CPU with vLLM's build for that.

        Args:
            folder: a base, or what a conversion wrote. Its own code is not executed.
            longest: that will be read, tokens.
            dtype: `float32`, `bfloat16`, `float16`; `auto`: as the configuration says, on a CPU float32.

        Raises:
            UsageError: vLLM cannot run it, or not so far.
            RopextError: vLLM failed to load it.
        """
        self._source = str(folder)
        config, _ = read_config(folder)
        more: dict[str, Any]
        if "auto_map" in config:  # the plugin makes rotations for as many tokens as are read
            room, more = longest + _MORE, {"config_format": "ropext"}
        else:
            room, overrides = _room(self._source, config, longest)
            more = {"hf_overrides": overrides}
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"  # there are rotations for it
        from vllm import LLM

        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._engine = LLM(
                model=str(folder),
                dtype=dtype_of(dtype, config, device),
                max_model_len=room,
                max_num_batched_tokens=_AT_ONCE,
                enable_prefix_caching=False,  # prompts' log-probabilities are not cached
                enforce_eager=device == "cpu",  # compiling takes longer there than it saves
                tensor_parallel_size=max(1, torch.cuda.device_count()),
                **more,
            )
        except (ValueError, RuntimeError) as error:
            raise RopextError(f"{folder}: vLLM cannot load it: {error}") from None

    def use(self, preset: Preset | None) -> None:
        """Read as the folder says, which is all that it can; `preset` is None."""

    def is_base(self, tokens: int) -> bool:
        """Promise nothing: vLLM runs kernels of its own."""
        return False

    def keeping(self, kv_dtype: str) -> AbstractContextManager[None]:
        """Refuse: `ropext eval` does so before it loads anything."""
        raise UsageError(NO_KV_DTYPE)

    def answers(self, prompt: Prompt) -> list[Answer]:
        """Read a text once for each of its questions, and answer them."""
        rows = [[*prompt.input_ids, *asked.input_ids, *asked.answer_ids] for asked in prompt.questions]
        found = []
        for asked, known in zip(prompt.questions, self._known(rows), strict=True):
            answer = known[-len(asked.answer_ids) :]
            found.append(Answer(sum(each.logprob for each in answer), all(each.rank == 1 for each in answer)))
        return found

    def losses_and_answers(self, prompt: Prompt, pieces: int) -> tuple[list[float], list[Answer]]:
        """The mean loss of a token (nats) in each equal piece of a text; and `answers`."""
        (known,) = self._known([list(prompt.input_ids)])
        losses = torch.tensor([-each.logprob for each in known])
        return [float(piece.mean()) for piece in losses.tensor_split(pieces)], self.answers(prompt)

    def negative_log_likelihood(self, input_ids: Sequence[int], counted: int) -> float:
        """The sum over a text's last `counted` tokens, nats."""
        (known,) = self._known([list(input_ids)])
        return float(-sum(each.logprob for each in known[-counted:]))

    def continuation(self, text: str, new_tokens: int, *, special_tokens: bool = True) -> str:
        """What the model writes after a text, greedily; `special_tokens` are those that the tokenizer adds to it."""
        penalty = self._engine.get_default_sampling_params().repetition_penalty  # as `generate` does
        ids = prompt_ids(self.tokenizer, text, special_tokens=special_tokens)
        (output,) = self._generated([ids], max_tokens=new_tokens, repetition_penalty=penalty)
        written: str = self.tokenizer.decode(output.outputs[0].token_ids, skip_special_tokens=True)
        return written

    def attention(
        self,
        input_ids: Sequence[int],
        cells: int,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Refuse: `ropext eval` does so before it loads anything."""
        raise UsageError(NO_ATTENTION)

    def _known(self, rows: Sequence[list[int]]) -> list[list[Any]]:
        """The `logprob` of each token of each row but the first, and its `rank`, 1 for the most likely token."""
        outputs = self._generated(rows, max_tokens=1, prompt_logprobs=0)
        return [
            [chances[token] for chances, token in zip(output.prompt_logprobs[1:], row[1:], strict=True)]
            for output, row in zip(outputs, rows, strict=True)
        ]

    def _generated(self, rows: Sequence[list[int]], **how: Any) -> list[Any]:
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, detokenize=False, **how)
        try:
            return list(self._engine.generate([{"prompt_token_ids": row} for row in rows], params, use_tqdm=False))
        except ValueError as error:
            raise RopextError(f"{self._source}: vLLM does not read this: {error}") from None


def vllm_version() -> str:
    """The version of vLLM.

    Raises:
        RopextError: it is not installed.
    """
    try:
        import vllm
    except ImportError as error:
        raise RopextError(f"--backend vllm takes vLLM ({error}): pip install vllm") from None
    return str(vllm.__version__)


def _room(source: str, config: Mapping[str, Any], longest: int) -> tuple[int, dict[str, Any]]:
    """How many tokens vLLM is to read, and what it has to take for the configuration's for that.

    It makes rotations for as many tokens as the configuration says, and reads past their end where there are more.
    """
    limit, room = config["max_position_embeddings"], longest + _MORE
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if room <= limit:
        return room, {}
    if kind in ("default", "linear", "llama3"):
        return room, {"max_position_embeddings": room}
    if kind == "longrope" and scaling.get("original_max_position_embeddings") == limit:  # as native exports have it
        longer = {**scaling, "original_max_position_embeddings": room}
        return room, {"max_position_embeddings": room, "rope_parameters": longer}
    if longest > limit:
        raise UsageError(
            f"{source}: vLLM has rotations of {limit} tokens for rope_type {kind!r}; choose --lengths up to {limit}"
        )
    return limit + 1, {}  # what comes last is not read
