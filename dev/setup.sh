#!/usr/bin/env bash
# Makes .venv with the pinned requirements and this package: with uv where it is there, else with pip.
set -euo pipefail
python=${PYTHON:-python3}
# Run, not only looked for: a shim of pyenv is there also for a version that is not chosen.
if ! version=$("$python" --version 2>&1); then
  echo "There is no $python here. Name a Python from 3.10 to 3.14: make PYTHON=python3.12 …" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))'; then
  echo "This needs Python 3.10 to 3.14, and $python is $version. Name another: make PYTHON=python3.12 …" >&2
  exit 1
fi
echo "Setting up .venv with $version: some 265 packages, 1.6 GB on the disk, a few minutes the first time …"
if command -v uv >/dev/null; then
  uv venv --quiet --allow-existing --python "$python" .venv
  export VIRTUAL_ENV=.venv
  uv pip install --quiet --requirements requirements.txt
  uv pip install --quiet --no-deps --editable .
else
  # The pip that comes with Python 3.11 resolves a pinned package with extras anew, and refuses what it finds.
  "$python" -m venv --upgrade-deps .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
fi
