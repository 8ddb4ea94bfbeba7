//! Runs on the dev servers, or on those that `MESH_BOOTSTRAP` and `MESH_REGISTRY` name. Every test has products, topics and
//! subjects of its own, and deletes them.

#![allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::type_complexity,
    reason = "a test ends where it is wrong"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mesh::format;
use mesh::kafka::Admin;
use mesh::kafka::admin::At;
use mesh::kafka::consumer::Reader;
use mesh::kafka::producer::{Outcome, Transactional};
use mesh::model::environment::{Kafka, Registry as RegistryAddress};
use mesh::model::product::Format;
use mesh::registry::Registry;
use serde_json::{Value, json};
use servers::Servers;

mod servers;

const DEADLINE: Duration = Duration::from_secs(20);

/// Servers, and a project of its own with manifests whose names nobody else has.
struct Project {
    servers: Servers,
    kafka: Kafka,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    suffix: String,
}

impl Project {
    fn new() -> Project {
        let servers = Servers::get();
        let kafka = Kafka { bootstrap: servers.bootstrap.clone(), security: None };
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("products")).unwrap();
        // What makes it the root of a project.
        std::fs::create_dir_all(folder.path().join(".git")).unwrap();
        let suffix =
            folder.path().file_name().unwrap().to_string_lossy().to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Project { servers, kafka, runtime, folder, suffix }
    }

    /// Writes a file of the project; `SUFFIX` in it becomes what makes the test's names unique.
    fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("SUFFIX", &self.suffix)).unwrap();
    }

    fn name(&self, name: &str) -> String {
        name.replace("SUFFIX", &self.suffix)
    }

    fn mesh(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("MESH_BOOTSTRAP", &self.kafka.bootstrap).env("MESH_REGISTRY", &self.servers.registry);
        // Two applies at once would fence each other, as they should.
        let _turn = (arguments.first() == Some(&"apply")).then(|| self.servers.turn());
        command.output().unwrap()
    }

    /// The output of a call that must succeed.
    fn works(&self, arguments: &[&str]) -> String {
        let output = self.mesh(arguments);
        let (out, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "mesh {}: {}\n{out}\n{talk}", arguments.join(" "), output.status);
        out.into_owned()
    }

    fn registry(&self) -> Registry {
        Registry::connect(&RegistryAddress { url: self.servers.registry.clone(), basic: None }, Path::new(".")).unwrap()
    }

    fn schema_id(&self, subject: &str) -> i32 {
        self.runtime.block_on(self.registry().latest(subject)).unwrap().expect("a registered schema").schema.id
    }

    /// Commits records to a topic: key and value. Returns when readers of committed records get to see them: a broker writes
    /// the mark of a transaction a moment after it has answered to the commit.
    fn write(&self, topic: &str, records: &[(Option<Vec<u8>>, Option<Vec<u8>>)]) {
        let end = self.end(topic) + records.len() as i64 + 1;
        let mut writer = Transactional::new(&self.kafka, Path::new("."), &format!("test-{topic}")).unwrap();
        assert_eq!(writer.init(), Outcome::Done);
        assert_eq!(writer.begin(), Outcome::Done);
        for (at, (key, value)) in records.iter().enumerate() {
            writer.send(topic, Some(0), key.as_deref(), value.as_deref(), Some(1_700_000_000_000 + at as i64), &[]).unwrap();
        }
        assert_eq!(writer.commit(), Outcome::Done);
        let started = Instant::now();
        while self.end(topic) < end {
            assert!(started.elapsed() < DEADLINE, "{topic} does not reach {end}");
        }
    }

    /// Every committed record of a topic.
    fn read(&self, topic: &str) -> Vec<Seen> {
        let mut reader = Reader::new(&self.kafka, Path::new("."), "test").unwrap();
        let partitions = reader.partitions(topic).unwrap();
        let bounds: Vec<(i64, i64)> = (0..partitions).map(|partition| reader.watermarks(topic, partition).unwrap()).collect();
        let starts: Vec<(usize, i32, i64)> = (0..).zip(&bounds).map(|(partition, (start, _))| (0, partition, *start)).collect();
        reader.assign(&[topic.to_owned()], &starts).unwrap();
        let mut positions: Vec<i64> = bounds.iter().map(|(start, _)| *start).collect();
        let mut seen = Vec::new();
        while positions.iter().zip(&bounds).any(|(position, (_, end))| position < end) {
            let polled = reader.poll(Duration::from_secs(1), 10_000).unwrap();
            for message in &polled.messages {
                positions[message.partition() as usize] = message.offset() + 1;
                let header = |(name, value): (String, Option<&[u8]>)| {
                    (name, String::from_utf8_lossy(value.unwrap_or_default()).into_owned())
                };
                seen.push(Seen {
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().into_iter().map(header).collect(),
                });
            }
            for end in &polled.ends {
                let position = &mut positions[end.partition as usize];
                *position = (*position).max(end.offset);
            }
        }
        seen
    }

    /// How many records a topic has had, marks of transactions included.
    fn end(&self, topic: &str) -> i64 {
        let reader = Reader::new(&self.kafka, Path::new("."), "test").unwrap();
        reader.offsets(&[(topic, 0)], At::CommittedEnd).unwrap()[0]
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let subjects_and_topics = async {
            let admin = Admin::connect(&self.kafka, Path::new("."), DEADLINE).await.ok()?;
            let names = admin.topic_names().await.ok()?;
            let ours: Vec<String> = names.into_iter().filter(|name| name.contains(&self.suffix)).collect();
            let registry = self.registry();
            for topic in ours.iter().filter(|topic| !topic.starts_with('_')) {
                for part in ["key", "value"] {
                    // Not every topic has both.
                    let _ = registry.delete_subject(&format!("{topic}-{part}")).await;
                }
            }
            admin.delete_topics(&ours).await.ok()
        };
        self.runtime.block_on(subjects_and_topics);
    }
}

/// One record.
struct Seen {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: BTreeMap<String, String>,
}

fn framed(id: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(body);
    bytes
}

const READINGS: &str = r#"
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: readings-SUFFIX}
spec:
  shape: stream
  key: [id]
  topic: {name: readings.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: json, file: ../schemas/readings.json}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: high-readings-SUFFIX}
spec:
  shape: stream
  key: [id]
  topic: {name: readings.high.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: json}
  derivation:
    sql: SELECT id, n FROM readings_SUFFIX WHERE n > 1
"#;

const READINGS_SCHEMA: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
  "required": ["id", "n"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}"#;

#[test]
fn what_cannot_be_read_is_put_aside_untouched_and_the_rest_goes_on() {
    let project = Project::new();
    project.file("products/readings.yaml", READINGS);
    project.file("schemas/readings.json", READINGS_SCHEMA);
    project.works(&["apply", "-f", "products", "--yes"]);
    let topic = project.name("readings.SUFFIX");
    let (key, value) = (project.schema_id(&format!("{topic}-key")), project.schema_id(&format!("{topic}-value")));
    let good = |id: &str, n: i64| {
        (Some(framed(key, format!("\"{id}\"").as_bytes())), Some(framed(value, json!({"id": id, "n": n}).to_string().as_bytes())))
    };
    let poison: Vec<(&str, Vec<u8>)> = vec![
        ("not_framed", b"\x07\x00plain".to_vec()),
        ("not_framed", vec![0, 0]),
        ("not_json", framed(value, b"{\"id\":")),
        ("wrong_type", framed(value, b"{\"id\":\"x\",\"n\":\"one\"}")),
    ];
    let mut records = vec![good("a", 5)];
    for (at, (_, bytes)) in poison.iter().enumerate() {
        records.push((None, Some(bytes.clone())));
        records.push(good(&format!("b{at}"), at as i64));
    }
    project.write(&topic, &records);
    project.works(&["run", "-f", "products", "--until-idle"]);

    let rows: Vec<Value> = project
        .read(&project.name("readings.high.SUFFIX"))
        .iter()
        .map(|seen| serde_json::from_slice(&seen.value.as_ref().unwrap()[5..]).unwrap())
        .collect();
    assert_eq!(rows, [json!({"id": "a", "n": 5}), json!({"id": "b2", "n": 2}), json!({"id": "b3", "n": 3})]);

    let letters = project.read("_mesh.dead-letters");
    let product = project.name("high-readings-SUFFIX");
    let ours: Vec<&Seen> = letters.iter().filter(|seen| seen.headers.get("mesh.product") == Some(&product)).collect();
    assert_eq!(ours.len(), poison.len());
    for (at, (seen, (code, bytes))) in ours.iter().zip(&poison).enumerate() {
        let header = |name: &str| seen.headers.get(name).map(String::as_str);
        assert_eq!(seen.value.as_ref(), Some(bytes), "untouched");
        assert_eq!(seen.key, None);
        assert_eq!(header("mesh.origin"), Some(topic.as_str()));
        assert_eq!(header("mesh.partition"), Some("0"));
        assert_eq!(header("mesh.offset"), Some((1 + 2 * at).to_string().as_str()));
        assert_eq!(header("mesh.code"), Some(*code), "{:?}", header("mesh.reason"));
        assert!(header("mesh.reason").is_some_and(|reason| !reason.is_empty()));
    }

    // A second run finds all of it done: nothing is written twice, not even the dead letters.
    let ends = (project.end(&project.name("readings.high.SUFFIX")), letters.len());
    project.works(&["run", "-f", "products", "--until-idle"]);
    let again =
        project.read("_mesh.dead-letters").iter().filter(|seen| seen.headers.get("mesh.product") == Some(&product)).count();
    assert_eq!((project.end(&project.name("readings.high.SUFFIX")), again), (ends.0, poison.len()));
}

#[test]
fn a_bad_record_stops_the_derivation_where_the_manifest_says_so() {
    let project = Project::new();
    project.file("products/readings.yaml", &format!("{READINGS}    on_bad_record: stop\n"));
    project.file("schemas/readings.json", READINGS_SCHEMA);
    project.works(&["apply", "-f", "products", "--yes"]);
    project.write(&project.name("readings.SUFFIX"), &[(None, Some(b"\x07plain".to_vec()))]);
    let output = project.mesh(&["run", "-f", "products", "--until-idle"]);
    let talk = String::from_utf8_lossy(&output.stderr).replace(&project.suffix, "SUFFIX");
    assert_eq!(output.status.code(), Some(1), "{talk}");
    let told = talk.lines().find(|line| line.starts_with("error:")).unwrap();
    insta::assert_snapshot!(told, @"error: high-readings-SUFFIX: readings.SUFFIX partition 0 offset 0 can't be read: not_framed: the first byte is 0x07; a framed record starts with 0x00 and a schema id of four bytes");
}

#[test]
fn a_run_before_an_apply_says_what_is_missing() {
    let project = Project::new();
    project.file("products/readings.yaml", READINGS);
    project.file("schemas/readings.json", READINGS_SCHEMA);
    let output = project.mesh(&["run", "-f", "products", "--until-idle"]);
    assert_eq!(output.status.code(), Some(1));
    let talk = String::from_utf8_lossy(&output.stderr).replace(&project.suffix, "SUFFIX");
    insta::assert_snapshot!(talk, @"
    error: topics readings.high.SUFFIX, readings.SUFFIX do not exist
    hint: `mesh apply` makes what a run needs
    ");
}

const ORDERS: &str = r#"
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: orders-SUFFIX}
spec:
  shape: stream
  key: [id]
  topic: {name: orders.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: json, file: ../schemas/orders.json}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: prices-SUFFIX}
spec:
  shape: stream
  key: [id]
  topic: {name: prices.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: json, file: ../schemas/prices.json}
  derivation:
    sql: SELECT id, 100 / n AS price, n * 1000000000 AS large, CAST(t AS INT) AS number,
        CAST(n AS DOUBLE) / m AS ratio FROM orders_SUFFIX
"#;

const ORDERS_SCHEMA: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
  "required": ["id", "n", "t", "m"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}, "t": {"type": "string"},
  "m": {"type": "number"}}}"#;

const PRICES_SCHEMA: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
  "required": ["id", "price", "large", "number", "ratio"], "properties": {"id": {"type": "string"}, "price": {"type": "integer"},
  "large": {"type": "integer"}, "number": {"type": "integer"}, "ratio": {"type": "number"}}}"#;

impl Project {
    /// The dead letters of one of the project's products.
    fn letters(&self, product: &str) -> Vec<Seen> {
        let product = self.name(product);
        let mut letters = self.read("_mesh.dead-letters");
        letters.retain(|seen| seen.headers.get("mesh.product") == Some(&product));
        letters
    }

    /// The values of a topic with JSON records, and null for a tombstone.
    fn rows(&self, topic: &str) -> Vec<Value> {
        let value = |seen: Seen| seen.value.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes[5..]).unwrap());
        self.read(&self.name(topic)).into_iter().map(value).collect()
    }

    /// Makes records of one of the project's topics: key and value in JSON with the registered schemas' ids.
    fn records(&self, topic: &str) -> impl Fn(&Value, &Value) -> (Option<Vec<u8>>, Option<Vec<u8>>) + use<> {
        let topic = self.name(topic);
        let ids = (self.schema_id(&format!("{topic}-key")), self.schema_id(&format!("{topic}-value")));
        move |key, value| {
            let bytes = |id, json: &Value| Some(framed(id, json.to_string().as_bytes())).filter(|_| !json.is_null());
            (bytes(ids.0, key), bytes(ids.1, value))
        }
    }
}

#[test]
fn a_row_that_cannot_be_computed_is_put_aside_with_its_expression_and_its_bytes() {
    let project = Project::new();
    project.file("products/orders.yaml", ORDERS);
    project.file("schemas/orders.json", ORDERS_SCHEMA);
    project.file("schemas/prices.json", PRICES_SCHEMA);
    project.works(&["apply", "-f", "products", "--yes"]);
    let record = project.records("orders.SUFFIX");
    let order = |id: &str, n: i64, t: &str, m: f64| record(&json!(id), &json!({"id": id, "n": n, "t": t, "m": m}));
    // Most are good, so that those that are not are few among many, in more than one batch.
    let mut records: Vec<_> = (0..3000).map(|n| order(&format!("g{n}"), 1 + n % 7, "5", 2.0)).collect();
    records.insert(2500, order("zero", 0, "5", 2.0));
    records.insert(1700, order("large", 9_300_000_000, "5", 2.0));
    records.insert(1600, order("text", 1, "five", 2.0));
    records.insert(10, order("infinite", 1, "5", 0.0));
    let written = records.clone();
    project.write(&project.name("orders.SUFFIX"), &records);
    project.works(&["run", "-f", "products", "--until-idle"]);

    let rows = project.rows("prices.SUFFIX");
    let expected: Vec<Value> = (0..3000_i64)
        .map(|n| 1 + n % 7)
        .zip(0..)
        .map(|(n, at)| json!({"id": format!("g{at}"), "price": 100 / n, "large": n * 1_000_000_000, "number": 5, "ratio": n as f64 / 2.0}))
        .collect();
    assert_eq!(rows, expected, "all others, in their order");

    let letters = project.letters("prices-SUFFIX");
    let mut told: Vec<String> = letters
        .iter()
        .map(|seen| {
            let header = |name: &str| seen.headers.get(name).map_or("-", String::as_str).replace(&project.suffix, "SUFFIX");
            let offset: usize = header("mesh.offset").parse().unwrap();
            assert_eq!((&seen.key, &seen.value), (&written[offset].0, &written[offset].1), "untouched");
            assert_eq!(header("mesh.timestamp"), (1_700_000_000_000 + offset).to_string());
            let names = ["mesh.origin", "mesh.partition", "mesh.offset", "mesh.code", "mesh.expression", "mesh.reason"];
            names.map(header).join(" | ")
        })
        .collect();
    told.sort();
    insta::assert_snapshot!(told.join("\n"), @"
    orders.SUFFIX | 0 | 10 | not_finite | - | a result does not fit its contract: ratio: inf is no JSON number
    orders.SUFFIX | 0 | 1601 | row_error | CAST(orders_SUFFIX.t AS INTEGER) | cannot cast string 'five' to value of Int32 type
    orders.SUFFIX | 0 | 1702 | row_error | orders_SUFFIX.n * 1000000000 | overflow happened on: 9300000000 * 1000000000
    orders.SUFFIX | 0 | 2503 | row_error | 100 / orders_SUFFIX.n | division by zero
    ");

    // What retention has taken can't be shown, and nothing is told twice.
    project.works(&["run", "-f", "products", "--until-idle"]);
    assert_eq!(project.letters("prices-SUFFIX").len(), letters.len());
}

#[test]
fn a_row_that_cannot_be_computed_stops_the_derivation_where_the_manifest_says_so() {
    let project = Project::new();
    project.file("products/orders.yaml", &format!("{ORDERS}    on_bad_record: stop\n"));
    project.file("schemas/orders.json", ORDERS_SCHEMA);
    project.file("schemas/prices.json", PRICES_SCHEMA);
    project.works(&["apply", "-f", "products", "--yes"]);
    let told = |id: &str, value: Value| {
        project.write(&project.name("orders.SUFFIX"), &[project.records("orders.SUFFIX")(&json!(id), &value)]);
        let output = project.mesh(&["run", "-f", "products", "--until-idle"]);
        let talk = String::from_utf8_lossy(&output.stderr).replace(&project.suffix, "SUFFIX");
        assert_eq!(output.status.code(), Some(1), "{talk}");
        talk.lines().find(|line| line.starts_with("error:")).unwrap().to_owned()
    };
    insta::assert_snapshot!(told("a", json!({"id": "a", "n": 0, "t": "5", "m": 2})), @"error: prices-SUFFIX: orders.SUFFIX partition 0 offset 0 can't be computed: 100 / orders_SUFFIX.n: division by zero");
    assert_eq!(project.letters("prices-SUFFIX").len(), 0);
    assert_eq!(project.rows("prices.SUFFIX").len(), 0);
}

#[test]
fn a_result_that_fits_no_contract_stops_the_derivation_where_the_manifest_says_so() {
    let project = Project::new();
    project.file("products/orders.yaml", &format!("{ORDERS}    on_bad_record: stop\n"));
    project.file("schemas/orders.json", ORDERS_SCHEMA);
    project.file("schemas/prices.json", PRICES_SCHEMA);
    project.works(&["apply", "-f", "products", "--yes"]);
    let value = json!({"id": "a", "n": 1, "t": "5", "m": 0});
    project.write(&project.name("orders.SUFFIX"), &[project.records("orders.SUFFIX")(&json!("a"), &value)]);
    let output = project.mesh(&["run", "-f", "products", "--until-idle"]);
    let talk = String::from_utf8_lossy(&output.stderr).replace(&project.suffix, "SUFFIX");
    assert_eq!(output.status.code(), Some(1), "{talk}");
    let told = talk.lines().find(|line| line.starts_with("error:")).unwrap();
    insta::assert_snapshot!(told, @"error: prices-SUFFIX: orders.SUFFIX partition 0 offset 0 can't be computed: not_finite: a result does not fit its contract: ratio: inf is no JSON number");
}

/// The same join as customers-enriched, in Avro from end to end; the result is the shared oracle's.
#[test]
fn avro_gives_what_json_gives() {
    let project = Project::new();
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let twin = here.join("tests/manifest/avro-twin");
    for entry in std::fs::read_dir(&twin).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("avro-customers", "avro-SUFFIX-customers").replace("avro_customers", "avro_SUFFIX_customers");
        let text = text.replace("avro.customers", "avro.SUFFIX.customers").replace("../../../products/data/", "data/");
        project.file(&format!("products/{}", path.file_name().unwrap().to_string_lossy()), &text);
    }
    for name in ["customer_info.jsonl", "customer_demographics.jsonl"] {
        let text = std::fs::read_to_string(here.join("products/data/customers").join(name)).unwrap();
        project.file(&format!("products/data/customers/{name}"), &text);
    }
    project.works(&["apply", "-f", "products", "--yes"]);
    project.works(&["run", "-f", "products", "--until-idle"]);

    let topic = project.name("avro.SUFFIX.customers.enriched");
    let schema = project.runtime.block_on(project.registry().latest(&format!("{topic}-value"))).unwrap().unwrap().schema.text;
    let mut last: BTreeMap<Vec<u8>, Option<Value>> = BTreeMap::new();
    for seen in project.read(&topic) {
        let value = seen.value.map(|bytes| format::to_json(Format::Avro, Some(schema.as_str().into()), &bytes[5..]).unwrap());
        last.insert(seen.key.unwrap(), value);
    }
    let customer = |value: &Value| value["customer_id"].as_str().unwrap().to_owned();
    let without_nulls = |mut value: Value| {
        value.as_object_mut().unwrap().retain(|_, field| !field.is_null());
        value
    };
    let found: BTreeMap<String, Value> =
        last.into_values().flatten().map(|value| (customer(&value), without_nulls(value))).collect();
    let expected = std::fs::read_to_string(here.join("tests/data/expected/customers.enriched.jsonl")).unwrap();
    let expected: BTreeMap<String, Value> = expected
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|value: Value| (customer(&value), without_nulls(value)))
        .collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
}

const SCALES: &str = r#"
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: scales-SUFFIX}
spec:
  shape: stream
  topic: {name: scales.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: FORMAT, file: ../schemas/scale.ENDING}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: weights-SUFFIX}
spec:
  shape: stream
  topic: {name: weights.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: json}
  derivation: {sql: "SELECT id, unit FROM scales_SUFFIX"}
"#;

/// Two records: by the contract, and by a schema of another team's, which has the unit in a text of its own.
fn a_schema_that_refers_to_another(format: Format, ending: &str, contract: &str, unit: (&str, &str), written: &str) {
    let project = Project::new();
    let name = format!("{format:?}").to_lowercase();
    project.file("products/scales.yaml", &SCALES.replace("FORMAT", &name).replace("ENDING", ending));
    project.file(&format!("schemas/scale.{ending}"), contract);
    project.works(&["apply", "-f", "products", "--yes"]);
    let topic = project.name("scales.SUFFIX");
    let (subject, units) = (format!("{topic}-value"), project.name("units.SUFFIX"));
    let register = |subject: &str, body: Value| -> i32 {
        let call = async {
            let url = format!("{}/subjects/{subject}/versions", project.servers.registry);
            let answer: Value = reqwest::Client::new().post(url).json(&body).send().await.unwrap().json().await.unwrap();
            answer["id"].as_i64().unwrap_or_else(|| panic!("{answer}")) as i32
        };
        project.runtime.block_on(call)
    };
    register(&units, json!({"schemaType": format.registry_name(), "schema": unit.1}));
    let references = json!([{"name": unit.0, "subject": units, "version": 1}]);
    let other = json!({"schemaType": format.registry_name(), "schema": written, "references": references});
    let (one, other) = (project.schema_id(&subject), register(&subject, other));
    assert_ne!(one, other);
    let body = |id: &str| match format {
        Format::Avro => [vec![2], id.as_bytes().to_vec(), vec![2]].concat(),
        _ => [vec![0, 0x0a, 1], id.as_bytes().to_vec(), vec![0x10, 1]].concat(),
    };
    project.write(&topic, &[(None, Some(framed(one, &body("a")))), (None, Some(framed(other, &body("b"))))]);
    project.works(&["run", "-f", "products", "--until-idle"]);
    let wanted = [json!({"id": "a", "unit": "LB"}), json!({"id": "b", "unit": "LB"})];
    assert_eq!(project.rows("weights.SUFFIX"), wanted);
    let shown = project.works(&["tail", "--until-end", "-f", "products", &project.name("scales-SUFFIX")]);
    assert_eq!(shown.matches("\"LB\"").count(), 2, "{shown}");
    // What is referred to goes last; not every registry lets it go while the other can be brought back.
    project.runtime.block_on(project.registry().delete_subject(&subject)).unwrap();
    let _ = project.runtime.block_on(project.registry().delete_subject(&units));
}

#[test]
fn an_avro_schema_may_refer_to_others() {
    let unit = r#"{"type": "enum", "name": "Unit", "symbols": ["KG", "LB"]}"#;
    let scale = |unit: &str| {
        format!(
            r#"{{"type": "record", "name": "Scale", "fields": [{{"name": "id", "type": "string"}}, {{"name": "unit", "type": {unit}}}]}}"#
        )
    };
    a_schema_that_refers_to_another(Format::Avro, "avsc", &scale(unit), ("Unit", unit), &scale("\"Unit\""));
}

#[test]
fn a_protobuf_schema_may_refer_to_others() {
    let (unit, scale) = ("enum Unit { KG = 0; LB = 1; }\n", "message Scale { string id = 1; Unit unit = 2; }\n");
    let file = |text: &str| format!("syntax = \"proto3\";\n{text}");
    let written = file(&format!("import \"unit.proto\";\n{scale}"));
    let contract = file(&format!("{scale}{unit}"));
    a_schema_that_refers_to_another(Format::Protobuf, "proto", &contract, ("unit.proto", &file(unit)), &written);
}

/// How many records the poisoned streams have; `MESH_POISON` says another number.
fn poisoned_records() -> usize {
    std::env::var("MESH_POISON").ok().map_or(3_000, |number| number.parse().unwrap())
}

/// Avro's and Protobuf's whole numbers.
fn varint(mut bits: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bits >= 0x80 {
        bytes.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    bytes.push(bits as u8);
    bytes
}

fn zigzag(number: i64) -> Vec<u8> {
    varint(((number << 1) ^ (number >> 63)) as u64)
}

/// The body of a good record: `id`, `n`, `x`, and in Avro a DECIMAL(4, 2).
fn good_body(format: Format, at: usize) -> Vec<u8> {
    let (id, n, x) = (format!("s{at}"), at as i64, at as f64 / 4.0);
    let text = |length: Vec<u8>| [length, id.clone().into_bytes()].concat();
    match format {
        Format::Json => json!({"id": id, "n": n, "x": x}).to_string().into_bytes(),
        Format::Avro => [text(zigzag(id.len() as i64)), zigzag(n), x.to_le_bytes().to_vec(), zigzag(1), vec![7]].concat(),
        Format::Protobuf => {
            [vec![0, 0x0a], text(varint(id.len() as u64)), vec![0x10], varint(n as u64), vec![0x19], x.to_le_bytes().to_vec()]
                .concat()
        }
    }
}

/// Bodies that no record of the contract has.
fn poison_bodies(format: Format) -> Vec<Vec<u8>> {
    let whole = good_body(format, 1);
    let truncated = whole[..whole.len() - 3].to_vec();
    match format {
        Format::Json => {
            let deep = format!(r#"{{"id":"x","n":1,"x":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000));
            let texts = [
                r#"{"id":"x","n":"one","x":1}"#,
                r#"{"id":"x","n":1,"x":NaN}"#,
                r#"{"id":"x","n":1,"x":1e999}"#,
                r#"{"id":"x","n":9223372036854775808,"x":1}"#,
                r#"{"id":"x","n":1,"n":2,"x":1}"#,
                r#"{"id":"x","x":1}"#,
                r#"{"id":null,"n":1,"x":1}"#,
                deep.as_str(),
            ];
            let not_utf8 = [&br#"{"id":""#[..], &[0xff, 0xfe], br#"","n":1,"x":1}"#].concat();
            texts.iter().map(|text| text.as_bytes().to_vec()).chain([truncated, not_utf8]).collect()
        }
        Format::Avro => vec![
            truncated,
            [whole.clone(), vec![0]].concat(),
            [zigzag(2), vec![0xff, 0xfe], whole[3..].to_vec()].concat(),
            [zigzag(1 << 40), whole[1..].to_vec()].concat(),
            [vec![0xff; 11], whole.clone()].concat(),
            // 10000.00 is too wide
            [whole[..whole.len() - 2].to_vec(), zigzag(3), vec![0x0f, 0x42, 0x40]].concat(),
        ],
        Format::Protobuf => vec![
            truncated,
            vec![0, 0x0a, 2, 0xff, 0xfe],
            vec![0, 0x0a, 0x80, 0x80, 0x80, 0x80, 0x08],
            vec![0, 0x13],
            [vec![0, 0x10], vec![0xff; 11]].concat(),
            vec![9, 0x0a, 1, b'x'],
        ],
    }
}

const POISONED: &str = r#"
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: poisoned-SUFFIX}
spec:
  shape: stream
  topic: {name: poisoned.SUFFIX, partitions: 1, config: {retention.ms: -1, max.message.bytes: 20000000}}
  schema: {format: FORMAT, file: ../schemas/FILE}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: other-SUFFIX}
spec:
  shape: stream
  topic: {name: other.SUFFIX, partitions: 1}
  schema: {format: FORMAT, file: ../schemas/OTHER}
---
apiVersion: mesh/v1
kind: DataProduct
metadata: {name: healthy-SUFFIX}
spec:
  shape: stream
  key: [id]
  topic: {name: healthy.SUFFIX, partitions: 1, config: {retention.ms: -1}}
  schema: {format: json}
  derivation: {sql: "SELECT * FROM poisoned_SUFFIX"}
"#;

/// One record in twenty is poison: the dead letters are the poison, byte for byte and in its order, and all else comes through.
fn poison_is_put_aside(format: Format, ending: &str, schema: &str) {
    let project = Project::new();
    let name = format!("{format:?}").to_lowercase();
    let manifests =
        POISONED.replace("FORMAT", &name).replace("FILE", &format!("it.{ending}")).replace("OTHER", &format!("other.{ending}"));
    project.file("products/poisoned.yaml", &manifests);
    project.file(&format!("schemas/it.{ending}"), schema);
    project.file(&format!("schemas/other.{ending}"), &schema.replace("Reading", "Other").replace("of it", "of another"));
    project.works(&["apply", "-f", "products", "--yes"]);
    let id = project.schema_id(&project.name("poisoned.SUFFIX-value"));
    let other = project.schema_id(&project.name("other.SUFFIX-value"));
    let mut kinds: Vec<Option<Vec<u8>>> = poison_bodies(format).iter().map(|body| Some(framed(id, body))).collect();
    kinds.extend([
        None,
        Some(Vec::new()),
        Some(vec![0]),
        Some(vec![0, 0, 0]),
        Some(vec![7; 40]),
        Some((0..=255).rev().collect()),
    ]);
    kinds.extend([Some(framed(999_999, &good_body(format, 1))), Some(framed(other, &good_body(format, 1)))]);
    let (mut records, mut poison, mut good) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..poisoned_records() {
        if at % 20 == 7 {
            // A few are large.
            let large = (at / 20 < 2).then(|| framed(id, &vec![b'7'; 10 << 20]));
            let bytes = if large.is_some() { large } else { kinds[poison.len() % kinds.len()].clone() };
            poison.push(bytes.clone());
            records.push((None, bytes));
        } else {
            good.push(json!({"id": format!("s{at}"), "n": at, "x": at as f64 / 4.0}));
            records.push((None, Some(framed(id, &good_body(format, at)))));
        }
    }
    let topic = project.name("poisoned.SUFFIX");
    records.chunks(2_000).for_each(|records| project.write(&topic, records));
    project.works(&["run", "-f", "products", "--until-idle"]);
    let rows = project.rows("healthy.SUFFIX");
    assert_eq!(rows.len(), good.len());
    for (row, good) in rows.iter().zip(&good) {
        assert_eq!((&row["id"], &row["n"], row["x"].as_f64()), (&good["id"], &good["n"], good["x"].as_f64()));
    }
    let letters = project.letters("healthy-SUFFIX");
    assert_eq!(letters.len(), poison.len());
    for (letter, poison) in letters.iter().zip(&poison) {
        assert!(letter.value == *poison, "{:?}", letter.headers);
    }
}

#[test]
fn poison_in_json_is_put_aside() {
    let schema = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "of it", "type": "object", "additionalProperties": false,
      "required": ["id", "n", "x"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}, "x": {"type": "number"}}}"#;
    poison_is_put_aside(Format::Json, "json", schema);
}

#[test]
fn poison_in_avro_is_put_aside() {
    let schema = r#"{"type": "record", "name": "Reading", "fields": [{"name": "id", "type": "string"}, {"name": "n", "type": "long"},
      {"name": "x", "type": "double"}, {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}}]}"#;
    poison_is_put_aside(Format::Avro, "avsc", schema);
}

#[test]
fn poison_in_protobuf_is_put_aside() {
    poison_is_put_aside(
        Format::Protobuf,
        "proto",
        "syntax = \"proto3\";\nmessage Reading { string id = 1; int64 n = 2; double x = 3; }\n",
    );
}
