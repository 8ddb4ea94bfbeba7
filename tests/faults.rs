//! Answers that are lost, connections that drop, servers that refuse: apply and run come to the same end all the same.
//!
//! Each test has a dev broker and registry of its own and makes the broker fail in one way at one call, in all the calls
//! that apply and run make.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::process::{Command, Output};

use kafka_protocol::messages::ApiKey;
use mesh::dev::broker::faults::{Effect, Fault};
use mesh::dev::broker::{Running, Settings};
use mesh::dev::registry;

/// Kafka's code for a coordinator that is not there; clients ask again.
const COORDINATOR_NOT_AVAILABLE: i16 = 15;

/// A stack and a project of its own.
struct Stage {
    runtime: tokio::runtime::Runtime,
    broker: Running,
    registry: registry::Running,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (broker, registry) = runtime.block_on(async {
            let broker = Running::start(Settings::new(folder.path().join("broker"))).await.unwrap();
            let registry =
                registry::Running::start(registry::Settings::default(), registry::OnTopic::open(broker.broker.clone()).unwrap())
                    .await
                    .unwrap();
            (broker, registry)
        });
        std::fs::create_dir_all(folder.path().join(".git")).unwrap();
        Stage { runtime, broker, registry, folder }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn mesh(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("MESH_BOOTSTRAP", self.broker.bootstrap()).env("MESH_REGISTRY", self.registry.url());
        command.output().unwrap()
    }

    fn works(&self, what: &str, arguments: &[&str]) -> String {
        let output = self.mesh(arguments);
        let (out, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{what}: mesh {}: {}\n{out}\n{talk}", arguments.join(" "), output.status);
        out.into_owned()
    }

    fn faults(&self) -> &mesh::dev::broker::faults::Faults {
        &self.broker.broker.settings.faults
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.registry.stop().await;
            self.broker.stop().await;
        });
    }
}

/// A source of `rows` lines and two products derived from it, all named after `name`.
fn products(stage: &Stage, name: &str, rows: u32, partitions: u32) {
    let line = |n: u32| format!("{{\"id\":\"{}\",\"n\":{n}}}\n", n % 7);
    stage.file(&format!("{name}/data.jsonl"), &(0..rows).map(line).collect::<String>());
    stage.file(
        &format!("{name}/in.json"),
        r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
  "required": ["id", "n"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}"#,
    );
    let manifest = r#"
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: NAME-in}
spec:
  shape: stream
  key: [id]
  topic: {name: NAME.in, partitions: PARTITIONS, config: {retention.ms: -1}}
  schema: {format: json, file: in.json}
  source:
    replay: {file: data.jsonl, at: 2024-01-01T00:00:00Z, speed: 0}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: NAME-even}
spec:
  shape: stream
  key: [id]
  topic: {name: NAME.even, partitions: PARTITIONS, config: {retention.ms: -1}}
  schema: {format: json}
  derivation: {sql: "SELECT id, n FROM NAME_in WHERE n % 2 = 0"}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: NAME-sums}
spec:
  shape: table
  key: [id]
  topic: {name: NAME.sums, partitions: PARTITIONS, config: {cleanup.policy: compact}}
  schema: {format: json}
  derivation: {sql: "SELECT id, sum(n) AS total, count(*) AS many FROM NAME_even GROUP BY id"}
"#;
    let manifest = manifest.replace("NAME", name).replace("PARTITIONS", &partitions.to_string());
    stage.file(&format!("{name}/products.yaml"), &manifest);
}

/// What the table must say in the end: the ids 0 to 6, each with the sum and the number of its even `n`.
fn expected(rows: u32) -> Vec<String> {
    let sums = |id: u32| {
        let even: Vec<u32> = (0..rows).filter(|n| n % 7 == id && n % 2 == 0).collect();
        format!("{{\"id\":\"{id}\",\"total\":{},\"many\":{}}}", even.iter().sum::<u32>(), even.len())
    };
    (0..7).map(sums).collect()
}

/// The last value of each key, sorted.
fn table(stage: &Stage, name: &str) -> Vec<String> {
    let text =
        stage.works(name, &["tail", &format!("{name}-sums"), "--until-end", "--from", "earliest", "-f", name, "-o", "json"]);
    let mut last = std::collections::BTreeMap::new();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        last.insert(value["key"].to_string(), value["value"].to_string());
    }
    last.into_values().collect()
}

#[test]
fn an_apply_whose_answers_are_lost_comes_to_the_same_end() {
    let calls = [
        ApiKey::Metadata,
        ApiKey::DescribeConfigs,
        ApiKey::CreateTopics,
        ApiKey::InitProducerId,
        ApiKey::AddPartitionsToTxn,
        ApiKey::Produce,
        ApiKey::EndTxn,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::FindCoordinator,
    ];
    let stage = Stage::new();
    for (at, api) in calls.into_iter().enumerate() {
        let name = format!("a{at}");
        products(&stage, &name, 1, 1);
        comes_to_an_end(&stage, &name, Fault::once(api, Effect::DropAfter));
    }
}

#[test]
fn a_change_whose_answers_are_lost_comes_to_the_same_end() {
    let stage = Stage::new();
    for (at, api) in [ApiKey::CreatePartitions, ApiKey::IncrementalAlterConfigs].into_iter().enumerate() {
        let name = format!("c{at}");
        products(&stage, &name, 1, 1);
        stage.works(&name, &["apply", "-f", &name, "--yes"]);
        products(&stage, &name, 1, 3);
        let manifest = stage.folder.path().join(&name).join("products.yaml");
        let text =
            std::fs::read_to_string(&manifest).unwrap().replace("cleanup.policy: compact", "cleanup.policy: \"compact,delete\"");
        std::fs::write(&manifest, text).unwrap();
        comes_to_an_end(&stage, &name, Fault::once(api, Effect::DropAfter));
    }
}

/// Applies with a fault, again until it is through, and then finds nothing to change.
fn comes_to_an_end(stage: &Stage, name: &str, fault: Fault) {
    let what = format!("{:?} after {}", fault.api, fault.skip);
    let before = stage.faults().struck();
    stage.faults().add(fault);
    let first = stage.mesh(&["apply", "-f", name, "--yes"]);
    assert!(stage.faults().struck() > before, "{what}: the fault did not strike\n{}", String::from_utf8_lossy(&first.stderr));
    stage.faults().clear();
    if !first.status.success() {
        stage.works(&what, &["apply", "-f", name, "--yes"]);
    }
    let out = stage.works(&what, &["plan", "-f", name, "--detailed-exitcode"]);
    assert!(out.contains("No changes."), "{what}: {out}");
}

/// Runs with a fault at each call that a run makes, and finds what a run without it writes.
fn runs_with(effect: Effect, calls: &[ApiKey]) {
    let stage = Stage::new();
    for (at, api) in calls.iter().enumerate() {
        let (name, rows) = (format!("r{at}"), 500);
        products(&stage, &name, rows, 2);
        stage.works(&name, &["apply", "-f", &name, "--yes"]);
        let before = stage.faults().struck();
        stage.faults().add(Fault { count: Some(2), ..Fault::once(*api, effect) });
        stage.works(&format!("{api:?} {effect:?}"), &["run", "-f", &name, "--until-idle"]);
        assert!(stage.faults().struck() > before, "{api:?}: the fault did not strike");
        stage.faults().clear();
        assert_eq!(table(&stage, &name), expected(rows), "{api:?} {effect:?}");
    }
}

const TRANSACTIONAL: [ApiKey; 6] = [
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::Produce,
    ApiKey::EndTxn,
];

#[test]
fn a_run_whose_answers_are_lost_writes_what_it_should() {
    runs_with(Effect::DropAfter, &TRANSACTIONAL);
}

#[test]
fn a_run_whose_requests_are_lost_writes_what_it_should() {
    runs_with(Effect::DropBefore, &TRANSACTIONAL);
}

#[test]
fn a_run_whose_reads_are_lost_writes_what_it_should() {
    let calls = [ApiKey::Fetch, ApiKey::OffsetFetch, ApiKey::ListOffsets, ApiKey::FindCoordinator, ApiKey::Metadata];
    runs_with(Effect::DropAfter, &calls);
}

/// The first of its transactions is no different from those that follow.
#[test]
fn a_run_whose_later_answers_are_lost_writes_what_it_should() {
    let stage = Stage::new();
    for (at, api) in [ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn].into_iter().enumerate() {
        for skip in 1..4 {
            let (name, rows) = (format!("l{at}{skip}"), 500);
            products(&stage, &name, rows, 2);
            stage.works(&name, &["apply", "-f", &name, "--yes"]);
            stage.faults().add(Fault { skip, ..Fault::once(api, Effect::DropAfter) });
            stage.works(&format!("{api:?} after {skip}"), &["run", "-f", &name, "--until-idle"]);
            stage.faults().clear();
            assert_eq!(table(&stage, &name), expected(rows), "{api:?} after {skip}");
        }
    }
}

#[test]
fn a_run_asks_a_coordinator_again_that_is_not_there() {
    runs_with(Effect::Error(COORDINATOR_NOT_AVAILABLE), &[ApiKey::InitProducerId, ApiKey::AddPartitionsToTxn, ApiKey::EndTxn]);
}
