#!/usr/bin/env bash
# pg-up.sh - a PostgreSQL server on 127.0.0.1 for tests and for trying things: no systemd, no docker, no root needed.
# Root may run it too; the server itself then runs as $WSI_PG_OSUSER, for PostgreSQL refuses root.
# Needs the Debian package postgresql (any version that has /usr/lib/postgresql/*/bin).
#
# Environment (all optional):
#   WSI_PG_DIR      data directory       (default /tmp/wsi-pg)
#   WSI_PG_PORT     port on 127.0.0.1    (default 18432)
#   WSI_PG_DB, WSI_PG_USER, WSI_PG_PASSWORD   database, its owner, the owner's password (default: prefect, thrice)
#   WSI_PG_DURABLE  1 = flush to the disk (default 0: tests do not need what was written after a power cut)
#   WSI_PG_OSUSER   see above            (default postgres, where there is one; else nobody)
#   WSI_PG_OWNER    pid of the process that it is started for: when that is gone, however it went, the server is
#                   stopped and its data removed (default: it runs until pg-down.sh)
# Idempotent: a second call finds the running server and prints the same lines.
# Prints KEY=VALUE lines (sh-sourceable) to stdout, everything else to stderr.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/guard.sh"
DIR=${WSI_PG_DIR:-/tmp/wsi-pg}
PORT=${WSI_PG_PORT:-18432}
DB=${WSI_PG_DB:-prefect}
DBUSER=${WSI_PG_USER:-prefect}
PASSWORD=${WSI_PG_PASSWORD:-prefect}
DURABLE=${WSI_PG_DURABLE:-0}
OWNER=${WSI_PG_OWNER:-}
say() { echo "pg-up: $*" >&2; }
die() { say "ERROR: $*"; tail -n 5 "$DIR/pg.log" >&2 2>/dev/null || true; exit 1; }

BIN=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
if [ -z "$BIN" ] || [ ! -x "$BIN/initdb" ]; then
  say "PostgreSQL is missing; install: apt-get install --no-install-recommends postgresql"
  exit 2
fi

mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)
as_user() { (cd / && "$@"); }
if [ "$(id -u)" = 0 ]; then
  OSUSER=${WSI_PG_OSUSER:-$(id -un postgres 2>/dev/null || echo nobody)}
  as_user() { (cd / && runuser -u "$OSUSER" -- "$@"); }
  chown "$OSUSER" "$DIR"
fi
chmod 700 "$DIR"

if [ ! -s "$DIR/data/PG_VERSION" ]; then
  as_user rm -rf "$DIR/data"
  as_user sh -c 'umask 077; printf "%s\n" "$1" >"$2/password"' sh "$PASSWORD" "$DIR"
  options=(--auth scram-sha-256 --encoding UTF8 --locale C.UTF-8)
  [ "$DURABLE" = 1 ] || options+=(--no-sync)
  as_user "$BIN/initdb" -D "$DIR/data" -U "$DBUSER" --pwfile "$DIR/password" "${options[@]}" >/dev/null || die "initdb"
  {
    echo "listen_addresses = '127.0.0.1'"
    echo "unix_socket_directories = '$DIR'"
    echo "max_connections = 200"
    echo "shared_buffers = 64MB"
    [ "$DURABLE" = 1 ] || printf '%s = off\n' fsync synchronous_commit full_page_writes
  } | as_user sh -c 'cat >>"$1/data/postgresql.conf"' sh "$DIR"
fi
if ! as_user "$BIN/pg_ctl" -D "$DIR/data" status >/dev/null 2>&1; then
  as_user "$BIN/pg_ctl" -D "$DIR/data" -w -t 120 -o "-p $PORT" -l "$DIR/pg.log" start >/dev/null || die "it does not start"
fi

export PGPASSWORD=$PASSWORD PGCONNECT_TIMEOUT=20
there=$("$BIN/psql" -h 127.0.0.1 -p "$PORT" -U "$DBUSER" -d postgres -Atqc \
  "select 1 from pg_database where datname = '$DB'") || die "it gives no answer on port $PORT"
[ "$there" = 1 ] || "$BIN/createdb" -h 127.0.0.1 -p "$PORT" -U "$DBUSER" "$DB" || die "createdb"

leave_guard "$OWNER" "$DIR/guard.pid" "$DIR/data" env "WSI_PG_DIR=$DIR" "$HERE/pg-down.sh" --wipe
say "ready"
cat <<EOF
WSI_PG_URL=postgresql://$DBUSER:$PASSWORD@127.0.0.1:$PORT/$DB
PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://$DBUSER:$PASSWORD@127.0.0.1:$PORT/$DB
EOF
