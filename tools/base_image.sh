#!/usr/bin/env bash
# Makes a base image (Debian with Python and venv) from Debian's packages, for machines that reach no registry.
#
#   tools/base_image.sh [--force] [--release trixie|bookworm] [--python PREFIX] [TAG]
#
# Debian trixie, the default, has Python 3.13; bookworm has Python 3.11. TAG is samebits-base:RELEASE unless given.
# PREFIX is the folder of another Python of this machine (one of pyenv, say; not a virtual environment). It comes into
# /usr/local, without its site-packages, and TAG is samebits-base:pythonX.Y. It must run with the release's libraries.
# The same package versions give the same image ID. Loads the image into the engine that `docker` uses; prints `TAG ID`.
# Environment: DEBIAN_MIRROR, SOURCE_DATE_EPOCH (the latest time of a file; default: the release's day), TMPDIR.
# Exit status: 0 done or already present, 1 something failed, 2 it cannot run here or wrong usage.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'base_image: %s\n' "$*" >&2; }
die() { local status=$1; shift; say "$@"; exit "$status"; }

force=
release=trixie
if [ "${1:-}" = --force ]; then force=yes; shift; fi
if [ "${1:-}" = --release ]; then release=${2:-}; shift $(($# < 2 ? $# : 2)); fi
prefix= version=
if [ "${1:-}" = --python ]; then
  prefix=${2:-}
  shift $(($# < 2 ? $# : 2))
  library=$(echo "$prefix"/lib/python3.*[0-9])
  version=${library##*/python}
  [ -x "$prefix/bin/python$version" ] && [ -d "$library/ensurepip" ] ||
    die 2 "'$prefix' holds no Python with bin/python3.X and lib/python3.X/ensurepip: name its folder (sys.base_prefix)"
fi
case $release in
  trixie) day=1754697600 ;;
  bookworm) day=1686355200 ;;
  *) die 2 "knows Debian's trixie and bookworm, not '$release'" ;;
esac
tag=${1:-samebits-base:${version:+python}${version:-$release}}
case $#$tag in ?-* | [!01]*) die 2 "usage: $0 [--force] [--release trixie|bookworm] [--python PREFIX] [TAG]" ;; esac
epoch=${SOURCE_DATE_EPOCH:-$day}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
tools=$(cd "$(dirname "$0")" && pwd)

command -v docker >/dev/null || die 2 "needs a docker client: install one, or see tools/engine.sh"
docker version >/dev/null 2>&1 || die 2 "no Docker engine answers: start one, or set DOCKER_HOST (see tools/engine.sh)"
image_id() { docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null; }
if [ -z "$force" ] && id=$(image_id); then
  say "$tag exists already (--force remakes it)"
  echo "$tag $id"
  exit
fi
[ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo --preserve-env=DOCKER_HOST,DOCKER_CONFIG"
for tool in debootstrap unshare python3; do
  command -v $tool >/dev/null || die 2 "needs '$tool': install it, e.g. apt-get install debootstrap util-linux python3"
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/base-image.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

# Of this machine's environment, the packages' scripts see the proxies only. Some scripts write the date, and Python's
# compiler orders set constants by its hash seed.
clean=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TZ=UTC LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
  SOURCE_DATE_EPOCH="$epoch" PYTHONHASHSEED=0)
for name in http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || clean+=("$name=${!name}")
done

say "unpacking Debian's packages (about a minute)"
# In a mount namespace of its own, debootstrap leaves no mounts behind when it is interrupted; it gets a plain path
# because it cannot work in one with spaces.
# shellcheck disable=SC2016
env -i "${clean[@]}" unshare --mount bash -euc 'mount --bind "$1" /mnt
  exec debootstrap --variant=minbase --include=python3,python3-venv "$3" /mnt/root "$2"' _ "$work" "$mirror" "$release" \
  </dev/null >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; die 1 "debootstrap failed: its last lines are above"; }

if [ -n "$prefix" ]; then
  say "adding Python $version of $prefix"
  # What was installed into it, and what tests it, is no part of a base. Debian's own Python brings the libraries.
  tar --create --directory "$prefix" --exclude='__pycache__' --exclude="lib/python$version/site-packages/*" \
    --exclude="lib/python$version/test" "bin/python$version" "lib/python$version" \
    $(cd "$prefix" && ls -d lib/libpython"$version".so* 2>/dev/null) |
    tar --extract --directory "$root/usr/local" --no-same-owner
  ln -s "python$version" "$root/usr/local/bin/python3"
  env -i "${clean[@]}" chroot "$root" sh -c "ldconfig && /usr/local/bin/python3 -I -c 'import sys
import bz2, ctypes, ensurepip, hashlib, lzma, sqlite3, ssl, venv, zlib
assert sys.prefix == \"/usr/local\", sys.prefix'" >"$work/log" 2>&1 || {
    tail -n 3 "$work/log" >&2; die 1 "Python $version of $prefix does not run on $release: try another --release"; }
fi

say "removing what differs between two runs of this script"
# Compiled files hold the times of their sources, which a later build may change. Compile them by hash, never checked.
find "$root/usr" -depth -type d -name __pycache__ -exec rm -rf {} +
env -i "${clean[@]}" chroot "$root" sh -c \
  '/usr/bin/python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /usr/lib/python3* /usr/share/python3
  [ ! -e /usr/local/bin/python3 ] ||
    /usr/local/bin/python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /usr/local/lib/python3*' \
  >"$work/log" 2>&1 ||
  { tail -n 5 "$work/log" >&2; die 1 "Python's library does not compile: the last lines are above"; }
find "$root/var/log" "$root/var/cache/apt" "$root/var/lib/apt/lists" -type f -delete
rm -f "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
  "$root"/etc/{passwd,group,shadow,gshadow}- "$root"/etc/{resolv.conf,hostname}
: >"$root/etc/machine-id"
echo "deb http://deb.debian.org/debian $release main" >"$root/etc/apt/sources.list"

say "packing and loading $tag"
# In a fixed order, with numeric owners and no time after the epoch. The engine makes its own /dev.
tar --create --file "$work/layer.tar" --directory "$root" --format=gnu --sort=name --numeric-owner \
  --mtime="@$epoch" --clamp-mtime --anchored --exclude='./dev/*' --exclude='./tmp/*' .
architecture=$(chroot "$root" dpkg --print-architecture)
python3 "$tools/image_tar.py" "$work/layer.tar" "$tag" "$architecture" "$epoch" | docker load --quiet >"$work/log" ||
  die 1 "the engine did not load the image"
say "layer sha256:$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)"
id=$(image_id) || die 1 "the engine loaded the image, but not as $tag"
echo "$tag $id"
