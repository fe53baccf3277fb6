#!/usr/bin/env bash
# pg-down.sh [--wipe] - stops what pg-up.sh started in $WSI_PG_DIR; --wipe removes the data too.
set -u
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/guard.sh"
DIR=${WSI_PG_DIR:-/tmp/wsi-pg}
[ -d "$DIR/data" ] || { echo "pg-down: nothing in $DIR" >&2; exit 0; }
BIN=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
OSUSER=$(stat -c %U "$DIR/data")
as_user() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u "$OSUSER" -- "$@"); else "$@"; fi; }
HOW=fast; [ "${1:-}" = --wipe ] && HOW=immediate  # nothing to be saved
if as_user "$BIN/pg_ctl" -D "$DIR/data" status >/dev/null 2>&1; then
  as_user "$BIN/pg_ctl" -D "$DIR/data" -m "$HOW" -w -t 60 stop >/dev/null
fi
[ "${1:-}" = --wipe ] || exit 0
case "$DIR" in /|/tmp|"$HOME") echo "pg-down: will not wipe $DIR" >&2; exit 1;; esac
GUARD=$(cat "$DIR/guard.pid" 2>/dev/null)
rm -rf "$DIR"
end_guard "$GUARD"  # last: it has nothing to do any more
exit 0
