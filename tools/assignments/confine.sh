#!/bin/sh
# Runs a program in a file system of its own: sh confine.sh ROOT SPACE READABLE... -- PROGRAM...
# Called by sandbox.py in new mount, process and network namespaces. READABLE folders are there, read
# only, at their usual places; /tmp is empty, in memory, and holds SPACE bytes; all else is absent.
set -e
root=$1
space=$2
shift 2
mount -t tmpfs -o size=8m,mode=755 tmpfs "$root"
# Before the folders that can be read: the project may itself be in /tmp.
mkdir "$root/tmp"
mount -t tmpfs -o "size=$space,mode=1777,nr_inodes=10000" tmpfs "$root/tmp"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}" && : >"$root$1"; fi
  mount --rbind "$1" "$root$1"
  mount -o remount,bind,ro "$root$1"
  shift
done
shift
mkdir -p "$root/proc" "$root/dev" "$root/old"
mount -t proc proc "$root/proc"
for device in null zero random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro "$root"
cd "$root"
pivot_root . old
umount -l /old
cd /tmp
# Not exec: this shell is process 1 and dies with whoever started it, and then everything in here does.
"$@"
