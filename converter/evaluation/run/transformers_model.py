"""A model that is loaded once and takes one method after the other, in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.utils import logging

from ropext.converter.checkpoint.description import TEXT, Description, base_inv_freq, describe
from ropext.converter.checkpoint.facts import ModelFacts, read_config
from ropext.converter.checkpoint.families import supported
from ropext.converter.checkpoint.model_cache import cache_name
from ropext.converter.checkpoint.read import read_checkpoint
from ropext.converter.convert.apply import Applied, apply
from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.evaluation.asking import Answer, prompt_ids
from ropext.converter.methods.registry import bake
from ropext.converter.methods.schemas import METHODS
from ropext.converter.model_classes import configuration_class, decoded, model_class
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit

from .attention_maps import AttentionMap
from .devices import device_of, dtype_of
from .reading import empty_cache, forgets, is_base, is_cut, keeps_states, quantized_cache, read
from .watching import See, watching

if TYPE_CHECKING:
    from ropext.converter.evaluation.asking import Prompt, Question

__all__ = ["SwitchableModel"]


class SwitchableModel:
    """A model and its tokenizer: a base, that reads by any preset too, or any other as it is.

    Attributes:
        tokenizer: the model's.
        model: the model itself, of transformers.
    """

    def __init__(self, folder: Path, *, device: str = "auto", dtype: str = "auto") -> None:
        """Load it.

        Args:
            folder: a base, or what a conversion wrote. Its own code is not executed: what ropext ships takes its place.
            device: `cpu`, `cuda`, `cuda:1`, ...; `auto` spreads it over the GPUs there are (by accelerate), or takes
                the CPU where there is none.
            dtype: `float32`, `bfloat16`, `float16`; `auto`: as the configuration says, on a CPU float32.

        Raises:
            RopextError: the folder holds no model.
            UsageError: the device or the type is unknown, or this is no language model.
        """
        self._source = str(folder)
        self._config, _ = read_config(folder)
        self._facts, self._why_not = _facts(folder, self._config)
        with _quietly():
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            self.model = _load(folder, self._config, device, dtype)
        self._applied: Applied | None = None
        self._kv_dtype = ""

    @property
    def facts(self) -> ModelFacts:
        """The facts of the base.

        Raises:
            UsageError: it is none that can be converted.
        """
        if self._facts is None:
            raise UsageError(f"{self._source}: cannot read by another preset: {self._why_not}")
        return self._facts

    @property
    def description(self) -> Description:
        """How the base turns queries and keys."""
        return describe(self._config)

    def check(self, preset: Preset) -> None:
        """Say whether the model can read by a preset.

        Raises:
            InvalidPreset: the preset does not fit it.
            UsageError: it is no base.
        """
        problems = check_fit(preset, self.facts)
        if problems:
            raise InvalidPreset(problems)
        bake(preset, self.facts, base_inv_freq(self._config))

    def use(self, preset: Preset | None) -> None:
        """Read by a preset from now on; by None, as the folder says.

        Raises:
            InvalidPreset: the preset does not fit the model.
            UsageError: it is no base.
        """
        if preset is not None:
            self.check(preset)
        if self._applied is not None:
            self._applied.remove()
            self._applied = None
        if preset is not None:
            self._applied = apply(self.model, preset)

    def is_base(self, tokens: int) -> bool:
        """Whether the method promises the base's output on a text of this length, bit for bit."""
        return is_base(self.model, tokens)

    @contextmanager
    def keeping(self, kv_dtype: str) -> Iterator[None]:
        """Keep keys and values of texts in a type of fewer bits, until this ends."""
        self._kv_dtype = kv_dtype
        try:
            yield
        finally:
            self._kv_dtype = ""

    def _empty_cache(self, count: int) -> Any:
        return quantized_cache(self.model, self._kv_dtype) if self._kv_dtype else empty_cache(self.model, count)

    def _read(self, prompt: Prompt) -> Any:
        """A cache that has read a text."""
        cache = self._empty_cache(len(prompt.input_ids))
        for _ in read(self.model, _row(prompt.input_ids, self.model.device), cache):
            pass
        return cache

    @torch.inference_mode()
    def answers(self, prompt: Prompt) -> list[Answer]:
        """Read a text once and answer its questions, each as if it were the only one; see `keeping`."""
        return self._answered(prompt, self._read(prompt))

    @torch.inference_mode()
    def losses_and_answers(self, prompt: Prompt, pieces: int) -> tuple[list[float], list[Answer]]:
        """Read a text once: the mean loss of a token (nats) in each equal piece; and `answers`."""
        cache, ids = self._empty_cache(len(prompt.input_ids)), _row(prompt.input_ids, self.model.device)
        losses = []
        for start, output in read(self.model, ids, cache):
            right = ids[0, start + 1 : start + 1 + output.last_hidden_state.shape[1]]
            if len(right):
                losses.append(self._losses(output.last_hidden_state[:, : len(right)], right, type(output)))
        means = [float(piece.mean()) for piece in torch.cat(losses).tensor_split(pieces)]
        return means, self._answered(prompt, cache)

    def _answered(self, prompt: Prompt, cache: Any) -> list[Answer]:
        """Answer questions about a text that a cache holds.

        A quantized cache can neither be cropped (`crop` may say nothing, and leave its length as it was) nor copied, so
        that the text is read anew for each question but the first.
        """
        found, count, forgetful = list[Answer](), cache.get_seq_length(), forgets(cache)
        for question in prompt.questions:
            if self._kv_dtype and found:
                cache = self._read(prompt)
            of_question = copy.deepcopy(cache) if forgetful and not self._kv_dtype else cache
            found.append(self._answer(question, of_question))
            if not forgetful and not self._kv_dtype:
                cache.crop(count - cache.get_seq_length())
                if cache.get_seq_length() != count:
                    raise RopextError(f"{type(cache).__name__} keeps what was cropped: no second question can be asked")
        return found

    def _answer(self, question: Question, cache: Any) -> Answer:
        """Answer a question after the text that a cache holds.

        Token by token where layers keep states: some of them begin anew where several tokens come at once.
        """
        device = self.model.device
        right = torch.tensor(question.answer_ids, device=device)
        ids = _row((*question.input_ids, *question.answer_ids[:-1]), device)
        named = {cache_name(self.model): cache}
        steps = [ids[:, at : at + 1] for at in range(ids.shape[1])] if keeps_states(self.model) else [ids]
        read = [self.model(step, use_cache=True, logits_to_keep=len(right), **named).logits[0] for step in steps]
        logits = torch.cat(read)[-len(right) :]
        chances = logits.float().log_softmax(-1).gather(1, right[:, None])
        return Answer(float(chances.sum()), bool((logits.argmax(-1) == right).all()))

    @torch.inference_mode()
    def negative_log_likelihood(self, input_ids: Sequence[int], counted: int) -> float:
        """The sum over a text's last `counted` tokens, nats."""
        ids = _row(input_ids, self.model.device)
        output = self.model.base_model(ids, use_cache=False)
        hidden = output.last_hidden_state[:, -counted - 1 : -1]
        return float(self._losses(hidden, ids[0, -counted:], type(output)).double().sum())

    def _losses(self, hidden: Tensor, right: Tensor, kind: type) -> Tensor:
        """The loss of each token [T], nats, from the states before it [1, T, D]; a few positions' logits at a time."""
        losses = []
        step = max(1, _LOGITS // self.model.config.get_text_config().vocab_size)
        with _head(self.model, kind) as logits_of:
            for start in range(0, len(right), step):
                block = slice(start, start + step)
                logits = logits_of(hidden[:, block])[0].float()
                wanted = right[block].to(logits.device)
                losses.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        return torch.cat(losses)

    @torch.inference_mode()
    def continuation(self, text: str, new_tokens: int, *, special_tokens: bool = True) -> str:
        """What the model writes after a text, greedily; the tokenizer adds its special tokens, unless told not to."""
        ids = _row(prompt_ids(self.tokenizer, text, special_tokens=special_tokens), self.model.device)
        pad = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id
        how: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "pad_token_id": pad}
        if self._kv_dtype or is_cut(self.model, ids.shape[1]):
            how[cache_name(self.model)] = cache = self._empty_cache(ids.shape[1])
            for _ in read(self.model, ids[:, :-1], cache):
                pass
        out = self.model.generate(ids, max_new_tokens=new_tokens, do_sample=False, **how)
        written: str = self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        return written

    @torch.inference_mode()
    def read(self, input_ids: Tensor) -> None:
        """Run the decoder alone over a text [T], for those who watch its layers."""
        self.model.base_model(input_ids[None].to(self.model.device), use_cache=False)

    def watched(self, see: See) -> AbstractContextManager[frozenset[int]]:
        """Show what each layer's attention is given, as `watching` does."""
        return watching(self.model, self._config, see)

    def attention(
        self,
        input_ids: Sequence[int],
        cells: int,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Attention to a text: logits and weights, averaged over layers and heads; see `AttentionMap.means`.

        Raises:
            UsageError: the model lacks a layer or a head, or cannot be watched.
        """
        seen = AttentionMap(len(input_ids), cells, layers, heads)
        with self.watched(seen.see) as shown:
            if missing := sorted(set(layers or ()) - shown):
                raise UsageError(f"--layers {missing[0]}: methods act on layers {', '.join(map(str, sorted(shown)))}")
            self.read(torch.tensor(input_ids))
        return seen.means()


def _facts(folder: Path, config: Mapping[str, Any]) -> tuple[ModelFacts | None, str]:
    """The facts of a base that can be converted; else None, and why not."""
    if "rope_ext" in config:
        return None, "it is converted already; give its base"
    try:
        base_inv_freq(config)
        return read_checkpoint(folder).facts, ""
    except RopextError as error:
        return None, str(error)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' remarks and its bar, which would stand beside our own, off the terminal."""
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _load(folder: Path, written: Mapping[str, Any], device: str, dtype: str) -> Any:
    device = device_of(device)
    how: dict[str, Any] = {_DTYPE: dtype_of(dtype, written, device), "use_safetensors": True}
    if device != "cpu":
        how["device_map"] = device
    family, architecture = written["model_type"], (written.get("architectures") or [_LANGUAGE_MODELS[0]])[0]
    if not architecture.endswith(_LANGUAGE_MODELS):
        raise UsageError(f"{folder}: {architecture.replace('RopeExt', '')} answers no questions; give a language model")
    if "rope_ext" not in written or "auto_map" not in written:  # a native export has a block, and stock classes
        auto = AutoModelForImageTextToText if TEXT in written else AutoModelForCausalLM
        return auto.from_pretrained(folder, trust_remote_code=False, **how).eval()
    if family not in supported() or written["rope_ext"].get("method") not in METHODS:
        raise UsageError(f"{folder}: model_type {family!r} is none that this ropext has code for")
    config = configuration_class(family)(**decoded(dict(written)))
    return model_class(family, written["rope_ext"]["method"]).from_pretrained(folder, config=config, **how).eval()


class _Given(torch.nn.Module):
    """Stands in the place of a model without its head, and returns what is put in."""

    def __init__(self, inner: torch.nn.Module, kind: type) -> None:
        super().__init__()
        self.kind, self.hidden = kind, torch.empty(0)
        self.inner = (inner,)  # no part of this one

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner[0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the hidden states."""
        return self.kind(last_hidden_state=self.hidden)


@contextmanager
def _head(model: Any, kind: type) -> Iterator[Callable[[Tensor], Tensor]]:
    """What makes logits [1, T, vocabulary] of hidden states [1, T, D]: the model's own head, with all it does to them.

    Args:
        model: a language model.
        kind: the class of what it returns without its head.
    """
    name = model.base_model_prefix
    inner = getattr(model, name)
    given = _Given(inner, kind)

    def logits_of(hidden: Tensor) -> Tensor:
        given.hidden = hidden
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
        return logits

    setattr(model, name, given)
    try:
        yield logits_of
    finally:
        setattr(model, name, inner)


_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the names of classes end that write text."""

_LOGITS = 2**25
"""That are held at once: 128 MiB in float32, of 128 positions with a vocabulary of 262,144."""

_DTYPE = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"


def _row(ids: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([list(ids)], device=device)
