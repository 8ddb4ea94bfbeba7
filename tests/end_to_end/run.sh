#!/usr/bin/env bash
# From empty servers to correct results, as a platform engineer would go: plan, apply, plan, run, and then a look from
# outside. usage: run.sh [--data SEED | --data DIR]
#
# Without --data on the repository's data, whose results are recorded in tests/data/expected. With a number: on another
# day's data that another_day.py makes from it. With a folder: on the files in it (baywheels/ and customers/).
. "$(dirname "$0")/common.sh"
data=
case ${1:-} in
  --data) data=${2:?--data needs a number or a folder} ;;
  '') ;;
  *) fail "usage: run.sh [--data SEED | --data DIR]" ;;
esac

servers
copy_project
case $data in
  '') say "the repository's data" ;;
  *[!0-9]*) say "the data in $data"; cp -RL "$data"/. "$copy/products/data/" ;;
  *) say "another day's data, by seed $data"; python3 -B "$here/another_day.py" "$copy/products" "$data" ;;
esac
expect "$work/expected"
if [ -z "$data" ]; then same_as_recorded "$work/expected"; fi

say "plan: everything is to create"
exits 0 plan -f products/
says "to create, 0 to change, 0 to delete"
for product in $(grep -hA3 '^kind: DataProduct' -r "$copy/products" --include='*.yaml' | sed -n 's/^  name: //p'); do
  says "catalog entry $product: publish"
done
exits 2 plan -f products/ --detailed-exitcode
say "apply"
exits 0 apply -f products/ --yes
say "plan: nothing is left"
exits 0 plan -f products/ --detailed-exitcode
says "No changes."

kafka kafka-topics --describe >"$work/topics"
kafka kafka-configs --describe --entity-type topics >"$work/configs"
python3 -B "$here/declared.py" "$copy/products" "$MESH_REGISTRY" "$work/topics" "$work/configs" || fail "the servers do not show what was declared"

say "run until idle"
started=$(date +%s%N)
exits 0 run -f products/ --until-idle
say "run ended after $((($(date +%s%N) - started) / 1000000)) ms"
verify "$work/expected"
say "run again: nothing is left to do, and nothing is written twice"
exits 0 run -f products/ --until-idle
verify "$work/expected"
exits 0 plan -f products/ --detailed-exitcode
says "No changes."
say "passed"
