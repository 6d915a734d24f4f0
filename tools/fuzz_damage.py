"""Damage for hostile inputs: values, keys and bytes that `python -m tools.fuzz` puts into files."""

import json

# Values, as the text that stands for them in JSON.
ODD = [
    *("null", "true", "false", "0", "1", "-1", "2", "3", "7", "0.5", "1e-320", "1e308", "1e999", "-0.0", "1e-9"),
    *("NaN", "Infinity", "-Infinity", "9" * 19, "9" * 39, "9" * 400, "9" * 5000, "2147483648", "18446744073709551616"),
    *('""', '"x"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u001b[2J"', '"\ud800"', '"é"', '"../../etc/passwd"'),  # noqa: E501
    *('"/etc/passwd"', '"~"', '"."', '".."', '"a/b"', '"con.safetensors"', '"model.safetensors"', '"config.json"'),
    *('"../x.safetensors"', '"llama"', '"phi3"', '"mistral"', '"qwen2"', '"LlamaForCausalLM"', '"default"', '"linear"'),
    *('"llama3"', '"yarn"', '"os.system"', '"!!python/object:os.system"', '"evil/kernel"', '"x\\ny"', '"{0}"', '"%s"'),
    *("[]", "{}", "[[]]", "[null]", '{"a": 1}', '["a", "b"]', "[1, 2, 3]", '{"": {}}', '{"rope_type": "linear"}'),
    '{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, '
    '"original_max_position_embeddings": 32}',
    "[" * 70 + "]" * 70, "[" * 20_000 + "]" * 20_000, '{"a":' * 500 + "1" + "}" * 500, '"' + "x" * 20_000 + '"',
    "[" + "1," * 5_000 + "1]", "[" + "{}," * 2_000 + "{}]",
]  # fmt: skip
KEYS = [
    *("auto_map", "_private", "attn_implementation", "architectures", "model_type", "head_dim", "hidden_size", "dtype"),
    *("num_attention_heads", "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "rope_ext"),
    *("sliding_window", "layer_types", "quantization_config", "max_position_embeddings", "num_key_value_heads"),
    *("model_max_length", "tokenizer_class", "weight_map", "metadata", "data_offsets", "shape", "__metadata__", ""),
    *("local_window", "group_size", "scaling_factor", "requires", "references", "top_k", "dimension_scores", "noise"),
    *("activate_beyond", "factor", "use_sliding_window", "torch_dtype", "hidden_act", "files", "code", "source"),
]
YAML_ODD = [
    "!!python/object/apply:os.system ['true']", "!!binary aGk=", "!!set {a, b}", "&a [*a]", "*nowhere", "{<<: *x}", "? a",  # noqa: E501
    "- - - -", "|\n  text", "0x" + "f" * 300, "0o777", "1_000", "2020-01-01", ".nan", ".inf", "~", "'\ud83d'", '"\\ud800"',  # noqa: E501
    "[" * 400, "{" * 400, "&a {x: &b [1, &c {y: *b}]}", "%YAML 9.9", "---\n---", "\x00", "\ufeff", "a: b: c", "\t- x",
    "!!int ''", "!!float x", "!!timestamp x", "!!bool maybe", "!<tag:yaml.org,2002:null> x",
]  # fmt: skip


class Raw(str):
    """JSON text that stands for itself."""


# Mutations


def spell(value):
    """JSON, with `Raw` texts put in as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{spell(key)}: {spell(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spell, value)) + "]"
    return json.dumps(value)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield from places(entry, (*path, key))


def change(rng, value):
    """Change one place of a JSON value and return it."""
    path = rng.choice(list(places(value)))
    if not path:
        if rng.random() < 0.2 or not isinstance(value, dict):
            return Raw(rng.choice(ODD))
        value[rng.choice(KEYS)] = Raw(rng.choice(ODD))
        return value
    inside = value
    for key in path[:-1]:
        inside = inside[key]
    key, how = path[-1], rng.random()
    if how < 0.6:
        inside[key] = Raw(rng.choice(ODD))
    elif how < 0.7:
        del inside[key]
    elif how < 0.8:
        inside[key] = [inside[key]] * rng.choice([0, 1, 2, 50])
    elif how < 0.9 and isinstance(inside, dict):
        inside[rng.choice(KEYS)] = inside.pop(key)
    elif isinstance(inside[key], int | float) and not isinstance(inside[key], bool):
        inside[key] = inside[key] * rng.choice([-1, 0, 2, 3, 10**6, 10**15]) + rng.choice([-1, 0, 1, 0.5])
    else:
        inside[key] = {rng.choice(KEYS): inside[key]}
    return value


def damage(rng, data):
    """Change bytes at random."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        at = rng.randrange(len(data) + 1)
        how = rng.random()
        if how < 0.4 and at < len(data):
            data[at] = rng.choice([rng.randrange(256), data[at] ^ (1 << rng.randrange(8)), *b'{}[]",:\\0'])
        elif how < 0.6:
            del data[at : at + rng.choice([1, 2, 10, 1000])]
        elif how < 0.8:
            data[at:at] = rng.choice(ODD).encode("utf-8", "surrogatepass")
        elif how < 0.95:
            data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.choice([1, 10, 1000])]
        else:
            del data[at:]
    return bytes(data)


def mutated(rng, value):
    """A JSON file of a changed value, or changed as bytes."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if not isinstance(value, Raw):
            value = change(rng, value)
    data = spell(value).encode("utf-8", "surrogatepass")
    return damage(rng, data) if rng.random() < 0.15 else data
