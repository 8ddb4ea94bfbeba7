#!/usr/bin/env python3
"""Turns a copy of the products' data into another day's, so that no result can be known beforehand.

usage: another_day.py PRODUCTS [SEED]

Rewrites PRODUCTS/data in place, the same for the same SEED. Station statuses: a week later, a poll reaches its
stations over 45 seconds and is written out of order, some are dropped, some repeated within the minute with other
numbers, all numbers drawn anew, some stations unknown; the first poll comes before the stations are known. Stations
and regions: other names, capacities and places, some without a region or of capacity 0. Customers: other fields, other
deletions, other order of the two tables.
"""

import gzip
import json
import pathlib
import random
import sys

from oracle import lines, replay_times

SECOND, WEEK = 1000, 7 * 24 * 3600 * 1000


def write(path, rows):
    """JSON lines, gzip by the file's name; the same bytes for the same rows."""
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def other_stations(rng, path):
    """Stations with shuffled names and places and new capacities; returns station -> capacity."""
    stations = lines(path)
    names = [station["name"] for station in stations]
    rng.shuffle(names)
    regions = sorted({station["region_id"] for station in stations if "region_id" in station})
    for station, name in zip(stations, names):
        station["name"] = f"{name} ({rng.randrange(10)})"
        station["capacity"] = rng.choice((0, 7, 8, 11, 15, 19, 20, 23, 27, 30, 35, 40))
        station["lat"] += rng.uniform(-0.05, 0.05)
        station["lon"] += rng.uniform(-0.05, 0.05)
        if rng.random() < 0.1:
            station.pop("region_id", None)
        elif rng.random() < 0.3:
            station["region_id"] = rng.choice(regions)
    rng.shuffle(stations)
    # a table's later line replaces the earlier one
    again = [dict(station, capacity=station["capacity"] + 2) for station in rng.sample(stations, 20)]
    stations = [station for station in stations if rng.random() > 0.03] + again
    write(path, stations)
    return {station["station_id"]: station["capacity"] for station in stations}


def altered(rng, value, capacity):
    """A status with numbers drawn anew."""
    bikes = rng.choice((0, 0, 1, capacity // 4, capacity // 2, 3 * capacity // 4, capacity, rng.randrange(capacity + 3)))
    value = dict(value, num_bikes_available=bikes, num_docks_available=max(0, capacity - bikes - rng.randrange(2)))
    if rng.random() < 0.2:
        value.pop("num_scooters_available", None)
    return value


def other_statuses(rng, path, capacities, known_from):
    """Statuses of another day, out of order by less than a minute."""
    rows = lines(path)
    polls = sorted({row["ts"] for row in rows})
    delay = {}
    out = []
    for row in rows:
        station = row["value"]["station_id"]
        delay.setdefault(station, rng.randrange(45 * SECOND))
        if rng.random() < 0.15:
            continue
        time = row["ts"] + WEEK + delay[station]
        if row["ts"] == polls[0]:
            time = known_from - 10 * 60 * SECOND + delay[station]
        capacity = capacities.get(station, 10)
        out.append({"ts": time, "value": altered(rng, row["value"], capacity)})
        if rng.random() < 0.1:
            # the next one of the same station within the minute; milliseconds keep all times of a station apart
            later = time + 5 * SECOND + rng.randrange(9 * SECOND)
            out.append({"ts": later, "value": altered(rng, row["value"], capacity)})
    # a poll's stations stand in the order of the file, whatever their delay: out of order by less than 60 seconds
    write(path, out)


def other_customers(rng, info, demographics):
    """Other ages and phones, some deleted at the end, some deleted and written again."""
    for path in (info, demographics):
        rows = []
        for row in lines(path):
            if rng.random() < 0.1:
                continue
            value = row["value"]
            if value is not None and "age" in value:
                value = dict(value, age=rng.randrange(18, 95))
            elif value is not None:
                value = dict(value, phone_number=f"555-{rng.randrange(10**7):07}")
            rows.append({"ts": row["ts"] + WEEK, "key": row["key"], "value": value})
        last = {row["key"]: row for row in rows if row["value"] is not None}
        time = rows[-1]["ts"]
        for key in rng.sample(sorted(last), 60):
            time += rng.randrange(1, 2000)
            rows.append({"ts": time, "key": key, "value": None})
            if rng.random() < 0.4:
                time += rng.randrange(1, 2000)
                rows.append({"ts": time, "key": key, "value": last[key]["value"]})
        write(path, rows)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    products, rng = pathlib.Path(sys.argv[1]), random.Random(int(sys.argv[2]) if len(sys.argv) == 3 else 1)
    bay, people = products / "data/baywheels", products / "data/customers"
    known_from = replay_times(products)["station_information.jsonl"]
    regions = lines(bay / "system_regions.jsonl")
    write(bay / "system_regions.jsonl", [dict(region, name=f"{region['name']} {rng.randrange(100)}") for region in regions])
    capacities = other_stations(rng, bay / "station_information.jsonl")
    other_statuses(rng, bay / "station_status.jsonl.gz", capacities, known_from)
    other_customers(rng, people / "customer_info.jsonl", people / "customer_demographics.jsonl")


if __name__ == "__main__":
    main()
