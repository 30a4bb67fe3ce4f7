# `make demo` and `make test` set up everything they need in .venv; nothing else on the machine is touched.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
RUNTIME := --extra speech --extra tiny-model --extra base-model --extra ffmpeg --extra obs
ZENSICAL := 0.0.73
LOCK := --universal --python-version 3.10 --generate-hashes --quiet
# Names of videos may hold anything, also what make and the shell would expand.
override export VIDEO := $(value VIDEO)
override export MEDIA := $(value MEDIA)
override export VIDEOS := $(value VIDEOS)
override export COMMAND := $(value COMMAND)

.PHONY: help setup demo up down logs shell test test-lowest test-next test-slow test-hostile check-media test-system test-browser test-distributed bench bench-speech lint requirements reference docs wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## .venv with the pinned requirements

$(READY): requirements.txt pyproject.toml
	@PYTHON='$(PYTHON)' dev/setup.sh
	@touch $@

demo: $(READY) ## the main job on the samples, or on VIDEO="/path/a.mp4 /path/b.mkv"
	@$(BIN)/python -m dev.demo

up: $(READY) ## Airflow with its UI, PostgreSQL and the stand-in, until Ctrl-C; VIDEOS=/folder: runs may read it; BACKGROUND=1: until `make down`; DISTRIBUTED=1: on Celery
	@$(BIN)/python -m dev.up $(if $(BACKGROUND),--background) $(if $(DISTRIBUTED),--distributed)

logs: ## follows what the parts of `make up` say
	@$(BIN)/python -m dev.up --logs

shell: $(READY) ## a shell for `airflow` and `vod` beside `make up`; COMMAND="airflow dags list": this command
	@$(BIN)/python -m dev.up --shell

down: $(READY) ## ends what `make up` started
	@$(BIN)/python -m dev.up --down

test: $(READY) ## the quick tests
	@$(BIN)/python -m pytest -n auto --dist worksteal -q

test-lowest: ## the quick tests with the lowest versions that are allowed (needs uv)
	@dev/suite_with.sh lowest

test-next: ## the quick tests with the newest pre-release of Airflow (needs uv)
	@dev/suite_with.sh next

test-slow: $(READY) ## hundreds of damaged files, processes killed again and again
	@$(BIN)/python -m pytest -n auto --dist worksteal -q -m slow

test-hostile: $(READY) ## attacks: on whole Airflow by three roles and a stranger, floods, readers taken over
	@$(BIN)/python -m pytest -q -m hostile

check-media: $(READY) ## the local engine over all that lies in MEDIA="/path/to/folder", and what came of it
	@$(BIN)/python -m dev.check_media "$$MEDIA"

test-system: $(READY) ## whole Airflow with real processes, and its UI in headless Chromium
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -q -m 'system or browser' tests/system

test-browser: $(READY) ## what a person does in the UI, in headless Chromium
	@$(BIN)/python -m pytest -q -m browser tests/system tests/hostile

test-distributed: $(READY) ## Airflow with Celery and Redis (needs redis-server and root), five workers, no common disk
	@$(BIN)/python -m pytest -q --durations=15 -m distributed tests/distributed

bench: $(READY) ## measures extraction and orchestration, and renews docs/performance.md; PARTS="side_by_side growth under_quota waiting": these
	@$(if $(PARTS),,$(BIN)/python -m benchmarks.parse_time && $(BIN)/python -m benchmarks.sandbox && $(BIN)/python -m benchmarks.extraction && $(BIN)/python -m benchmarks.remote)
	@$(BIN)/python -m benchmarks.orchestration $(PARTS)

bench-speech: $(READY) ## transcription beside faster-whisper's own ways, on recordings in MEDIA="/folder/with/INDEX.tsv"
	@PYTHONPATH=plugins $(BIN)/python -m benchmarks.speech "$$MEDIA"

lint: $(READY) ## formatting, lint, types, borders
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

requirements: ## pins anew what pyproject.toml asks for (needs uv)
	uv pip compile pyproject.toml $(RUNTIME) $(LOCK) -o requirements-runtime.txt
	uv pip compile pyproject.toml --all-extras $(LOCK) -o requirements.txt

reference: $(READY) ## docs/reference.md, from the code
	@PYTHONPATH=plugins $(BIN)/python -m dev.reference

docs: ## the documentation as a site in build/site, every link checked (needs uv)
	@uv tool run --quiet --python '>=3.11' zensical==$(ZENSICAL) build --strict

wheel: $(READY) ## the package as a file to install elsewhere, in dist/
	@$(BIN)/python -m hatchling build -t wheel

clean: ## removes .venv, all state and all that was built
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m dev.up --down; fi
	rm -rf .venv .venv-lowest .venv-next .airflow build dist
