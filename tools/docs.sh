#!/usr/bin/env bash
# Build the documentation as a site in site/, with the tools of tools/docs.lock, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=.venv-docs
if ! cmp --silent tools/docs.lock "$environment/docs.lock"; then
  rm -rf "$environment"
  "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/pip" install --quiet --require-hashes -r tools/docs.lock
  cp tools/docs.lock "$environment/docs.lock"
fi
.venv/bin/python tools/reference_pages.py
NO_MKDOCS_2_WARNING=1 "$environment/bin/mkdocs" build --strict --quiet
# A page that loads anything from elsewhere would tell others what is read.
if grep --recursive --extended-regexp --include='*.html' --include='*.css' -l \
     '(src|href)="(https?:)?//[^"]*\.(js|css|woff2?|png|svg)"|@import|url\((https?:)?//' site; then
  echo "these pages load files from the network" >&2
  exit 1
fi
echo "site/index.html"
