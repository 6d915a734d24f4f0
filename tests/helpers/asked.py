"""A tiny model that can be asked: with a tokenizer of one token for each character."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " \n"


def tokenizer() -> Any:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {character: n for n, character in enumerate(CHARACTERS, 3)}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def with_tokenizer(folder: Path) -> Path:
    tokenizer().save_pretrained(folder)
    return folder
