#!/usr/bin/env bash
# Make all pages, tables and pictures again from the raw lines beside this file: a quarter of a minute.
# `make.sh --check` changes nothing. `make.sh measure` makes the raw lines too, from nothing: with --dry-run it says how.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python -m tools.gallery "$@"
