//! `mesh test` and `mesh explain` as a user sees them. Each folder of `tests/verbs` is a case: its files are copied to a
//! place of their own, the lines of `commands.txt` are run there one after the other, and what they print and how they end is
//! `expected.txt`. A line is arguments of `mesh`, or `show FILE`, or `replace FILE: THIS => THAT`. Times are left out.
//! `MESH_GOLDEN=write cargo test --test verbs` writes the texts anew; `MESH` names another binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says so when it fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh::engine::Dataflow;
use mesh::format::{Decoder, Layout, Record};
use mesh::model::product::{Format, Framing};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn binary() -> String {
    std::env::var("MESH").ok().or(option_env!("CARGO_BIN_EXE_mesh").map(str::to_owned)).expect("MESH")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

/// Runs one line in a folder and tells what came of it.
fn line(folder: &Path, line: &str) -> String {
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    if let Some(file) = line.strip_prefix("show ") {
        return without_times(&read(file));
    }
    if let Some((file, change)) = line.strip_prefix("replace ").and_then(|rest| rest.split_once(": ")) {
        let (this, that) = change.split_once(" => ").unwrap();
        let text = read(file);
        assert!(text.contains(this), "{file} has no {this}");
        fs::write(folder.join(file), text.replace(this, that)).unwrap();
        return String::new();
    }
    let products = root().join("products");
    let arguments = line.split_whitespace().map(|word| if word == "PRODUCTS" { products.to_str().unwrap() } else { word });
    let mut command = Command::new(binary());
    let output = command.args(arguments).current_dir(folder).env_clear().output().expect("mesh runs");
    let mut text = String::from_utf8(output.stdout).unwrap();
    text.push_str(&String::from_utf8(output.stderr).unwrap());
    let code = output.status.code().map_or("killed".into(), |code| code.to_string());
    format!("{}exit {code}\n", without_times(&text).replace(products.to_str().unwrap(), "PRODUCTS"))
}

/// The text with every span of time that a clock has measured left out.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    for part in text.split_inclusive('\n') {
        let times = [("(", " ms)"), ("time=\"", "\""), ("\"microseconds\": ", ",")];
        let mut part = part.to_owned();
        for (before, after) in times {
            let numbers = |inside: &str| !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let starts: Vec<usize> = part.match_indices(before).map(|(at, _)| at + before.len()).collect();
            for start in starts.into_iter().rev() {
                let Some(end) = part[start..].find(after).map(|at| start + at) else { continue };
                if numbers(&part[start..end]) {
                    part.replace_range(start..end, "TIME");
                }
            }
        }
        out.push_str(&part);
    }
    out
}

fn run(case: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(case, folder.path());
    let mut out = String::new();
    for command in fs::read_to_string(case.join("commands.txt")).unwrap().lines().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(out, "$ {command}");
        out.push_str(&line(folder.path(), command));
        out.push('\n');
    }
    out
}

#[test]
fn verbs_print_what_is_expected() {
    let mut cases: Vec<PathBuf> = fs::read_dir(root().join("tests/verbs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 5, "only {} cases", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let (printed, file) = (run(&case), case.join("expected.txt"));
        if std::env::var("MESH_GOLDEN").is_ok_and(|value| value == "write") {
            fs::write(&file, &printed).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != printed {
            let _ = writeln!(wrong, "--- {}\n{printed}", case.display());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The example's own tests pass, and there are some of every product that is derived.
#[test]
fn the_examples_tests_pass() {
    let printed = line(&root(), "test -f PRODUCTS");
    assert!(printed.ends_with(" passed (TIME ms)\nexit 0\n"), "{printed}");
    for product in [
        "customers-enriched",
        "inventory-availability-high",
        "inventory-availability-low",
        "inventory-redistribution",
        "stations-enriched",
    ] {
        assert!(printed.contains(&format!("ok      {product}: ")), "{product} has no test:\n{printed}");
    }
}

/// What `mesh explain` estimates of the example's join of customers is near to what the join takes with all of them.
#[test]
fn estimates_are_near_what_is_taken() {
    let given = [root().join("products")];
    let disk = mesh::manifest::Disk::new(&given).unwrap();
    let (mesh, _, _) = mesh::manifest::read(&disk, &given, "local", &mesh::manifest::Overrides::default());
    let (bound, _) = mesh::plan::bind(&mesh.unwrap());
    let query = &bound.queries["customers-enriched"];
    let mut flow = Dataflow::compile(query).unwrap();
    let mut estimated = 0;
    for (at, (input, file)) in query.inputs.iter().zip(["customer_info", "customer_demographics"]).enumerate() {
        let layout = Layout {
            format: Format::Json,
            framing: Framing::Confluent,
            row_type: input.row_type.clone(),
            key: input.key.clone(),
            time_column: input.time_column,
            shape: input.shape,
        };
        let mut decoder = Decoder::new(layout, "{}", None).unwrap();
        decoder.add_schema(0, "{}").unwrap();
        let lines = fs::read_to_string(root().join(format!("products/data/customers/{file}.jsonl"))).unwrap();
        let framed = |json: &Value| [&[0; 5], json.to_string().as_bytes()].concat();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // Of each key the last row, without the deletes.
        let latest: BTreeMap<&str, &Value> = lines.iter().map(|line| (line["key"].as_str().unwrap(), &line["value"])).collect();
        let rows: Vec<Vec<u8>> = latest.into_values().filter(|value| !value.is_null()).map(framed).collect();
        let records: Vec<Record<'_>> = rows.iter().map(|row| Record::new(None, Some(row), 0)).collect();
        let decoded = decoder.decode(&records);
        assert!(decoded.bad.is_empty() && decoded.batch.len() > 100);
        flow.step(vec![(at, decoded.batch)], 0).unwrap();
        let join = &flow.explain(query).inputs[0];
        estimated += join.entries[at].1 * rows.len();
    }
    let taken = flow.state_bytes();
    println!("{estimated} bytes estimated, {taken} taken");
    assert!(taken < 2 * estimated && estimated < 2 * taken, "{estimated} bytes estimated, {taken} taken");
}
