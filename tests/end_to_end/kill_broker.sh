#!/usr/bin/env bash
# Kills the dev broker's process (SIGKILL) at random moments in the middle of transactions, and starts it on the same data:
# what was acknowledged is read once, and no transaction in part. usage: kill_broker.sh [KILLS, default 20] [RECORDS, default 50000]
. "$(dirname "$0")/common.sh"
cd "$project"
MESH=$mesh MESH_KILLS=${1:-20} MESH_KILL_RECORDS=${2:-50000} cargo test --locked --test broker_kills -- --nocapture
say "passed: every acknowledged record once after ${1:-20} kills"
