#!/usr/bin/env python3
"""Compares what a foreign consumer read from the topics with what the products must hold.

usage: verify.py DUMPS EXPECTED

DUMPS holds one file for each topic, written by Kafka's console consumer as common.sh's `dump` calls it. EXPECTED holds
oracle.py's files, or some of them; at least one is there. Every difference is printed; exit 1 if there is any.
"""

import collections
import json
import pathlib
import sys

# common.sh's `dump` uses the same: framed values may contain any byte, newlines too
END, TAB, NULL = b"\x1e<end>\x1e\n", b"\x1e<tab>\x1e", b"\x1e<null>\x1e"
SHOWN = 5

Record = collections.namedtuple("Record", "time partition key value")


class Findings:
    """Collects what is wrong, and prints what is right."""

    def __init__(self):
        self.wrong = 0

    def check(self, what, got, wanted):
        if got == wanted:
            print(f"  ok    {what}: {got}")
        else:
            self.wrong += 1
            print(f"  WRONG {what}: got {got}, expected {wanted}")

    def compare(self, what, got, wanted):
        """Two dictionaries (or counters) that must be equal."""
        if got == wanted:
            print(f"  ok    {what}: {len(wanted)} equal")
            return
        self.wrong += 1
        differing = [key for key in [*wanted, *(key for key in got if key not in wanted)] if got.get(key) != wanted.get(key)]
        print(f"  WRONG {what}: {len(differing)} differ")
        for key in differing[:SHOWN]:
            print(f"        {key}\n          got      {got.get(key)}\n          expected {wanted.get(key)}")


def unframed(data):
    """The JSON behind Confluent's five bytes (magic 0 and a schema id)."""
    if data == NULL:
        return None
    if len(data) < 5 or data[0] != 0:
        raise ValueError(f"not framed: {data[:40]!r}")
    return json.loads(data[5:])


def records(path):
    """A dump's records, in the order they were read."""
    *lines, rest = path.read_bytes().split(END)
    if rest.strip():
        raise ValueError(f"{path}: the dump ends in the middle of a record")
    for line in lines:
        time, partition, key, value = line.split(TAB)
        yield Record(int(time.removeprefix(b"CreateTime:")), partition, key, unframed(value))


def expected(path):
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def present(value):
    """A value without its nulls: a missing field and a null say the same."""
    return {name: field for name, field in value.items() if field is not None}


def same_place(findings, topic, read):
    """Each key stays in one partition."""
    partitions = collections.defaultdict(set)
    for record in read:
        partitions[record.key].add(record.partition)
    findings.check(f"{topic}: keys found in two partitions", sum(len(found) > 1 for found in partitions.values()), 0)


def last_values(read, column):
    """The last value of each record key that was not deleted, by its `column`."""
    last = {}
    for record in read:
        last[record.key] = record.value
    return {value[column]: present(value) for value in last.values() if value is not None}


def check_table(findings, topic, read, wanted, column):
    """Last value per key."""
    same_place(findings, topic, read)
    findings.compare(f"{topic}: last value of each key", last_values(read, column), {row[column]: present(row) for row in wanted})


def check_stream(findings, topic, read, wanted):
    """The records as a bag: event time and the expected columns of each, none lost and none twice."""
    same_place(findings, topic, read)
    columns = list(wanted[0]) if wanted else []
    rowtimes = "rowtime" in columns
    columns = [column for column in columns if column not in ("rowtime", "quotient")]

    def line(time, value):
        return json.dumps([time if rowtimes else None, [value.get(column) for column in columns]])

    got = collections.Counter(line(record.time, record.value or {}) for record in read)
    findings.compare(f"{topic}: records", got, collections.Counter(line(row.get("rowtime"), row) for row in wanted))


def check_percent(findings, topic, read, wanted):
    """percent_available is bikes / capacity to two decimals, whichever way an exact half went; null where capacity is 0."""
    quotients = {(row["rowtime"], row["station_id"]): row["quotient"] for row in wanted}
    wrong = 0
    for record in read:
        quotient, percent = quotients.get((record.time, record.value["station_id"])), record.value.get("percent_available")
        if quotient is None or percent is None:
            wrong += quotient is not percent
        else:
            wrong += abs(percent - quotient) > 0.005 + 1e-9 or abs(percent * 100 - round(percent * 100)) > 1e-6
    findings.check(f"{topic}: wrong percent_available", wrong, 0)


def check_summary(findings, topic, read, wanted):
    """Counts and sums, as a stranger would take them."""
    findings.check(f"{topic}: records", len(read), wanted["rows"])
    findings.check(f"{topic}: stations", len({record.value["station_id"] for record in read}), wanted["stations"])
    bikes = sum(record.value["num_bikes_available"] for record in read)
    findings.check(f"{topic}: sum of num_bikes_available", bikes, wanted["sum_num_bikes_available"])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    dumps, wanted = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    findings, found = Findings(), 0
    checks = (
        ("stations.enriched.summary.json", "stations.enriched", check_summary),
        ("stations.enriched.jsonl", "stations.enriched", check_stream),
        ("inventory.high.jsonl", "inventory.availability.high", check_stream),
        ("inventory.high.jsonl", "inventory.availability.high", check_percent),
        ("inventory.low.jsonl", "inventory.availability.low", check_stream),
        ("inventory.redistribution.jsonl", "inventory.redistribution", lambda *of: check_table(*of, "pair")),
        ("customers.enriched.jsonl", "customers.enriched", lambda *of: check_table(*of, "customer_id")),
    )
    for name, topic, check in checks:
        path = wanted / name
        if not path.exists():
            continue
        found += 1
        rows = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else expected(path)
        check(findings, topic, list(records(dumps / topic)), rows)
    if not found:
        sys.exit(f"verify: nothing to compare with in {wanted}")
    if findings.wrong:
        sys.exit(f"verify: {findings.wrong} of the comparisons failed")
    print("verify: everything is as expected")


if __name__ == "__main__":
    main()
