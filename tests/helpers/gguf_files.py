"""Small GGUF files."""

import gguf
import numpy as np


def write_gguf(file, arch="llama", divisors=None, context=64, heads=4, theta=10000.0, width=64, **more):
    writer = gguf.GGUFWriter(file, arch)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_head_count(heads)
    writer.add_head_count_kv(min(heads, 2))
    writer.add_rope_freq_base(theta)
    writer.add_array("tokenizer.ggml.tokens", ["a", "ü", ""])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5, 2.5])
    for key, value in more.get("numbers", {}).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{arch}.{key}", value)
    if "scaling" in more:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    if "linear" in more:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_tensor("token_embd.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    blocks = np.arange(4 * 34, dtype=np.uint8).reshape(4, 34)
    writer.add_tensor("blk.0.attn_q.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", np.array(divisors, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
