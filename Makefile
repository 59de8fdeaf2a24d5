# Run `make` for the list of targets.
.DEFAULT_GOAL := help
SHELL   := bash
PYTHON  ?= python3
BIN     := .venv/bin
TAG     ?= samebits:cpu
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url \
           --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe
# What `make bench` measures, in its order; each is a module of `benchmarks`.
MEASURED := overhead steps instructions trace locate resume verify profiles workers submission scale split build packages capsule watching report
# An engine that `make engine` started takes precedence over the machine's own.
ENGINE  := if tools/engine.sh status >/dev/null 2>&1; then eval "$$(tools/engine.sh env)"; fi

.PHONY: help train test test-fast test-all test-kubernetes test-pages test-portable test-gpu lint format lock image base-image engine prove-rules docs mutants bench bench-states bench-kills bench-clock bench-full-disk bench-together clean $(MEASURED:%=bench-%)

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: .venv/.installed  ## train a script (SCRIPT=train.py DATA=data ARGS="--epochs 5"), or the example on real data; OPTIONS= are samebits's own
	@$(ENGINE); $(BIN)/samebits train $(OPTIONS) $(if $(DATA),--data "$(DATA)") "$(or $(SCRIPT),examples/digits/train.py)" $(if $(ARGS),-- $(ARGS))

test-fast: lint  ## run the tests that need neither TensorFlow nor an engine (under 2 minutes)
	@tools/test.sh fast

test: lint  ## run the tests that a change must pass; starts a private engine if none answers (under 25 minutes)
	@tools/test.sh test

test-all: lint  ## run every test: all kills and short runs, every family, the emulated CPUs (more than an hour)
	@tools/test.sh all

test-pages: .venv/.installed  ## see the HTML pages in Chromium, with axe-core; installs both where they are missing (about 3 minutes)
	@tools/pages.sh && SAMEBITS_REQUIRE_BROWSER=1 $(BIN)/python -m pytest --lane all -m browser -q

test-portable: .venv/.installed  ## train the portable profile's model families on emulated CPUs (about 15 minutes)
	@$(BIN)/python -m pytest -m emulated

test-kubernetes: .venv/.installed  ## train on a real Kubernetes of one node; builds it once (needs root and Debian 12; 10 minutes, then 5)
	@$(ENGINE); tools/kubernetes.sh build && SAMEBITS_REQUIRE_KUBERNETES=1 $(BIN)/python -m pytest --lane all -q tests/command/test_kubernetes.py

test-gpu: .venv/.installed  ## train every model family twice on a GPU (needs NVIDIA's driver and container toolkit)
	@$(BIN)/samebits build --gpu && $(BIN)/python -m pytest -m gpu

lint: .venv/.installed  ## check style and types of the code, and the prose of pages and messages
	@$(BIN)/ruff check --quiet && $(BIN)/ruff format --check --quiet && $(BIN)/mypy && $(BIN)/python tools/prose.py

format: .venv/.installed  ## format the code
	@$(BIN)/ruff check --quiet --fix; $(BIN)/ruff format

lock: .venv/.installed  ## remake the locks from their .in files, and Dockerfile.gpu from Dockerfile
	$(COMPILE) --output-file requirements.lock requirements.in
	$(COMPILE) --output-file requirements-gpu.lock requirements-gpu.in
	$(COMPILE) --output-file requirements-dev.lock requirements-dev.in
	$(COMPILE) --constraint requirements.lock --output-file tools/prove_rules.lock tools/prove_rules.in
	$(COMPILE) --output-file tools/docs.lock tools/docs.in
	$(COMPILE) --output-file tools/export.lock tools/export.in
	$(COMPILE) --output-file tools/manifests.lock tools/manifests.in
	$(BIN)/python tools/dockerfile_gpu.py

image: .venv/.installed  ## build the image
	@$(ENGINE); $(BIN)/samebits build --tag $(TAG)

base-image:  ## make a base image from Debian's packages, if the pinned base cannot be pulled
	@$(ENGINE); tools/base_image.sh

engine:  ## start a private Docker engine on a Debian machine that has none, with a base image, and use it from then on (needs root)
	@tools/engine.sh up && tools/choose_engine.sh

prove-rules: .venv/.installed  ## run the examples of each rule of `check` twice, and write the results into its page (about 10 minutes)
	@$(BIN)/python tools/prove_rules.py

docs: .venv/.installed  ## build the documentation as a site, into site/
	@tools/docs.sh

mutants: .venv/.installed  ## break what samebits guarantees, one line at a time, and show that the tests catch each (LANE=fast: without TensorFlow)
	@$(ENGINE); $(BIN)/python tools/mutants.py $(if $(LANE),--lane $(LANE)) $(MUTANTS)

bench: .venv/.installed  ## measure BENCHMARKS.md, or ONLY=trace,locate of it, and fail where a goal that was met is missed (hours; options: see there)
	@$(ENGINE); $(BIN)/python benchmarks/bench.py $(if $(ONLY),--only "$(ONLY)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SMALL),--small) \
	  $(if $(BUSY),--busy) $(if $(KEEP),--keep) $(if $(JSON),--json "$(JSON)") $(if $(DVC),--dvc "$(DVC)")

$(MEASURED:%=bench-%): bench-%:
	@$(MAKE) --no-print-directory bench ONLY=$*

bench-full-disk: .venv/.installed  ## train on disks of 60 sizes, most of them too small (root; about a quarter of an hour)
	@nice -n 19 $(BIN)/python benchmarks/full_disk.py

bench-kills: .venv/.installed  ## kill launcher, watcher, training and tee of tiny runs at random moments (MINUTES=60)
	@nice -n 19 $(BIN)/python benchmarks/kills.py --minutes $(or $(MINUTES),60)

bench-clock: .venv/.installed  ## let the clock jump while trainings run, first the launchers', then everybody's (MINUTES=10; libfaketime, gcc)
	@nice -n 19 $(BIN)/python benchmarks/clock_jumps.py --minutes $(or $(MINUTES),10)
	@nice -n 19 $(BIN)/python benchmarks/clock_jumps.py --minutes $(or $(MINUTES),10) --everywhere

bench-together: .venv/.installed  ## 20 trainings at once in one folder, and two resumes at once (about a minute)
	@$(BIN)/python benchmarks/together.py

bench-states: .venv/.installed  ## count which state resumes, and which is refused (about 20 minutes; INTO=cells.jsonl continues, SKIP=544 leaves out the first)
	@$(BIN)/python benchmarks/states.py $(if $(INTO),--into "$(INTO)") $(if $(SKIP),--skip "$(SKIP)")

clean:  ## remove what the targets made in this folder; keeps runs, images and caches elsewhere
	tools/choose_engine.sh --forget
	tools/engine.sh down
	rm -rf .venv .engine .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

.venv/.installed: requirements-dev.lock pyproject.toml
	@echo "samebits: installing the host side into .venv" >&2
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "samebits needs Python 3.11 or later; set PYTHON=")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
