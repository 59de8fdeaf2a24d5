#!/usr/bin/env bash
# Runs all tests. Container tests use the engine that answers, else a private one that this script starts. If that is
# impossible they are skipped with a message; with SAMEBITS_REQUIRE_ENGINE set, the script fails instead.
set -euo pipefail
cd "$(dirname "$0")/.."

leave_out() {
  echo "test: skipping container tests: $1" >&2
  [ -z "${SAMEBITS_REQUIRE_ENGINE:-}" ] || exit 1
  exec .venv/bin/python -m pytest -m 'not engine' "${arguments[@]}"
}

arguments=("$@")
if tools/engine.sh status >/dev/null 2>&1; then
  eval "$(tools/engine.sh env)"
elif ! docker info >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
  why=$(tools/engine.sh up 2>&1 | tee /dev/stderr | tail -n 1; exit "${PIPESTATUS[0]}") || leave_out "$why"
  eval "$(tools/engine.sh env)"
fi
# The pinned base if its registry can be reached, else one from Debian's packages.
if [ -z "${SAMEBITS_BASE:-}" ]; then
  pinned=$(sed -n 's/^ARG BASE=//p' Dockerfile)
  if ! docker image inspect "$pinned" >/dev/null 2>&1 && ! timeout 300 docker pull --quiet "$pinned" >/dev/null 2>&1; then
    echo "test: the pinned base cannot be pulled; making one from Debian's packages" >&2
    tools/base_image.sh || leave_out "no base image is available"
    export SAMEBITS_BASE=samebits-base:trixie
  fi
fi
.venv/bin/samebits build || leave_out "the image cannot be built"
# Container tests one after the other, as they make, remove and count what one engine holds; beside them others, as most of
# a training's time is starting on one core. When they are over, the rest of the others takes their place: parted so that
# both take about as long.
run() { .venv/bin/python -m pytest "$@"; }
beside=$(mktemp)
run -m 'not engine' tests/unit tests/command tests/portable "${arguments[@]}" >"$beside" 2>&1 &
process=$!
trap 'kill $process 2>/dev/null || true; rm -f "$beside"' EXIT
found=()
run -m engine "${arguments[@]}" && found+=(0) || found+=($?)
run -m 'not engine' tests/runner "${arguments[@]}" && found+=(0) || found+=($?)
echo "test: what ran beside:"
wait $process && found+=(0) || found+=($?)
cat "$beside"
for status in "${found[@]}"; do
  [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || exit "$status"  # 5: nothing of what was asked for is there
done
