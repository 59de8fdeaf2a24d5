#!/usr/bin/env bash
# Keeps the choice of an engine and a base image in a file that `make` and `samebits` read.
#
#   tools/choose_engine.sh [STATE_DIR]           # the engine that tools/engine.sh started there, and a base for it
#   tools/choose_engine.sh --forget [STATE_DIR]  # remove the choice, if it is of that engine
#
# The base is the pinned one if its registry can be reached, else one made from Debian's packages (needs root).
# Exit status: as of tools/engine.sh and tools/base_image.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

forget=
if [ "${1:-}" = --forget ]; then forget=yes; shift; fi
file=${XDG_CONFIG_HOME:-$HOME/.config}/samebits/engine.toml
chosen=$(tools/engine.sh env "$@")
eval "$chosen"
if [ -n "$forget" ]; then
  ! grep -qsF "docker_host = \"$DOCKER_HOST\"" "$file" || rm -f "$file"
  exit
fi
tools/engine.sh status "$@" >&2

pinned=$(sed -n 's/^ARG BASE=//p' Dockerfile)
local_base=samebits-base:trixie
base=
here() { docker image inspect "$1" >/dev/null 2>&1; }
if ! here "$pinned"; then
  if here $local_base; then
    base=$local_base
  elif ! timeout 120 docker pull --quiet "$pinned" >/dev/null 2>&1; then
    echo "engine: the pinned base cannot be pulled; making one from Debian's packages" >&2
    tools/base_image.sh >/dev/null
    base=$local_base
  fi
fi

mkdir -p "$(dirname "$file")"
client=${DOCKER_CONFIG%/config}/bin
{
  echo "# Written by make engine: the engine and the base that make and samebits use. Remove this file to use others."
  printf '%s = "%s"\n' docker_host "$DOCKER_HOST" docker_config "$DOCKER_CONFIG"
  [ ! -x "$client/docker" ] || printf 'path = "%s"\n' "$client"
  [ -z "$base" ] || printf 'base = "%s"\n' "$base"
} >"$file.part"
mv "$file.part" "$file"
echo "engine: $file names this engine${base:+ and the base $base}; samebits and make use it from now on" >&2
