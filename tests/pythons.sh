#!/usr/bin/env bash
# `make test` on other Pythons, without what is marked `once`: tests/pythons.sh 3.13 3.14
#
# Each by the interpreter that this machine has, as `python3.13`. Where it has none, root has one from Debian: a small
# system of the suite that carries it is made by debootstrap, kept in JETQ_PYTHONS (/var/cache/jetq-pythons), and what is
# committed is tested in it. What is mounted there is mounted for this process alone, and gone with it however it ends.
# A Python that cannot be had is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
CHECKOUT=$PWD
KEPT=${JETQ_PYTHONS:-/var/cache/jetq-pythons}
DAYS_KEPT=14

TESTS="not slow and not faults and not once"

declare -A SUITES=([3.13]=trixie [3.14]=forky)

main() {
    [ $# -gt 0 ] || fail "say which: tests/pythons.sh 3.13 3.14"
    local version failed=()
    for version in "$@"; do
        echo "--- Python $version"
        SECONDS=0
        test_on "$version" || failed+=("$version")
        echo "--- Python $version: ${SECONDS} s in all"
    done
    [ ${#failed[@]} -eq 0 ] || fail "not tested, or failed, on Python ${failed[*]}"
}

# Called as a condition, where bash does not mind errors: each step says itself what becomes of one.
test_on() {
    local python
    if python=$(interpreter "$1"); then
        echo "by $python"
        make test PYTHON="$python" VENV=".venv-$1" TESTS="$TESTS" PATHS="${PATHS-}"
    else
        test_in_debian "$1"
    fi
}

interpreter() {
    local found
    found=$(command -v "python$1") && "$found" -c "import ensurepip, ssl, sys, venv
sys.exit('%d.%d' % sys.version_info[:2] != '$1')" >/dev/null 2>&1 && echo "$found"
}

test_in_debian() {
    local suite=${SUITES[$1]-} root
    [ -n "$suite" ] || { complain "no python$1 here that works, and no suite of Debian is known to carry it"; return 1; }
    [ "$(id -u)" = 0 ] || { complain "no python$1 here that works; install it, or as root have it from Debian"; return 1; }
    command -v debootstrap unshare >/dev/null || { complain "no debootstrap or unshare: apt-get install debootstrap util-linux"; return 1; }
    mkdir -p "$KEPT" || return 1
    root=$KEPT/$suite-python$1
    ( flock 9 && debian "$1" "$suite" "$root" ) 9>"$root.lock" || return 1
    # The kernel ends all of it together with this process.
    setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child "$0" --within "$1" "$root"
}

# --- the system

debian() {
    local version=$1 suite=$2 root=$3 script=/usr/share/debootstrap/scripts/$2
    [ -z "$(find "$root.made" -mtime "-$DAYS_KEPT" 2>/dev/null)" ] || return 0
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid # what a suite newer than debootstrap would be a link to
    echo "making $root of Debian $suite"
    rm -rf --one-file-system "$root" "$root.made" || return 1
    proxied debootstrap --variant=minbase \
        --include="python$version,python$version-venv,python$version-dev,make,git,ca-certificates,gcc,libc6-dev,tzdata,util-linux" \
        "$suite" "$root" "$(mirror)" "$script" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; complain "debootstrap failed: $root.log"; return 1; }
    touch "$root.made"
    echo "made in ${SECONDS} s"
}

# The one that this machine takes Debian from, or else Debian's own.
mirror() {
    local site
    site=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1) || true
    echo "${site:-http://deb.debian.org/debian}"
}

proxied() {
    local http_proxy=${http_proxy-}
    [ -n "$http_proxy" ] || eval "$(apt-config shell http_proxy Acquire::http::Proxy 2>/dev/null)"
    http_proxy=$http_proxy "$@"
}

# --- a run in it, in namespaces of its own

within() {
    local version=$1 root=$2
    mount -t tmpfs tmpfs "$root/srv"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    take_configuration "$root"
    [ -z "$(git -c safe.directory='*' status --porcelain)" ] || echo "only what is committed is tested here"
    git -c safe.directory='*' clone -q "$CHECKOUT" "$root/srv/jetq"
    SECONDS=0
    enter "$root" /srv/jetq make setup PYTHON="python$version"
    echo "set up in ${SECONDS} s"
    SECONDS=0
    enter "$root" /srv/jetq make test PYTHON="python$version" TESTS="$TESTS" PATHS="${PATHS-}"
    echo "tested in ${SECONDS} s"
}

# Names, certificates and what pip is told, and the directories that it is told to look into. First the copies, which are
# unpacked inside, where no link leads out; then what is mounted, which is read only.
take_configuration() {
    local root=$1 path copies=() mounts=()
    for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip ~/.config/pip ~/.pip \
        /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates $(named_paths); do
        if [[ -f $path || $path == */pip || $path == */.pip || $path == */ca-certificates ]]; then
            [ ! -e "$path" ] || copies+=("${path#/}")
        elif [ -d "$path" ]; then
            mounts+=("${path%/simple}") # of an index: its files stand beside it
        fi
    done
    tar -C / -chf - "${copies[@]}" | chroot "$root" tar -C / -xf -
    for path in "${mounts[@]}"; do
        [ ! -e "$root$path" ] || [ -z "$(ls -A "$root$path")" ] || continue # it has its own
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
        mount -o remount,bind,ro "$root$path"
    done
    path=$(python3 -m pip cache dir 2>/dev/null) || path=~/.cache/pip
    mkdir -p "$path" "$root$HOME/.cache/pip"
    mount --bind "$path" "$root$HOME/.cache/pip"
}

# What pip's configuration and the environment name on this machine's disk.
named_paths() {
    { cat /etc/pip.conf /etc/xdg/pip/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf 2>/dev/null || true
      passed_on | cut -d= -f2-; } | grep -oE "(file://)?/[^][ ,'\"=]+" | sed 's|^file://||' | grep -v '^//' | sort -u || true
}

passed_on() {
    env | grep -E '^(PIP_[A-Z_]+|[A-Za-z_]+_(proxy|PROXY)|[A-Z_]*(CERT|CA_BUNDLE)[A-Z_]*|TESTS_AT_ONCE|TERM)=' || true
}

enter() {
    local root=$1 directory=$2 variables
    shift 2
    mapfile -t variables < <(passed_on)
    env -i HOME="$HOME" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${variables[@]}" \
        chroot "$root" sh -c 'cd "$1" && shift && exec "$@"' sh "$directory" "$@"
}

complain() {
    echo "error: $*" >&2
}

fail() {
    complain "$@"
    exit 1
}

if [ "${1-}" = --within ]; then
    within "$2" "$3"
else
    main "$@"
fi
