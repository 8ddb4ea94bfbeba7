#!/usr/bin/env bash
# Kills a run (SIGKILL) at random moments, then lets it end: a reader of committed records sees what an undisturbed run
# writes, nothing lost and nothing twice. usage: kill_run.sh [KILLS, default 5]
#
# A kill counts when the run was still going. The waits are random, and as long as spreads the kills over the work that is
# left, as far as its pace so far tells; where the work ends before all kills are done, all begins anew on wiped servers.
. "$(dirname "$0")/common.sh"
kills=${1:-5}
attempts=8

# The sum of a topic's end offsets, transaction markers included: how far the work is.
reached() { kafka kafka-get-offsets --topic "$1" --time -1 | awk -F: '{ sum += $3 } END { print sum + 0 }'; }

# kill_some: returns whether all kills fell into the work.
kill_some() {
  local landed=0 pid pause status enriched now spent=0 left longest=${KILL_WITHIN_MS:-3000} exit
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
      0) say "the work ended before kill $((landed + 1))"; return 1 ;;
      *) tail -n 30 "$work/killed.log" >&2; fail "a run ended with $exit" ;;
    esac
    landed=$((landed + 1))
    status=$(reached stations.status) enriched=$(reached stations.enriched)
    say "kill $landed after $pause ms: $status of $statuses in stations.status, $enriched in stations.enriched," \
      "$(reached inventory.redistribution) in inventory.redistribution"
    spent=$((spent + pause)) now=$((status + enriched))
    left=$((now > 0 ? spent * (2 * statuses - now) / now : 2 * longest))
    longest=$(((left > 0 ? left : 0) * 3 / 2 / (kills - landed + 1)))
    longest=$((longest > 20000 ? 20000 : longest < 1000 ? 1000 : longest))
  done
}

servers
copy_project
expect "$work/expected"
same_as_recorded "$work/expected"
statuses=$(gzip -dc "$copy/products/data/baywheels/station_status.jsonl.gz" | wc -l)
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
