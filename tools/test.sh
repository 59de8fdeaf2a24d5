#!/usr/bin/env bash
# Runs a lane of tests: `tools/test.sh [fast|test|all] [arguments of pytest]`; the default is `test`.
# Container tests use the engine that answers, else a private one that this script starts. If that is impossible they are
# skipped with a message; with SAMEBITS_REQUIRE_ENGINE set, the script fails instead.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in fast | test | all) lane=$1; shift ;; *) lane=test ;; esac
arguments=("$@")

log() { echo "test: $(date +%T) $1" >&2; }

# One worker runs the container tests, and the others start with the slowest of the rest. There is one more than cores, as
# trainings wait for the engine, for starts and for each other.
run() {
  local workers=$(($(nproc) + 1))
  log "lane $lane: tests on $workers workers"
  local status=0
  .venv/bin/python -m pytest --lane "$lane" -n "$workers" --dist loadscope --durations=15 "$@" || status=$?
  [ "$status" -ne 5 ] || status=0  # no test was selected
  exit "$status"
}

leave_out() {
  log "skipping container tests: $1"
  [ -z "${SAMEBITS_REQUIRE_ENGINE:-}" ] || exit 1
  run -m 'not engine' "${arguments[@]}"
}

[ "$lane" != fast ] || run "${arguments[@]}"
log "the engine"
if tools/engine.sh status >/dev/null 2>&1; then
  eval "$(tools/engine.sh env)"
elif ! docker info >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
  why=$(tools/engine.sh up 2>&1 | tee /dev/stderr | tail -n 1; exit "${PIPESTATUS[0]}") || leave_out "$why"
  eval "$(tools/engine.sh env)"
fi
# The pinned base if its registry can be reached, else one from Debian's packages.
if [ -z "${SAMEBITS_BASE:-}" ]; then
  log "the base image"
  pinned=$(sed -n 's/^ARG BASE=//p' Dockerfile)
  if ! docker image inspect "$pinned" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$pinned" >/dev/null 2>&1; then
    log "the pinned base cannot be pulled; making one from Debian's packages"
    tools/base_image.sh || leave_out "no base image is available"
    export SAMEBITS_BASE=samebits-base:trixie
  fi
fi
log "the image"
.venv/bin/samebits build || leave_out "the image cannot be built"
run "${arguments[@]}"
