"""The table of methods, and the checks on the block of the configuration that chooses one."""

from __future__ import annotations

from typing import Any

import torch

from .rope_ext_dca import Dca
from .rope_ext_dpe import Dpe
from .rope_ext_dprope import Dprope
from .rope_ext_dynamic_ntk import DynamicNtk
from .rope_ext_frequencies import FrequencyMethod
from .rope_ext_gali import Gali
from .rope_ext_jet_long import JetLong
from .rope_ext_linear import Linear
from .rope_ext_method import Method
from .rope_ext_ntk import Ntk
from .rope_ext_original import Original
from .rope_ext_rerope import Rerope
from .rope_ext_self_extend import SelfExtend
from .rope_ext_string import String
from .rope_ext_yarn import Yarn

FORMAT = 1
"""Of the `rope_ext` block that this code reads."""

METHODS: dict[str, type[Method] | type[FrequencyMethod]] = {
    "dca": Dca,
    "dpe": Dpe,
    "dprope": Dprope,
    "dynamic_ntk": DynamicNtk,
    "gali": Gali,
    "jet_long": JetLong,
    "linear": Linear,
    "ntk": Ntk,
    "original": Original,
    "rerope": Rerope,
    "self_extend": SelfExtend,
    "string": String,
    "yarn": Yarn,
}


def build_method(config: Any) -> Method | FrequencyMethod:
    """The method that `config.rope_ext` describes.

    Raises:
        ValueError: there is no such block, or it is not one for this code.
    """
    block = getattr(config, "rope_ext", None)
    if not isinstance(block, dict):
        raise ValueError("the configuration has no rope_ext block: this is no checkpoint made by ropext")
    if block.get("format") != FORMAT:
        raise ValueError(
            f"the rope_ext block has format {block.get('format')!r} and this code reads {FORMAT}: code and "
            "configuration come from different versions of ropext; use the code that stands beside config.json, in a "
            "fresh process"
        )
    if block.get("method") not in METHODS:
        raise ValueError(f"unknown method {block.get('method')!r}; this code has {', '.join(sorted(METHODS))}")
    # Models are built on the meta device; the tables of a method are real.
    with torch.device("cpu"):
        return METHODS[block["method"]](block)
