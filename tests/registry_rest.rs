//! The dev registry over HTTP, held against what Confluent's registry answered: a recorded session line by line, and the
//! recorded verdicts on pairs of schemas. `tests/data/registry/README.md` describes the recordings; nothing in `mesh` knows
//! them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails by panicking and prints its figures"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use mesh::dev::registry::{Entry, InMemory, Journal, OnTopic, Running, Settings};
use serde_json::{Value, json};

// ---------------------------------------------------------------------------------------------------------------- //
// A client that sends what it is told, impossible paths included.

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    content_type: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn code(&self) -> Option<i64> {
        self.json().get("error_code").and_then(Value::as_i64)
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(registry: &Running) -> Client {
        let stream = TcpStream::connect(registry.url().strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = body {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let stream = self.stream.get_mut();
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        stream.write_all(body.unwrap_or_default()).unwrap();
        self.answer(method == "HEAD").unwrap()
    }

    fn answer(&mut self, is_head: bool) -> std::io::Result<Answer> {
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut headers)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let header = |name: &str| {
            headers
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let length = if is_head { 0 } else { header("content-length").map_or(0, |length| length.parse().unwrap()) };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answer { status, content_type: header("content-type"), body })
    }

    fn json(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("Content-Type", "application/json")], Some(body.to_string().as_bytes()))
    }

    fn get(&mut self, path: &str) -> Value {
        self.send("GET", path, &[], None).json()
    }
}

async fn registry() -> Running {
    start(InMemory::default()).await
}

async fn start(journal: impl Journal + 'static) -> Running {
    Running::start(Settings::default(), journal).await.unwrap()
}

/// Runs a client, which blocks, beside the registry.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/registry").join(file);
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

// ---------------------------------------------------------------------------------------------------------------- //
// The recorded session.

/// Lines that are answered otherwise, each with the reason. A listed line that agrees fails the test.
const OTHERWISE: &[(u64, &str)] = &[
    (10, "the commit id is a place-holder that Confluent's build did not fill in"),
    (80, "a negative offset is the client's mistake, not an internal error"),
    (121, "an unknown id is not found, not an internal error"),
    (345, "a mode that is missing is an invalid mode, not an internal error"),
];

/// What is compared of an answer: what the recording masks and what comes in hash order is left out.
fn comparable(path: &str, answer: &Value) -> Value {
    let mut answer = answer.clone();
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|key, _| key != "message");
        if fields.contains_key("ts") {
            fields.insert("ts".into(), "<time>".into());
        }
        if let Some(clusters) = answer.pointer_mut("/scope/clusters").and_then(Value::as_object_mut) {
            clusters.values_mut().for_each(|id| *id = "<id>".into());
        }
    }
    let path = path.split('?').next().unwrap();
    if path.starts_with("/schemas/ids/") {
        match &mut answer {
            Value::Array(list) => list.sort_by_key(Value::to_string),
            Value::Object(fields) => fields.retain(|key, _| key != "subject" && key != "version"),
            _ => {}
        }
    }
    answer
}

fn recorded_answer(line: &Value, answer: &Answer) -> Option<String> {
    let mut differs = Vec::new();
    let mut hold = |what: &str, recorded: &Value, here: Value| {
        if *recorded != here {
            differs.push(format!("{what} is {recorded}, here {here}"));
        }
    };
    hold("status", &line["status"], json!(answer.status));
    hold("error_code", &line["error_code"], json!(answer.code()));
    hold("content type", &line["content_type"], json!(answer.content_type));
    let path = text(line, "path");
    if line["method"] != "HEAD" {
        let here = match serde_json::from_slice(&answer.body) {
            Ok(json) => json,
            Err(_) if answer.body.starts_with(b"<html>") => json!("<html>"),
            Err(_) => json!(String::from_utf8_lossy(&answer.body)),
        };
        let recorded = &line["answer"];
        // The messages of a check are told as TYPE and path; other words are ours.
        let words = |answer: &Value| {
            answer["messages"][0].as_str().is_some_and(|message| !message.contains(" /") && !message.contains(" #"))
        };
        if words(recorded) {
            assert!(words(&here) && here["messages"].as_array().unwrap().len() == 1, "{line}: {here}");
            hold("verdict", &recorded["is_compatible"], here["is_compatible"].clone());
        } else {
            hold("answer", &comparable(path, recorded), comparable(path, &here));
        }
    }
    (!differs.is_empty()).then(|| differs.join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_is_answered_alike() {
    let registry = registry().await;
    let mut client = Client::connect(&registry);
    let wrong = beside(move || {
        let mut wrong = Vec::new();
        for line in lines("rest.jsonl") {
            let mut headers = vec![("Content-Type", "application/vnd.schemaregistry.v1+json"), ("Accept", "*/*")];
            for (name, value) in line["headers"].as_object().into_iter().flatten() {
                headers.retain(|(known, _)| known != name);
                headers.push((name, value.as_str().unwrap()));
            }
            let answer =
                client.send(text(&line, "method"), text(&line, "path"), &headers, line["body"].as_str().map(str::as_bytes));
            if let Some(differs) = recorded_answer(&line, &answer) {
                wrong.push((
                    line["n"].as_u64().unwrap(),
                    format!("{} {} {}: {differs}", line["n"], text(&line, "method"), text(&line, "path")),
                ));
            }
        }
        wrong
    })
    .await;
    let listed: BTreeSet<u64> = OTHERWISE.iter().map(|(n, _)| *n).collect();
    let unlisted: Vec<&str> = wrong.iter().filter(|(n, _)| !listed.contains(n)).map(|(_, differs)| differs.as_str()).collect();
    let agree: Vec<&u64> = listed.iter().filter(|n| !wrong.iter().any(|(wrong, _)| wrong == *n)).collect();
    println!("rest.jsonl: {} lines differ, {} of them listed", wrong.len(), listed.len() - agree.len());
    assert!(unlisted.is_empty(), "{}", unlisted.join("\n"));
    assert!(agree.is_empty(), "listed, but agree: {agree:?}");
}

// ---------------------------------------------------------------------------------------------------------------- //
// The recorded verdicts, asked over HTTP. Whether the rules themselves agree is the business of `registry_verdicts`.

/// The share of cases that must agree.
const REQUIRED: f64 = 0.99;

fn asked(file: &str, format: &str) -> Vec<Value> {
    lines(file).into_iter().filter(|case| case["format"] == format).collect()
}

fn schema(case: &Value, text: &Value, references: &Value) -> Value {
    json!({"schema": text, "schemaType": case["format"], "references": references})
}

/// Types and paths of a check's messages; what has no path has none in the recordings either.
fn errors(messages: &Value) -> BTreeSet<(String, String)> {
    let messages = messages.as_array().unwrap().iter().map(|message| message.as_str().unwrap());
    let is_type = |kind: &str| kind.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let pairs = messages.map(|message| message.split_once(' ').unwrap_or((message, "")));
    pairs.filter(|(kind, _)| is_type(kind)).map(|(kind, path)| (kind.to_owned(), path.to_owned())).collect()
}

/// What differs between a recorded verdict and the answer to a check.
fn verdict(recorded: &Value, answer: &Answer) -> Option<String> {
    if recorded["status"] == 500 {
        return None;
    }
    let here = answer.json();
    let compatible = recorded["compatible"].as_bool().unwrap_or(false);
    let listed = recorded["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let listed: BTreeSet<_> =
        listed.iter().map(|error| (text(error, "type").to_owned(), text(error, "path").to_owned())).collect();
    let agree = answer.status == 200 && here["is_compatible"] == compatible && errors(&here["messages"]) == listed;
    (!agree).then(|| format!("recorded {recorded}, here {here}"))
}

/// Asks both directions about a pair.
fn judge_pair(client: &mut Client, case: &Value) -> Option<String> {
    let subject = text(case, "id");
    for referenced in case["referenced"].as_array().into_iter().flatten() {
        client.json("PUT", &format!("/config/{}", text(referenced, "subject")), &json!({"compatibility": "NONE"}));
        let body = schema(case, &referenced["schema"], &referenced["references"]);
        let answer = client.json("POST", &format!("/subjects/{}/versions", text(referenced, "subject")), &body);
        assert_eq!(answer.json()["version"], referenced["version"], "{case}");
    }
    let registered =
        client.json("POST", &format!("/subjects/{subject}/versions"), &schema(case, &case["old"], &case["old_references"]));
    let refused =
        |side: &str| (case["invalid"][side]["status"].as_u64().unwrap_or(200), case["invalid"][side]["error_code"].as_i64());
    if (u64::from(registered.status), registered.code()) != refused("old") {
        return Some(format!("old: {}", registered.json()));
    }
    if registered.status != 200 {
        return None;
    }
    let new = schema(case, &case["new"], &case["new_references"]);
    let check = format!("/compatibility/subjects/{subject}/versions/latest");
    for (key, level) in [("backward", "BACKWARD"), ("forward", "FORWARD")] {
        client.json("PUT", &format!("/config/{subject}"), &json!({"compatibility": level}));
        let plain = client.json("POST", &check, &new);
        if (u64::from(plain.status), plain.code()) != refused("new") {
            return Some(format!("new: {}", plain.json()));
        }
        let verbose = client.json("POST", &format!("{check}?verbose=true"), &new);
        if let Some(differs) = verdict(&case[key], &verbose) {
            return Some(format!("{key}: {differs}"));
        }
    }
    None
}

/// The third of three versions, at each level: what a check says, and what registering it says.
fn judge_three(client: &mut Client, case: &Value) -> Option<String> {
    for (level, recorded) in case["levels"].as_object().unwrap() {
        let subject = format!("{}-{level}", text(case, "id"));
        let [first, second, third] = [0, 1, 2].map(|n| schema(case, &case["versions"][n], &Value::Null));
        client.json("PUT", &format!("/config/{subject}"), &json!({"compatibility": "NONE"}));
        for version in [first, second] {
            assert_eq!(client.json("POST", &format!("/subjects/{subject}/versions"), &version).status, 200, "{case}");
        }
        client.json("PUT", &format!("/config/{subject}"), &json!({"compatibility": level}));
        let checked = client.json("POST", &format!("/compatibility/subjects/{subject}/versions?verbose=true"), &third);
        if let Some(differs) = verdict(recorded, &checked) {
            return Some(format!("{level}: {differs}"));
        }
        let registered = client.json("POST", &format!("/subjects/{subject}/versions"), &third);
        if recorded["register_status"] != registered.status {
            return Some(format!("{level}: registering {}, here {}", recorded["register_status"], registered.json()));
        }
    }
    None
}

/// Two texts registered in one subject: whether they are one schema, and how they are kept.
fn judge_equal(client: &mut Client, case: &Value) -> Option<String> {
    for (key, query) in [("plain", ""), ("normalize", "?normalize=true")] {
        let (recorded, subject) = (&case[key], format!("{}-{key}", text(case, "id")));
        client.json("PUT", &format!("/config/{subject}"), &json!({"compatibility": "NONE"}));
        let [one, other] = ["one", "other"].map(|side| schema(case, &case[side], &Value::Null));
        let first = client.json("POST", &format!("/subjects/{subject}/versions{query}"), &one);
        let found = client.json("POST", &format!("/subjects/{subject}{query}"), &other);
        let second = client.json("POST", &format!("/subjects/{subject}/versions{query}"), &other);
        let here = if recorded["same_id"].is_null() {
            let of = |answer: &Answer| json!({"status": answer.status, "error_code": answer.code()});
            json!({"one": of(&first), "other": of(&second)})
        } else {
            let (first, second) = (first.json(), second.json());
            json!({
                "same_id": first["id"] == second["id"],
                "found_by_lookup": found.status == 200,
                "stored_one": first["schema"],
                "stored_other": second["schema"],
            })
        };
        if *recorded != here {
            return Some(format!("{key}: recorded {recorded}, here {here}"));
        }
    }
    None
}

async fn judge(file: &'static str, judge_one: fn(&mut Client, &Value) -> Option<String>) {
    let (mut total, mut wrong) = (0, Vec::new());
    for format in ["AVRO", "JSON", "PROTOBUF"] {
        // A registry for each language: a text has one id, whatever language it is read in.
        let registry = registry().await;
        let cases = asked(file, format);
        total += cases.len();
        wrong.extend(
            beside(move || {
                let mut client = Client::connect(&registry);
                let judged = cases
                    .iter()
                    .filter_map(|case| Some(format!("{} {}: {}", case["id"], case["why"], judge_one(&mut client, case)?)));
                judged.collect::<Vec<_>>()
            })
            .await,
        );
    }
    println!("{file}: {} of {total} agree", total - wrong.len());
    assert!(wrong.len() as f64 <= (1.0 - REQUIRED) * total as f64, "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_are_judged_alike() {
    for file in ["compatibility-avro.jsonl", "compatibility-json.jsonl", "compatibility-protobuf.jsonl"] {
        judge(file, judge_pair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_versions_are_judged_alike() {
    judge("transitive.jsonl", judge_three).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_judged_alike() {
    judge("references.jsonl", judge_pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_schemas_are_the_same() {
    judge("equality.jsonl", judge_equal).await;
}

// ---------------------------------------------------------------------------------------------------------------- //
// What stays.

/// What can be asked of a registry without changing it.
fn everything(registry: &Running, ids: &str) -> Vec<(String, u16, String)> {
    let mut client = Client::connect(registry);
    let mut paths: Vec<String> =
        ["/contexts", "/config", "/mode", "/subjects", "/subjects?deletedOnly=true", "/schemas?deleted=true"]
            .map(str::to_owned)
            .into();
    let subjects: Vec<String> = serde_json::from_value(client.get("/subjects?deleted=true")).unwrap();
    for subject in subjects {
        let own =
            [format!("/config/{subject}"), format!("/mode/{subject}"), format!("/subjects/{subject}/versions?deleted=true")];
        paths.extend(own);
        for version in 1..6 {
            paths.push(format!("/subjects/{subject}/versions/{version}?deleted=true"));
            paths.push(format!("/subjects/{subject}/versions/{version}/referencedby"));
        }
    }
    for id in 1..12 {
        paths.extend([format!("/schemas/ids/{id}{ids}"), format!("/schemas/ids/{id}/versions?deleted=true")]);
    }
    let ask = |path: String| {
        let answer = client.send("GET", &path, &[], None);
        (path, answer.status, String::from_utf8(answer.body).unwrap())
    };
    paths.into_iter().map(ask).collect()
}

/// Something of every kind: versions, references, configs, modes, a context, deletes of both sorts.
fn fill(registry: &Running) {
    let mut client = Client::connect(registry);
    let mut ask = |method: &str, path: &str, body: Value, status: u16| {
        let answer = client.json(method, path, &body);
        assert_eq!(answer.status, status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    };
    let record = |fields: &str| json!({"schema": format!(r#"{{"type":"record","name":"x.R","fields":[{fields}]}}"#)});
    ask("POST", "/subjects/a/versions", record(r#"{"name":"a","type":"int"}"#), 200);
    ask("POST", "/subjects/a/versions", record(r#"{"name":"a","type":"int"},{"name":"b","type":"int","default":0}"#), 200);
    ask("POST", "/subjects/b/versions", record(r#"{"name":"a","type":"int"}"#), 200);
    let refers =
        json!({"schema": r#"{"type":"array","items":"x.R"}"#, "references": [{"name": "x.R", "subject": "a", "version": 1}]});
    ask("POST", "/subjects/c/versions", refers, 200);
    ask(
        "POST",
        "/subjects/d/versions",
        json!({"schema": "\"int\"", "metadata": {"properties": {"owner": "x"}, "tags": {"**": ["PII"]}}}),
        200,
    );
    ask("POST", "/subjects/:.ctx:a/versions", json!({"schema": "\"int\"", "version": 1}), 200);
    ask("PUT", "/config", json!({"compatibility": "FULL"}), 200);
    ask("PUT", "/config/a", json!({"compatibility": "NONE", "normalize": true, "alias": ""}), 200);
    ask("PUT", "/mode/b", json!({"mode": "READONLY"}), 200);
    ask("POST", "/subjects/d/versions", json!({"schema": "\"long\""}), 409);
    ask("PUT", "/config/d", json!({"compatibility": "NONE"}), 200);
    ask("POST", "/subjects/d/versions", json!({"schema": "\"long\""}), 200);
    ask("DELETE", "/subjects/d/versions/1", Value::Null, 200);
    ask("DELETE", "/subjects/d/versions/1?permanent=true", Value::Null, 200);
    ask("POST", "/subjects/e/versions", json!({"schema": "\"bytes\""}), 200);
    ask("DELETE", "/subjects/e", Value::Null, 200);
    ask("DELETE", "/subjects/e?permanent=true", Value::Null, 200);
    ask("POST", "/subjects/e/versions", json!({"schema": "\"string\""}), 200);
    ask("POST", "/subjects/f/versions", json!({"schema": "\"string\""}), 200);
    ask("DELETE", "/subjects/f", Value::Null, 200);
    ask("PUT", "/mode/imp", json!({"mode": "IMPORT"}), 200);
    ask("POST", "/subjects/imp/versions", json!({"schema": "\"float\"", "id": 10, "version": 3}), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_the_same_after_a_restart() {
    let journal = InMemory::default();
    let first = start(journal.clone()).await;
    let (mut first, before) = beside(move || {
        fill(&first);
        let before = everything(&first, "?fetchMaxId=true");
        (first, before)
    })
    .await;
    first.stop().await;
    let second = start(journal).await;
    assert_eq!(beside(move || everything(&second, "?fetchMaxId=true")).await, before);
    assert!(before.iter().filter(|(_, status, _)| *status == 200).count() > 30, "{before:?}");
}

fn broker(dir: &Path) -> mesh::dev::broker::Settings {
    mesh::dev::broker::Settings::new(dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_the_same_after_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = mesh::dev::broker::Running::start(broker(dir.path())).await.unwrap();
    let first = start(OnTopic::open(node.broker.clone()).unwrap()).await;
    let (mut first, before) = beside(move || {
        fill(&first);
        let before = everything(&first, "?fetchMaxId=true");
        (first, before)
    })
    .await;
    first.stop().await;
    // Records that are no registry's do no harm.
    let foreign = OnTopic::open(node.broker.clone()).unwrap();
    let entry =
        |key: &'static str, value: Option<&'static str>| Entry { key: key.into(), value: value.map(Into::into), timestamp: 5 };
    foreign.append(&[entry("nonsense", None), entry(r#"{"keytype":"NOOP","magic":0}"#, None), entry("{}", Some("x"))]).unwrap();
    node.stop().await;
    let node = mesh::dev::broker::Running::start(broker(dir.path())).await.unwrap();
    let second = start(OnTopic::open(node.broker.clone()).unwrap()).await;
    assert_eq!(beside(move || everything(&second, "?fetchMaxId=true")).await, before);
}

/// The journal as a compacted topic has it in the end: of each key the last record, tombstones gone.
fn compacted(journal: &InMemory) -> InMemory {
    let mut entries = journal.read_all().unwrap();
    let mut met = std::collections::HashSet::new();
    entries.reverse();
    entries.retain(|entry| met.insert(entry.key.clone()) && entry.value.is_some());
    entries.reverse();
    let compacted = InMemory::default();
    compacted.append(&entries).unwrap();
    compacted
}

/// Does something, by chance.
fn meddle(client: &mut Client, chance: &mut fastrand::Rng) {
    let subject = ["a", "b", "c", ":.x:a"][chance.usize(..4)];
    let version = chance.u8(1..6);
    let fields = ["", r#"{"name":"f","type":"int"}"#, r#"{"name":"g","type":"string","default":""}"#][chance.usize(..3)];
    let mut posted = json!({"schema": format!(r#"{{"type":"record","name":"R{}","fields":[{fields}]}}"#, chance.u8(..2))});
    if chance.u8(..4) == 0 {
        posted = json!({
            "schema": r#"{"type":"array","items":"R0"}"#,
            "references": [{"name": "R0", "subject": (["a", "b"][chance.usize(..2)]), "version": version}],
        });
    }
    if chance.u8(..5) == 0 {
        posted["metadata"] = json!({"properties": {"n": chance.u8(..2).to_string()}});
    }
    let versions = format!("/subjects/{subject}/versions");
    match chance.u8(..20) {
        0..10 => client.json("POST", &versions, &posted),
        10..13 => client.send("DELETE", &format!("{versions}/{version}"), &[], None),
        13..15 => client.send("DELETE", &format!("{versions}/{version}?permanent=true"), &[], None),
        15 => client.send("DELETE", &format!("/subjects/{subject}"), &[], None),
        16 => client.send("DELETE", &format!("/subjects/{subject}?permanent=true"), &[], None),
        17 => client.json("PUT", &format!("/config/{subject}"), &json!({"compatibility": (["NONE", "FULL"][chance.usize(..2)])})),
        18 => client.json(
            "PUT",
            &format!("/mode/{subject}"),
            &json!({"mode": (["READWRITE", "READONLY", "IMPORT"][chance.usize(..3)])}),
        ),
        _ => client.send("DELETE", &format!("/{}/{subject}", ["config", "mode"][chance.usize(..2)]), &[], None),
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_done_is_the_same_after_a_restart_and_after_compaction() {
    let mut done = 0;
    for seed in 0..12 {
        let journal = InMemory::default();
        let first = start(journal.clone()).await;
        let before = beside(move || {
            let mut client = Client::connect(&first);
            let mut chance = fastrand::Rng::with_seed(seed);
            client.json("PUT", "/config", &json!({"compatibility": "NONE"}));
            (0..150).for_each(|_| meddle(&mut client, &mut chance));
            everything(&first, "")
        })
        .await;
        done += before.iter().filter(|(_, status, _)| *status == 200).count();
        for journal in [journal.clone(), compacted(&journal)] {
            let second = start(journal).await;
            assert_eq!(beside(move || everything(&second, "")).await, before, "seed {seed}");
        }
    }
    assert!(done > 300, "only {done} answers tell anything");
}

// ---------------------------------------------------------------------------------------------------------------- //
// Rules that the recorded session does not show.

/// Asks in order, and tells of each answer the status and what `tell` picks of it.
async fn asked_in_order(asks: &'static [(&str, &str, &str)]) -> Vec<String> {
    let registry = registry().await;
    beside(move || {
        let mut client = Client::connect(&registry);
        let ask = |(method, path, body): &(&str, &str, &str)| {
            let answer = client.send(method, path, &[], (!body.is_empty()).then_some(body.as_bytes()));
            let mut json = answer.json();
            if let Some(fields) = json.as_object_mut() {
                fields.retain(|key, _| !["message", "guid", "schema", "schemaType", "ts"].contains(&key.as_str()));
            }
            format!("{method} {path} {body} => {} {json}", answer.status)
        };
        asks.iter().map(ask).collect()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_make_a_version_of_their_own() {
    let answers = asked_in_order(&[
        ("POST", "/subjects/m/versions", r#"{"schema":"\"int\"","metadata":{"properties":{"a":"1"}}}"#),
        // Metadata are those of the version before unless given, and a text may be left out.
        ("POST", "/subjects/m/versions", r#"{"schema":"\"int\""}"#),
        ("POST", "/subjects/m/versions", r#"{"metadata":{"properties":{"a":"2"},"sensitive":["a"]}}"#),
        ("POST", "/subjects/m", r#"{"schema":"\"int\""}"#),
        ("GET", "/subjects/m/metadata?key=a&value=1", ""),
        ("GET", "/subjects/m/metadata?key=a&value=3", ""),
        // A number that is given is noted, and found without it.
        ("POST", "/subjects/m/versions", r#"{"schema":"\"long\"","version":3}"#),
        ("POST", "/subjects/m/versions", r#"{"schema":"\"long\"","metadata":{"properties":{"a":"2"},"sensitive":["a"]}}"#),
        // The config's metadata go around a schema's own.
        (
            "PUT",
            "/config/n",
            r#"{"defaultMetadata":{"properties":{"a":"d","b":"d"}},"overrideMetadata":{"properties":{"c":"o"}}}"#,
        ),
        ("POST", "/subjects/n/versions", r#"{"schema":"\"int\"","metadata":{"properties":{"a":"1","c":"1"}}}"#),
        // Only versions of one group are compared.
        ("PUT", "/config/g", r#"{"compatibilityGroup":"v"}"#),
        ("POST", "/subjects/g/versions", r#"{"schema":"\"int\"","metadata":{"properties":{"v":"1"}}}"#),
        ("POST", "/subjects/g/versions", r#"{"schema":"\"string\"","metadata":{"properties":{"v":"1"}}}"#),
        ("POST", "/subjects/g/versions", r#"{"schema":"\"string\"","metadata":{"properties":{"v":"2"}}}"#),
        // Fields that are reserved are not used, and stay reserved.
        ("PUT", "/config/r", r#"{"validateFields":true,"compatibility":"NONE"}"#),
        (
            "POST",
            "/subjects/r/versions",
            r#"{"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"a\":{}}}","metadata":{"properties":{"confluent:reserved":"b, a"}}}"#,
        ),
        (
            "POST",
            "/subjects/r/versions",
            r#"{"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"a\":{}}}","metadata":{"properties":{"confluent:reserved":"b"}}}"#,
        ),
        (
            "POST",
            "/subjects/r/versions",
            r#"{"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"c\":{}}}","metadata":{"properties":{"confluent:reserved":"c2"}}}"#,
        ),
        ("POST", "/subjects/r/versions", r#"{"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"$$c\":{}}}"}"#),
    ])
    .await;
    insta::assert_snapshot!(answers.join("\n"), @r#"
    POST /subjects/m/versions {"schema":"\"int\"","metadata":{"properties":{"a":"1"}}} => 200 {"version":1,"id":1,"metadata":{"properties":{"a":"1"}}}
    POST /subjects/m/versions {"schema":"\"int\""} => 200 {"version":1,"id":1,"metadata":{"properties":{"a":"1"}}}
    POST /subjects/m/versions {"metadata":{"properties":{"a":"2"},"sensitive":["a"]}} => 200 {"version":2,"id":2,"metadata":{"properties":{"a":"2"},"sensitive":["a"]}}
    POST /subjects/m {"schema":"\"int\""} => 200 {"subject":"m","version":2,"id":2,"metadata":{"properties":{"a":"2"},"sensitive":["a"]}}
    GET /subjects/m/metadata?key=a&value=1  => 200 {"subject":"m","version":1,"id":1,"metadata":{"properties":{"a":"1"}},"deleted":false}
    GET /subjects/m/metadata?key=a&value=3  => 404 {"error_code":40403}
    POST /subjects/m/versions {"schema":"\"long\"","version":3} => 200 {"version":3,"id":3,"metadata":{"properties":{"a":"2","confluent:version":"3"},"sensitive":["a"]}}
    POST /subjects/m/versions {"schema":"\"long\"","metadata":{"properties":{"a":"2"},"sensitive":["a"]}} => 200 {"version":3,"id":3,"metadata":{"properties":{"a":"2","confluent:version":"3"},"sensitive":["a"]},"deleted":false}
    PUT /config/n {"defaultMetadata":{"properties":{"a":"d","b":"d"}},"overrideMetadata":{"properties":{"c":"o"}}} => 200 {"defaultMetadata":{"properties":{"a":"d","b":"d"}},"overrideMetadata":{"properties":{"c":"o"}}}
    POST /subjects/n/versions {"schema":"\"int\"","metadata":{"properties":{"a":"1","c":"1"}}} => 200 {"version":1,"id":4,"metadata":{"properties":{"a":"1","b":"d","c":"o"}}}
    PUT /config/g {"compatibilityGroup":"v"} => 200 {"compatibilityGroup":"v"}
    POST /subjects/g/versions {"schema":"\"int\"","metadata":{"properties":{"v":"1"}}} => 200 {"version":1,"id":5,"metadata":{"properties":{"v":"1"}}}
    POST /subjects/g/versions {"schema":"\"string\"","metadata":{"properties":{"v":"1"}}} => 409 {"error_code":409}
    POST /subjects/g/versions {"schema":"\"string\"","metadata":{"properties":{"v":"2"}}} => 200 {"version":2,"id":6,"metadata":{"properties":{"v":"2"}}}
    PUT /config/r {"validateFields":true,"compatibility":"NONE"} => 200 {"validateFields":true,"compatibility":"NONE"}
    POST /subjects/r/versions {"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"a\":{}}}","metadata":{"properties":{"confluent:reserved":"b, a"}}} => 409 {"error_code":409}
    POST /subjects/r/versions {"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"a\":{}}}","metadata":{"properties":{"confluent:reserved":"b"}}} => 200 {"version":1,"id":7,"metadata":{"properties":{"confluent:reserved":"b"}}}
    POST /subjects/r/versions {"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"c\":{}}}","metadata":{"properties":{"confluent:reserved":"c2"}}} => 409 {"error_code":409}
    POST /subjects/r/versions {"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"$$c\":{}}}"} => 422 {"error_code":42201}
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn references_guard_and_are_followed() {
    let answers = asked_in_order(&[
        ("POST", "/subjects/a/versions", r#"{"schema":"{\"type\":\"record\",\"name\":\"x.A\",\"fields\":[]}"}"#),
        ("POST", "/subjects/b/versions", r#"{"schema":"{\"type\":\"array\",\"items\":\"x.A\"}","references":[{"name":"x.A","subject":"a","version":-1}]}"#),
        ("GET", "/subjects/a/versions/1/referencedby", ""),
        ("GET", "/subjects/a/versions/latest/referencedby", ""),
        // A client that resolved the reference finds the version; so does one that asks for it resolved.
        ("POST", "/subjects/b", r#"{"schema":"{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"A\",\"namespace\":\"x\",\"fields\":[]}}"}"#),
        ("GET", "/subjects/b/versions/1/schema?format=resolved", ""),
        ("GET", "/subjects/b/versions/1/schema", ""),
        ("DELETE", "/subjects/a", ""),
        ("DELETE", "/subjects/a/versions/latest", ""),
        ("DELETE", "/subjects/b", ""),
        ("DELETE", "/subjects/a", ""),
        // What is deleted softly can still be referred to.
        ("POST", "/subjects/c/versions", r#"{"schema":"{\"type\":\"map\",\"values\":\"x.A\"}","references":[{"name":"x.A","subject":"a","version":1}]}"#),
        ("DELETE", "/subjects/a?permanent=true", ""),
    ])
    .await;
    insta::assert_snapshot!(answers.join("\n"), @r#"
    POST /subjects/a/versions {"schema":"{\"type\":\"record\",\"name\":\"x.A\",\"fields\":[]}"} => 200 {"version":1,"id":1}
    POST /subjects/b/versions {"schema":"{\"type\":\"array\",\"items\":\"x.A\"}","references":[{"name":"x.A","subject":"a","version":-1}]} => 200 {"version":1,"id":2,"references":[{"name":"x.A","subject":"a","version":1}]}
    GET /subjects/a/versions/1/referencedby  => 200 [2]
    GET /subjects/a/versions/latest/referencedby  => 200 [2]
    POST /subjects/b {"schema":"{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"A\",\"namespace\":\"x\",\"fields\":[]}}"} => 200 {"subject":"b","version":1,"id":2,"references":[{"name":"x.A","subject":"a","version":1}],"deleted":false}
    GET /subjects/b/versions/1/schema?format=resolved  => 200 {"type":"array","items":{"type":"record","name":"A","namespace":"x","fields":[]}}
    GET /subjects/b/versions/1/schema  => 200 {"type":"array","items":"x.A"}
    DELETE /subjects/a  => 422 {"error_code":42206}
    DELETE /subjects/a/versions/latest  => 422 {"error_code":42206}
    DELETE /subjects/b  => 200 [1]
    DELETE /subjects/a  => 200 [1]
    POST /subjects/c/versions {"schema":"{\"type\":\"map\",\"values\":\"x.A\"}","references":[{"name":"x.A","subject":"a","version":1}]} => 200 {"version":1,"id":3,"references":[{"name":"x.A","subject":"a","version":1}]}
    DELETE /subjects/a?permanent=true  => 422 {"error_code":42206}
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_contexts_lead_elsewhere() {
    let answers = asked_in_order(&[
        ("POST", "/subjects/s/versions", r#"{"schema":"\"int\""}"#),
        ("PUT", "/config/t", r#"{"alias":"s"}"#),
        ("GET", "/subjects/t/versions", ""),
        ("POST", "/subjects/t/versions", r#"{"schema":"\"long\""}"#),
        ("GET", "/schemas/ids/2?subject=t", ""),
        ("GET", "/schemas?aliases=true&latestOnly=true", ""),
        ("POST", "/contexts/c/subjects/s/versions", r#"{"schema":"\"int\""}"#),
        ("POST", "/subjects/:.c:only/versions", r#"{"schema":"\"bytes\""}"#),
        // A name without a context is looked for in all of them.
        ("GET", "/subjects/only/versions/1", ""),
        ("POST", "/subjects/only", r#"{"schema":"\"bytes\""}"#),
        ("GET", "/schemas/ids/2?subject=only", ""),
        ("GET", "/subjects/only/versions", ""),
        ("GET", "/subjects?subjectPrefix=:*:o", ""),
        ("GET", "/contexts/c/schemas?limit=1", ""),
        ("PUT", "/mode/:.c:", r#"{"mode":"READONLY"}"#),
        ("POST", "/subjects/:.c:new/versions", r#"{"schema":"\"int\""}"#),
        ("GET", "/mode/:.c:s?defaultToGlobal=true", ""),
        ("DELETE", "/mode/:.c:", ""),
        ("PUT", "/mode", r#"{"mode":"READONLY_OVERRIDE"}"#),
        ("GET", "/mode/s", ""),
        ("PUT", "/config/s", r#"{"compatibility":"NONE"}"#),
        ("PUT", "/mode", r#"{"mode":null}"#),
        ("GET", "/mode", ""),
    ])
    .await;
    insta::assert_snapshot!(answers.join("\n"), @r#"
    POST /subjects/s/versions {"schema":"\"int\""} => 200 {"version":1,"id":1}
    PUT /config/t {"alias":"s"} => 200 {"alias":"s"}
    GET /subjects/t/versions  => 200 [1]
    POST /subjects/t/versions {"schema":"\"long\""} => 200 {"version":2,"id":2}
    GET /schemas/ids/2?subject=t  => 200 {"subject":"s","version":2,"deleted":false}
    GET /schemas?aliases=true&latestOnly=true  => 200 [{"subject":"s","version":2,"id":2,"guid":"e1dd9a1e-f98b-451b-5369-0370b393966b","schemaType":"AVRO","schema":"\"long\"","aliases":["t"]}]
    POST /contexts/c/subjects/s/versions {"schema":"\"int\""} => 200 {"version":1,"id":1}
    POST /subjects/:.c:only/versions {"schema":"\"bytes\""} => 200 {"version":1,"id":2}
    GET /subjects/only/versions/1  => 200 {"subject":":.c:only","version":1,"id":2,"deleted":false}
    POST /subjects/only {"schema":"\"bytes\""} => 200 {"subject":":.c:only","version":1,"id":2}
    GET /schemas/ids/2?subject=only  => 200 {"subject":":.c:only","version":1,"deleted":false}
    GET /subjects/only/versions  => 404 {"error_code":40401}
    GET /subjects?subjectPrefix=:*:o  => 200 [":.c:only"]
    GET /contexts/c/schemas?limit=1  => 200 [{"subject":":.c:only","version":1,"id":2,"guid":"b462f06c-b909-be57-c850-08867784cde6","schemaType":"AVRO","schema":"\"bytes\""}]
    PUT /mode/:.c: {"mode":"READONLY"} => 200 {"mode":"READONLY"}
    POST /subjects/:.c:new/versions {"schema":"\"int\""} => 422 {"error_code":42205}
    GET /mode/:.c:s?defaultToGlobal=true  => 200 {"mode":"READONLY"}
    DELETE /mode/:.c:  => 200 {"mode":"READONLY"}
    PUT /mode {"mode":"READONLY_OVERRIDE"} => 200 {"mode":"READONLY_OVERRIDE"}
    GET /mode/s  => 200 {"mode":"READONLY_OVERRIDE"}
    PUT /config/s {"compatibility":"NONE"} => 422 {"error_code":42205}
    PUT /mode {"mode":null} => 200 {"mode":null}
    GET /mode  => 200 {"mode":"READWRITE"}
    "#);
}

// ---------------------------------------------------------------------------------------------------------------- //
// Clients that mean no good.

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_and_do_no_harm() {
    let registry = registry().await;
    beside(move || {
        let post = |body: &[u8]| {
            let answer = Client::connect(&registry).send("POST", "/subjects/s/versions", &[], Some(body));
            (answer.status, answer.code().unwrap())
        };
        assert_eq!(post(b"{\"schema\": \"\xff\"}"), (400, 400));
        assert_eq!(post(b"\x00\x01\x02"), (400, 400));
        assert_eq!(post("[".repeat(200_000).as_bytes()), (400, 400));
        assert_eq!(post(format!("{{\"a\":{}", "[".repeat(200_000)).as_bytes()), (400, 400));
        let deep = json!({"schema": format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(5_000), "}".repeat(5_000))});
        assert_eq!(post(deep.to_string().as_bytes()), (422, 42201));
        // More than a record of the topic can hold.
        let doc =
            json!({"schema": json!({"type": "record", "name": "R", "doc": "x".repeat(1_100_000), "fields": []}).to_string()});
        assert_eq!(post(doc.to_string().as_bytes()), (422, 42209));
        // More than is taken at all, announced and not announced.
        let huge = vec![b' '; 11 * 1024 * 1024];
        assert_eq!(post(&huge), (413, 413));
        let mut client = Client::connect(&registry);
        let stream = client.stream.get_mut();
        stream.write_all(b"POST /subjects/s/versions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in huge.chunks(1 << 20) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            stream.write_all(chunk).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(client.answer(false).unwrap().status, 413);
        // Not HTTP at all.
        let mut client = Client::connect(&registry);
        client.stream.get_mut().write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").unwrap();
        assert!(client.answer(false).is_ok_and(|answer| answer.status == 400) || client.answer(false).is_err());
        assert_eq!(Client::connect(&registry).get("/subjects"), json!([]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_clients_do_not_stop_another() {
    let registry = registry().await;
    beside(move || {
        let slow: Vec<Client> = (0..1_000)
            .map(|n| {
                let mut client = Client::connect(&registry);
                let parts: [&[u8]; 3] =
                    [b"GET /subj", b"POST /subjects/s/versions HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n{", b""];
                client.stream.get_mut().write_all(parts[n % 3]).unwrap();
                client
            })
            .collect();
        let mut client = Client::connect(&registry);
        assert_eq!(client.json("POST", "/subjects/s/versions", &json!({"schema": "\"int\""})).status, 200);
        assert_eq!(client.get("/subjects"), json!(["s"]));
        drop(slow);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_register_at_once_and_each_schema_has_one_id() {
    let registry = registry().await;
    let clients = (0..16).map(|client| {
        let mut connection = Client::connect(&registry);
        tokio::task::spawn_blocking(move || {
            let mut ids = Vec::new();
            for n in 0..40 {
                let n = (n * 7 + client * 3) % 40;
                let body = json!({"schema": json!({"type": "enum", "name": format!("E{n}"), "symbols": ["A"]}).to_string()});
                let answer = connection.json("POST", &format!("/subjects/s{n}/versions"), &body).json();
                assert_eq!(answer["version"], 1, "{answer}");
                ids.push((n, answer["id"].as_i64().unwrap()));
            }
            ids
        })
    });
    let mut ids = BTreeSet::new();
    for client in clients.collect::<Vec<_>>() {
        ids.extend(client.await.unwrap());
    }
    assert_eq!(ids.len(), 40, "one id each: {ids:?}");
    assert_eq!(ids.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>(), (1..=40).collect());
}
