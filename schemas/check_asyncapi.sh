#!/usr/bin/env bash
# Checks generated/asyncapi.json with the official AsyncAPI parser, installed with npm.
# Usage: schemas/check_asyncapi.sh [DIR]   DIR keeps the parser for later runs, and for the tests:
#   NODE_PATH=DIR/node_modules pytest tests/contract/test_asyncapi.py
set -euo pipefail

parser="@asyncapi/parser@3.6.6"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

if [[ $# -gt 0 ]]; then
  mkdir -p "$1"
  directory="$(cd "$1" && pwd)"
else
  directory="$(mktemp -d)"
  trap 'rm -rf "$directory"' EXIT
fi

npm install --prefix "$directory" --ignore-scripts --no-audit --no-fund --silent "$parser"
NODE_PATH="$directory/node_modules" \
  node "$here/../tests/support/asyncapi_check.mjs" "$here/generated/asyncapi.json"
