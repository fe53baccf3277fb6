# guard.sh - sourced by the scripts beside it: a server that was started for a process ends with it, however that ends.
# A guard is a process group of its own; its pid lies in a file, and it has done its work when the server's files go.

# a process all of whose threads have ended is gone, also while nobody has waited for it yet
gone() { local t; t=$(cat /proc/"$1"/task/*/stat 2>/dev/null); [ -z "$t" ] || ! grep -qv ') Z ' <<<"$t"; }

# a pid alone may be another process's by now
is_guard() { [ -n "$1" ] && tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF " guard "; }

started() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null || echo gone; }

leave_guard() { # owner's pid (or nothing), file for the guard's pid, a folder that goes with the server, what stops it...
  local owner=$1 file=$2 folder=$3; shift 3
  if [ -z "$owner" ] || is_guard "$(cat "$file" 2>/dev/null)"; then return 0; fi
  export -f started
  setsid nohup bash -c 'cd /; while [ "$(started "$1")" = "$2" ] && [ -d "$3" ]; do sleep 1; done; "${@:4}"' \
    guard "$owner" "$(started "$owner")" "$folder" "$@" </dev/null >/dev/null 2>&1 9>&- &
  echo $! >"$file"
  for _ in $(seq 500); do is_guard $! && break; sleep 0.01; done
}

end_guard() { # guard's pid (or nothing); not where the guard itself is what stops the server
  if [ "$1" = "$PPID" ] || ! is_guard "$1"; then return 0; fi
  kill -KILL -- "-$1"; for _ in $(seq 50); do gone "$1" && break; sleep 0.1; done
}
