#!/usr/bin/env python3
"""Prints src/dev/broker/layout.txt: how Kafka's requests are laid out, from the definitions that its client library carries.

    request_layout.py LIB/kafka-clients-VERSION.jar > src/dev/broker/layout.txt
"""

import json
import re
import sys
import zipfile

SIZES = {"bool": "1", "int8": "1", "int16": "2", "uint16": "2", "int32": "4", "uint32": "4", "int64": "8", "float64": "8", "uuid": "16"}
HEAD = """\
# How Kafka's requests are laid out: API key, name, first flexible version, fields. Made by tests/stack/request_layout.py.
# A number is a field of so many bytes, s a string, b bytes or records, [..] an array, {..} a structure, ?{..} one that may be
# null. @3 is a field from version 3 on, @3-5 one of these versions, #0 a tagged field.
"""


def versions(text):
    low, _, high = text.partition("-")
    if text.endswith("+"):
        return "" if text == "0+" else "@" + text[:-1]
    return f"@{low}-{high or low}"


def field(of, structs):
    kind = of["type"]
    array = kind.startswith("[]")
    kind = kind.removeprefix("[]")
    if kind in SIZES:
        text = SIZES[kind]
    elif kind == "string":
        text = "s"
    elif kind in ("bytes", "records"):
        text = "b"
    else:
        fields = [field(each, structs) for each in of.get("fields") or structs[kind]]
        text = " ".join(fields)
        # a structure of one plain field is not that field: it ends with tagged fields
        if not array or (len(fields) == 1 and re.fullmatch(r"\w+|\??{.*}", text)):
            text = ("?" if "nullableVersions" in of and not array else "") + "{ " + text + " }"
    if array:
        text = "[ " + text + " ]"
    tag = f"#{of['tag']}" if "tag" in of else ""
    return text + tag + versions(of.get("taggedVersions") or of["versions"])


def main():
    lines = []
    with zipfile.ZipFile(sys.argv[1]) as jar:
        for name in jar.namelist():
            if re.fullmatch(r"common/message/\w+Request\.json", name):
                request = json.loads(re.sub(r"(?m)^\s*//.*$", "", jar.read(name).decode()))
                structs = {each["name"]: each["fields"] for each in request.get("commonStructs", [])}
                if request["validVersions"] == "none":
                    continue
                flexible = request["flexibleVersions"]
                first = "never" if flexible == "none" else flexible.rstrip("+")
                fields = " ".join(field(each, structs) for each in request["fields"])
                lines.append((request["apiKey"], request["name"].removesuffix("Request"), first, fields))
    print(HEAD + "\n".join(" ".join(str(part) for part in line).rstrip() for line in sorted(lines)))


main()
