#!/usr/bin/env python3
"""The slow oracle: what the ride4ever products must hold, computed from their input files alone.

usage: oracle.py PRODUCTS OUT

Reads PRODUCTS/data/{baywheels,customers}, and from the manifests in PRODUCTS only the `at:` of the replays whose
lines carry no time. Writes into OUT what the topics must say in the end:

  stations.enriched.summary.json   rows, stations, sum of num_bikes_available
  stations.enriched.jsonl          one line for each row: record time and the columns that are checked
  inventory.high.jsonl             one line for each row of inventory.availability.high
  inventory.low.jsonl              one line for each row of inventory.availability.low
  inventory.redistribution.jsonl   the last value of each pair
  customers.enriched.jsonl         the last value of each customer that was not deleted

It knows the definitions and nothing of the program: plain loops, standard library only, no SQL.
"""

import bisect
import collections
import datetime
import fractions
import gzip
import json
import math
import pathlib
import re
import sys

EARTH_KM = 6371.0
KM_PER_MILE = 1.609344
MINUTE = 60_000

CUSTOMER_COLUMNS = (
    "customer_id", "first_name", "last_name", "email", "phone_number",
    "age", "gender", "income", "education_level", "marital_status",
)
STATUS_COLUMNS = (
    "station_id", "num_bikes_available", "num_docks_available", "num_bikes_disabled", "num_docks_disabled",
    "num_ebikes_available", "is_installed", "is_renting", "is_returning", "last_reported", "station_status",
)
STATION_COLUMNS = ("name", "short_name", "capacity", "lat", "lon", "region_id", "station_type")
AVAILABILITY_COLUMNS = (
    "rowtime", "station_id", "name", "region_name", "lat", "lon", "capacity", "num_bikes_available", "num_docks_available",
)

Row = collections.namedtuple("Row", "time key value")


def half_away(value):
    """An exact number rounded to the nearest integer, halves away from zero."""
    value = fractions.Fraction(value)
    return int(math.copysign(math.floor(abs(value) + fractions.Fraction(1, 2)), value))


def miles(a_lat, a_lon, b_lat, b_lon):
    """Great-circle distance on a sphere, haversine."""
    a_phi, b_phi = math.radians(a_lat), math.radians(b_lat)
    h = (math.sin((b_phi - a_phi) / 2) ** 2
         + math.cos(a_phi) * math.cos(b_phi) * math.sin(math.radians(b_lon - a_lon) / 2) ** 2)
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(h))) / KM_PER_MILE


def lines(path):
    """A file's JSON lines, plain or gzip."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as text:
        return [json.loads(line) for line in text if line.strip()]


def milliseconds(text):
    """An ISO time, UTC where it names no zone, as milliseconds since 1970."""
    time = datetime.datetime.fromisoformat(text.strip().strip("'\"").replace("Z", "+00:00"))
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.timezone.utc)
    return round(time.timestamp() * 1000)


def replay_times(products):
    """File name -> time of its records, for each replay in the manifests that says `at:`."""
    times = {}
    for manifest in sorted([*products.rglob("*.yaml"), *products.rglob("*.yml")]):
        # one `replay:` mapping, in flow or block style, up to the next blank line, key outside it, or closing brace
        for block in re.split(r"(?m)(?=\breplay:)", manifest.read_text(encoding="utf-8"))[1:]:
            file = re.search(r"\bfile:\s*([^\s,}]+)", block)
            at = re.search(r"(?:^|[{,\s])at:\s*([^\s,}]+)", block.split("\n---", 1)[0])
            if file and at:
                times[pathlib.Path(file.group(1).strip("'\"")).name] = milliseconds(at.group(1))
    return times


def enveloped(path):
    """Rows of a file whose lines are {"ts", "key"?, "value"}."""
    return [Row(line["ts"], line.get("key"), line["value"]) for line in lines(path)]


def table(path, key, at):
    """A table's history: key -> [(time, value or None)], by time and then by order in the file."""
    history = collections.defaultdict(list)
    for line in lines(path):
        if "ts" in line and "value" in line:
            row = Row(line["ts"], line.get("key") or line["value"][key], line["value"])
        else:
            row = Row(at, line[key], line)
        history[row.key].append((row.time, row.value))
    for versions in history.values():
        versions.sort(key=lambda version: version[0])
    return history


def as_of(history, key, time):
    """The value that `key` had at `time`; a version of that very time counts."""
    versions = history.get(key, [])
    at = bisect.bisect_right(versions, time, key=lambda version: version[0])
    return versions[at - 1][1] if at else None


def customers_enriched(info, demographics):
    """Inner join of the latest values of both tables."""
    latest = []
    for path in (info, demographics):
        values = {}
        for row in enveloped(path):
            values[row.key] = row.value
        latest.append({key: value for key, value in values.items() if value is not None})
    left, right = latest
    for key in sorted(left.keys() & right.keys()):
        both = {**left[key], **right[key]}
        yield {column: both.get(column) for column in CUSTOMER_COLUMNS}


def stations_enriched(status, stations, regions):
    """Each status with its station and its region as of its time."""
    for row in enveloped(status):
        station = as_of(stations, row.value["station_id"], row.time)
        region = as_of(regions, station["region_id"], row.time) if station and station.get("region_id") is not None else None
        if region is None:
            continue
        out = {"rowtime": row.time}
        out.update((column, row.value.get(column)) for column in STATUS_COLUMNS)
        out.update((column, station.get(column)) for column in STATION_COLUMNS)
        out["region_name"] = region["name"]
        yield out


def availability(enriched):
    """The rows of inventory-availability-high and of -low."""
    high, low = [], []
    for row in enriched:
        capacity, bikes, docks = row["capacity"], row["num_bikes_available"], row["num_docks_available"]
        if None in (capacity, bikes, docks) or capacity + bikes + docks == 0:
            continue
        half, columns = capacity // 2, {column: row[column] for column in AVAILABILITY_COLUMNS}
        if bikes >= half_away(fractions.Fraction(3, 4) * capacity):
            high.append({**columns, "surplus": bikes - half, "quotient": bikes / capacity if capacity else None})
        if bikes <= half_away(fractions.Fraction(1, 4) * capacity) and docks >= half - bikes:
            low.append({**columns, "shortage": half - bikes})
    return high, low


def redistribution(high, low):
    """For each pair of stations of one region, the latest meeting of a surplus with a shortage."""
    lows = collections.defaultdict(list)
    for row in low:
        lows[row["region_name"]].append(row)
    for rows in lows.values():
        rows.sort(key=lambda row: row["rowtime"])
    latest = {}
    for source in high:
        rows = lows[source["region_name"]]
        first = bisect.bisect_left(rows, source["rowtime"] - MINUTE, key=lambda row: row["rowtime"])
        for dest in rows[first:]:
            if dest["rowtime"] > source["rowtime"] + MINUTE:
                break
            if source["surplus"] < dest["shortage"]:
                continue
            pair = f"{source['station_id']}-{dest['station_id']}"
            # A meeting takes place at the later of its two times. Of two meetings at one time the one whose earlier
            # record is younger came last, whichever of the two streams was read first.
            order = tuple(sorted((source["rowtime"], dest["rowtime"]), reverse=True))
            if pair not in latest or order >= latest[pair][0]:
                latest[pair] = (order, source, dest)
    for pair in sorted(latest):
        _, source, dest = latest[pair]
        yield {
            "pair": pair,
            "source_name": source["name"],
            "dest_name": dest["name"],
            "source_surplus": source["surplus"],
            "dest_shortage": dest["shortage"],
            "redistribution": dest["shortage"],
            "distance": half_away(fractions.Fraction(miles(source["lat"], source["lon"], dest["lat"], dest["lon"])) * 100) / 100,
        }


def write(path, rows):
    """JSON lines."""
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    products, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    bay, people, at = products / "data/baywheels", products / "data/customers", replay_times(products)
    stations = table(bay / "station_information.jsonl", "station_id", at.get("station_information.jsonl", 0))
    regions = table(bay / "system_regions.jsonl", "region_id", at.get("system_regions.jsonl", 0))
    enriched = list(stations_enriched(bay / "station_status.jsonl.gz", stations, regions))
    high, low = availability(enriched)
    summary = {
        "rows": len(enriched),
        "stations": len({row["station_id"] for row in enriched}),
        "sum_num_bikes_available": sum(row["num_bikes_available"] for row in enriched),
    }
    (out / "stations.enriched.summary.json").write_text(json.dumps(summary), encoding="utf-8")
    write(out / "stations.enriched.jsonl", enriched)
    write(out / "inventory.high.jsonl", high)
    write(out / "inventory.low.jsonl", low)
    write(out / "inventory.redistribution.jsonl", redistribution(high, low))
    write(out / "customers.enriched.jsonl", customers_enriched(people / "customer_info.jsonl", people / "customer_demographics.jsonl"))


if __name__ == "__main__":
    main()
