"""A method on a model in memory: the code that a conversion ships, and nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ropext.converter.checkpoint.description import base_inv_freq, describe
from ropext.converter.checkpoint.facts import facts_of
from ropext.converter.checkpoint.wanted import want_of
from ropext.converter.errors import InvalidPreset, UsageError
from ropext.converter.methods.registry import bake
from ropext.converter.preset import Preset
from ropext.converter.presets.fit import check_fit
from ropext.converter.presets.load import override_texts
from ropext.converter.presets.suggested import preset_for, require_method

from .api import choose_preset
from .config import extended_config
from .native import require_remote

__all__ = ["Applied", "apply", "block_for", "plain"]


class Applied:
    """A method on a loaded model. As a context manager it leaves the base as it was, bit for bit.

    Attributes:
        preset: what it reads by.
        notes: what the user should check.
    """

    def __init__(self, model: Any, preset: Preset, notes: tuple[str, ...] = ()) -> None:
        """Put the method on; see `apply`."""
        from ropext.converter.model_classes import parts_of
        from ropext.modeling.rope_ext_model import attach, decoder_of, prepare

        self.preset, self.notes = preset, notes
        self._decoder = decoder_of(model)
        if hasattr(self._decoder, "rope_ext_attachment"):
            raise UsageError("the model has a method already: it was converted, or another preset is applied to it.")
        config = model.config.to_dict()
        _refuse_window(config)
        block = block_for(config, type(model).__name__, preset)
        self.attachment = attach(self._decoder, block, *parts_of(preset.method))
        try:
            prepare(self._decoder)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take the method off, once. A cache that was filled with it is of no use to the base."""
        from ropext.modeling.rope_ext_model import detach

        if getattr(self._decoder, "rope_ext_attachment", None) is self.attachment:
            detach(self._decoder)

    def __enter__(self) -> Applied:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def apply(
    model: Any,
    preset: str | Path | Preset | None = None,
    *,
    method: str | None = None,
    target: str | int | None = None,
    initial_window: str | int | None = None,
    overrides: Sequence[str] | Mapping[str, object] = (),
) -> Applied:
    """Let a loaded model of transformers read by a method, without writing anything.

    Args:
        model: a stock model, of a family that ropext converts, with its head or without.
        preset: the name of a preset, the file of one, or a loaded one.
        method: instead, a method, with the parameters that are suggested for the model and `target`.
        target: with `method`, the length to read in the end, such as `"64k"` or 65536.
        initial_window: with `method`, the length to trust; by default the trained length.
        overrides: keys of the preset to change: `{"target_window": "64k"}` or `["target_window=64k"]`.

    Returns:
        What takes the method off again: by `remove()`, or as a context manager.

    Raises:
        InvalidPreset: it does not fit the model.
        UsageError: the model has a method already, all of its layers slide, or the arguments make no sense together.
        RopextError: its family cannot be extended, or nothing can be suggested.
    """
    if preset is not None or method is None or target is None:
        chosen = choose_preset(None, preset, method, target, initial_window=initial_window, overrides=overrides)
        return Applied(model, chosen.preset)
    require_method(method)
    config = plain(model.config.to_dict())
    _refuse_window(config)
    config["architectures"] = [type(model).__name__]
    wanted = want_of(config, config.get("_name_or_path") or config["model_type"], target, initial_window)
    return Applied(model, preset_for(wanted, method, overrides=override_texts(overrides)), wanted.notes)


def _refuse_window(config: dict[str, Any]) -> None:
    window = describe(plain(config)).window
    if window:
        raise UsageError(
            f"all layers of the model see a sliding window of {window} tokens. Load it with sliding_window=None, as a "
            "conversion has it, or convert it."
        )


def block_for(config: dict[str, Any], architecture: str, preset: Preset) -> dict[str, Any]:
    """Return the `rope_ext` block that a conversion of a model would write.

    Args:
        config: the model's configuration.
        architecture: its class.
        preset: what to convert with.

    Raises:
        InvalidPreset: the preset does not fit.
        UsageError: all of its layers slide.
        RopextError: the family cannot be extended.
    """
    config = {**plain(config), "architectures": [architecture]}
    if window := describe(config).window:
        raise UsageError(
            f"every layer of the model sees {window} tokens only; a conversion turns that off, but a model in memory "
            "keeps it."
        )
    facts = facts_of(config, config.get("_name_or_path") or "the model")
    problems = check_fit(preset, facts)
    if problems:
        raise InvalidPreset(problems)
    require_remote(config, preset.method)
    baked = bake(preset, facts, base_inv_freq(config))
    block: dict[str, Any] = extended_config(config, facts, preset, baked)["rope_ext"]
    return block


def plain(value: Any) -> Any:
    """JSON values of a configuration in memory: types of torch become their names."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value).removeprefix("torch.")
