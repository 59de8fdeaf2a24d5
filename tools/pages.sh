#!/usr/bin/env bash
# Puts in place what the tests of pages need: Chromium from Debian (as root), and axe-core, checked by its hash.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
  echo "pages: installing Chromium" >&2
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
tools/npm_package.sh axe-core 4.14.1 e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745 .venv/axe-core
