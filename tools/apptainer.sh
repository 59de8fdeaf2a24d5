#!/usr/bin/env bash
# Apptainer on this machine, for tests: Debian's package with the C library it needs, in a folder of its own.
#
#   tools/apptainer.sh up|down|env [STATE_DIR]      # STATE_DIR: .apptainer beside tools/ unless given
#   sudo tools/apptainer.sh up && eval "$(tools/apptainer.sh env)" && apptainer --version
#
# Debian has Apptainer in its unstable release alone (DEBIAN_MIRROR: where from). Nothing outside of STATE_DIR changes.
# Exit status: 0 done, 1 Apptainer does not start, 2 it cannot run here or wrong usage.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'apptainer: %s\n' "$*" >&2; }
die() { local status=$1; shift; say "$@"; exit "$status"; }

action=${1:-}
state=${2:-$(cd "$(dirname "$0")/.." && pwd)/.apptainer}
case $state in /*) ;; *) state=$PWD/$state ;; esac
root=$state/root
libraries=$root/usr/lib/x86_64-linux-gnu
packages=(apptainer libc6 libgcc-s1 libseccomp2 libsqlite3-0 libstdc++6 patchelf zlib1g)

download() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  local mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
  command -v apt-get >/dev/null && [ -s $keyring ] || die 2 "needs apt-get and $keyring: run it on Debian"
  mkdir -p "$state"/apt/{lists,cache,parts} "$state/debs"
  printf 'deb [signed-by=%s] %s sid main\n' $keyring "$mirror" >"$state/apt/sources.list"
  : >"$state/apt/status"
  local options=(
    -o Dir::Etc::SourceList="$state/apt/sources.list" -o Dir::Etc::SourceParts="$state/apt/parts"
    -o Dir::State::Lists="$state/apt/lists" -o Dir::State::Status="$state/apt/status" -o Dir::Cache="$state/apt/cache"
    -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o Acquire::Languages=none -qq
  )
  say "downloading ${packages[*]}"
  apt-get "${options[@]}" update </dev/null >"$state/apt.log" 2>&1 || die 2 "apt-get failed: see $state/apt.log"
  (cd "$state/debs" && apt-get "${options[@]}" download "${packages[@]}") </dev/null >>"$state/apt.log" 2>&1 \
    || die 2 "apt-get failed: see $state/apt.log"
}

unpack() {
  local deb program
  for deb in "$state"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
  # Debian compiles the paths in. Apptainer looks for them beside its own programs, which are in two places.
  ln -sfn ../etc "$root/usr/etc"
  ln -sfn ../var "$root/usr/var"
  ln -sfn ../../etc "$root/usr/lib/etc"
  ln -sfn ../../var "$root/usr/lib/var"
  # This machine's C library may be older than Debian's newest.
  for program in "$root/usr/bin/apptainer" "$libraries/apptainer/bin/starter"; do
    "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$root/usr/bin/patchelf" \
      --set-interpreter "$libraries/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$libraries" "$program"
  done
  mkdir -p "$state/bin"
  ln -sfn "$root/usr/bin/apptainer" "$state/bin/apptainer"
}

starts() { "$state/bin/apptainer" --version >"$state/version" 2>"$state/start.log"; }

up() {
  if [ -x "$state/bin/apptainer" ] && starts; then return; fi
  [ "$(uname -m)" = x86_64 ] || die 2 "is for x86-64"
  rm -rf --one-file-system "$root" "$state/debs"
  mkdir -p "$root"
  download
  unpack
  rm -rf --one-file-system "$state/debs" "$state/apt"
  starts || die 1 "it does not start: see $state/start.log"
}

down() { rm -rf --one-file-system "$state"; }

print_env() { printf 'export PATH=%q:$PATH\n' "$state/bin"; }

case $action in
  up | down) "$action" ;;
  env) print_env ;;
  *) die 2 "usage: tools/apptainer.sh up|down|env [STATE_DIR]" ;;
esac
