# What the end-to-end scripts share; sourced by them.
#
# MESH            the binary; default: the dev build, then the release build
# MESH_BOOTSTRAP  Kafka, and
# MESH_REGISTRY   the registry: both given and empty of the products, or neither: then each script starts its own, on
#                 free ports, and stops them
# MESH_STACK      where tests/stack has installed the servers; Kafka's tools are taken from there

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
me=$(basename "$0" .sh)
stack=$project/tests/stack/stack
export MESH_STACK=${MESH_STACK:-$project/target/stack}
work=$(mktemp -d "${TMPDIR:-/tmp}/mesh-$me.XXXXXX")
mesh=${MESH:-$project/target/debug/mesh}
own_servers=

say() { printf '%s: %s\n' "$me" "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

finish() {
  local exit=$?
  trap - EXIT INT TERM
  # what runs in the background is this script's own
  for pid in $(jobs -p); do kill -9 "$pid" 2>/dev/null || true; done
  if [ -n "$own_servers" ]; then "$stack" stop "$work/servers" >/dev/null 2>&1 || true; fi
  if [ "$exit" -eq 0 ]; then rm -rf "$work"; else say "what was seen is kept in $work" >&2; fi
  exit "$exit"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[ -x "$mesh" ] || fail "no binary at $mesh: cargo build, or set MESH"
mesh=$(realpath "$mesh")

# Kafka and a registry, unless they are given.
servers() {
  if [ -n "${MESH_BOOTSTRAP:-}" ] && [ -n "${MESH_REGISTRY:-}" ]; then return; fi
  own_servers=yes
  start
}

start() {
  local addresses
  addresses=$("$stack" start "$work/servers") || fail "the servers did not start"
  eval "$addresses"
  say "started Kafka at $MESH_BOOTSTRAP and a registry at $MESH_REGISTRY"
}

# One of Kafka's own tools, on these servers.
kafka() { "$stack" tool "$@"; }

# dump TOPIC FILE: all committed records, as a consumer sees them that is not ours. It ends when nothing has come for a
# while, as it knows no other end; a record that comes later is missing, and the comparison fails.
dump() {
  kafka kafka-console-consumer --topic "$1" --from-beginning --isolation-level read_committed \
    --timeout-ms "${DUMP_IDLE_MS:-8000}" --formatter-property print.timestamp=true --formatter-property print.partition=true \
    --formatter-property print.key=true --formatter-property key.separator=$'\x1e<tab>\x1e' \
    --formatter-property line.separator=$'\x1e<end>\x1e\n' --formatter-property null.literal=$'\x1e<null>\x1e' \
    >"$2" 2>"$2.log" || { grep -q TimeoutException "$2.log" || fail "the console consumer failed on $1: $(cat "$2.log")"; }
  rm -f "$2.log"
}

# dump_all DIR: the derived topics, two consumers at a time.
dump_all() {
  local topic pids=() dir=$1
  mkdir -p "$dir"
  for topic in stations.enriched inventory.availability.high inventory.availability.low inventory.redistribution customers.enriched; do
    dump "$topic" "$dir/$topic" & pids+=($!)
    if [ "${#pids[@]}" -ge 2 ]; then wait "${pids[0]}"; pids=("${pids[@]:1}"); fi
  done
  local pid
  for pid in "${pids[@]}"; do wait "$pid"; done
}

# exits EXPECTED COMMAND..: runs it in the project copy, output to $work/last, and fails on any other exit code.
exits() {
  local wanted=$1 got=0
  shift
  (cd "$copy" && exec timeout "${STEP_SECONDS:-300}" "$mesh" "$@") >"$work/last" 2>&1 || got=$?
  if [ "$got" -ne "$wanted" ]; then
    cat "$work/last" >&2
    fail "mesh $* ended with $got, not $wanted"
  fi
}
# says TEXT: the last output holds it.
says() { grep -qF -- "$1" "$work/last" || { cat "$work/last" >&2; fail "the output does not say: $1"; }; }

# A copy of the products that may be changed: $copy/products, with their schemas.
copy_project() {
  copy=$work/project
  mkdir -p "$copy/.git"
  cp -RL "$project/products" "$project/schemas" "$copy/"
}

# expect DIR: what the oracle computes from the copy's data goes there.
expect() { python3 -B "$here/oracle.py" "$copy/products" "$1"; }
# The copy's data are the repository's: then the recorded results must be the oracle's, too.
same_as_recorded() {
  local file
  for file in "$project"/tests/data/expected/*; do
    cmp -s "$file" "$1/$(basename "$file")" || fail "the oracle's $(basename "$file") is not the recorded one"
  done
}

# Whether the topics hold what the oracle says.
verify() {
  dump_all "$work/dumps"
  python3 -B "$here/verify.py" "$work/dumps" "$1" || fail "the topics do not hold what they must"
}

# wipe: the servers are as good as new. Our own are begun anew: a registry that was asked to delete a subject while an
# apply had just been killed once kept its answer for half an hour. From those that were given, all topics and subjects
# of the products vanish.
wipe() {
  if [ -n "$own_servers" ]; then
    "$stack" stop "$work/servers"
    rm -rf "$work/servers"
    start
    return
  fi
  local subject topics='(customers|stations|system|inventory)\..*|_mesh.*|mesh.*'
  kafka kafka-topics --delete --if-exists --topic "$topics" >/dev/null
  for _ in $(seq 50); do
    if ! kafka kafka-topics --list | grep -Eqx "$topics"; then break; fi
  done
  for subject in $(registry /subjects | tr -d '[]"' | tr ',' ' '); do
    registry "/subjects/$subject" -o /dev/null -X DELETE
    registry "/subjects/$subject?permanent=true" -o /dev/null -X DELETE
  done
}
registry() { curl -fsS --max-time 60 "$MESH_REGISTRY$1" "${@:2}"; }

# between LOW HIGH: a random number of milliseconds.
between() { echo $(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1))); }
# seconds MILLISECONDS: the same as seconds with a fraction.
seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }
