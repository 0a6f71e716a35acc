#!/usr/bin/env bash
# Hashed lock files for all supported Pythons; newer versions only with --upgrade.
set -euo pipefail
cd "$(dirname "$0")"
compile=(.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links "$@")
"${compile[@]}" pyproject.toml -o requirements.txt
"${compile[@]}" pyproject.toml --extra local --group build -c requirements.txt -o requirements-demo.txt
"${compile[@]}" pyproject.toml --extra local --extra lab --group build --group dev -c requirements-demo.txt -o requirements-dev.txt
"${compile[@]}" pyproject.toml --group build --group native -c requirements-dev.txt -o requirements-native.txt
"${compile[@]}" --group bench -o requirements-bench.txt
"${compile[@]}" --group quality -o requirements-quality.txt
