#!/usr/bin/env bash
# s3-up.sh - one-process-each Ceph RADOS Gateway (mon + mgr + 1 osd + radosgw) for
# integration tests. No systemd, no docker, no root needed (any user may run it).
# Needs the Debian packages: radosgw ceph-mon ceph-mgr ceph-osd ceph-common  (16.2.15)
#
# Environment (all optional):
#   WSI_S3_DIR        data directory            (default /tmp/wsi-s3)
#   WSI_S3_PORT       S3 port on 127.0.0.1      (default 18480)
#   WSI_S3_MON_PORT   mon port (v2; v1 = +1)    (default 18490; osd/mgr use +10..+109)
#   WSI_S3_ACCESS_KEY / WSI_S3_SECRET_KEY       fixed keys of the S3 user "wsi"
#   WSI_S3_STORE      bluestore | memstore      (default bluestore, on a sparse file; memstore
#                     starts faster and forgets everything when it stops)
#   WSI_S3_SIZE_GB    size of the sparse file / of the memstore (default 20)
#   WSI_S3_MGR        1 = also start ceph-mgr   (default 0: radosgw does not need it)
#   WSI_S3_LC_SECONDS lifecycle "day" in seconds (default 10)
#   WSI_S3_CLASSES    extra storage classes     (default "STANDARD_IA GLACIER DEEP_ARCHIVE")
#   WSI_S3_OWNER      pid of the process that it is started for: when that is gone, however it went, the
#                     server is stopped and its data removed (default: it runs until s3-down.sh)
# Idempotent: a second call finds the running server and prints the same lines.
# Prints KEY=VALUE lines (sh-sourceable) to stdout, everything else to stderr.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/guard.sh"
DIR=${WSI_S3_DIR:-/tmp/wsi-s3}
PORT=${WSI_S3_PORT:-18480}
MONPORT=${WSI_S3_MON_PORT:-18490}
AK=${WSI_S3_ACCESS_KEY:-WSITESTACCESSKEY0000}
SK=${WSI_S3_SECRET_KEY:-wsitestsecretkey00000000000000000000test}
STORE=${WSI_S3_STORE:-bluestore}
SIZE_GB=${WSI_S3_SIZE_GB:-20}
MGR=${WSI_S3_MGR:-0}
LCS=${WSI_S3_LC_SECONDS:-10}
CLASSES=${WSI_S3_CLASSES:-"STANDARD_IA GLACIER DEEP_ARCHIVE"}
OWNER=${WSI_S3_OWNER:-}
REGION=default
say() { echo "s3-up: $*" >&2; }
die() { echo "s3-up: ERROR: $*" >&2; tail -n 5 "$DIR"/log/*.log >&2 2>/dev/null || true; exit 1; }
for b in ceph-mon ceph-osd radosgw radosgw-admin monmaptool ceph curl; do
  command -v "$b" >/dev/null || { echo "s3-up: $b is missing; install: apt-get install --no-install-recommends radosgw ceph-mon ceph-mgr ceph-osd ceph-common curl" >&2; exit 2; }
done

print_env() {
  cat <<EOF
AWS_ENDPOINT_URL_S3=http://127.0.0.1:$PORT
AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
AWS_ACCESS_KEY_ID=$AK
AWS_SECRET_ACCESS_KEY=$SK
AWS_DEFAULT_REGION=$REGION
AWS_REGION=$REGION
AWS_ALLOW_HTTP=true
AWS_REQUEST_CHECKSUM_CALCULATION=when_required
AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
AWS_EC2_METADATA_DISABLED=true
WSI_S3_CEPH_CONF=$DIR/ceph.conf
EOF
}
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
http_code() { curl --noproxy '*' -s -o /dev/null -m 5 -w '%{http_code}' "http://127.0.0.1:$PORT/" || true; }

mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)
mkdir -p "$DIR"/{log,run,mon,mgr,osd,rgw}
exec 9>"$DIR/run/lock"; flock -w 120 9 || die "another s3-up.sh holds $DIR/run/lock"

if alive "$DIR/run/rgw.pid" && [ "$(http_code)" = 200 ]; then say "already up"; print_env; exit 0; fi

export CEPH_CONF="$DIR/ceph.conf"
if [ "$STORE" = memstore ] && [ -d "$DIR/mon/store.db" ] && ! alive "$DIR/run/osd.pid"; then
  say "memstore keeps nothing: starting an empty cluster"
  for n in rgw mgr mon; do if alive "$DIR/run/$n.pid"; then kill -KILL "$(cat "$DIR/run/$n.pid")"; sleep 0.3; fi; done
  rm -rf "$DIR"/{mon,mgr,osd,rgw,fsid,osd.uuid,keyring,monmap}; mkdir -p "$DIR"/{mon,mgr,osd,rgw}
fi
C() { timeout 60 ceph --connect-timeout 20 "$@"; }
if [ ! -s "$DIR/fsid" ]; then cat /proc/sys/kernel/random/uuid >"$DIR/fsid.tmp"; mv "$DIR/fsid.tmp" "$DIR/fsid"; fi
FSID=$(cat "$DIR/fsid")
cat >"$CEPH_CONF" <<EOF
[global]
fsid = $FSID
mon_host = [v2:127.0.0.1:$MONPORT,v1:127.0.0.1:$((MONPORT+1))]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv4 = true
ms_bind_ipv6 = false
ms_bind_port_min = $((MONPORT+10))
ms_bind_port_max = $((MONPORT+109))
# a loopback-only throw-away cluster: no cephx
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# radosgw defaults to "secure", which needs cephx (without this line: "get_initial_auth_request returned -13" for ever)
ms_mon_client_mode = crc secure
run_dir = $DIR/run
log_file = $DIR/log/\$name.log
admin_socket = $DIR/run/\$name.asok
pid_file = $DIR/run/\$name.cephpid
crash_dir = $DIR/log/crash
keyring = $DIR/keyring
log_to_stderr = false
err_to_stderr = false
log_to_syslog = false
debug_ms = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_min_osdmap_epochs = 50
[mon]
mon_data = $DIR/mon
mon_cluster_log_file = $DIR/log/cluster.log
[mgr]
mgr_data = $DIR/mgr
[osd]
osd_data = $DIR/osd
osd_objectstore = $STORE
bluestore_block_size = $((SIZE_GB*1024*1024*1024))
bluestore_block_db_create = false
bluestore_block_wal_create = false
memstore_device_bytes = $((SIZE_GB*1024*1024*1024))
osd_memory_target = 1073741824
# a key of 1024 bytes and what radosgw puts before it
osd_max_object_name_len = 2048
osd_max_object_namespace_len = 64
osd_class_update_on_start = false
bdev_flock_retry = 20
[client]
rgw_data = $DIR/rgw
# without tcp_nodelay every small answer waits ~40 ms (Nagle x delayed ACK)
rgw_frontends = beast endpoint=127.0.0.1:$PORT tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_num_rados_handles = 1
rgw_lc_debug_interval = $LCS
rgw_enable_usage_log = false
# free deleted objects after seconds, not hours
rgw_gc_obj_min_wait = 20
rgw_gc_processor_period = 20
rgw_gc_processor_max_time = 20
rgw_crypt_require_ssl = false
rgw_s3_auth_use_sts = true
rgw_sts_key = abcdefghijklmnop
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = testkey-1=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
EOF

spawn() { # name cmd... : a detached daemon; its pid goes to run/name.pid
  local n=$1; shift
  setsid nohup "$@" </dev/null >>"$DIR/log/$n.out" 2>&1 9>&- &
  echo $! >"$DIR/run/$n.pid"
}
if [ ! -d "$DIR/mon/store.db" ]; then
  say "new cluster $FSID in $DIR"
  : >"$DIR/keyring"; chmod 600 "$DIR/keyring"
  rm -f "$DIR/monmap"
  monmaptool --create --fsid "$FSID" --addv a "[v2:127.0.0.1:$MONPORT,v1:127.0.0.1:$((MONPORT+1))]" "$DIR/monmap" >&2
  ceph-mon --mkfs -i a --monmap "$DIR/monmap" >&2 || die "mon mkfs"
fi
alive "$DIR/run/mon.pid" || spawn mon ceph-mon -f -i a
for i in $(seq 60); do C -s >/dev/null 2>&1 && break; alive "$DIR/run/mon.pid" || die "mon exited"; sleep 0.2; done
C config set global mon_warn_on_insecure_global_id_reclaim_allowed false >/dev/null 2>&1 || true

if [ ! -s "$DIR/osd.uuid" ]; then cat /proc/sys/kernel/random/uuid >"$DIR/osd.uuid"; fi
OUUID=$(cat "$DIR/osd.uuid")
if [ ! -e "$DIR/osd/.made" ]; then
  C osd new "$OUUID" 0 >/dev/null 2>&1 || C osd new "$OUUID" >/dev/null || die "osd new"
  ceph-osd -i 0 --mkfs --osd-uuid "$OUUID" >&2 || die "osd mkfs"
  touch "$DIR/osd/.made"
fi
if [ "$MGR" = 1 ]; then alive "$DIR/run/mgr.pid" || spawn mgr ceph-mgr -f -i x; fi
alive "$DIR/run/osd.pid" || spawn osd ceph-osd -f -i 0
for i in $(seq 150); do C osd stat 2>/dev/null | grep -q '1 up' && break; alive "$DIR/run/osd.pid" || die "osd exited"; sleep 0.2; done

if [ ! -e "$DIR/rgw/.made" ]; then
  timeout 180 radosgw-admin user create --uid wsi --display-name "wsi tests" --access-key "$AK" --secret-key "$SK" >/dev/null \
    || die "user create"
  for c in $CLASSES; do
    p=default.rgw.buckets.$(echo "$c" | tr 'A-Z_' 'a-z-')
    radosgw-admin zonegroup placement add --rgw-zonegroup default --placement-id default-placement --storage-class "$c" >/dev/null || die "storage class $c"
    radosgw-admin zone placement add --rgw-zone default --placement-id default-placement --storage-class "$c" --data-pool "$p" >/dev/null || die "storage class $c"
  done
  touch "$DIR/rgw/.made"
fi
alive "$DIR/run/rgw.pid" || spawn rgw radosgw -f -n client.rgw
for i in $(seq 300); do [ "$(http_code)" = 200 ] && break; alive "$DIR/run/rgw.pid" || die "radosgw exited"; sleep 0.2; done
[ "$(http_code)" = 200 ] || die "radosgw gave no answer on port $PORT"
if [ "$STORE" = memstore ] && [ ! -e "$DIR/osd/.ballast" ]; then
  # memstore subtracts more for what is deleted than it added: with little in it its count of used bytes falls below
  # nothing, it takes itself for full ("now -2147483648% full"), and writes wait for ever. So there is always something.
  for i in 1 2 3 4; do
    head -c $((64*1024*1024)) /dev/zero | timeout 60 rados -p default.rgw.control put "ballast.$i" - >&2 || die "ballast"
  done
  touch "$DIR/osd/.ballast"
fi
leave_guard "$OWNER" "$DIR/run/guard.pid" "$DIR/run" env "WSI_S3_DIR=$DIR" "$HERE/s3-down.sh" --wipe
say "ready"
print_env
