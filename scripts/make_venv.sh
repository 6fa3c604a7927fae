#!/usr/bin/env bash
# Makes .venv with the locked Python packages: make_venv.sh PYTHON. TORCH_WHEEL=path|url installs
# that file as PyTorch in place of what pip's index offers.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
venv=.venv

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
  echo "error: $python is not a Python of version 3.11 or later; name one with PYTHON=..." >&2
  exit 1
fi
if [[ ! -x $venv/bin/python ]]; then
  if ! "$python" -c 'import ensurepip' 2> /dev/null; then
    echo "error: $python cannot make virtual environments (no module ensurepip);" \
      "on Debian: apt-get install python3-venv" >&2
    exit 1
  fi
  echo "==> venv: $venv, from $("$python" --version)"
  "$python" -m venv "$venv"
fi

pip() { PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/python" -m pip "$@" < /dev/null; }
torch=$(grep -E '^torch==' requirements.lock)
# PyTorch goes first and alone, so that no other package chooses which build of it comes.
if [[ -n "${TORCH_WHEEL:-}" ]]; then
  echo "==> venv: PyTorch from $TORCH_WHEEL"
  pip install -qq --constraint <(grep -v '^torch==' requirements.lock) "$TORCH_WHEEL"
  installed=$("$venv/bin/python" -c 'from importlib.metadata import version as v; print(v("torch"))')
  if [[ "torch==${installed%%+*}" != "$torch" ]]; then
    echo "error: $TORCH_WHEEL is PyTorch $installed, but this project is made for $torch" >&2
    exit 1
  fi
else
  if ! "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torch")' 2> /dev/null; then
    echo "==> venv: $torch from pip's index. Where that index serves the CUDA build (gigabytes)," \
      "a CPU build is enough: make ... TORCH_WHEEL=<path or URL of its wheel>"
  fi
  pip install -qq --constraint requirements.lock "$torch"
fi
echo "==> venv: Python packages of requirements.lock"
pip install -qq -r <(grep -v '^torch==' requirements.lock)
