#!/usr/bin/env bash
# Runs a lane of tests: `tools/test.sh [fast|test|all] [arguments of pytest]`; without a name it is `test`.
# Container tests use the engine that answers, else a private one that is started here; where that is impossible they
# are left out, which is said, unless SAMEBITS_REQUIRE_ENGINE is set.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in fast | test | all) lane=$1; shift ;; *) lane=test ;; esac
arguments=("$@")

say() { echo "test: $(date +%T) $1" >&2; }

# On two workers: one has the container tests, the other begins with what takes longest beside them.
run() {
  say "the tests of lane $lane, on two workers"
  local status=0
  .venv/bin/python -m pytest --lane "$lane" -n 2 --dist loadgroup --durations=15 "$@" || status=$?
  [ "$status" -ne 5 ] || status=0  # nothing of what was asked for is there
  exit "$status"
}

leave_out() {
  say "container tests are left out: $1"
  [ -z "${SAMEBITS_REQUIRE_ENGINE:-}" ] || exit 1
  run -m 'not engine' "${arguments[@]}"
}

[ "$lane" != fast ] || run "${arguments[@]}"
say "the engine"
if tools/engine.sh status >/dev/null 2>&1; then
  eval "$(tools/engine.sh env)"
elif ! docker info >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
  why=$(tools/engine.sh up 2>&1 | tee /dev/stderr | tail -n 1; exit "${PIPESTATUS[0]}") || leave_out "$why"
  eval "$(tools/engine.sh env)"
fi
# The pinned base where its registry can be reached, else a stand-in from Debian's packages.
if [ -z "${SAMEBITS_BASE:-}" ]; then
  say "the base image"
  pinned=$(sed -n 's/^ARG BASE=//p' Dockerfile)
  if ! docker image inspect "$pinned" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$pinned" >/dev/null 2>&1; then
    say "the pinned base cannot be pulled: a stand-in from Debian's packages takes its place"
    tools/base_image.sh || leave_out "no base image can be had"
    export SAMEBITS_BASE=samebits-base:trixie
  fi
fi
say "the image"
.venv/bin/samebits build || leave_out "the image cannot be built"
run "${arguments[@]}"
