#!/usr/bin/env bash
# Fetches QEMU's user-mode emulator (10.0, from Debian trixie; it is static, so any Linux runs it) and prints its path.
#
#   tools/emulator.sh [FOLDER]      # FOLDER: ~/.cache/samebits/emulator unless given
#
# Older versions crash in NumPy. The package is checked against the digest in the mirror's list. The list's signature is
# not checked, because the emulator runs tests only and is in no image.
# Exit status: 0 done, 1 it cannot be fetched, 2 it cannot run here.
set -euo pipefail

die() { local status=$1; shift; printf 'emulator: %s\n' "$*" >&2; exit "$status"; }

folder=${1:-${SAMEBITS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/samebits}/emulator}
program=$folder/usr/bin/qemu-x86_64
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
if [ ! -x "$program" ]; then
  for tool in curl xz dpkg-deb sha256sum; do
    command -v $tool >/dev/null || die 2 "needs '$tool': install it, e.g. apt-get install curl xz-utils dpkg"
  done
  mkdir -p "$folder"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  curl -fsS --retry 3 "$mirror/dists/trixie/main/binary-amd64/Packages.xz" | xz -dc |
    awk '/^Package: /{ours = $2 == "qemu-user"} ours && /^(Filename|SHA256): /{print $2}' >"$work/found" ||
    die 1 "cannot read the package list of $mirror"
  { read -r path && read -r digest; } <"$work/found" || die 1 "$mirror has no qemu-user"
  curl -fsS --retry 3 -o "$work/package.deb" "$mirror/$path" || die 1 "cannot fetch $mirror/$path"
  echo "$digest  $work/package.deb" | sha256sum --check --status || die 1 "$path does not have the digest in the list"
  dpkg-deb --extract "$work/package.deb" "$work/package"
  mkdir -p "$(dirname "$program")"
  mv "$work/package/usr/bin/qemu-x86_64" "$program"   # only a complete file gets the final name
fi
"$program" --version >/dev/null || die 2 "$program does not run here"
echo "$program"
