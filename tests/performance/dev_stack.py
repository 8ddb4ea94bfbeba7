#!/usr/bin/env python3
"""Measures the dev broker beside Apache Kafka, on this machine, in one run, taking turns.

    tests/stack/stack install && cargo build --release && tests/performance/dev_stack.py [--rounds 3] [--records 1000000] [--suites]

Start to first answer, resident memory when idle, and Kafka's own performance tools: records of 100 bytes produced and
consumed. With --suites the tests that need servers, too: on a dev stack that they start, and on Apache Kafka and a registry
that are started for them (the start is part of the time on both sides). Prints a table; the figure is the median of the
rounds, the ratio is Kafka's to ours.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]
STACK = PROJECT / "tests/stack/stack"
MESH = pathlib.Path(os.environ.get("MESH", PROJECT / "target/release/mesh"))


def answers(port):
    """Whether a broker answers ApiVersions on a port."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    with contextlib.suppress(OSError):
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(4)) == 4
    return False


def await_answer(port, began):
    while not answers(port):
        if time.monotonic() - began > 120:
            raise SystemExit(f"nothing answers on port {port}")
        time.sleep(0.002)
    return time.monotonic() - began


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def resident(pid):
    """Resident memory in MiB, five seconds from now."""
    time.sleep(5)
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024


def tool(port, *arguments):
    environment = dict(os.environ, MESH_BOOTSTRAP=f"127.0.0.1:{port}")
    done = subprocess.run([STACK, "tool", *arguments], env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"{arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def load(port, records):
    """Produced and consumed records a second."""
    topic = f"load-{time.monotonic_ns()}"
    tool(port, "kafka-topics", "--create", "--topic", topic, "--partitions", "1", "--replication-factor", "1")
    out = tool(port, "kafka-producer-perf-test", "--topic", topic, "--num-records", str(records), "--record-size", "100",
               "--throughput", "-1")
    produced = float(re.findall(r"([\d.]+) records/sec", out)[-1])
    out = tool(port, "org.apache.kafka.tools.ConsumerPerformance", "--topic", topic, "--num-records", str(records), "--timeout", "60000")
    fields = [field.strip() for field in out.strip().splitlines()[-1].split(",")]
    return {"produce, records/s": produced, "consume, records/s": float(fields[9])}


def mesh(folder, records):
    port, began = free_port(), time.monotonic()
    broker = subprocess.Popen([MESH, "dev", "--only", "broker", "--port", str(port), "--data", folder], stderr=subprocess.DEVNULL)
    try:
        figures = {"start to first answer, ms": await_answer(port, began) * 1000, "resident when idle, MiB": resident(broker.pid)}
        figures |= load(port, records)
        figures["resident after the load, MiB"] = resident(broker.pid)
        return figures
    finally:
        broker.terminate()
        broker.wait(30)


def kafka(folder, records):
    port = free_port()
    environment = dict(os.environ, KAFKA_PORT=str(port))
    began = time.monotonic()
    starting = subprocess.Popen([STACK, "start", "--kafka", folder], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        figures = {"start to first answer, ms": await_answer(port, began) * 1000}
        starting.wait(120)
        pid = int((pathlib.Path(folder) / "run/kafka.pid").read_text())
        figures["resident when idle, MiB"] = resident(pid)
        figures |= load(port, records)
        figures["resident after the load, MiB"] = resident(pid)
        return figures
    finally:
        starting.wait(120)
        subprocess.run([STACK, "stop", folder], check=False, stdout=subprocess.DEVNULL)


SUITES = [path.stem for path in sorted(PROJECT.glob("tests/*.rs")) if "\nmod servers;" in path.read_text()]


def chosen():
    return [word for suite in SUITES for word in ("--test", suite)]


def suites(environment):
    """Seconds that the tests take which need servers; most of them wait most of the time, so several run at once."""
    began = time.monotonic()
    command = ["cargo", "test", "--quiet", *chosen(), "--", "--test-threads", "8"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise SystemExit(f"the suites failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return time.monotonic() - began


def suites_on_mesh(_folder):
    environment = {name: value for name, value in os.environ.items() if name not in ("MESH_BOOTSTRAP", "MESH_REGISTRY")}
    return {"the suites with their servers, s": suites(environment)}


def suites_on_kafka(folder):
    began = time.monotonic()
    try:
        started = subprocess.run([STACK, "start", folder], capture_output=True, text=True, check=True, timeout=240).stdout
        up = time.monotonic() - began
        servers = dict(re.findall(r"(MESH_\w+)=(\S+)", started))
        return {"the suites with their servers, s": suites(dict(os.environ, **servers)) + up}
    finally:
        subprocess.run([STACK, "stop", folder], check=False, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--suites", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=1_000_000)
    arguments = parser.parse_args()
    seen = {"mesh dev": [], "Apache Kafka": []}
    if arguments.suites:
        subprocess.run(["cargo", "test", "--quiet", "--no-run", *chosen()], cwd=PROJECT, check=True)
    for _ in range(arguments.rounds):
        for name, measure, measure_suites in (("mesh dev", mesh, suites_on_mesh), ("Apache Kafka", kafka, suites_on_kafka)):
            folder = tempfile.mkdtemp(prefix="mesh-performance-")
            try:
                figures = measure(folder, arguments.records)
                seen[name].append(figures | (measure_suites(f"{folder}/suites") if arguments.suites else {}))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    print("| what | mesh dev | Apache Kafka | ratio |\n|---|---|---|---|")
    for what in seen["mesh dev"][0]:
        ours, theirs = (statistics.median(figures[what] for figures in seen[name]) for name in ("mesh dev", "Apache Kafka"))
        ratio = ours / theirs if what.endswith("/s") else theirs / ours
        print(f"| {what} | {ours:,.0f} | {theirs:,.0f} | {ratio:.1f} |")


main()
