# Run `make` for the list of targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url \
          --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe

.PHONY: help train test lint format lock image base-image engine bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lock: $(VENV)/.tools  ## remake the locks from their .in files
	$(COMPILE) --output-file requirements.lock requirements.in
	$(COMPILE) --output-file requirements-dev.lock requirements-dev.in
