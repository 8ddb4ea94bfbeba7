#!/usr/bin/env python3
"""Checks that Kafka and the registry show what the manifests declare, as Kafka's own tools and the REST API say.

usage: declared.py PRODUCTS REGISTRY_URL TOPICS CONFIGS

TOPICS is what `kafka-topics --describe` printed, CONFIGS what `kafka-configs --describe --entity-type topics` did.
The manifests are read by their layout, one field a line, as products/ writes them.
"""

import json
import pathlib
import re
import sys
import urllib.error
import urllib.parse
import urllib.request


def declared(products):
    """One dictionary for each data product of the manifests."""
    for manifest in sorted(products.rglob("*.yaml")):
        for text in manifest.read_text(encoding="utf-8").split("\n---"):
            if not re.search(r"(?m)^kind: DataProduct$", text):
                continue
            topic = text[text.index("\n  topic:"):]
            config = re.search(r"config: \{(.*?)\}", topic)
            file = re.search(r"schema:.*?file: (\S+)", text, re.S)
            yield {
                "topic": re.search(r"name: (\S+)", topic).group(1),
                "partitions": re.search(r"partitions: (\d+)", topic).group(1),
                "config": dict(pair.split(": ") for pair in config.group(1).split(", ")) if config else {},
                "schema": json.loads((manifest.parent / file.group(1)).read_text(encoding="utf-8")),
                "compatibility": re.search(r"compatibility: (\w+)", text).group(1),
            }


def get(url):
    """The JSON that the registry answers, an error's too."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return {"status": error.code}


def configs(text):
    """Topic -> key -> value of what is set on the topics themselves, out of what kafka-configs prints."""
    found = {}
    for line in text.splitlines():
        title = re.match(r"Dynamic configs for topic (\S+) are", line)
        if title:
            found[title.group(1)] = keys = {}
        elif pair := re.match(r"\s+([\w.]+)=(.*?) sensitive=", line):
            keys[pair.group(1)] = pair.group(2)
    return found


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    products, registry = pathlib.Path(sys.argv[1]), sys.argv[2].rstrip("/")
    described = dict(re.findall(r"(?m)^Topic: (\S+)\s.*PartitionCount: (\d+)", pathlib.Path(sys.argv[3]).read_text()))
    kept = configs(pathlib.Path(sys.argv[4]).read_text())
    subjects, wrong, count = get(f"{registry}/subjects"), [], 0

    def check(what, got, wanted):
        if got != wanted:
            wrong.append(f"{what}: got {got}, declared {wanted}")

    for product in declared(products):
        count += 1
        topic = product["topic"]
        check(f"{topic}: partitions", described.get(topic), product["partitions"])
        check(f"{topic}: config", kept.get(topic), product["config"])
        check(f"{topic}-key: registered", f"{topic}-key" in subjects, True)
        subject = urllib.parse.quote(f"{topic}-value")
        latest = get(f"{registry}/subjects/{subject}/versions/latest")
        check(f"{topic}-value: schema type", latest.get("schemaType"), "JSON")
        check(f"{topic}-value: schema", json.loads(latest.get("schema", "null")), product["schema"])
        level = get(f"{registry}/config/{subject}").get("compatibilityLevel")
        check(f"{topic}-value: compatibility", level, product["compatibility"])
    check("data products", count >= 10, True)
    check("_mesh: cleanup.policy", kept.get("_mesh", {}).get("cleanup.policy"), "compact")
    if wrong:
        sys.exit("\n".join(["declared: what the servers show is not what the manifests say", *wrong]))
    print(f"declared: {count} topics and their subjects are as the manifests say")


if __name__ == "__main__":
    main()
