"""Whether mlx-lm finds a passkey at the beginning of a long prompt, by converted folders and by bases.

    python tests/peers/mlx_passkey.py LENGTH FOLDER...
    LD_PRELOAD=libopenblas.so.0 python tests/peers/mlx_passkey.py 12288 smollm2-135m-rerope SmolLM2-135M-Instruct

On a CPU, mlx multiplies some forty times faster with OpenBLAS in the place of the BLAS that it brings. The exit status
is 1 where a folder misses the number.
"""

import sys
import time

from mlx_lm import generate, load
from transformers import AutoTokenizer

from ropext.converter.evaluation.tasks.passkey import hide_passkey

NEW = 6
"""Tokens that are written: the number and one more."""


def main(length, folders):
    """Ask each folder; return the exit status."""
    missed = 0
    for folder in folders:
        model, tokenizer = load(folder, trust_remote_code=True)
        hidden, begin = hide_passkey(AutoTokenizer.from_pretrained(folder), length, 0.0), time.perf_counter()
        text = generate(model, tokenizer, hidden.input_ids, max_tokens=NEW, prefill_step_size=512).strip()
        found = text.startswith(hidden.key)
        missed += not found
        verdict = "found" if found else f"missed, wrote {text!r}"
        print(f"{folder}: {len(hidden.input_ids)} tokens, {hidden.key} {verdict}, {time.perf_counter() - begin:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
