#!/usr/bin/env bash
# s3-down.sh [--wipe] - stops what s3-up.sh started in $WSI_S3_DIR; --wipe removes the data too.
set -u
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/guard.sh"
DIR=${WSI_S3_DIR:-/tmp/wsi-s3}
[ -d "$DIR/run" ] || { echo "s3-down: nothing in $DIR" >&2; exit 0; }
SIGNAL=TERM; [ "${1:-}" = --wipe ] && SIGNAL=KILL  # nothing to be saved
stop() { # name seconds
  local f="$DIR/run/$1.pid" p; [ -s "$f" ] || return 0; p=$(cat "$f")
  # only a process of ours: its environment or arguments must still name a ceph daemon
  if kill -0 "$p" 2>/dev/null && tr '\0' ' ' <"/proc/$p/cmdline" | grep -qE 'radosgw|ceph-(mon|osd|mgr)'; then
    kill -$SIGNAL "$p"; for _ in $(seq $(( $2 * 10 ))); do gone "$p" && break; sleep 0.1; done
    gone "$p" || kill -KILL "$p"
  fi
  rm -f "$f"
}
stop rgw 3; stop osd 20; stop mgr 5; stop mon 5
[ "${1:-}" = --wipe ] || exit 0
case "$DIR" in /|/tmp|"$HOME") echo "s3-down: will not wipe $DIR" >&2; exit 1;; esac
GUARD=$(cat "$DIR/run/guard.pid" 2>/dev/null)
rm -rf "$DIR"
end_guard "$GUARD"  # last: it has nothing to do any more
exit 0
