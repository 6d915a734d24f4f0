"""The published settings, one YAML file each; `ropext presets list` shows them."""
