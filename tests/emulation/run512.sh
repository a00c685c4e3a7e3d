#!/bin/bash
# Run x86-64 Linux programs that use AVX-512 on a machine that has none, inside the Bochs emulator.
#   run512.sh [-t SECONDS] [-o DIR] [-m MiB] [-c CPU] FILES... -- COMMAND
# FILES (programs, data, directories) are copied, under their base names, into the directory in which COMMAND, a
# shell line, runs; the shared libraries that they name are copied too. The standard output of COMMAND goes to
# standard output, its standard error to standard error, its exit status is the exit status.
#   -t SECONDS  give up after so much host time (default 600; exit status 124)
#   -o DIR      copy what COMMAND leaves in the directory $OUT to DIR
#   -m MiB      guest memory (default 2048, the most that Bochs emulates without a file of its own)
#   -c CPU      CPU model of Bochs (default tigerlake: AVX-512 with VNNI; corei7_skylake_x: without VNNI)
#   -v          show the guest's console
# Exit status 125: the emulator could not be set up or the guest did not start; the reason is on standard error.
# Needs what build_bochs.sh builds, the packages bochsbios vgabios busybox-static isolinux syslinux-common xorriso cpio
# kmod e2fsprogs, and apt to download a kernel once. BOCHS names another build of Bochs 3.0 or later, without debugger.
# The emulator and the boot image are kept in ${XDG_CACHE_HOME:-~/.cache}/run512.
set -eu

fail() { echo "run512: $*" >&2; exit 125; }
usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0"; exit "$1"; }

limit=600 out= memory=2048 cpu=tigerlake verbose=
while getopts t:o:m:c:vh option; do
  case $option in
    t) limit=$OPTARG ;;
    o) out=$OPTARG ;;
    m) memory=$OPTARG ;;
    c) cpu=$OPTARG ;;
    v) verbose=1 ;;
    h) usage 0 ;;
    *) usage 125 >&2 ;;
  esac
done
shift $((OPTIND - 1))
files=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do files+=("$1"); shift; done
[ $# -ge 2 ] || usage 125 >&2
shift
command=$*

PATH=$PATH:/usr/sbin:/sbin
cache=${XDG_CACHE_HOME:-$HOME/.cache}/run512
bochs=${BOCHS:-$cache/bochs}
command -v "$bochs" >/dev/null || fail "there is no $bochs; run build_bochs.sh"
for tool in busybox xorriso cpio depmod mke2fs debugfs ldd; do
  command -v "$tool" >/dev/null || fail "$tool is not installed; see the head of this script for the packages"
done
ldd "$(command -v busybox)" >/dev/null 2>&1 && fail "busybox is not static; install busybox-static"

# --- the boot image: a kernel, and an initial file system with busybox and the disk drivers; built once ---
init='#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
i=0
while [ ! -b /dev/sda ] && [ $i -lt 50 ]; do /bin/busybox sleep 0.1; i=$((i + 1)); done
if /bin/busybox mount -t ext4 /dev/sda /disk; then
  for name in dev proc; do /bin/busybox mount --move /$name /disk/$name; done
  /bin/busybox mount -t tmpfs tmp /disk/tmp
  /bin/busybox mount -t sysfs sys /disk/sys
  /bin/busybox chroot /disk /bin/busybox sh /start
  /bin/busybox umount -l /disk/dev /disk/proc /disk/sys /disk/tmp
  /bin/busybox umount /disk || /bin/busybox mount -o remount,ro /disk
  /bin/busybox sync
fi
echo run512-end >/console
/bin/busybox poweroff -f'

# fsrm: Bochs offers fast short 'rep movsb' but not the older fast strings, a pair that Linux 6.1's memmove gets wrong.
# amx-tile: Bochs has no XFD, without which Linux cannot save tiles. The rest makes the start shorter.
arguments='quiet panic=1 nokaslr mitigations=off notsc idle=halt random.trust_cpu=on clearcpuid=fsrm,amx-tile,aperfmperf'

build_boot_image() {
  local work=$1 kernel version modules module
  mkdir -p "$work/deb" "$work/kernel" "$work/root" "$work/iso/isolinux"
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -1)
  [ -n "$kernel" ] || fail "apt knows no package linux-image-cloud-amd64; run apt-get update"
  (cd "$work/deb" && apt-get download "$kernel" >log 2>&1) || fail "cannot download $kernel: $(tail -1 "$work/deb/log")"
  dpkg-deb -x "$work"/deb/*.deb "$work/kernel"
  version=${kernel#linux-image-}
  depmod -b "$work/kernel" "$version"
  modules=$work/kernel/lib/modules/$version
  (
    cd "$work/root"
    mkdir -p bin dev proc disk modules
    cp "$(command -v busybox)" bin/busybox
    cp /dev/null modules/order
    for module in kernel/drivers/scsi/sd_mod.ko kernel/drivers/ata/ata_piix.ko; do
      for path in $(sed -n "s|^$module: *||p" "$modules/modules.dep" | tr ' ' '\n' | tac) $module; do
        name=$(basename "$path")
        [ -e "modules/$name" ] || echo "$name" >>modules/order
        cp "$modules/$path" modules/
      done
    done
    printf '%s\n' "$init" >init
    chmod +x init
    mknod dev/console c 5 1 2>/dev/null || true
    find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 >"$work/iso/initrd"
  )
  cp "$work/kernel/boot/vmlinuz-$version" "$work/iso/linux"
  cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/iso/isolinux/"
  cat >"$work/iso/isolinux/isolinux.cfg" <<EOF
default linux
prompt 0
label linux
  kernel /linux
  append initrd=/initrd console=ttyS0 $arguments
EOF
  xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table "$work/iso" 2>"$work/log" || fail "xorriso: $(tail -1 "$work/log")"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/run512.XXXXXX")
emulator=
finish() {
  trap - EXIT
  if [ -n "$emulator" ]; then kill "$emulator" 2>/dev/null || true; wait "$emulator" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 125' INT TERM

boot=$cache/boot-$(printf '%s' "$init$arguments" | cksum | cut -d' ' -f1).iso
if [ ! -e "$boot" ]; then
  mkdir -p "$cache" "$work/build"
  build_boot_image "$work/build"
  mv "$work/build/boot.iso" "$boot.$$"
  mv "$boot.$$" "$boot"
  rm -rf "$work/build"
fi

# --- the disk: the files, their libraries, the command ---
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,work,out,etc}
cp "$(command -v busybox)" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
libraries() { # the shared libraries that a file names, as ldd resolves them here
  ldd "$1" 2>/dev/null | sed -nE 's/.*=> (\/[^ ]+) \(.*/\1/p; s/^[[:space:]]*(\/[^ ]+) \(.*/\1/p'
}
for file in ${files[@]+"${files[@]}"}; do [ -e "$file" ] || fail "$file does not exist"; done
for file in ${files[@]+"${files[@]}"}; do
  cp -aL "$file" "$root/work/"
  find -L "$file" -type f \( -perm -100 -o -name '*.so*' \) | while read -r program; do libraries "$program"; done
done | sort -u >"$work/libraries"
while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  [ -e "$root$library" ] || cp -L "$library" "$root$library"
done <"$work/libraries"
printf '%s\n' "$command" >"$root/command"
cat >"$root/start" <<'EOF'
/bin/busybox --install -s /bin
export PATH=/bin:/work HOME=/tmp OUT=/out LD_LIBRARY_PATH=/work
cd /work
echo run512-start >/dev/ttyS0
sh /command >/stdout 2>/stderr </dev/null
echo $? >/status
EOF
size=$(du -sm --apparent-size "$root" | cut -f1)
truncate -s $(((size * 11 / 10 + 128 + 15) / 16 * 16))M "$work/disk"
mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum -m 0 -E root_owner=0:0,lazy_itable_init=0 -d "$root" "$work/disk" ||
  fail "mke2fs failed"
rm -rf "$root"

# --- run ---
share=/usr/share/bochs
megabytes=$(($(stat -c %s "$work/disk") / 1048576))
: >"$work/console"
cat >"$work/bochsrc" <<EOF
cpu: model=$cpu, count=1, ips=20000000, reset_on_triple_fault=0, ignore_bad_msrs=1
megs: $memory
romimage: file=$share/BIOS-bochs-latest
vgaromimage: file=$share/VGABIOS-lgpl-latest
boot: cdrom
ata0-master: type=disk, mode=flat, path="$work/disk", cylinders=$((megabytes * 2048 / 16 / 63)), heads=16, spt=63
ata1-master: type=cdrom, path="$boot", status=inserted
com1: enabled=1, mode=file, dev="$work/console"
clock: sync=none, time0=local
display_library: nogui
log: "$work/log"
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
EOF
BXSHARE=$share "$bochs" -q -f "$work/bochsrc" >"$work/bochs.out" 2>&1 </dev/null &
emulator=$!
started=$SECONDS
while kill -0 "$emulator" 2>/dev/null && ! grep -aq run512-end "$work/console"; do
  if [ $((SECONDS - started)) -ge "$limit" ]; then
    kill "$emulator"
    timed_out=1
    break
  fi
  sleep 0.2
done
kill "$emulator" 2>/dev/null || true
wait "$emulator" 2>/dev/null || true
emulator=
[ -z "$verbose" ] || cat "$work/console" >&2

read_back() { debugfs -R "$1" "$work/disk" 2>/dev/null; }
if [ -n "${timed_out:-}" ]; then
  grep -aq run512-start "$work/console" || fail "the guest had not started after $limit s: $(tail -n 3 "$work/console")"
fi
read_back "cat /stdout"
read_back "cat /stderr" >&2
if [ -n "$out" ]; then
  mkdir -p "$out" "$work/back"
  read_back "rdump /out $work/back" >/dev/null
  cp -R "$work/back/out/." "$out/"
fi
if [ -n "${timed_out:-}" ]; then echo "run512: stopped after $limit s" >&2; exit 124; fi
status=$(read_back "cat /status")
[ -n "$status" ] || fail "the guest stopped before the command ended: $(tail -n 3 "$work/console") $(tail -n 3 "$work/log")"
exit "$status"
