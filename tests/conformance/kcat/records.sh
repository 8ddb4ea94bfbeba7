#!/usr/bin/env bash
# kcat, with the librdkafka of the distribution, years older than Python's: every compression, keys, headers, groups, times.
set -euo pipefail

# Creates a topic with kcat's elder sister, Kafka's own tool not being needed: the broker is asked by Python's client.
create() { "$CONFORMANCE_PYTHON" -c 'import sys; from kit import topic; topic(sys.argv[1], int(sys.argv[2]))' "$@"; }
kc() { timeout 40 kcat -q -b "$BOOTSTRAP" -X topic.metadata.refresh.interval.ms=1000 "$@" || echo "exit $?"; }

create kcat-plain 2
plain=kcat-plain.$RUN
echo "== metadata"
kc -L -t "$plain" | grep -v '^Metadata\|broker 1 at'
echo "== compressions"
for codec in none gzip snappy lz4 zstd; do
  printf '%s\n' "$codec"{1..50} | kc -P -t "$plain" -p 0 -z "$codec"
done
kc -C -t "$plain" -p 0 -e -f '%o %s\n' | awk '{print $2}' | sort | uniq -c | awk '{n[$1]++} END {for (c in n) print n[c], "values seen", c, "times"}'
echo "== keys, headers, nulls"
printf 'k1|v1\nk2|\nk3|v3\n' | kc -P -t "$plain" -p 1 -K '|' -Z -H one=1 -H two=2
kc -C -t "$plain" -p 1 -e -f '%p@%o key=%k (%K) value=%s (%S) headers=%h\n'
echo "== places"
kc -C -t "$plain" -p 0 -o 10 -c 2 -f '%o %s\n'
kc -C -t "$plain" -p 0 -o -2 -e -f '%o %s\n'
kc -C -t "$plain" -p 0 -o s@0 -c 1 -f '%o %s\n'
kc -Q -t "$plain:1:0"
kc -Q -t "$plain:0:-1"
echo "== a group"
kc -G "kcat-group.$RUN" "$plain" -c 253 -f '%p\n' -X auto.offset.reset=earliest | sort | uniq -c
kc -G "kcat-group.$RUN" "$plain" -e -f '%p\n' -X auto.offset.reset=earliest | wc -l
echo "== a transaction"
create kcat-txn 1
printf 'a\nb\n' | kc -P -t "kcat-txn.$RUN" -X transactional.id="kcat.$RUN"
kc -C -t "kcat-txn.$RUN" -e -f '%o %s\n' -X isolation.level=read_committed
