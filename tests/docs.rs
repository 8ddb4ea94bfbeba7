//! The documents show commands that exist: each `mesh VERB --flag` in them is known to the binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

use std::path::Path;
use std::process::Command;

/// The pieces of code in a Markdown text: the lines of fenced blocks, and what stands in backquotes.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            found.push(line.split(" #").next().unwrap_or(line).to_string());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_string));
        }
    }
    found
}

/// The verb and the flags of each `mesh VERB ..` in a piece of code.
fn commands(code: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for command in code.split(['|', ';', '&', '"']) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| matches!(*word, "mesh" | "$MESH")) else { continue };
        let Some(verb) = words.get(at + 1) else { continue };
        let flags = words[at + 1..].iter().filter(|word| word.starts_with('-')).map(|flag| flag.to_string());
        found.push((verb.to_string(), flags.collect()));
    }
    found
}

/// What `mesh ARGUMENTS --help` prints.
fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh")).args(arguments).arg("--help").output().expect("mesh runs");
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

/// Whether a help text lists a word (a verb, a flag) by itself.
fn lists(help: &str, word: &str) -> bool {
    help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|listed| listed == word)
}

#[test]
fn every_command_in_the_documents_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let verbs = help(&[]);
    let verbs = verbs.split("Commands:").nth(1).expect("the help lists the commands");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/performance.md",
        "docs/dev-stack.md",
        "docs/sql.md",
        "docs/coming-from-flink.md",
        "docs/coming-from-ksqldb.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).expect(document);
        for (verb, flags) in code(&text).iter().flat_map(|code| commands(code)) {
            seen += 1;
            if verb == "--help" || verb == "VERB" {
                continue;
            }
            if !lists(verbs, &verb) {
                wrong.push(format!("{document}: there is no `mesh {verb}`"));
                continue;
            }
            let known = help(&[verb.as_str()]);
            wrong.extend(
                flags.iter().filter(|flag| !lists(&known, flag)).map(|flag| format!("{document}: `mesh {verb}` has no {flag}")),
            );
        }
    }
    assert!(seen > 10, "only {seen} commands were found in the documents");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn commands_are_found_in_code_alone() {
    let text = "a mesh of words, `mesh plan -f products/ --format json` and\n```\nmesh gone | head  # mesh never\n```\n";
    let found: Vec<_> = code(text).iter().flat_map(|code| commands(code)).collect();
    let expected = [("plan".to_string(), vec!["-f".to_string(), "--format".to_string()]), ("gone".to_string(), vec![])];
    assert_eq!(found, expected);
    assert!(lists("Commands:\n  plan  Shows -f, --file <F>", "plan") && lists("  -f, --file <F>", "-f"));
    assert!(!lists("  planner", "plan") && !lists("  --files", "--file"));
}
