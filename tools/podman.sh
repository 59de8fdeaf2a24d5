#!/usr/bin/env bash
# Podman and a registry on this machine, for tests: Debian's packages, with storage and configuration of their own.
#
#   tools/podman.sh up|down|env [STATE_DIR]      # STATE_DIR: .podman beside tools/ unless given
#   tools/podman.sh push IMAGE [STATE_DIR]       # from Docker to the registry; prints NAME@sha256:…
#   sudo tools/podman.sh up && eval "$(tools/podman.sh env)" && podman info
#
# Images, configuration and logs are in STATE_DIR. Outside of it, the script may install Debian's packages.
# Exit status: 0 done, 1 the registry does not come up, 2 it cannot run here or wrong usage.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'podman: %s\n' "$*" >&2; }
die() { local status=$1; shift; say "$@"; exit "$status"; }

action=${1:-}
image=
if [ "$action" = push ]; then image=${2:-}; shift; fi
state=${2:-$(cd "$(dirname "$0")/.." && pwd)/.podman}
case $state in /*) ;; *) state=$PWD/$state ;; esac
tools=(podman runc catatonit skopeo docker-registry)

install_packages() {
  local tool missing=
  for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || missing=yes; done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die 2 "needs ${tools[*]}: run it on Debian or Ubuntu"
  say "installing ${tools[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -qq "${tools[@]}" \
    </dev/null >"$state/apt.log" 2>&1 || die 2 "apt-get failed: see $state/apt.log"
}

write_configuration() {
  # crun refuses the older control groups beside the new ones, which some machines have.
  mkdir -p "$state/libpod"
  printf '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ntmp_dir = "%s/libpod"\n' "$state" \
    >"$state/containers.conf"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$state" "$state" >"$state/storage.conf"
  printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$(cat "$state/address")" >"$state/registries.conf"
  cat >"$state/registry.yml" <<CONF
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $state/registry}}
http: {addr: $(cat "$state/address")}
CONF
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

up() {
  [ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo"
  mkdir -p "$state"
  install_packages
  if answers; then return; fi
  echo "127.0.0.1:$(free_port)" >"$state/address"
  write_configuration
  setsid docker-registry serve "$state/registry.yml" </dev/null >"$state/registry.log" 2>&1 &
  echo $! >"$state/registry.pid"
  for _ in $(seq 100); do ! answers || return 0; sleep 0.05; done
  die 1 "the registry does not answer: see $state/registry.log"
}

answers() { [ -s "$state/address" ] && timeout 5 bash -c 'exec 3<>"/dev/tcp/${0/://}"' "$(cat "$state/address")" 2>/dev/null; }

# Docker's archive, unpacked: skopeo's own way to ask Docker speaks an interface that is too old.
push() {
  local layout name
  [ -n "$image" ] || die 2 "usage: tools/podman.sh push IMAGE [STATE_DIR]"
  name=$(cat "$state/address")/samebits
  layout=$(mktemp -d "$state/layout.XXXXXX")
  docker save "$image" | tar -x -C "$layout"
  env -u DOCKER_CONFIG skopeo copy --quiet --preserve-digests --dest-tls-verify=false --digestfile "$layout/digest" \
    "oci:$layout" "docker://$name:latest" >&2
  printf '%s@%s\n' "$name" "$(cat "$layout/digest")"
  rm -rf "$layout"
}

down() {
  local pid
  pid=$(cat "$state/registry.pid" 2>/dev/null || true)
  # A stale file may name another process by now.
  if [ -n "$pid" ] && grep -qs docker-registry "/proc/$pid/cmdline"; then kill "$pid"; fi
  if [ -d "$state/storage" ] && [ -s "$state/storage.conf" ]; then
    eval "$(print_env)"
    env -u DOCKER_CONFIG podman system reset --force >/dev/null 2>&1 || say "could not remove all of $state/storage"
  fi
  rm -rf --one-file-system "$state"
}

print_env() {
  printf 'export CONTAINERS_CONF=%q CONTAINERS_STORAGE_CONF=%q CONTAINERS_REGISTRIES_CONF=%q\n' \
    "$state/containers.conf" "$state/storage.conf" "$state/registries.conf"
}

case $action in
  up | down | push) "$action" ;;
  env) print_env ;;
  *) die 2 "usage: tools/podman.sh up|down|env|push [STATE_DIR]" ;;
esac
