#!/usr/bin/env bash
# Writes requirements.lock anew: the newest versions that satisfy requirements.in, from a fresh
# virtual environment made with the Python named as argument.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$1" -m venv "$scratch/venv"
pip="$scratch/venv/bin/python -m pip --disable-pip-version-check"
$pip install -q "$(grep -E '^torch==' requirements.in)"
$pip install -q -r requirements.in
{
  echo "# Exact versions of requirements.in and all it pulls in. Written by \`make lock\`."
  # A local tag (+cpu) names a build of PyTorch, not a version; builds for GPUs pull in more.
  $pip freeze | sed -E 's/^(torch==[^+]*)\+.*/\1/' | grep -v -E '^(nvidia-|triton|cuda-)'
} > "$scratch/lock"
cp "$scratch/lock" requirements.lock
