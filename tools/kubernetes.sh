#!/usr/bin/env bash
# A Kubernetes 1.20 of one node on this machine, for tests: etcd, API server, controllers, scheduler and a kubelet that
# runs pods on the Docker engine of DOCKER_HOST, so that its images are the node's.
#
#   tools/kubernetes.sh build|up|down|env [STATE_DIR]      # STATE_DIR: .kubernetes beside tools/ unless given
#   sudo -E tools/kubernetes.sh up && eval "$(tools/kubernetes.sh env)" && kubectl get nodes
#
# `build` compiles Debian 12's source package, with the Go of Debian 12, once: about 10 minutes, 1.5 GB meanwhile and
# 350 MB in SAMEBITS_KUBERNETES (~/.cache/samebits-kubernetes). `up` does so where it is missing. Configuration, keys, data and
# logs are in STATE_DIR. Outside of it, the script may install Debian's packages, and the kubelet sets kernel parameters,
# which `down` sets back.
# Exit status: 0 done, 1 the cluster does not come up, 2 it cannot run here or wrong usage.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'kubernetes: %s\n' "$*" >&2; }
die() { local status=$1; shift; say "$@"; exit "$status"; }

action=${1:-}
state=${2:-$(cd "$(dirname "$0")/.." && pwd)/.kubernetes}
case $state in /*) ;; *) state=$PWD/$state ;; esac
cache=${SAMEBITS_KUBERNETES:-${XDG_CACHE_HOME:-$HOME/.cache}/samebits-kubernetes}
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl)
version=1.20.2
server=https://127.0.0.1:16443
pause=samebits-pause:1
config=$state/kubeconfig
# What the kubelet changes on the whole machine.
parameters=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)

install() {
  command -v apt-get >/dev/null || die 2 "needs the packages $*: run it on Debian 12"
  say "installing $*"
  # Debian starts services on installation. None of them is needed.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.samebits
  chmod 755 /usr/sbin/policy-rc.d.samebits
  [ -e /usr/sbin/policy-rc.d ] || ln -s policy-rc.d.samebits /usr/sbin/policy-rc.d
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -qq "$@" >"$cache/apt.log" 2>&1 ||
    die 2 "apt-get failed: see $cache/apt.log"
  [ "$(readlink /usr/sbin/policy-rc.d)" != policy-rc.d.samebits ] || rm /usr/sbin/policy-rc.d
  rm /usr/sbin/policy-rc.d.samebits
}

is_built() {
  local name
  for name in "${programs[@]}" pause; do [ -x "$cache/bin/$name" ] || return 1; done
}

# Only a folder of its own gets the sources: the machine's list of packages stays as it is.
fetch_source() {
  local lists=$cache/draft/apt
  mkdir -p "$lists"/{parts,lists/partial}
  cat >"$lists/parts/source.sources" <<SOURCES
Types: deb-src
URIs: ${DEBIAN_MIRROR:-http://deb.debian.org/debian}
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
  local options=(-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$lists/parts"
    -o Dir::State::Lists="$lists/lists" -o APT::Sandbox::User=root)
  (cd "$cache/draft" && TMPDIR=$lists apt-get "${options[@]}" update &&
    apt-get "${options[@]}" source --download-only kubernetes) >"$cache/source.log" 2>&1 ||
    die 2 "the source package cannot be fetched: see $cache/source.log"
  mkdir -p "$cache/draft/go/src/k8s.io"
  dpkg-source --no-check -x "$cache"/draft/kubernetes_*.dsc "$cache/draft/go/src/k8s.io/kubernetes" \
    >>"$cache/source.log" 2>&1 || die 2 "the source package cannot be unpacked: see $cache/source.log"
}

build() {
  [ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo"
  mkdir -p "$cache"
  ! is_built || return 0
  [ -x /usr/lib/go-1.19/bin/go ] && command -v dpkg-source >/dev/null || install golang-1.19-go dpkg-dev
  rm -rf "$cache/draft"
  mkdir -p "$cache"/draft/{tmp,home}
  say "building Kubernetes $version (about 10 minutes)"
  fetch_source
  (compile) >"$cache/build.log" 2>&1 || die 1 "the build failed: see $cache/build.log"
  rm -rf "$cache/bin"
  mv "$cache/draft/bin" "$cache/bin"
  rm -rf "$cache/draft"
}

compile() {
  local packages package flags
  # As Kubernetes 1.20 is built: below a GOPATH, with everything in vendor/.
  export GOPATH=$cache/draft/go GO111MODULE=off GOFLAGS='' GOCACHE=$cache/draft/cache CGO_ENABLED=0
  export HOME=$cache/draft/home TMPDIR=$cache/draft/tmp PATH=/usr/lib/go-1.19/bin:$PATH
  mkdir -p "$cache/draft/bin" "$GOPATH/src/pause"
  # What holds a pod's network: it waits, and ends on SIGTERM.
  printf 'package main\nimport ("os"; "os/signal"; "syscall")\nfunc main() {\nended := make(chan os.Signal, 1)\n' >"$GOPATH/src/pause/main.go"
  printf 'signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)\n<-ended\n}\n' >>"$GOPATH/src/pause/main.go"
  go build -o "$cache/draft/bin/pause" pause
  cd "$GOPATH/src/k8s.io/kubernetes"
  # The one generated file that the source package lacks.
  packages=$(grep --include='*.go' -rl '+k8s:openapi-gen=' pkg staging/src/k8s.io |
    xargs -n1 dirname | sed 's|^staging/src/|vendor/|; s|^|k8s.io/kubernetes/|' | sort -u | grep -v _examples | paste -sd, -)
  go run ./vendor/k8s.io/kube-openapi/cmd/openapi-gen --v 0 --logtostderr -i "$packages" \
    -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h hack/boilerplate/boilerplate.generatego.txt -r "$cache/draft/violations"
  # A container's root may not give a process a better score than its own, where it lacks CAP_SYS_RESOURCE.
  sed -i 's/defaultSandboxOOMAdj int = -998/defaultSandboxOOMAdj int = 0/' pkg/kubelet/dockershim/docker_sandbox.go
  flags="-s -w"
  for package in component-base/version client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/k8s.io/$package
    flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=20"
  done
  nice -n 15 go build -o "$cache/draft/bin/" -ldflags "$flags" "${programs[@]/#/./cmd/}"
}

write_configuration() {
  local token
  mkdir -p "$state"/{keys,etcd,kubelet,saved}
  chmod 700 "$state" "$state/keys"
  token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
  echo "$token,admin,admin,system:masters" >"$state/keys/tokens.csv"
  openssl genrsa -out "$state/keys/accounts.key" 2048 2>/dev/null
  cat >"$config" <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$server", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: test, context: {cluster: test, user: admin, namespace: default}}]
current-context: test
CONFIG
  chmod 600 "$config" "$state/keys/tokens.csv"
}

# Starts a program in the background, and notes its process.
start() {
  local name=$1
  shift
  setsid "$@" </dev/null >"$state/$name.log" 2>&1 &
  echo $! >"$state/$name.pid"
}

start_control_plane() {
  start etcd etcd --data-dir="$state/etcd" --listen-client-urls=http://127.0.0.1:12379 \
    --advertise-client-urls=http://127.0.0.1:12379 --listen-peer-urls=http://127.0.0.1:12380 --unsafe-no-fsync
  start kube-apiserver "$cache/bin/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 --bind-address=127.0.0.1 \
    --secure-port=16443 --cert-dir="$state/keys" --token-auth-file="$state/keys/tokens.csv" \
    --service-account-issuer="$server" --service-account-signing-key-file="$state/keys/accounts.key" \
    --service-account-key-file="$state/keys/accounts.key" --service-cluster-ip-range=10.213.0.0/24
  wait_for 60 ask get --raw /readyz || die 1 "the API server does not answer: see $state/kube-apiserver.log"
  start kube-controller-manager "$cache/bin/kube-controller-manager" --kubeconfig="$config" --leader-elect=false \
    --service-account-private-key-file="$state/keys/accounts.key" --port=0 --secure-port=0
  start kube-scheduler "$cache/bin/kube-scheduler" --kubeconfig="$config" --leader-elect=false --port=0 --secure-port=0
}

# The kubelet sees folders and processes as the engine does. An engine of tools/engine.sh has namespaces of its own.
start_kubelet() {
  local pid entered=() name
  for name in "${parameters[@]}"; do sysctl -n "$name" >"$state/saved/$name" 2>/dev/null || rm -f "$state/saved/$name"; done
  pid=$(cat "$(dirname "${DOCKER_HOST#unix://}")/docker.pid" 2>/dev/null || true)
  [ -z "$pid" ] || [ ! -d "/proc/$pid" ] || entered=(nsenter --target "$pid" --mount --pid)
  # Without its garbage collection: the engine's other images are none of its business.
  start kubelet "${entered[@]}" "$cache/bin/kubelet" --kubeconfig="$config" --hostname-override=n1 \
    --docker-endpoint="$DOCKER_HOST" --pod-infra-container-image="$pause" --root-dir="$state/kubelet" \
    --cert-dir="$state/keys" --cgroup-driver=cgroupfs --cgroups-per-qos=false --enforce-node-allocatable= \
    --fail-swap-on=false --image-gc-high-threshold=100 --eviction-hard='memory.available<1Mi' \
    --make-iptables-util-chains=false --resolv-conf='' --address=127.0.0.1 --port=10250 --healthz-port=0 \
    --read-only-port=0 --cluster-dns=10.213.0.10 --cluster-domain=cluster.local --volume-plugin-dir="$state/plugins" --sync-frequency=5s
}

wait_for() {
  local seconds=$1
  shift
  for _ in $(seq $((seconds * 5))); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  return 1
}

ask() { KUBECONFIG=$config "$cache/bin/kubectl" --request-timeout=5s "$@"; }
ready() { ask get nodes 2>/dev/null | grep -q ' Ready '; }

up() {
  [ "$(id -u)" = 0 ] || die 2 "needs root: run it with sudo -E"
  case ${DOCKER_HOST:=unix:///var/run/docker.sock} in unix://*) ;; *) die 2 "needs an engine of this machine" ;; esac
  docker version >/dev/null 2>&1 || die 2 "no engine answers at $DOCKER_HOST: start one, as with \`make engine\`"
  build
  command -v etcd >/dev/null && command -v openssl >/dev/null || install etcd-server openssl
  if ready; then return; fi
  mkdir -p "$state"
  echo '*' >"$state/.gitignore"
  docker image inspect "$pause" >/dev/null 2>&1 ||
    tar --create --directory "$cache/bin" pause | docker import --change 'ENTRYPOINT ["/pause"]' - "$pause" >/dev/null
  write_configuration
  start_control_plane
  start_kubelet
  wait_for 60 ready || die 1 "the node does not come up: see $state/kubelet.log"
  wait_for 30 ask get serviceaccount default || die 1 "see $state/kube-controller-manager.log"
}

restore_parameters() {
  local path
  for path in "$state"/saved/*; do [ ! -e "$path" ] || sysctl -qw "${path##*/}=$(cat "$path")"; done
}

down() {
  local name pid
  set +e  # whatever is gone already, the rest must go, too
  # While the kubelet is there to stop the pods.
  if ready; then
    KUBECONFIG=$config timeout 60 "$cache/bin/kubectl" delete jobs,pods --all --all-namespaces --grace-period=5 \
      >/dev/null 2>&1 || true
  fi
  for name in kubelet kube-scheduler kube-controller-manager kube-apiserver etcd; do
    pid=$(cat "$state/$name.pid" 2>/dev/null) || continue
    # A stale file may name another process by now.
    grep -qz -- "$name" "/proc/$pid/cmdline" 2>/dev/null || continue
    pkill -TERM -P "$pid" 2>/dev/null || true
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
    [ "$name" != kubelet ] || restore_parameters
  done
  docker ps --all --quiet --filter label=io.kubernetes.pod.name 2>/dev/null | xargs -r docker rm --force >/dev/null 2>&1 || true
  docker image rm "$pause" >/dev/null 2>&1 || true
  # Nothing below a mount that was left may be removed with the rest.
  awk -v at="$state/" 'index($5, at) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r -n1 umount 2>/dev/null || true
  rm -rf --one-file-system "$state"
}

case $action in
  build) build ;;
  up) up ;;
  down) down ;;
  env) printf 'export KUBECONFIG=%q PATH=%q:"$PATH"\n' "$config" "$cache/bin" ;;
  *) die 2 "usage: tools/kubernetes.sh build|up|down|env [STATE_DIR]" ;;
esac
