//! `mesh test` and `mesh explain` as a user sees them. Each folder of `tests/verbs` is a case: its files are copied to a
//! place of their own, the lines of `commands.txt` are run there one after the other, and what they print and how they end is
//! `expected.txt`. A line is arguments of `mesh`, or `show FILE`, or `replace FILE: THIS => THAT`. Times are left out.
//! `MESH_GOLDEN=write cargo test --test verbs` writes the texts anew; `MESH` names another binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says so when it fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn mesh() -> String {
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
    let mut command = Command::new(mesh());
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
