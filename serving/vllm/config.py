"""How vLLM reads a converted checkpoint's configuration without executing its code: `--config-format ropext`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cloudpickle
from transformers import PretrainedConfig
from vllm.transformers_utils.config import register_config_parser
from vllm.transformers_utils.config_parser_base import ConfigParserBase

from ropext.converter.model_classes import configuration_class, decoded

__all__ = ["ConfigParser"]


@register_config_parser("ropext")
class ConfigParser(ConfigParserBase):
    """Takes the configuration class that ropext would ship, in place of the one beside `config.json`."""

    def parse(
        self,
        model: str | Path,
        trust_remote_code: bool,
        revision: str | None = None,
        code_revision: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], Any]:
        """Read it.

        Raises:
            ValueError: it is no configuration of a converted checkpoint.
        """
        keys, _ = PretrainedConfig.get_config_dict(model, revision=revision, token=kwargs.get("token"))
        if "rope_ext" not in keys or "auto_map" not in keys:
            raise ValueError(
                f"{model}: --config-format ropext is for checkpoints with ropext's code, which this is not"
            )
        kind = configuration_class(keys["model_type"])
        cloudpickle.register_pickle_by_value(sys.modules[kind.__module__])  # vLLM's other processes have not made it
        return keys, kind.from_dict(decoded(keys))
