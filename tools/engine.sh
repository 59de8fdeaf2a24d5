#!/usr/bin/env bash
# A private, current Docker engine for a Linux machine without one, or with one too old to build images reproducibly.
#
#   tools/engine.sh up|down|env|status [STATE_DIR]      # STATE_DIR: .engine beside tools/ unless given
#   sudo tools/engine.sh up && eval "$(tools/engine.sh env)" && docker info
#
# All files are in STATE_DIR: Debian trixie's packages in root/, images and containers in data/, the client's
# configuration in config/, logs. Outside of it, the script may install debootstrap, and Docker makes its usual changes
# to the machine's network (forwarding, packet filter chains, one bridge until `down`). Published ports of another
# engine can stop working, so use that engine instead if it is recent. The engine does not see the host's /usr, /etc
# and /run: they cannot be mounted into containers, and there is no GPU support.
# Exit status: 0 done, 1 the engine does not answer, 2 it cannot run here or wrong usage.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'engine: %s\n' "$*" >&2; }
die() { local status=$1; shift; say "$@"; exit "$status"; }

action=${1:-}
state=${2:-$(cd "$(dirname "$0")/.." && pwd)/.engine}
case $state in /*) ;; *) state=$PWD/$state ;; esac
[ ! -d "$state" ] || state=$(cd "$state" && pwd)
root=$state/root
socket=$state/docker.sock
# One bridge for each engine, so that two engines never hand out the same container address.
bridge=sb$(printf %s "$state" | cksum | cut -d ' ' -f 1)

# The client, without the caller's settings for other engines.
client() {
  if [ -x "$state/bin/docker" ]; then set -- "$state/bin/docker" "$@"; else set -- docker "$@"; fi
  env -u DOCKER_CONTEXT -u DOCKER_TLS_VERIFY -u DOCKER_API_VERSION \
    DOCKER_HOST="unix://$socket" DOCKER_CONFIG="$state/config" timeout 10 "$@" 2>/dev/null
}
server_version() { [ -S "$socket" ] && client version --format '{{.Server.Version}}'; }

# The process id of the engine, if it runs. A stale pid file may name another process, so the process's root folder is
# compared with the engine's.
engine_pid() {
  local pid
  pid=$(cat "$state/docker.pid" 2>/dev/null) && [ "/proc/$pid/root" -ef "$root" ] && echo "$pid"
}

check_machine() {
  [ "$(uname -s)" = Linux ] || die 2 "needs Linux, this is $(uname -s): use Docker's own engine for it"
  [ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo"
  local tool
  for tool in unshare pivot_root setsid flock; do
    command -v $tool >/dev/null || die 2 "needs '$tool': install the package util-linux"
  done
  unshare --mount --pid --fork true 2>/dev/null ||
    die 2 "may not make namespaces here: run it outside a container, or in one started with --privileged"
  [ -d "$root" ] || command -v debootstrap >/dev/null || command -v apt-get >/dev/null ||
    die 2 "needs debootstrap or apt-get: run it on Debian or Ubuntu, or install debootstrap"
}

make_root() {
  [ ! -d "$root" ] || return 0
  if ! command -v debootstrap >/dev/null || [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    say "installing debootstrap"
    { apt-get update -qq || true
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring
    } </dev/null >"$state/apt.log" 2>&1 || die 2 "apt-get could not install debootstrap: see $state/apt.log"
  fi
  say "making the engine's root from Debian's packages (about a minute)"
  rm -rf --one-file-system "$state/root.partial"
  # In its own mount namespace, debootstrap leaves no mounts when interrupted. It gets a plain path, because it fails in
  # paths with spaces. Only a complete root gets the final name.
  # shellcheck disable=SC2016
  unshare --mount "$BASH" -euc 'mount --bind "$1" /mnt
    exec debootstrap --variant=minbase --include="$2" trixie /mnt/root.partial "$3"' _ "$state" \
    docker.io,docker-cli,docker-buildx,iptables,iproute2,ca-certificates \
    "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" </dev/null >"$state/debootstrap.log" 2>&1 ||
    die 2 "debootstrap failed, see $state/debootstrap.log: $(tail -n 1 "$state/debootstrap.log")"
  mkdir -p "$state/root.partial"/{oldroot,state,etc/docker}
  mv "$state/root.partial" "$root"
}

# The client: buildx, and `docker` itself if the host has none.
make_client() {
  mkdir -p "$state/config/cli-plugins"
  ln -sf "$root/usr/libexec/docker/cli-plugins/docker-buildx" "$state/config/cli-plugins/docker-buildx"
  rm -rf "${state:?}/bin"
  if ! command -v docker >/dev/null; then
    "$root/usr/bin/docker" --version >/dev/null 2>&1 ||
      die 2 "Debian's docker client does not run on this older system: install a docker client of the system's"
    mkdir "$state/bin"
    ln -s "$root/usr/bin/docker" "$state/bin/docker"
  fi
}

# Runs as the first process of new mount and pid namespaces, and becomes the engine.
inside() {
  [ $$ = 1 ] || die 2 "$action is not for use by hand"
  local pid dir
  read -r pid _ </proc/self/stat   # /proc is still the host's, so this is the host's number for this process
  echo "$pid" >"$state/docker.pid"
  mount --bind "$root" "$root"
  mount --make-unbindable "$root"   # else the next lines would mount it into itself
  for dir in /*/ /var/*/; do   # so that `docker run -v` finds the host's folders
    dir=${dir%/}
    case $dir in
      /bin | /boot | /dev | /etc | /lib* | /lost+found | /proc | /run | /sbin | /sys | /usr | /var) continue ;;
      /var/lock | /var/run) continue ;;
    esac
    mkdir -p "$root$dir"
    mount --rbind "$dir" "$root$dir"
  done
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  mount --bind "$state" "$root/state"
  cd "$root"
  pivot_root . oldroot
  cd /
  umount -l /oldroot
  export PATH=/usr/sbin:/usr/bin
  unset TMPDIR
  [ -e "/sys/class/net/$bridge" ] || ip link add "$bridge" type bridge
  # tini ends when dockerd ends, for whatever reason. The kernel then kills containerd and the containers.
  exec tini -- dockerd --bridge "$bridge" --data-root /state/data --exec-root /run/docker --pidfile /run/docker.pid \
    --group root --host unix:///state/docker.sock
}

up() {
  local version deadline launcher='' resolv=/run/systemd/resolve/resolv.conf
  if version=$(server_version); then say "already up: Docker $version on unix://$socket"; return; fi
  check_machine
  mkdir -p "$state/data" 2>/dev/null || die 2 "cannot make $state: choose another STATE_DIR"
  state=$(cd "$state" && pwd)
  echo '*' >"$state/.gitignore"
  exec 9>"$state/lock"
  flock -n 9 || die 1 "another up or down is running in $state: wait for it"
  make_root
  make_client
  if ! engine_pid >/dev/null; then
    say "starting dockerd"
    # Without a limit the build cache grows by some gigabytes with every lock that is tried.
    cat >"$root/etc/docker/daemon.json" <<'JSON'
{"features": {"containerd-snapshotter": true}, "builder": {"gc": {"enabled": true, "defaultKeepStorage": "6GB"}}}
JSON
    rm -f "$socket" "$state/docker.pid"
    # With systemd-resolved, the host's resolv.conf names an address that containers cannot reach.
    [ -r $resolv ] || resolv=/etc/resolv.conf
    cat $resolv >"$root/etc/resolv.conf" || true
    # So that pulling works behind a private certificate authority.
    [ ! -r /etc/ssl/certs/ca-certificates.crt ] ||
      cat /etc/ssl/certs/ca-certificates.crt >"$root/etc/ssl/certs/ca-certificates.crt"
    setsid unshare --mount --propagation slave --pid --fork --kill-child "$BASH" "$0" inside "$state" \
      </dev/null >"$state/dockerd.log" 2>&1 9>&- &
    launcher=$!
  fi
  deadline=$((SECONDS + 60))
  until version=$(server_version); do
    if [ $SECONDS -ge $deadline ] || ! { kill -0 "$launcher" || engine_pid; } >/dev/null 2>&1; then
      tail -n 20 "$state/dockerd.log" >&2
      die 1 "dockerd does not answer; the end of $state/dockerd.log is above"
    fi
    sleep 0.2
  done
  # The user who called sudo may use the engine, too.
  [ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID" "$socket" "$state/config"
  say "up: Docker $version on unix://$socket"
}

down() {
  local pid signal tries
  [ -d "$state" ] || { say "not running"; return; }
  [ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo"
  exec 9>"$state/lock"
  flock -n 9 || die 1 "another up or down is running in $state: wait for it"
  if pid=$(engine_pid); then
    say "stopping dockerd"
    for signal in TERM KILL; do
      kill -$signal "$pid" 2>/dev/null || true
      for ((tries = 150; tries > 0; tries--)); do
        [ -e "/proc/$pid" ] || break 2
        sleep 0.2
      done
    done
    [ ! -e "/proc/$pid" ] || die 1 "process $pid does not end"
    say "down"
  else
    say "not running"
  fi
  rm -f "$socket" "$state/docker.pid"
  [ ! -e "/sys/class/net/$bridge" ] || remove_bridge || say "could not remove all of the bridge $bridge"
}

# Docker removes these at its next start, which may never come.
remove_bridge() {
  local table rule
  for table in nat filter; do
    chroot "$root" iptables --table $table --list-rules | sed -n "/ $bridge /s/^-A/-D/p" |
      while read -r -a rule; do chroot "$root" iptables --table $table "${rule[@]}"; done
  done
  chroot "$root" ip link delete "$bridge"
}

status() {
  local version
  version=$(server_version) || { echo "down: no engine answers $(id -un) on unix://$socket"; return 1; }
  echo "up: Docker $version on unix://$socket"
}

print_env() {
  echo 'unset DOCKER_CONTEXT DOCKER_TLS_VERIFY'
  printf 'export DOCKER_HOST=%q DOCKER_CONFIG=%q\n' "unix://$socket" "$state/config"
  # shellcheck disable=SC2016
  [ ! -x "$state/bin/docker" ] || printf 'export PATH=%q:"$PATH"\n' "$state/bin"
}

[ "$(printf %s "$socket" | wc -c)" -le 107 ] ||
  die 2 "$socket is too long for a Unix socket (107 bytes): choose a shorter STATE_DIR"
case $action in
  up | down | status | inside) "$action" ;;
  env) print_env ;;
  *) die 2 "usage: $0 up|down|env|status [STATE_DIR]" ;;
esac
