"""What a preset may say, as JSON Schema (draft-07): `preset.schema.json` and one `method_<name>.schema.json` each."""
