#!/usr/bin/env bash
# Kills apply (SIGKILL) at random moments; applied once more it converges. usage: kill_apply.sh [KILLS, default 20]
#
# When an apply comes to its end before the kill, the servers are wiped, so that the next one has work to do again.
. "$(dirname "$0")/common.sh"
kills=${1:-20}
landed=0 longest=${KILL_WITHIN_MS:-2000} tries=0

converges() {
  exits 0 apply -f products/ --yes
  exits 0 plan -f products/ --detailed-exitcode
  says "No changes."
}

servers
copy_project
while [ "$landed" -lt "$kills" ]; do
  tries=$((tries + 1))
  [ "$tries" -le $((3 * kills)) ] || fail "only $landed of $kills kills fell into an apply"
  pause=$(between 10 "$longest")
  (cd "$copy" && exec "$mesh" apply -f products/ --yes) >>"$work/killed.log" 2>&1 &
  pid=$!
  sleep "$(seconds "$pause")"
  if kill -9 "$pid" 2>/dev/null; then :; fi
  exit=0
  wait "$pid" 2>/dev/null || exit=$?
  case $exit in
    137) landed=$((landed + 1)) ;;
    0)
      longest=$((pause > 100 ? pause : 100))
      say "an apply ended before the kill ($landed so far): from empty servers again"
      converges
      wipe
      ;;
    *) tail -n 30 "$work/killed.log" >&2; fail "an apply ended with $exit" ;;
  esac
done
converges
kafka kafka-topics --describe >"$work/topics"
kafka kafka-configs --describe --entity-type topics >"$work/configs"
python3 -B "$here/declared.py" "$copy/products" "$MESH_REGISTRY" "$work/topics" "$work/configs" || fail "the servers do not show what was declared"
say "passed: converged after $kills kills"
