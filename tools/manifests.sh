#!/usr/bin/env bash
# Puts in place what validates the manifests of `--on kubernetes` in a slow test: the tool and the schemas of tools/manifests.lock,
# in an environment of their own (about 40 MB).
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.venv-manifests
if ! cmp --silent tools/manifests.lock "$environment/manifests.lock"; then
  echo "manifests: installing the schemas of Kubernetes into $environment" >&2
  rm -rf "$environment"
  "${PYTHON:-python3}" -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r tools/manifests.lock
  cp tools/manifests.lock "$environment/manifests.lock"
fi
