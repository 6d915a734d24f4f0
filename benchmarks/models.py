"""A base model, and the same weights under any method.

The settings are published or suggested ones for a model that was trained to 8192 tokens, with 32 frequency pairs. Token
counts are scaled to the length that a model was trained to, dimension groups to its pairs. So every method runs on
every model, at the same share of its window.
"""

import argparse
import atexit
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from benchmarks.peers import install
from benchmarks.settings import SETTINGS, SETTINGS_PAIRS, SETTINGS_TARGET, SETTINGS_WINDOW
from ropext.converter.checkpoint.description import base_inv_freq
from ropext.converter.checkpoint.facts import facts_of, read_config
from ropext.converter.checkpoint.model_cache import cache_in
from ropext.converter.convert.config import extended_config
from ropext.converter.methods.registry import bake
from ropext.converter.model_classes import configuration_class, model_class
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import load_preset
from ropext.modeling.rope_ext_model import rotary_modules
from ropext.modeling.rope_ext_notes import NOTES, Notes

TOKEN_COUNTS = ("local_window", "window", "shift")

REGION_METHODS = ["dpe", "dpe_top_k", "gali", "self_extend", "jet_long", "rerope", "string", "dca"]
FREQUENCY_METHODS = ["dprope", "linear", "ntk", "dynamic_ntk", "yarn"]
METHODS = [*REGION_METHODS, *FREQUENCY_METHODS, "original"]

SHAPES = {
    "llama3-8b-shape": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 8192,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    }
}
"""Models with random weights."""


def arguments(description, *, methods, lengths, repeats):
    """A parser with the options that the benchmarks of models share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = f"smollm2 (SmolLM2-135M, as `ropext demo` writes it), {', '.join(SHAPES)} (random weights), or a folder"
    parser.add_argument("--model", default="smollm2", help=model)
    parser.add_argument("--folder", type=Path, default=Path("ropext-demo"), help="where SmolLM2 is written")
    parser.add_argument("--layers", type=int, help="of a model with random weights, only this many layers")
    parser.add_argument("--methods", nargs="+", default=methods, choices=METHODS, metavar="METHOD", help=repr(methods))
    parser.add_argument("--lengths", nargs="+", type=int, default=lengths, help="tokens")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"measurements of each: {repeats}")
    parser.add_argument("--batch", type=int, default=1, help="rows, all of one length: 1")
    parser.add_argument("--initial-window", type=int, help="take the model for one that was trained to this length")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--attn", default="sdpa", help="attn_implementation of the base and of the methods")
    parser.add_argument("--output", type=Path, help="folder for the table and the raw figures")
    return parser


class Models:
    """The base of `--model`, and its methods.

    Attributes:
        label: what the tables call it.
        facts: of the base's configuration.
        window: the initial window (tokens).
    """

    def __init__(self, options):
        self.options = options
        self.device = options.device
        self.dtype = getattr(torch, options.dtype or ("bfloat16" if self.device == "cuda" else "float32"))
        self._scratch = Path(tempfile.mkdtemp(prefix="ropext-benchmarks-"))
        atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        self.folder = self._folder()
        self.config, _ = read_config(self.folder)
        self.facts = facts_of(self.config, options.model)
        self.window = options.initial_window or self.facts.trained_length
        name = "SmolLM2-135M" if options.model == "smollm2" else Path(options.model).name
        self.label = f"{name}, {str(self.dtype).removeprefix('torch.')}, {self.device}"
        self._base = None

    def _folder(self):
        name = self.options.model
        if name == "smollm2":
            from ropext.converter.demo import prepare_base

            return prepare_base(self.options.folder)
        if name not in SHAPES:
            return Path(name)
        folder = self._scratch / name
        folder.mkdir()
        layers = {"num_hidden_layers": self.options.layers} if self.options.layers else {}
        (folder / "config.json").write_text(json.dumps(SHAPES[name] | layers))
        return folder

    @property
    def suffix(self):
        """The end of a result's file name: other models and devices have files of their own."""
        model = "" if self.options.model == "smollm2" else f"-{Path(self.options.model).name}"
        return model + ("" if self.device == "cpu" else f"-{self.device}")

    def base(self):
        """The stock model."""
        if self._base is None:
            arguments = {"attn_implementation": self.options.attn}
            if self.options.model in SHAPES:
                torch.manual_seed(0)
                torch.set_default_dtype(self.dtype)
                with torch.device(self.device):
                    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.folder), **arguments)
                torch.set_default_dtype(torch.float32)
            else:
                model = AutoModelForCausalLM.from_pretrained(self.folder, **arguments)
            self._base = model.to(self.device).eval().requires_grad_(False)
            for weight in self._base.parameters():  # not the buffers: frequencies stay float32
                weight.data = weight.data.to(self.dtype)
        return self._base

    def method_config(self, name):
        """The configuration of the converted model."""
        preset = load_preset(str(self.preset(name)))
        problems = check_fit(preset, self.facts)
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        baked = bake(preset, self.facts, base_inv_freq(self.config))
        written = extended_config(self.config, self.facts, preset, baked)
        config = configuration_class(self.facts.model_type)(**written)
        config._attn_implementation = self.options.attn
        return config

    def preset(self, name):
        """The file of a preset of these settings."""
        method = name.removesuffix("_top_k")
        parameters, pairs = dict(SETTINGS.get(method, {})), self.facts.rotary_dim // 2
        trained, window = (n / SETTINGS_WINDOW for n in (self.facts.trained_length, self.window))
        for key in TOKEN_COUNTS:
            if key in parameters:
                parameters[key] = max(1, int(parameters[key] * window))
        if "chunk_size" in parameters:
            # DCA's is a part of the window; GALI's is how often positions change.
            parameters["chunk_size"] = int(parameters["chunk_size"] * (window if name == "dca" else trained))
        if "dimension_groups" in parameters:
            parameters["dimension_groups"] = [
                border * pairs // SETTINGS_PAIRS for border in parameters["dimension_groups"]
            ]
        if name == "dpe_top_k":
            shape = self.facts.num_hidden_layers, self.facts.num_attention_heads, pairs
            scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))
            save_file({"scores": scores}, self._scratch / "scores.safetensors")
            parameters |= {"top_k": pairs // 2, "dimension_scores": "scores.safetensors"}
        preset = {
            "name": name.replace("_", "-"),
            "description": f"{name} for benchmarks",
            "base_model": self.options.model,
            "initial_window": self.window,
            "target_window": int(SETTINGS_TARGET * window),
            "method": method,
            "parameters": parameters,
        }
        file = self._scratch / f"{name}.json"
        file.write_text(json.dumps(preset))
        return file

    def method(self, name):
        """The converted model, with the base's own tensors."""
        config = self.method_config(name)
        kind = model_class(self.facts.model_type, config.rope_ext["method"])
        return self._with_weights(kind, config)

    def published(self, name):
        """The stock model with a method as it was published, with the base's own tensors."""
        base = self.base()
        return install(self._with_weights(type(base), base.config), self.method_config(name))

    def _with_weights(self, kind, config):
        base = self.base()
        with torch.device("meta"):
            model = kind(config)
        model.load_state_dict(base.state_dict(), assign=True)
        for own, stock in zip(rotary_modules(model.model), rotary_modules(base.model), strict=True):
            own._buffers.update(stock._buffers)  # on the meta device they hold nothing
        return model.eval().requires_grad_(False)

    def tokens(self, length):
        """[batch, length] random ids."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, min(1000, self.config["vocab_size"]), (self.options.batch, length), generator=generator)
        return ids.to(self.device)

    def filled_cache(self, model, length):
        """A cache of random keys and values, as wide as the model stores them."""
        cache = DynamicCache()
        setattr(cache, NOTES, Notes(origin=torch.zeros(1, 1, dtype=torch.long, device=self.device)))
        learnt = cache_in(model(self.tokens(4), use_cache=True))
        for layer, kept in enumerate(learnt.layers):
            shapes = [(*kept_part.shape[:2], length, kept_part.shape[3]) for kept_part in (kept.keys, kept.values)]
            keys, values = (torch.randn(shape, device=self.device, dtype=self.dtype) for shape in shapes)
            cache.update(keys, values, layer)
        return cache


def cache_bytes(cache):
    """Bytes of all keys and values, and of what a method keeps beside them."""
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    notes = getattr(cache, NOTES, None)
    copies = sum(each.nbytes for each in notes.copies.values()) if notes else 0
    return copies + sum(tensor.nbytes for tensor in tensors if tensor is not None)


def timed(action, device):
    """Seconds that an action takes, until a GPU has done it."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def in_turn(actions, repeats, device, warm_ups=1):
    """Seconds of each action, `repeats` times, one after the other so that what slows the machine slows them all."""
    for _ in range(warm_ups):
        for action in actions:
            action()
    rounds = [[timed(action, device) for action in actions] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def progress(text):
    """Say on stderr what comes."""
    print(text, file=sys.stderr, flush=True)
