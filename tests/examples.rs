//! The examples, run on the dev servers: with random data of this test's own, and compared with a plain computation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use servers::Servers;

mod servers;

/// A copy of an example's folder, which is a project of its own.
fn copy(example: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(".git")).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    for entry in std::fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn mesh(servers: &Servers, folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    command.args(arguments).current_dir(folder);
    let output = command.env("MESH_BOOTSTRAP", &servers.bootstrap).env("MESH_REGISTRY", &servers.registry).output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mesh {}: {}\n{talk}", arguments.join(" "), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The rows that are left of a table.
fn rows(servers: &Servers, folder: &Path, product: &str) -> BTreeMap<String, Value> {
    let text = mesh(servers, folder, &["tail", product, "-f", ".", "--from", "earliest", "--until-end", "-o", "json"]);
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|record| (record["key"].to_string(), record["value"].clone())).collect()
}

/// The counts of a histogram with `bins` bins from `lo` to `hi`, below and above included, by comparing with every edge.
fn histogram(values: &[f64], (lo, hi): (f64, f64), bins: usize) -> Vec<usize> {
    let edges: Vec<f64> = (0..=bins).map(|edge| lo + (hi - lo) * edge as f64 / bins as f64).collect();
    let bin = |value: f64| edges.iter().filter(|edge| value >= **edge).count();
    (0..bins + 2).map(|at| values.iter().filter(|value| bin(**value) == at).count()).collect()
}

#[test]
fn temperatures_are_counted_in_histograms() {
    let (servers, project) = (Servers::get(), copy("temperature"));
    std::fs::create_dir(project.path().join("data")).unwrap();
    let mut expected: BTreeMap<&str, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for (room, mean) in [("kitchen", 21.0), ("cellar", 2.0), ("attic", 38.0)] {
        let mut lines = String::new();
        for at in 0..3_000 {
            let sensor = format!("{room}-{}", fastrand::u8(1..4));
            // Halves and edges of bins are frequent, and some values are missing.
            let value = mean + f64::from(fastrand::i32(-40..40)) / 4.0 + f64::from(fastrand::i32(-40..40)) / 4.0;
            let value = (fastrand::u8(..) > 4).then_some(value);
            if let Some(value) = value {
                expected.entry(room).or_default().entry(sensor.clone()).or_default().push(value);
            }
            let line = json!({"ts": 1_767_225_600_000_i64 + at * 1000, "value": {"sensor": sensor, "measurement": value}});
            writeln!(lines, "{line}").unwrap();
        }
        std::fs::write(project.path().join(format!("data/{room}.jsonl")), lines).unwrap();
    }
    mesh(&servers, project.path(), &["apply", "-f", ".", "--yes"]);
    mesh(&servers, project.path(), &["run", "-f", ".", "--until-idle"]);
    for (room, sensors) in expected {
        let rows = rows(&servers, project.path(), &format!("hist-{room}"));
        assert_eq!(rows.len(), sensors.len(), "{room}: {rows:?}");
        for (sensor, values) in sensors {
            let row = rows.values().find(|row| row["sensor"] == json!(sensor)).expect("a row of each sensor");
            assert_eq!(row["counts"], json!(histogram(&values, (0.0, 40.0), 8)), "{sensor}");
            assert_eq!(row["readings"], json!(values.len()));
            let extreme = |least: bool| values.iter().copied().reduce(|a, b| if (a < b) == least { a } else { b });
            assert_eq!((row["coldest"].as_f64(), row["warmest"].as_f64()), (extreme(true), extreme(false)), "{sensor}");
        }
    }
}
