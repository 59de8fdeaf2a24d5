#!/usr/bin/env bash
# Puts in place what the slow tests of `samebits export` and `sign` need: the libraries and validators of tools/export.lock, an
# MLflow server among them, and the context of RO-Crate's terms, checked by its hash. About 1.5 GB, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=3.7.2
SHA256=ce9c6a34ed945e37e2a07310d8195241a0abc10029a440b0afdfd1a93131c40f
environment=.venv-export
context=$environment/ro-crate-context.json

if ! cmp --silent tools/export.lock "$environment/export.lock"; then
  echo "export: installing the libraries of other formats into $environment" >&2
  rm -rf "$environment"
  "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r tools/export.lock
  cp tools/export.lock "$environment/export.lock"
fi
if [ ! -e "$context" ]; then
  draft=$(mktemp -d)
  trap 'rm -rf "$draft"' EXIT
  curl --fail --silent --show-error --location --max-time 120 --output "$draft/package.tgz" \
    "https://registry.npmjs.org/ro-crate/-/ro-crate-$VERSION.tgz"
  echo "$SHA256  $draft/package.tgz" | sha256sum --check --quiet
  tar --extract --gzip --file "$draft/package.tgz" --directory "$draft" package/lib/context.json
  mv "$draft/package/lib/context.json" "$context"
fi
