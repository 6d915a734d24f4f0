#!/usr/bin/env bash
# The base and every method on SmolLM2-135M: needles, perplexity and passkeys at four lengths, tables and pictures.
# Usage: compare.sh SmolLM2-135M-Instruct [FOLDER], the folder that `ropext demo` writes. Goes on where it was interrupted.
set -euo pipefail
model=$1 results=${2:-compare}
presets=()
for method in dpe dpe-512 self_extend rerope gali jet_long string dca yarn ntk dprope dynamic_ntk linear; do
    presets+=(--preset "smollm2-135m-$method")
done
asked=("$model" "${presets[@]}" --lengths 4k,8k,12k,16k --dtype bfloat16 --output "$results" --resume)
ropext eval niah "${asked[@]}" --needles 4
ropext eval ppl "${asked[@]}"
ropext eval passkey "${asked[@]}" --depths 3
ropext report "$results" --output "$results/compare.md"
picture() { ropext report "$results/$(basename "$model")/$1.jsonl" --plot "$results/$1.svg" "${@:2}" >/dev/null; }
picture niah --picture heatmap --measure log-probability
picture ppl
picture passkey --picture heatmap
beyond=(--picture score --measure log-probability)
for method in dpe self_extend rerope yarn; do beyond+=(--preset "smollm2-135m-$method"); done
ropext report "$results/$(basename "$model")/passkey.jsonl" --plot "$results/beyond-8k.svg" "${beyond[@]}" >/dev/null
