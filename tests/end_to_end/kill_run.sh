#!/usr/bin/env bash
# Kills a run (SIGKILL) at random moments, then lets it end: a reader of committed records sees what an undisturbed run
# writes, nothing lost and nothing twice. usage: kill_run.sh [KILLS, default 5]
#
# A kill counts when the run was still going. Where the work ends before all kills are done, the servers are wiped and it
# begins anew, with shorter waits; where a run was killed before it could do anything, the waits grow.
. "$(dirname "$0")/common.sh"
kills=${1:-5}
longest=${KILL_WITHIN_MS:-3000}
attempts=6

# The sum of a topic's end offsets, transaction markers included: how far the work is.
reached() { kafka kafka-get-offsets --topic "$1" --time -1 | awk -F: '{ sum += $3 } END { print sum + 0 }'; }

# kill_some: returns whether all kills fell into the work.
kill_some() {
  local landed=0 pid pause before=0 now exit
  while [ "$landed" -lt "$kills" ]; do
    pause=$(between 200 "$longest")
    (cd "$copy" && exec "$mesh" run -f products/ --until-idle) >>"$work/killed.log" 2>&1 &
    pid=$!
    sleep "$(seconds "$pause")"
    if kill -9 "$pid" 2>/dev/null; then :; fi
    exit=0
    wait "$pid" 2>/dev/null || exit=$?
    case $exit in
      137) ;;
      0) say "the work ended before kill $((landed + 1))"; longest=$((longest / 2)); return 1 ;;
      *) tail -n 30 "$work/killed.log" >&2; fail "a run ended with $exit" ;;
    esac
    landed=$((landed + 1))
    now=$(($(reached stations.status) + $(reached stations.enriched) + $(reached inventory.redistribution)))
    say "kill $landed after $pause ms: offsets of status, enriched and redistribution add up to $now"
    if [ "$now" -le "$before" ]; then longest=$((longest + longest / 2)); fi
    before=$now
  done
}

servers
copy_project
expect "$work/expected"
same_as_recorded "$work/expected"
for attempt in $(seq "$attempts"); do
  exits 0 apply -f products/ --yes
  if kill_some; then break; fi
  [ "$attempt" -lt "$attempts" ] || fail "$kills kills never fell into the work"
  wipe
done
say "run to the end"
exits 0 run -f products/ --until-idle
verify "$work/expected"
say "passed: the same results after $kills kills"
