#!/usr/bin/env bash
# Runs the quick suite in an environment of its own (needs uv):
#   lowest   with the lowest versions that pyproject.toml allows for what it names itself
#   next     with the newest pre-release of Airflow
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
case ${1:?lowest or next} in
  lowest) options=(--resolution lowest-direct) extra=() ;;
  next)
    options=()
    extra=('apache-airflow>=3.4.0b0' 'apache-airflow-core>=3.4.0b0' 'apache-airflow-task-sdk>=1.4.0b0')
    ;;
  *)
    echo "$0: lowest or next" >&2
    exit 2
    ;;
esac
environment=.venv-$1
mkdir -p build
printf '%s\n' "${extra[@]+"${extra[@]}"}" >"build/$1.in"
uv pip compile pyproject.toml "build/$1.in" --all-extras --python "$python" --quiet --output-file "build/$1.txt" \
  "${options[@]+"${options[@]}"}"
uv venv --quiet --allow-existing --python "$python" "$environment"
VIRTUAL_ENV=$environment uv pip sync --quiet "build/$1.txt"
VIRTUAL_ENV=$environment uv pip install --quiet --no-deps --editable .
shift
"$environment/bin/python" -m pytest -n auto --dist worksteal -q "$@"
