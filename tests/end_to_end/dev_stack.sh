#!/usr/bin/env bash
# `mesh dev`, as a newcomer would use it: one command until idle, its figures, its data after a restart, Ctrl-C; and then the
# other end-to-end scripts, on the dev servers instead of Apache Kafka. usage: dev_stack.sh [SCRIPT [ARGUMENT..]]
. "$(dirname "$0")/common.sh"
unset MESH_BOOTSTRAP MESH_REGISTRY

# dev ARGUMENT..: `mesh dev` in the background on free ports; sets $dev, MESH_BOOTSTRAP and MESH_REGISTRY.
dev() {
  "$mesh" dev --port 0 --registry-port 0 "$@" >"$work/dev.out" 2>"$work/dev" &
  dev=$!
  until grep -q '^data ' "$work/dev"; do
    kill -0 "$dev" 2>/dev/null || fail "mesh dev did not start: $(cat "$work/dev")"
    sleep 0.05
  done
  MESH_BOOTSTRAP=$(sed -n 's/^broker *\([^ ]*\).*/\1/p' "$work/dev")
  MESH_REGISTRY=$(sed -n 's/^registry *\([^ ]*\).*/\1/p' "$work/dev")
  export MESH_BOOTSTRAP MESH_REGISTRY
}

# leaves SIGNAL: the dev stack ends with 0 and takes its temporary data along.
leaves() {
  local exit=0 began=$SECONDS
  kill "-$1" "$dev"
  wait "$dev" || exit=$?
  [ "$exit" -eq 0 ] || fail "mesh dev exited $exit on SIG$1: $(tail -3 "$work/dev")"
  [ $((SECONDS - began)) -le 10 ] || fail "mesh dev took $((SECONDS - began)) s to leave"
  local data
  data=$(sed -n 's/^data *\([^ ]*\) (goes.*/\1/p' "$work/dev")
  [ -z "$data" ] || [ ! -e "$data" ] || fail "$data was left behind"
}

first_command() {
  copy_project
  expect "$work/expected"
  say "dev until idle"
  exits 0 dev -f products/ --until-idle --port 0 --registry-port 0 --data "$work/kept"
  local what
  for what in "stations-enriched .* 59024 " "inventory-redistribution .* 9508 " "customers-enriched .* 210 "; do
    grep -Eq "^$what" "$work/last" || fail "no line like \`$what\` in: $(cat "$work/last")"
  done
  say "the same folder again: everything is still there, and nothing is written twice"
  cd "$copy"
  dev -f products/ --data "$work/kept"
  cd - >/dev/null
  until grep -q '^applied\|^No changes' "$work/dev"; do kill -0 "$dev" || fail "$(cat "$work/dev")"; sleep 0.1; done
  verify "$work/expected"
  exits 0 plan -f products/ --detailed-exitcode
  leaves INT
  say "a folder that is not kept"
  dev --only broker,registry
  leaves TERM
}

# on_dev SCRIPT ARGUMENT..: an end-to-end script on dev servers of its own.
on_dev() {
  dev --only broker,registry
  say "$* on the dev servers"
  "$here/$1" "${@:2}" || fail "$1 failed on the dev servers"
  leaves TERM
}

if [ $# -gt 0 ]; then on_dev "$@"; say "passed"; exit; fi
first_command
on_dev run.sh
on_dev reviewer_change.sh
on_dev kill_apply.sh "${CI_KILLS_APPLY:-20}"
on_dev kill_run.sh "${CI_KILLS_RUN:-5}"
say "passed"
