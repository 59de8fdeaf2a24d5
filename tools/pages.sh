#!/usr/bin/env bash
# Puts in place what the tests of pages need: Chromium from Debian (as root), and axe-core, checked by its hash.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=4.14.1
SHA256=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
target=.venv/axe-core

if ! command -v chromium >/dev/null; then
  echo "pages: installing Chromium" >&2
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
if [ ! -e "$target/axe.min.js" ]; then
  echo "pages: fetching axe-core $VERSION" >&2
  draft=$(mktemp -d)
  trap 'rm -rf "$draft"' EXIT
  curl --fail --silent --show-error --location --max-time 120 --output "$draft/axe.tgz" \
    "https://registry.npmjs.org/axe-core/-/axe-core-$VERSION.tgz"
  echo "$SHA256  $draft/axe.tgz" | sha256sum --check --quiet
  tar --extract --gzip --file "$draft/axe.tgz" --directory "$draft" package/axe.min.js
  mkdir -p "$target"
  mv "$draft/package/axe.min.js" "$target/axe.min.js"
fi
