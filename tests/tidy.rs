//! Guards the house: who may import whom, what must not stand where, and that what the documents forbid is tested.
//!
//! One package cannot guard its floors by itself, so this test reads the sources. A rule is a function from a source to
//! findings. For each rule there is a test that runs it over the project, and one, named `.._seen_red`, that runs it over
//! a small made-up text that breaks it. Comments and strings are blanked first, so that words in them do not count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test ends where it is wrong"
)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------------------------------------------------------- //
// The table. ARCHITECTURE.md draws the same house.

/// What a room may import, by the start of the path behind `crate::`; `model` and the room itself are always allowed.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
    /// No async, network, clock, randomness, printing or file access.
    pure: bool,
}

const TEXTS: &[&str] = &["manifest", "schema", "sql"];
const BELOW_DRIVERS: &[&str] =
    &["manifest", "schema", "sql", "plan", "report", "engine", "format", "kafka", "registry", "catalog", "sources", "sinks"];
const EVERYTHING: &[&str] = &[
    "manifest", "schema", "sql", "plan", "report", "engine", "format", "kafka", "registry", "catalog", "sources", "sinks",
    "apply", "run", "testing", "cli", "web", "dev",
];

const ROOMS: &[Room] = &[
    Room { name: "model", may_import: &[], pure: true },
    Room { name: "schema", may_import: &[], pure: true },
    Room { name: "manifest", may_import: &["schema"], pure: true },
    Room { name: "sql", may_import: &["schema"], pure: true },
    Room { name: "plan", may_import: TEXTS, pure: true },
    Room { name: "report", may_import: &["manifest", "schema", "sql", "plan"], pure: true },
    Room { name: "engine", may_import: TEXTS, pure: true },
    Room { name: "format", may_import: &["manifest", "schema", "sql", "engine::batch"], pure: true },
    Room { name: "kafka", may_import: &["plan"], pure: false },
    Room { name: "registry", may_import: &["schema"], pure: false },
    Room { name: "catalog", may_import: &["plan"], pure: false },
    Room { name: "sources", may_import: &["plan"], pure: false },
    Room { name: "sinks", may_import: &["plan"], pure: false },
    Room { name: "apply", may_import: BELOW_DRIVERS, pure: false },
    Room { name: "run", may_import: BELOW_DRIVERS, pure: false },
    Room { name: "testing", may_import: &["manifest", "schema", "sql", "plan", "engine", "format", "run::merge"], pure: true },
    Room { name: "dev", may_import: &["schema"], pure: false },
    Room { name: "web", may_import: EVERYTHING, pure: false },
    Room { name: "cli", may_import: EVERYTHING, pure: false },
    Room { name: "main", may_import: EVERYTHING, pure: false },
];

/// The rooms that print, and know the command line.
const FACES: &[&str] = &["cli", "web", "main"];
/// The one file of a pure room that opens files and reads variables, for the reader that the others are handed.
const OPENS_FILES: &str = "src/manifest/disk.rs";
/// The one file with unsafe code: calls into the C library that the safe wrapper lacks.
const UNSAFE: &str = "src/kafka/native.rs";

/// Starts of paths that have no place in a pure room, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "async"),
    ("futures_util", "async"),
    ("backon", "async"),
    ("std::future", "async"),
    ("rdkafka", "network"),
    ("rdkafka_sys", "network"),
    ("reqwest", "network"),
    ("std::net", "network"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("std::collections::hash_map::RandomState", "randomness"),
    ("std::process", "the world"),
    ("std::thread", "threads"),
    ("std::io::stdout", "printing"),
    ("std::io::stderr", "printing"),
    ("std::io::stdin", "the world"),
    ("io::stdout", "printing"),
    ("io::stderr", "printing"),
    ("io::stdin", "the world"),
    ("indicatif", "printing"),
    ("clap", "the command line"),
];
/// The same for files and the environment's variables; [`OPENS_FILES`] may.
const FILE_ACCESS: &[&str] = &["std::fs", "fs", "std::os", "File", "std::env", "env"];
/// Names that read a clock, wherever in a path they stand.
const CLOCKS: &[&str] = &["SystemTime", "Instant"];
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];
/// Endings of type names that say nothing.
const EMPTY_NAMES: &[&str] =
    &["Manager", "Helper", "Helpers", "Util", "Utils", "Common", "Handler", "Processor", "Context", "Info"];

/// Sizes that are asked about; they fail nothing.
const LONG_FILE: usize = 800;
const LONG_FUNCTION: usize = 70;

// ---------------------------------------------------------------------------------------------------------------- //
// Reading sources.

/// A thing that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A Rust source file.
struct Source {
    /// From the project root, with `/`.
    path: String,
    text: String,
    /// The text with comments, strings and characters blanked; every byte keeps its place.
    code: String,
    tokens: Vec<Token>,
}

/// A word or a sign of the code.
#[derive(Debug, Clone)]
struct Token {
    text: String,
    at: usize,
    /// Whether it belongs to an item under `#[cfg(test)]`, or to a file of tests.
    test: bool,
}

/// A path as the code names it, `use` trees taken apart.
struct CodePath {
    segments: Vec<String>,
    /// Number of the first token.
    token: usize,
}

impl CodePath {
    /// Whether the path is `start` or goes on from it.
    fn starts_with(&self, start: &str) -> bool {
        let mut own = self.segments.iter();
        start.split("::").all(|wanted| own.next().is_some_and(|segment| segment == wanted))
    }
}

impl Source {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let (path, text) = (path.into(), text.into());
        let code = blanked(&text);
        let mut tokens = tokens(&code);
        let all_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        mark_tests(&mut tokens, all_tests);
        Source { path, text, code, tokens }
    }

    /// The room it stands in: its folder below `src`, or `main` and `lib` for the files beside them.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or(below)
    }

    fn is_pure(&self) -> bool {
        ROOMS.iter().any(|room| room.name == self.room() && room.pure)
    }

    fn finding(&self, token: &Token, message: String) -> Finding {
        Finding { path: self.path.clone(), line: line_of(&self.text, token.at), message }
    }

    /// All paths of two segments or more, and all imports.
    fn paths(&self) -> Vec<CodePath> {
        let mut found = Vec::new();
        let mut i = 0;
        while i < self.tokens.len() {
            let starts = is_word(&self.tokens[i].text) && (i == 0 || self.tokens[i - 1].text != "::");
            if starts && self.tokens[i].text == "use" {
                i = self.use_tree(i + 1, &[], &mut found);
            } else if starts && self.text_at(i + 1) == "::" {
                let first = i;
                let mut segments = vec![self.tokens[i].text.clone()];
                while self.text_at(i + 1) == "::" && is_word(self.text_at(i + 2)) {
                    segments.push(self.tokens[i + 2].text.clone());
                    i += 2;
                }
                found.push(CodePath { segments, token: first });
                i += 1;
            } else {
                i += 1;
            }
        }
        found
    }

    /// Reads one tree of a `use` from token `i` on; returns the number of the token behind it.
    fn use_tree(&self, mut i: usize, before: &[String], found: &mut Vec<CodePath>) -> usize {
        let first = i;
        let mut segments = before.to_vec();
        loop {
            match self.text_at(i) {
                "{" => {
                    i += 1;
                    while !matches!(self.text_at(i), "}" | "") {
                        i = if self.text_at(i) == "," { i + 1 } else { self.use_tree(i, &segments, found) };
                    }
                    return i + 1;
                }
                "::" => i += 1,
                "as" => i += 2,
                "*" => i += 1,
                word if is_word(word) => {
                    segments.push(word.to_string());
                    i += 1;
                }
                _ => {
                    found.push(CodePath { segments, token: first.min(self.tokens.len().saturating_sub(1)) });
                    // a sign that cannot stand in a tree must not hold the reader back
                    return if i == first { i + 1 } else { i };
                }
            }
        }
    }

    fn text_at(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| &token.text)
    }

    /// How many inline modules enclose the token.
    fn inline_depth(&self, token: usize) -> usize {
        let mut open = Vec::new();
        for i in 0..token {
            match self.text_at(i) {
                "{" => open.push(i >= 2 && self.text_at(i - 2) == "mod"),
                "}" => drop(open.pop()),
                _ => {}
            }
        }
        open.iter().filter(|is_module| **is_module).count()
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The text with all comments, strings and characters turned into spaces, newlines kept.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_end(bytes, i);
        if end > i {
            out[i..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
            i = end;
        } else if bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_' {
            // whole words, so that the `r` of `for` does not begin a raw string
            while i < bytes.len() && (bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_') {
                i += 1;
            }
        } else {
            i += 1;
        }
    }
    String::from_utf8(out).expect("whole literals were replaced by ASCII")
}

/// Where the comment, string or character that begins at `i` ends; `i` if none begins there.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    let rest = &bytes[i..];
    if rest.starts_with(b"//") {
        return rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| i + at);
    }
    if rest.starts_with(b"/*") {
        return comment_end(bytes, i);
    }
    let prefix = rest.iter().take(2).take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let raw = rest[..prefix].contains(&b'r');
    match rest.get(prefix + hashes) {
        Some(b'"') if raw => {
            let close: Vec<u8> = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let from = prefix + hashes + 1;
            rest[from..]
                .windows(close.len())
                .position(|window| window == close)
                .map_or(bytes.len(), |at| i + from + at + close.len())
        }
        Some(b'"') if hashes == 0 => quoted_end(bytes, i + prefix + 1, b'"'),
        Some(b'\'') if hashes == 0 && is_character(&rest[prefix..]) => quoted_end(bytes, i + prefix + 1, b'\''),
        _ => i,
    }
}

fn comment_end(bytes: &[u8], mut i: usize) -> usize {
    let mut depth = 0;
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            (depth, i) = (depth + 1, i + 2);
        } else if bytes[i..].starts_with(b"*/") {
            (depth, i) = (depth - 1, i + 2);
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], mut i: usize, quote: u8) -> usize {
    while i < bytes.len() && bytes[i] != quote {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// Whether an apostrophe begins a character; else it begins a lifetime.
fn is_character(rest: &[u8]) -> bool {
    let Ok(text) =
        std::str::from_utf8(&rest[1..rest.len().min(8)]).or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
    else {
        return false;
    };
    text.starts_with('\\') || text.chars().nth(1) == Some('\'')
}

/// Words, numbers, `::` and single signs.
fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = code.char_indices().peekable();
    while let Some((at, first)) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut text = first.to_string();
        if first.is_alphanumeric() || first == '_' {
            while let Some((_, next)) = chars.next_if(|(_, next)| next.is_alphanumeric() || *next == '_') {
                text.push(next);
            }
        } else if first == ':' && chars.next_if(|(_, next)| *next == ':').is_some() {
            text.push(':');
        }
        found.push(Token { text, at, test: false });
    }
    found
}

/// Marks the tokens of each item under `#[cfg(test)]`.
fn mark_tests(tokens: &mut [Token], all: bool) {
    if all {
        tokens.iter_mut().for_each(|token| token.test = true);
        return;
    }
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i..].iter().map(|token| token.text.as_str()).take(attribute.len()).eq(attribute) {
            let end = item_end(tokens, i + attribute.len());
            tokens[i..end].iter_mut().for_each(|token| token.test = true);
            i = end;
        } else {
            i += 1;
        }
    }
}

/// The token behind the item that begins at `i`: its closing brace, or its semicolon.
fn item_end(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && tokens[i].text == "}" {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    tokens.len()
}

// ---------------------------------------------------------------------------------------------------------------- //
// The rules over Rust sources.

/// Rooms import only what the table allows, tests in them too.
fn rule_floors(source: &Source) -> Vec<Finding> {
    if source.room() == "lib" {
        return Vec::new();
    }
    let Some(room) = ROOMS.iter().find(|room| room.name == source.room()) else {
        let message = format!("the room `{}` is not in the table of tests/tidy.rs", source.room());
        return vec![Finding { path: source.path.clone(), line: 1, message }];
    };
    let mut findings = Vec::new();
    for path in source.paths() {
        let token = &source.tokens[path.token];
        match path.segments.first().map(String::as_str) {
            Some("crate") => {
                let behind = CodePath { segments: path.segments[1..].to_vec(), token: path.token };
                let allowed = ["model", room.name].iter().chain(room.may_import).any(|start| behind.starts_with(start));
                if !allowed {
                    findings
                        .push(source.finding(token, format!("`{}` must not import `{}`", room.name, path.segments.join("::"))));
                }
            }
            Some("super") if room.name != "main" => {
                let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
                if ups >= module_depth(&source.path) + source.inline_depth(path.token) {
                    findings
                        .push(source.finding(token, format!("`{}` leaves the room; write `crate::`", path.segments.join("::"))));
                }
            }
            _ => {}
        }
    }
    findings
}

/// How many modules a file stands below the crate's root: `src/a/mod.rs` 1, `src/a/b.rs` 2.
fn module_depth(path: &str) -> usize {
    let below = path.strip_prefix("src/").unwrap_or(path);
    below.split('/').count() - usize::from(below.ends_with("/mod.rs"))
}

/// Each source file says at its top what it is.
fn rule_heads(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![Finding { path: source.path.clone(), line: 1, message: "the file does not begin with a `//!` line".into() }]
}

/// Pure rooms hold no async, network, clock, randomness, printing and file access; their tests may.
fn rule_pure(source: &Source) -> Vec<Finding> {
    if !source.is_pure() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for path in source.paths() {
        let token = &source.tokens[path.token];
        if token.test {
            continue;
        }
        let name = path.segments.join("::");
        if let Some((_, what)) = IMPURE.iter().find(|(start, _)| path.starts_with(start)) {
            findings.push(source.finding(token, format!("{what} in a pure room: `{name}`")));
        }
        if source.path != OPENS_FILES && FILE_ACCESS.iter().any(|start| path.starts_with(start)) {
            findings.push(source.finding(token, format!("files or variables in a pure room: `{name}`")));
        }
        let reads_clock =
            path.segments.last().is_some_and(|last| last == "now") || path.segments.iter().any(|s| CLOCKS.contains(&s.as_str()));
        if reads_clock {
            findings.push(source.finding(token, format!("a clock in a pure room: `{name}`")));
        }
    }
    for token in source.tokens.iter().filter(|token| !token.test && matches!(token.text.as_str(), "async" | "await")) {
        findings.push(source.finding(token, format!("`{}` in a pure room", token.text)));
    }
    findings
}

/// Only the faces print; only they know the command line.
fn rule_printing(source: &Source) -> Vec<Finding> {
    if FACES.contains(&source.room()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (i, token) in source.tokens.iter().enumerate().filter(|(_, token)| !token.test) {
        if PRINTING.contains(&token.text.as_str()) && source.text_at(i + 1) == "!" {
            findings.push(source.finding(token, format!("only the faces print: `{}!`", token.text)));
        }
    }
    for path in source.paths() {
        let token = &source.tokens[path.token];
        let last = path.segments.last().map_or("", String::as_str);
        if !token.test
            && (path.starts_with("clap") || (path.segments.iter().any(|s| s == "io") && matches!(last, "stdout" | "stderr")))
        {
            findings.push(
                source.finding(token, format!("only the faces print and read the command line: `{}`", path.segments.join("::"))),
            );
        }
    }
    findings
}

/// Unsafe code stands in one file.
fn rule_unsafe(source: &Source) -> Vec<Finding> {
    if source.path == UNSAFE {
        return Vec::new();
    }
    let words = source.tokens.iter().enumerate();
    words
        .filter(|(i, token)| token.text == "unsafe" || (token.text == "unsafe_code" && source.text_at(i.wrapping_sub(1)) == "("))
        .map(|(_, token)| source.finding(token, format!("unsafe code stands only in {UNSAFE}")))
        .collect()
}

/// Types are named for what they are.
fn rule_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pair in source.tokens.windows(2) {
        let [keyword, name] = pair else { continue };
        if matches!(keyword.text.as_str(), "struct" | "enum" | "trait" | "type")
            && EMPTY_NAMES.iter().any(|ending| name.text.ends_with(ending))
        {
            findings.push(source.finding(name, format!("`{}` says little: docs/glossary.md has better words", name.text)));
        }
    }
    findings
}

/// What is asked about, not forbidden: long files and long functions.
fn sizes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > LONG_FILE {
        findings.push(Finding { path: source.path.clone(), line: 1, message: format!("{lines} lines: still one subject?") });
    }
    for (i, token) in source.tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        let end = item_end(&source.tokens, i);
        let Some(last) = source.tokens.get(end - 1) else { continue };
        let length = line_of(&source.code, last.at) + 1 - line_of(&source.code, token.at);
        if length > LONG_FUNCTION {
            findings.push(source.finding(token, format!("`{}`: {length} lines: still one subject?", source.text_at(i + 1))));
        }
    }
    findings
}

// ---------------------------------------------------------------------------------------------------------------- //
// The rules over all texts.

/// No text names the machine it was written on, or where packages come from. The words are put together here, so that
/// this file does not hold them.
fn rule_places(path: &str, text: &str) -> Vec<Finding> {
    let homes = ["work", "root", "home", "tmp", "Users"].map(|folder| format!("/{folder}/"));
    let hosts = [
        ["crates", ".io"],
        ["static.crates", ".io"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["pypi", ".org"],
        ["pythonhosted", ".org"],
        ["maven", ".apache.org"],
        ["maven", ".org"],
        ["maven.google", ".com"],
        ["proxy.golang", ".org"],
        ["debian", ".org"],
    ]
    .map(|parts| parts.concat());
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_.}/-{$*)~".contains(c));
        let machine = homes.iter().any(|home| line.match_indices(home.as_str()).any(|(at, _)| begins(at)));
        // the name of Maven's file format is an address that nobody visits
        let line_without_names = line.replace(&["maven", ".apache.org/POM/"].concat(), "");
        let host = hosts.iter().any(|host| line_without_names.contains(host.as_str()));
        if machine || host {
            let message = if host { "a package registry's host" } else { "a path of somebody's machine" };
            findings.push(Finding { path: path.into(), line: number + 1, message: message.into() });
        }
    }
    findings
}

/// Each `**Invariant:**` of ARCHITECTURE.md names, in backquoted brackets at its end, the test or the lint that enforces it:
/// `(tests/tidy.rs: floors)`, `(Cargo.toml: unsafe_code)`. `read` gives the text of a project file.
fn rule_invariants(architecture: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let path = "ARCHITECTURE.md";
    let mut findings = Vec::new();
    for (at, start) in architecture.match_indices("**Invariant:**") {
        let line = line_of(architecture, at);
        let sentence = architecture[at + start.len()..].split("\n\n").next().unwrap_or_default();
        let sentence = sentence.split("**Invariant:**").next().unwrap_or_default();
        let mut report = |message: String| findings.push(Finding { path: path.into(), line, message });
        let Some(named) = sentence.rsplit_once("`(").and_then(|(_, rest)| rest.split_once(")`")).map(|(named, _)| named) else {
            report("the invariant names no test".into());
            continue;
        };
        let Some((file, name)) = named.split_once(": ") else {
            report(format!("`({named})` is not `(file: name)`"));
            continue;
        };
        match read(file) {
            None => report(format!("`{file}` does not exist")),
            Some(text) if file.ends_with(".rs") && !has_test(&text, name) => report(format!("`{file}` has no test `{name}`")),
            Some(text) if !file.ends_with(".rs") && !text.contains(name) => report(format!("`{file}` does not say `{name}`")),
            Some(_) => {}
        }
    }
    if findings.is_empty() && !architecture.contains("**Invariant:**") {
        findings.push(Finding { path: path.into(), line: 1, message: "no invariant is written down".into() });
    }
    findings
}

/// The files that a document names exist: in backquotes below one of the project's folders, or as a link.
fn rule_named_files(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    const FOLDERS: &[&str] = &["src/", "tests/", "docs/", "products/", "schemas/", "benches/", "examples/", ".ci/"];
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
        let named =
            quoted.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains(['*', '<', '{', '$']));
        let named = named.map(|word| {
            word.split(':').next().unwrap_or(word).trim_end_matches(['/', ',', ';', '.', ')', '"', '\'']).to_string()
        });
        let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        let links = links.map(|link| format!("{folder}{}", link.split('#').next().unwrap_or(link)));
        for name in named.chain(links).filter(|name| !exists(name)) {
            findings.push(Finding { path: path.into(), line: number + 1, message: format!("`{name}` does not exist") });
        }
    }
    findings
}

/// A fuzz package compiles rooms by itself: each crate that their sources name stands in its manifest, and each line of it
/// is that of the project's manifest.
fn rule_fuzz_manifest(path: &str, manifest: &str, project: &str, rooms: &[&Source]) -> Vec<Finding> {
    let lines = |text: &str| -> Vec<String> {
        let section = text.split_once("\n[dependencies]\n").map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or_default());
        section.lines().filter(|line| line.contains(" = ")).map(str::to_owned).collect()
    };
    let (own, project) = (lines(manifest), lines(project));
    let finding = |message: String| Finding { path: path.into(), line: 1, message };
    let mut findings = Vec::new();
    for line in own.iter().filter(|line| !line.starts_with("libfuzzer-sys ") && !project.contains(line)) {
        findings.push(finding(format!("`{line}` is another requirement than that of Cargo.toml")));
    }
    for line in project.iter().filter(|line| !own.contains(line)) {
        let name = line.split(" = ").next().unwrap_or_default().replace('-', "_");
        let name = if name == "md_5" { "md5" } else { &name };
        let names = |source: &&&Source| {
            let begins = |path: &CodePath| path.segments.first().is_some_and(|first| first == name);
            source.paths().iter().any(|path| begins(path) && !source.tokens[path.token].test)
        };
        if let Some(source) = rooms.iter().find(names) {
            findings.push(finding(format!("`{name}` is missing, which {} names", source.path)));
        }
    }
    findings
}

/// Whether a Rust text has a test function of that name.
fn has_test(text: &str, name: &str) -> bool {
    let tokens = tokens(&blanked(text));
    let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    words.iter().enumerate().filter(|(i, word)| **word == name && *i > 0 && words[i - 1] == "fn").any(|(i, _)| {
        // an attribute that ends in `test]` or `test(..)]` stands before the function, behind the item before
        let attributes = words[..i].iter().rposition(|word| matches!(*word, "}" | ";")).unwrap_or(0);
        words[attributes..i].windows(2).any(|pair| pair[0] == "test" && matches!(pair[1], "]" | "("))
    })
}

// ---------------------------------------------------------------------------------------------------------------- //
// The rules, run over the project.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`, in order, from the project root.
fn files(folder: &str) -> Vec<String> {
    fn walk(folder: PathBuf, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.map(|entry| entry.expect("a folder can be listed")) {
            let (path, name) = (entry.path(), entry.file_name());
            let skipped = matches!(name.to_str(), Some("target" | ".git" | "node_modules"));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => walk(path, found),
                Ok(kind) if kind.is_file() && !skipped => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(root().join(folder), &mut found);
    let below = found.iter().filter_map(|path| path.strip_prefix(root()).ok());
    let mut names: Vec<String> = below.map(|path| path.to_string_lossy().replace('\\', "/")).collect();
    names.sort();
    names
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

fn sources() -> Vec<Source> {
    let rust = files("src").into_iter().filter(|path| path.ends_with(".rs"));
    let sources: Vec<Source> = rust.map(|path| Source::new(path.clone(), read(&path).expect("a source is UTF-8"))).collect();
    assert!(sources.len() > 10, "the sources were not found");
    sources
}

fn none(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn floors() {
    none(sources().iter().flat_map(rule_floors).collect());
}

#[test]
fn heads() {
    none(sources().iter().flat_map(rule_heads).collect());
}

#[test]
fn pure() {
    none(sources().iter().flat_map(rule_pure).collect());
}

#[test]
fn printing() {
    none(sources().iter().flat_map(rule_printing).collect());
}

#[test]
fn unsafe_code() {
    none(sources().iter().flat_map(rule_unsafe).collect());
}

#[test]
fn names() {
    none(sources().iter().flat_map(rule_names).collect());
}

#[test]
fn places() {
    let written =
        |path: &String| !path.ends_with("Cargo.lock") && !path.starts_with("tests/data/") && !path.starts_with("products/data/");
    // what is no text is not read
    let texts = files("").into_iter().filter(written).filter_map(|path| read(&path).map(|text| (path, text)));
    none(texts.flat_map(|(path, text)| rule_places(&path, &text)).collect());
}

#[test]
fn named_files() {
    let documents = files("").into_iter().filter(|path| path.ends_with(".md") && !path.contains("/data/"));
    let exists = |name: &str| root().join(name).exists();
    none(documents.flat_map(|path| rule_named_files(&path, &read(&path).expect("a document is UTF-8"), exists)).collect());
}

#[test]
fn invariants() {
    none(rule_invariants(&read("ARCHITECTURE.md").expect("ARCHITECTURE.md"), read));
}

#[test]
fn fuzz_manifests() {
    let (project, sources) = (read("Cargo.toml").expect("Cargo.toml"), sources());
    let packages =
        [("fuzz/Cargo.toml", &["dev/broker"][..]), ("fuzz/language/Cargo.toml", &["engine", "format", "model", "schema", "sql"])];
    for (path, rooms) in packages {
        let of_rooms = |source: &&Source| rooms.iter().any(|room| source.path.starts_with(&format!("src/{room}/")));
        let rooms: Vec<&Source> = sources.iter().filter(of_rooms).collect();
        assert!(!rooms.is_empty(), "the rooms of {path} were not found");
        none(rule_fuzz_manifest(path, &read(path).expect("a fuzz package"), &project, &rooms));
    }
}

/// Prints what is asked about: `cargo test --test tidy sizes -- --nocapture`.
#[test]
fn sizes_are_listed() {
    for finding in sources().iter().flat_map(sizes) {
        println!("{finding}");
    }
}

// ---------------------------------------------------------------------------------------------------------------- //
// The rules, seen red.

/// The findings of a rule over a made-up source, as `line: message`.
fn red(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<String> {
    rule(&Source::new(path, text)).iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
}

#[test]
fn floors_seen_red() {
    let imports = |path, text| red(rule_floors, path, text);
    assert_eq!(
        imports("src/plan/mod.rs", "//! x\nuse crate::engine::batch::Batch;\n"),
        ["2: `plan` must not import `crate::engine::batch::Batch`"]
    );
    assert_eq!(imports("src/engine/a.rs", "//! x\n\nuse crate::{model::Mesh, plan::{Plan, step}};\n").len(), 2);
    assert_eq!(
        imports("src/model/row.rs", "fn f() -> crate::sql::Query { x }"),
        ["1: `model` must not import `crate::sql::Query`"]
    );
    assert_eq!(imports("src/kafka/a.rs", "use crate::registry as r;"), ["1: `kafka` must not import `crate::registry`"]);
    assert_eq!(imports("src/apply/a.rs", "use crate::run::Source;"), ["1: `apply` must not import `crate::run::Source`"]);
    assert_eq!(imports("src/run/a.rs", "use crate::{apply};"), ["1: `run` must not import `crate::apply`"]);
    assert_eq!(imports("src/format/a.rs", "use crate::engine::dataflow::Dataflow;").len(), 1);
    assert_eq!(imports("src/schema/a.rs", "use crate::sql;").len(), 1);
    assert_eq!(imports("src/plan/a.rs", "use crate::*;").len(), 1);
    assert_eq!(imports("src/dev/a.rs", "use crate::kafka;").len(), 1);
    assert_eq!(imports("src/run/a.rs", "use crate::dev;").len(), 1);
    assert_eq!(imports("src/plan/a.rs", "#[cfg(test)] mod tests { use crate::engine::Dataflow; }").len(), 1);
    assert_eq!(imports("src/attic/mod.rs", "//! x"), ["1: the room `attic` is not in the table of tests/tidy.rs"]);
    assert_eq!(imports("src/plan/mod.rs", "use super::engine;"), ["1: `super::engine` leaves the room; write `crate::`"]);
    assert_eq!(imports("src/plan/a.rs", "use super::super::engine;").len(), 1);
    assert_eq!(imports("src/plan/mod.rs", "mod tests { use super::super::engine; }").len(), 1);
}

#[test]
fn floors_allow() {
    let imports = |path, text| red(rule_floors, path, text);
    assert_eq!(imports("src/sql/a.rs", "use crate::{model::row::RowType, schema::Schema, sql::query};"), [""; 0]);
    assert_eq!(imports("src/format/a.rs", "use crate::engine::batch::Batch;\nuse crate::schema;"), [""; 0]);
    assert_eq!(
        imports("src/plan/a.rs", "use super::step;\n#[cfg(test)] mod tests { use super::super::step; use super::*; }"),
        [""; 0]
    );
    assert_eq!(
        imports("src/plan/a.rs", "// use crate::engine;\nconst A: &str = \"crate::engine\"; /* crate::run /* */ crate::run */"),
        [""; 0]
    );
    assert_eq!(
        imports("src/plan/a.rs", "const A: &str = r#\"\" crate::engine \"#; fn f<'a>(x: &'a str) -> char { '\"' }"),
        [""; 0]
    );
    assert_eq!(imports("src/cli/a.rs", "use crate::{apply, run, dev};"), [""; 0]);
}

#[test]
fn heads_seen_red() {
    let message = ["1: the file does not begin with a `//!` line"];
    assert_eq!(red(rule_heads, "src/plan/a.rs", "use std::fmt;\n//! late\n"), message);
    assert_eq!(red(rule_heads, "src/plan/a.rs", "// not a doc line\n"), message);
    assert_eq!(red(rule_heads, "src/plan/a.rs", ""), message);
    assert_eq!(red(rule_heads, "src/plan/a.rs", "//! What it is.\n"), [""; 0]);
}

#[test]
fn pure_seen_red() {
    let of = |text| red(rule_pure, "src/plan/a.rs", text);
    assert_eq!(of("use tokio::sync::Mutex;"), ["1: async in a pure room: `tokio::sync::Mutex`"]);
    assert_eq!(of("\nasync fn f() { g().await }"), ["2: `async` in a pure room", "2: `await` in a pure room"]);
    assert_eq!(of("use rdkafka::Message;").len(), 1);
    assert_eq!(of("fn f() { reqwest::get(url) }").len(), 1);
    assert_eq!(of("use std::{collections::BTreeMap, net::TcpStream};"), ["1: network in a pure room: `std::net::TcpStream`"]);
    assert_eq!(of("use std::time::{Duration, SystemTime};"), ["1: a clock in a pure room: `std::time::SystemTime`"]);
    assert_eq!(of("fn f() { let t = Instant::now(); }"), ["1: a clock in a pure room: `Instant::now`"]);
    assert_eq!(of("fn f() { chrono::Utc::now() }").len(), 1);
    assert_eq!(of("use rand::Rng;").len(), 1);
    assert_eq!(of("use std::fs;"), ["1: files or variables in a pure room: `std::fs`"]);
    assert_eq!(of("fn f() { fs::read(p) }").len(), 1);
    assert_eq!(of("fn f() { File::open(p) }").len(), 1);
    assert_eq!(of("use std::{fs::File, io};").len(), 1);
    assert_eq!(of("fn f() { std::env::var(x) }").len(), 1);
    assert_eq!(of("use std::thread;").len(), 1);
    assert_eq!(red(rule_pure, "src/manifest/disk.rs", "use std::fs; use std::net;").len(), 1, "disk.rs may open files, no more");
    assert_eq!(red(rule_pure, "src/manifest/yaml.rs", "use std::fs;").len(), 1);
    for room in ["model", "schema", "sql", "report", "engine", "format"] {
        assert_eq!(red(rule_pure, &format!("src/{room}/mod.rs"), "use std::fs;").len(), 1, "{room}");
    }
}

#[test]
fn pure_allows() {
    let of = |text| red(rule_pure, "src/plan/a.rs", text);
    assert_eq!(of("use std::time::Duration;\n/// An Instant, SystemTime::now(), std::fs, async\nfn tokio() {}"), [""; 0]);
    assert_eq!(of("#[cfg(test)]\nmod tests { use std::fs; #[test] fn f() { Instant::now(); } }\nfn g() {}"), [""; 0]);
    assert_eq!(of("#[cfg(test)] use std::fs;\nfn f() { let operand::x = 1; }"), [""; 0]);
    assert_eq!(of("#[cfg(test)] mod tests { }\nuse std::fs;"), ["2: files or variables in a pure room: `std::fs`"]);
    assert_eq!(red(rule_pure, "src/run/a.rs", "use std::fs; async fn f() {}"), [""; 0]);
}

#[test]
fn printing_seen_red() {
    let of = |path, text| red(rule_printing, path, text);
    assert_eq!(of("src/run/a.rs", "fn f() {\n println!(\"x\") }"), ["2: only the faces print: `println!`"]);
    assert_eq!(of("src/report/a.rs", "fn f() { eprint!(\"x\") }").len(), 1);
    assert_eq!(of("src/plan/a.rs", "fn f() { dbg!(1) }").len(), 1);
    assert_eq!(of("src/apply/a.rs", "use std::io::{Write, stderr};").len(), 1);
    assert_eq!(of("src/run/a.rs", "fn f() { std::io::stdout().lock() }").len(), 1);
    assert_eq!(of("src/apply/a.rs", "use clap::Parser;").len(), 1);
    assert_eq!(of("src/cli/a.rs", "use clap::Parser; fn f() { println!(\"x\") }"), [""; 0]);
    assert_eq!(of("src/run/a.rs", "#[cfg(test)] mod tests { fn f() { println!(\"x\") } }\nfn print() {}"), [""; 0]);
}

#[test]
fn unsafe_code_seen_red() {
    let of = |path, text| red(rule_unsafe, path, text);
    assert_eq!(of("src/kafka/mod.rs", "\nfn f() { unsafe { g() } }"), ["2: unsafe code stands only in src/kafka/native.rs"]);
    assert_eq!(of("src/engine/a.rs", "#![allow(unsafe_code)]").len(), 1);
    assert_eq!(of("src/kafka/native.rs", "#![allow(unsafe_code)]\nfn f() { unsafe { g() } }"), [""; 0]);
    assert_eq!(of("src/kafka/native/mod.rs", "fn f() { unsafe { g() } }").len(), 1, "one file, not a folder of them");
    assert_eq!(of("src/kafka/mod.rs", "/// unsafe\nfn not_unsafe() {}"), [""; 0]);
}

#[test]
fn names_seen_red() {
    let of = |text| red(rule_names, "src/plan/a.rs", text);
    assert_eq!(of("pub struct PlanManager;"), ["1: `PlanManager` says little: docs/glossary.md has better words"]);
    assert_eq!(of("trait StepHandler {}\nenum TopicInfo {}\ntype Util = u8;").len(), 3);
    assert_eq!(of("impl ClientContext for Events {}\nstruct Information;"), [""; 0]);
}

#[test]
fn sizes_seen() {
    let long = format!("//! x\nfn long() {{\n{}}}\nfn short() {{}}\n", "    f();\n".repeat(LONG_FUNCTION));
    assert_eq!(red(sizes, "src/plan/a.rs", &long), ["2: `long`: 72 lines: still one subject?"]);
    assert_eq!(red(sizes, "src/plan/a.rs", &"//\n".repeat(LONG_FILE + 1)), ["1: 801 lines: still one subject?"]);
}

#[test]
fn places_seen_red() {
    let of =
        |text: String| rule_places("README.md", &text).iter().map(|f| format!("{}: {}", f.line, f.message)).collect::<Vec<_>>();
    let machine = "a path of somebody's machine";
    assert_eq!(of(format!("fine\ncd /{}/main", "work")), [format!("2: {machine}")]);
    assert_eq!(of(format!("see `/{}/x`", "root")), [format!("1: {machine}")]);
    assert_eq!(of(format!("DIR=/{}/x", "tmp")), [format!("1: {machine}")]);
    assert_eq!(of(format!("from https://repo1.{}/x", ["maven", ".org"].concat())), ["1: a package registry's host"]);
    assert_eq!(of(format!("<project xmlns=\"http://{}/4.0.0\">", ["maven", ".apache.org/POM"].concat())), [""; 0]);
    assert_eq!(of("under target/work/x, $HOME/work/x, ./home/x and http://localhost:8081".into()), [""; 0]);
}

#[test]
fn named_files_seen_red() {
    let exists = |name: &str| ["src/plan/mod.rs", "docs/glossary.md", "products", "README.md"].contains(&name);
    let of = |path: &str, text: &str| {
        let findings = rule_named_files(path, text, exists);
        findings.iter().map(|f| format!("{}: {}", f.line, f.message)).collect::<Vec<_>>()
    };
    assert_eq!(of("README.md", "x\n`src/plan/mod.rs` and `src/plan/gone.rs:3`"), ["2: `src/plan/gone.rs` does not exist"]);
    assert_eq!(of("README.md", "[words](docs/words.md)"), ["1: `docs/words.md` does not exist"]);
    assert_eq!(of("docs/a.md", "[words](glossary.md#key), [up](README.md)"), ["1: `docs/README.md` does not exist"]);
    assert_eq!(
        of(
            "README.md",
            "`mesh plan -f products/`, `src/*.rs`, [web](https://example.org/x), src/prose, [words](docs/glossary.md)"
        ),
        [""; 0]
    );
}

#[test]
fn fuzz_manifests_seen_red() {
    let project = "[package]\n[dependencies]\na-b = \"1\"\nmd-5 = \"2\"\nother = \"3\"\n\n[lints]\nx = \"y\"\n";
    let of = |own: &str, code: &str| {
        let room = Source::new("src/sql/a.rs", code);
        let findings = rule_fuzz_manifest("fuzz/Cargo.toml", &format!("[package]\n[dependencies]\n{own}"), project, &[&room]);
        findings.into_iter().map(|finding| finding.message).collect::<Vec<_>>()
    };
    assert_eq!(of("a-b = \"1\"", "use a_b::C; fn f() { md5::new(); }"), ["`md5` is missing, which src/sql/a.rs names"]);
    assert_eq!(of("md-5 = \"2\"", "use a_b::C;"), ["`a_b` is missing, which src/sql/a.rs names"]);
    assert_eq!(of("a-b = \"2\"", ""), ["`a-b = \"2\"` is another requirement than that of Cargo.toml"]);
    assert_eq!(of("libfuzzer-sys = \"0.4\"", "#[cfg(test)] mod tests { use other::X; }\nuse std::x::other;"), [""; 0]);
}

#[test]
fn invariants_seen_red() {
    let read = |path: &str| match path {
        "tests/a.rs" => Some("#[test]\nfn real() {}\nfn not_a_test() {}\n// #[test] fn commented() {}".to_string()),
        "Cargo.toml" => Some("unsafe_code = \"deny\"".to_string()),
        _ => None,
    };
    let of = |text: &str| rule_invariants(text, read).iter().map(|f| format!("{}: {}", f.line, f.message)).collect::<Vec<_>>();
    assert_eq!(of("# x\n\n**Invariant:** never.\n"), ["3: the invariant names no test"]);
    assert_eq!(of("**Invariant:** never. `(tests/a.rs: gone)`"), ["1: `tests/a.rs` has no test `gone`"]);
    assert_eq!(of("**Invariant:** never. `(tests/a.rs: not_a_test)`"), ["1: `tests/a.rs` has no test `not_a_test`"]);
    assert_eq!(of("**Invariant:** never. `(tests/a.rs: commented)`"), ["1: `tests/a.rs` has no test `commented`"]);
    assert_eq!(of("**Invariant:** never. `(tests/b.rs: real)`"), ["1: `tests/b.rs` does not exist"]);
    assert_eq!(of("**Invariant:** never. `(Cargo.toml: panic)`"), ["1: `Cargo.toml` does not say `panic`"]);
    assert_eq!(of("**Invariant:** never. `(real)`"), ["1: `(real)` is not `(file: name)`"]);
    assert_eq!(of("nothing here"), ["1: no invariant is written down"]);
    assert_eq!(of("* **Invariant:** a. `(tests/a.rs: real)`\n* **Invariant:** b.\n  `(Cargo.toml: unsafe_code)`\n"), [""; 0]);
}
