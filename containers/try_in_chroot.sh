#!/bin/sh
# What a build does, without a container engine: the same install step in a chroot made of this machine's own
# system, then the program as another user, without a network, with the input read-only. Needs root and unshare.
# What it does not try: the base image, the layers, `docker run` and `apptainer run` themselves.
# Usage: try_in_chroot.sh ROOT [BIDS] (a new folder; a dataset to plan a run of)
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "a chroot needs root" >&2; exit 1; }
mkdir -p "$1"
root=$(cd "$1" && pwd)
bids=${2:-}
export here root bids
exec unshare --mount --propagation private sh -eu -c '
  python=$(dirname "$(dirname "$(python3 -c "import os, sys; print(os.path.realpath(sys.executable))")")")
  for place in /usr /lib /lib64 /bin /sbin /etc "$python"; do
    [ -e "$place" ] || continue
    mkdir -p "$root$place" && mount --bind "$place" "$root$place" && mount -o remount,bind,ro "$root$place"
  done
  mkdir -p "$root/source" "$root/opt" "$root/tmp" "$root/proc" "$root/dev" "$root/out" "$root/data"
  mount --bind "$here" "$root/source" && mount -o remount,bind,ro "$root/source"
  mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev"
  chmod 1777 "$root/tmp" && chown 1000:1000 "$root/out"
  cp -r "$here" "$root/tmp/source"
  PATH="$python/bin:$PATH" chroot "$root" sh /source/containers/install.sh /tmp/source /opt/reconfmri
  rm -rf "$root/tmp/source"
  umount "$root/source"
  [ -z "$bids" ] || { mount --bind "$bids" "$root/data" && mount -o remount,bind,ro "$root/data"; }
  echo "as user 1000, without a network:"
  in_it() { unshare --net chroot --userspec=1000:1000 "$root" env -i HOME=/tmp LC_ALL=C.UTF-8 \
    PATH=/opt/reconfmri/bin:/usr/bin:/bin OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 reconfmri "$@"; }
  in_it --version
  [ -z "$bids" ] || in_it run /data /out participant --skip-bids-validation --dry-run
'
