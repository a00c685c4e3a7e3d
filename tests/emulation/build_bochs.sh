#!/bin/bash
# Build the x86 emulator Bochs 3.0 with AVX-512, without its debugger, as ${XDG_CACHE_HOME:-~/.cache}/run512/bochs.
# Debian 12's own package (2.7) does not do: Linux finds its XSAVE area inconsistent and turns AVX off, and it has the
# debugger built in, which makes it several times slower. The source is Debian 13's; apt checks its signature. Needs
# g++, make and about three minutes. Nothing outside the cache directory and a temporary one is written.
set -eu
suite=trixie
cache=${XDG_CACHE_HOME:-$HOME/.cache}/run512
keys=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "build_bochs: $*" >&2; exit 125; }
mirror=$(apt-cache policy base-files | grep -oE 'https?://[^ ]+' | grep -v security | head -1)
[ -n "$mirror" ] || fail "apt knows no Debian mirror; run apt-get update"
work=$(mktemp -d "${TMPDIR:-/tmp}/bochs.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$work"/lists/partial "$work"/cache/archives/partial "$work"/source
chmod 755 "$work"
echo "deb-src [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
private=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache")
apt-get -q "${private[@]}" update >"$work/log" 2>&1 || fail "apt-get update: $(tail -1 "$work/log")"
cd "$work"
apt-get -q "${private[@]}" source --download-only bochs >"$work/log" 2>&1 || true # only the upstream archive is used
ls bochs_*.orig.tar.* >/dev/null 2>&1 || fail "the source of bochs: $(tail -1 "$work/log")"
tar xf bochs_*.orig.tar.* -C source --strip-components=1
cd source
# No stack of sound, network and display: the guest talks through a serial line and a disk.
CFLAGS=-O2 CXXFLAGS=-O2 ./configure --with-nogui --disable-docbook --disable-plugins --disable-stats \
  --enable-cpu-level=6 --enable-x86-64 --enable-long-phy-address --enable-large-ramfile --enable-fpu \
  --enable-avx --enable-evex --enable-amx --enable-cet --enable-uintr --enable-protection-keys --enable-vmx=2 \
  --enable-pci --enable-cdrom --enable-memtype --enable-monitor-mwait --enable-perfmon --enable-configurable-msrs \
  --enable-all-optimizations --enable-trace-linking >"$work/log" 2>&1 || fail "configure: $(tail -1 "$work/log")"
make -j"${JOBS:-1}" >"$work/log" 2>&1 || fail "make: $(tail -3 "$work/log")"
strip bochs
mv bochs "$cache/bochs.$$"
mv "$cache/bochs.$$" "$cache/bochs"
echo "$cache/bochs"
