"""The command that serves a model on a runtime, with the flags that it needs there, or the reason why none does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ropext.converter.checkpoint.facts import read_config
from ropext.converter.checkpoint.trained import trained_length
from ropext.converter.errors import RopextError
from ropext.converter.hub import client as hub

from .llama_cpp import llama_cpp
from .model import Model, Offer, refusal
from .plugins import BANDS, mlx_refusal, vllm_refusal

__all__ = ["RUNTIMES", "offers", "offers_of"]


def offers(source: str, runtime: str | None = None) -> list[Offer]:
    """Say how to serve a model. Of a Hub id only `config.json` is fetched; nothing is run.

    Args:
        source: a base, a converted folder or a Hub id.
        runtime: this one only.

    Returns:
        One offer for each runtime.

    Raises:
        RopextError: there is no such model.
    """
    config, _ = read_config(hub.resolve(source, only=("config.json",)).folder)
    return offers_of(config, source, runtime)


def offers_of(config: Mapping[str, Any], source: str, runtime: str | None = None) -> list[Offer]:
    """Say how to serve a model whose configuration is known; see `offers`."""
    try:
        model = _model(config, source)
        return [make(model) for name, make in RUNTIMES.items() if runtime in (None, name)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = "rope_ext or the keys that go with it are" if "rope_ext" in config else "its keys of RoPE are"
        raise RopextError(f"{source}: config.json: {what} not as they have to be ({error!r}).") from None


def _model(config: Mapping[str, Any], source: str) -> Model:
    if "rope_ext" not in config:
        return Model(source, config, "original", _length(config), "base")
    block = config["rope_ext"]
    method, target = str(block["method"]), int(block["target_window"])
    if "auto_map" not in config:
        return Model(source, config, method, target, "native")
    others = "transformers" if vllm_refusal(config) else "vLLM or transformers"
    return Model(source, config, method, target, "code", others)


def _length(config: Mapping[str, Any]) -> int | None:
    """Return how far a base reads; None where its configuration does not say it in a way that ropext knows."""
    try:
        return trained_length(config).tokens
    except RopextError:
        found = config.get("max_position_embeddings")
        return found if isinstance(found, int) else None


# Runtimes


_SERVE = """import transformers
from transformers.cli.transformers import main

transformers.{name} = transformers.{auto}  # the name in config.json, "architectures"
main()
"""


def _transformers(model: Model) -> Offer:
    install = "pip install 'transformers[serving]'"
    if model.kind != "code":
        return Offer("transformers", (install, f"transformers serve {model.quoted}"))
    (name,) = model.config["architectures"]
    auto = "AutoModelForImageTextToText" if name.endswith("ForConditionalGeneration") else "AutoModelForCausalLM"
    return Offer(
        "transformers",
        (install, f"python serve.py serve {model.quoted} --trust-remote-code"),
        files={"serve.py": _SERVE.format(name=name, auto=auto)},
        notes=("transformers serve looks the class up by its name, so serve.py tells it the name",),
    )


def _vllm(model: Model) -> Offer:
    if model.kind == "code":
        why = vllm_refusal(model.config)
        if why:
            return refusal("vllm", model, why)
        command = f"vllm serve {model.quoted} --trust-remote-code{model.option('--max-model-len')}"
        return Offer("vllm", ("pip install 'ropext[vllm]'", command), notes=_of_plugin(model))
    if model.read_as_yarn:
        return refusal("vllm", model, f"vLLM's classes for latent attention read rope_type {model.rope_type} as yarn")
    command = f"vllm serve {model.quoted}{model.option('--max-model-len')}"
    if model.kind == "native" and model.method == "dynamic_ntk":
        command += f" --hf-overrides {shlex.quote(_one_theta(model))}"
        note = "vLLM has no theta that grows: the overrides give it that of the target for all lengths"
        return Offer("vllm", (command,), notes=(note,))
    return Offer("vllm", (command,))


def _of_plugin(model: Model) -> tuple[str, ...]:
    if model.method in BANDS and model.method != "string":
        return ("its KV cache holds the last tokens of each text twice, as far as distances are exact",)
    return ()


def _one_theta(model: Model) -> str:
    parameters = {**model.rope, "max_trained_positions": model.config["max_position_embeddings"]}
    return json.dumps({"max_position_embeddings": model.length, "rope_parameters": parameters})


def _sglang(model: Model) -> Offer:
    if model.kind == "code":
        return refusal("sglang", model, "SGLang has model classes of its own, and runs no code of a checkpoint")
    if model.read_as_yarn:
        why = f"SGLang's classes for latent attention read rope_type {model.rope_type} as yarn"
        return refusal("sglang", model, why)
    command = f"python -m sglang.launch_server --model-path {model.quoted}{model.option('--context-length')}"
    notes = []
    if model.kind == "native" and model.method == "dynamic_ntk":
        notes.append("SGLang takes one theta for all lengths, that of factor times the trained length")
    if model.kind == "native":
        notes.append("of SGLang only the rotations were tried, not a whole model")
    return Offer("sglang", (command,), notes=tuple(notes))


def _mlx(model: Model) -> Offer:
    install = "pip install 'mlx-lm>=0.32'"
    if model.kind == "code":
        why = mlx_refusal(model.config)
        if why:
            return refusal("mlx", model, why)
        note = "mlx-lm before 0.32 runs a folder's code without asking"
        return Offer("mlx", (install, f"mlx_lm.server --model {model.quoted} --trust-remote-code"), notes=(note,))
    if model.kind == "native" and model.method == "dynamic_ntk":
        return refusal("mlx", model, "mlx-lm refuses to load rope_type dynamic")
    if model.kind == "native" and "text_config" in model.config:
        return refusal("mlx", model, "MLX's classes for image-text models do not read a scaling")
    notes = () if model.text.get("rope_theta") or not model.rope["rope_theta"] else (_THETA,)
    return Offer("mlx", (install, f"mlx_lm.server --model {model.quoted}"), notes=notes)


_THETA = (
    "rope_theta stands in rope_parameters alone, where some of mlx-lm's classes do not look: "
    "`ropext probe --runtime mlx` tells"
)


RUNTIMES: Mapping[str, Callable[[Model], Offer]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "sglang": _sglang,
    "llama.cpp": llama_cpp,
    "mlx": _mlx,
}
