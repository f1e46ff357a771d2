#!/bin/bash
# Fails when the committed stubs or object types differ from what `make generate` writes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/.venv/bin
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
mkdir -p "$fresh/barque" "$fresh/types"
ln -s "$root/proto" "$fresh/barque/proto"
mkdir "$fresh/out"
(cd "$fresh" && "$bin/python" -m grpc_tools.protoc -I. --python_out=out --pyi_out=out --grpc_python_out=out barque/proto/*.proto)
"$bin/python" "$root/api/types/generate.py" "$fresh/types"
"$bin/ruff" check --quiet --fix --select I --config "$root/pyproject.toml" "$fresh/types"
"$bin/ruff" format --quiet --config "$root/pyproject.toml" "$fresh/types"
stale=0
for file in "$fresh"/out/barque/proto/* "$fresh"/types/*; do
    folder=proto
    case $file in "$fresh"/types/*) folder=api/types ;; esac
    cmp -s "$file" "$root/$folder/$(basename "$file")" || { echo "stale: $folder/$(basename "$file")" >&2; stale=1; }
done
[ $stale = 0 ] || { echo "run: make generate" >&2; exit 1; }
echo "generated files are fresh"
