#!/bin/sh
# Installs byokd as a systemd service out of this checkout, or upgrades it: run it again. See --help.
set -eu
umask 022

usage() {
    cat <<'TEXT'
usage: deploy/install.sh [--python PROGRAM] [--wheelhouse DIR] [--root DIR]
       deploy/install.sh --uninstall [--root DIR]

  --python PROGRAM  the Python to install for (3.11 or newer, with venv); default: python3
  --wheelhouse DIR  take the packages from DIR, without a network; made by
                    pip download -d DIR --require-hashes -r requirements.txt -r requirements-build.txt
  --root DIR        install below DIR, for a package or an image: no user is made, nothing is started
  --uninstall       remove program and units; settings, service keys and the database stay
TEXT
}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

checkout=$(cd "$(dirname "$0")/.." && pwd)
python=python3 wheelhouse='' root='' uninstall=no
while [ $# -gt 0 ]; do
    case $1 in
        --python | --wheelhouse | --root) [ $# -ge 2 ] || fail "$1 needs a value" "see --help" ;;
    esac
    case $1 in
        --python) python=$2; shift ;;
        --wheelhouse) wheelhouse=$(cd "$2" && pwd); shift ;;
        --root) mkdir -p "$2"; root=$(cd "$2" && pwd); shift ;;
        --uninstall) uninstall=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[ "$root" != / ] || root=''
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "only root can install a service" "sudo $0, or --root DIR"

program=/opt/byokd
lib=/usr/local/lib
link=/usr/local/bin/byokd
settings=/etc/byokd/byokd.toml
keys=/etc/byokd/keys
database=/var/lib/byokd/byokd.db

is_live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

remove() {
    if is_live; then
        systemctl disable --quiet --now byokd.service 2>/dev/null || true
    fi
    rm -rf "$root$program" "$root$program.new" "$root$program.old"
    rm -f "$root$link" "$root$lib/systemd/system/byokd.service" "$root$lib/sysusers.d/byokd.conf" \
        "$root$lib/tmpfiles.d/byokd.conf"
    if is_live; then
        systemctl daemon-reload
    fi
    echo "removed: $program, $link, the units"
    echo "kept: /etc/byokd (settings, service keys), /var/lib/byokd (database), the user byokd"
    echo "The service keys open every account key in the database. Delete either only when no account is left."
}

if [ "$uninstall" = yes ]; then
    remove
    exit 0
fi

lacks() {
    set -- "$root$keys/$1".*.key
    [ ! -e "$1" ]
}

if [ -z "$root" ] && [ -e "$database" ]; then
    for kind in system storage audit; do
        ! lacks "$kind" ||
            fail "there is no $kind key in $keys, but a database that was sealed with one" "put it back from its backup"
    done
fi

# The program: made beside the old one and moved into its place when it is whole.
"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$python is not Python 3.11 or newer with venv" "--python names another; Debian has python3-venv"
new=$root$program.new
rm -rf "$new"
mkdir -p "$root/opt"
"$python" -m venv "$new"
build=$(mktemp -d)
trap 'rm -rf "$build" "$new"' EXIT
trap 'exit 1' HUP INT TERM
pip() {
    env ${wheelhouse:+PIP_NO_INDEX=1 "PIP_FIND_LINKS=$wheelhouse"} PIP_DISABLE_PIP_VERSION_CHECK=1 \
        PIP_ROOT_USER_ACTION=ignore PYTHONPATH="$build" "$new/bin/python" -m pip --quiet "$@"
}
pip install --require-hashes -r "$checkout/requirements.txt"
# What builds the program is pinned too, and does not stay.
pip install --require-hashes --target "$build" -r "$checkout/requirements-build.txt"
pip install --no-deps --no-build-isolation --no-index "$checkout"
# The commands name the place that they were made in.
grep -rlI "$new" "$new/bin" | while read -r file; do
    [ -L "$file" ] || sed -i "s|$new|$program|g" "$file"
done
rm -rf "$root$program.old"
[ ! -e "$root$program" ] || mv "$root$program" "$root$program.old"
mv "$new" "$root$program"
rm -rf "$root$program.old"
install -d "$root$(dirname $link)"
ln -sfn $program/bin/byokd "$root$link"

# Units, user and directories. In /usr/local/lib, so that what an operator puts into /etc wins and stays.
for file in system/byokd.service sysusers.d/byokd.conf tmpfiles.d/byokd.conf; do
    case $file in
        system/*) source=${file#system/} target=systemd/$file ;;
        *) source=$file target=$file ;;
    esac
    install -D -m 0644 "$checkout/systemd/$source" "$root$lib/$target"
done
if [ -n "$root" ]; then
    install -d "$root/etc/byokd"
    install -d -m 0700 "$root$keys"
else
    systemd-sysusers $lib/sysusers.d/byokd.conf
    systemd-tmpfiles --create $lib/tmpfiles.d/byokd.conf
fi

# Settings and service keys: made when they are missing, never touched when they are there.
if [ ! -e "$root$settings" ]; then
    install -m 0644 "$checkout/config/byokd.toml" "$root$settings"
    echo "made: $settings, with every setting at its default"
fi
made=''
for kind in system storage audit; do
    # An image that carries keys would give the same ones to every machine.
    if [ -n "$root" ] || ! lacks "$kind"; then continue; fi
    (umask 0377 && head -c 32 /dev/urandom >"$keys/$kind.1.key")
    made="$made $kind.1.key"
done
if [ -n "$made" ]; then
    echo "made: service keys in $keys:$made"
    echo "BACK THEM UP NOW, apart from the database: without them every account key is lost."
fi

if is_live; then
    systemctl daemon-reload
    systemctl try-restart byokd.service
fi
echo "installed: $("$root$program/bin/python" -c 'from importlib.metadata import version; print("byokd", version("byokd"))')"
cat <<TEXT
next: edit $settings: an identity under [identities], the broker under [mqtt]
      byokd check-config
      systemctl enable --now byokd
      systemctl status byokd
TEXT
