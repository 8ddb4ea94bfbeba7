#!/usr/bin/env bash
# A reviewer's change: a column leaves the contract of stations-status. The plan forbids it (exit 3) and names all that
# reads it, with owners, channels, and the line of the SQL.
. "$(dirname "$0")/common.sh"
column=num_bikes_available

servers
copy_project
exits 0 apply -f products/ --yes

sql=products/stations/stations-enriched.sql
line=$(grep -n "status\.$column" "$copy/$sql" | head -n 1 | cut -d: -f1)
python3 -B - "$copy/schemas/stations.status.json" "$column" <<'PYTHON'
import json, sys
path, column = sys.argv[1:]
schema = json.load(open(path, encoding="utf-8"))
del schema["properties"][column]
schema["required"] = [name for name in schema.get("required", []) if name != column]
json.dump(schema, open(path, "w", encoding="utf-8"), indent=2)
PYTHON

for form in text json markdown; do
  exits 3 plan -f products/ --format "$form"
  # Markdown writes some signs as HTML does; what counts is what a reader sees
  python3 -c 'import html, sys; text = open(sys.argv[1]).read(); open(sys.argv[1], "w").write(html.unescape(text))' "$work/last"
  for name in stations-enriched inventory-availability-high inventory-availability-low inventory-redistribution \
    "Zach Hamilton" "David the Data Engineer" "#station-ops-oncall" "#bike-inv-oncall"; do
    says "$name"
  done
done
exits 3 plan -f products/
says "$sql:$line"
say "the plan names everybody, at $sql:$line:"
cat "$work/last"
exits 3 apply -f products/ --yes
say "passed"
