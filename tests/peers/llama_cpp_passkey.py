"""Whether llama.cpp finds a passkey at the beginning of a long prompt, by patched GGUF files and by those of bases.

    python tests/peers/llama_cpp_passkey.py LENGTH FOLDER FILE...
    python tests/peers/llama_cpp_passkey.py 40960 gemma-3-270m gemma-3-270m.gguf gemma-3-270m-linear.gguf

FOLDER has the model's tokenizer. The exit status is 1 where a file misses the number.
"""

import sys
import time
from itertools import islice

from llama_cpp import Llama
from transformers import AutoTokenizer

from ropext.converter.evaluation.tasks.passkey import hide_passkey

NEW = 7
"""Tokens that are written: a space, the number and one more."""


def main(length, folder, files):
    """Ask each file; return the exit status."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hidden = hide_passkey(tokenizer, length, 0.0)
    ids = [*tokenizer("").input_ids, *hidden.input_ids]
    missed = 0
    for file in files:
        begin = time.perf_counter()
        model = Llama(file, n_ctx=len(ids) + NEW, n_batch=2048, flash_attn=True, swa_full=False, verbose=False)
        text = model.detokenize(list(islice(model.generate(ids, temp=0.0), NEW))).decode(errors="replace").strip()
        model.close()
        found = text.startswith(hidden.key)
        missed += not found
        verdict = "found" if found else f"missed, wrote {text!r}"
        print(f"{file}: {len(ids)} tokens, {hidden.key} {verdict}, {time.perf_counter() - begin:.0f} s", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
