#!/usr/bin/env bash
# Puts a package of npm into a folder, checked by its hash: `tools/npm_package.sh NAME VERSION SHA256 FOLDER`; once only.
set -euo pipefail

name=$1 version=$2 sha256=$3 target=$4
[ ! -e "$target/package.json" ] || exit 0
echo "npm: fetching $name $version" >&2
draft=$(mktemp -d)
trap 'rm -rf "$draft"' EXIT
curl --fail --silent --show-error --location --max-time 120 --output "$draft/package.tgz" \
  "https://registry.npmjs.org/$name/-/$name-$version.tgz"
echo "$sha256  $draft/package.tgz" | sha256sum --check --quiet
tar --extract --gzip --no-same-owner --file "$draft/package.tgz" --directory "$draft" package
rm -rf "$target"
mkdir -p "$(dirname "$target")"
mv "$draft/package" "$target"
