//! Manifests as users write them, good and bad. Each folder of `manifest/cases/` is one case: its files, and in
//! `expected.txt` all that is said about them. `MESH_BLESS=1` writes those files anew; read the difference before you
//! commit it.
//!
//! A case may hold `environment.txt`: the environment's name on the first line, and `NAME=value` lines for variables.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh::manifest::{Disk, Files, Overrides, json_schema, read};
use mesh::model::diagnostic::{Diagnostics, Severity, Texts, has_errors};
use mesh::model::mesh::Mesh;
use mesh::model::product::{Origin, Shape, Source, SqlOrigin};
use proptest::prelude::*;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The disk, with other environment variables.
struct Variables {
    disk: Disk,
    variables: BTreeMap<String, String>,
}

impl Files for Variables {
    fn list(&self, given: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(given)
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.disk.read(path, limit)
    }
    fn head(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.disk.head(path, limit)
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk.canonical(path)
    }
    fn root(&self) -> &Path {
        self.disk.root()
    }
    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

/// Reads `given` for an environment.
fn read_at(given: &Path, environment: &str, variables: BTreeMap<String, String>) -> (Option<Mesh>, Diagnostics, Texts) {
    let given = [given.to_path_buf()];
    let files = Variables { disk: Disk::new(&given).unwrap(), variables };
    read(&files, &given, environment, &Overrides::default())
}

/// Diagnostics as text: severity, code, place, message; the text that is underlined; help and related places below.
fn render(diagnostics: &Diagnostics, texts: &Texts, folder: &Path) -> String {
    let mut out = String::new();
    for d in diagnostics {
        let severity = if d.severity == Severity::Error { "error" } else { "warning" };
        let place = |place: &mesh::model::Place| {
            let (line, column) = texts.line_column(place);
            format!("{}:{line}:{column}", place.file)
        };
        let at = d.place.as_ref().map(place).unwrap_or_else(|| "-".into());
        writeln!(out, "{severity}[{}] {at}: {}", d.code, d.message).unwrap();
        let marked = d.place.as_ref().and_then(|p| texts.get(&p.file)?.get(p.start..p.end));
        if let Some(marked) = marked.filter(|marked| !marked.is_empty()) {
            writeln!(out, "  marked: {marked:?}").unwrap();
        }
        for (related, label) in &d.related {
            writeln!(out, "  {}: {label}", place(related)).unwrap();
        }
        if let Some(help) = &d.help {
            writeln!(out, "  help: {help}").unwrap();
        }
    }
    out.replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), ".")
}

/// Copies a case to a folder of its own, so that nothing above it counts.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { _ = fs::copy(entry.path(), target).unwrap() }
    }
}

fn run_case(case: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(case, folder.path());
    let options = fs::read_to_string(case.join("environment.txt")).unwrap_or_default();
    let environment = options.lines().next().unwrap_or("local");
    let variables = options.lines().skip(1).filter_map(|line| line.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect();
    let (_, diagnostics, texts) = read_at(folder.path(), environment, variables);
    // Reports show whole lines. The secret of all cases is `hunter2`.
    for place in diagnostics.iter().filter_map(|d| d.place.as_ref()) {
        let line = texts.get(&place.file).and_then(|text| text.lines().nth(texts.line_column(place).0 - 1)).unwrap_or_default();
        assert!(!line.contains("hunter2"), "{line}");
    }
    assert!(diagnostics.iter().all(|d| !format!("{d:?}").contains("hunter2")));
    render(&diagnostics, &texts, folder.path())
}

#[test]
fn every_case_says_what_is_expected() {
    let mut wrong = Vec::new();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(repository().join("tests/manifest/cases")).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "the cases are gone");
    for case in cases {
        let said = run_case(&case);
        let expected = case.join("expected.txt");
        if std::env::var_os("MESH_BLESS").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

#[test]
fn symbolic_links_do_not_lead_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.sql"), "hunter2").unwrap();
    fs::write(outside.path().join("secret.yaml"), "hunter2").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(outside.path().join("secret.sql"), at("query.sql")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.yaml"), at("secret.yaml")).unwrap();
    std::os::unix::fs::symlink(outside.path(), at("folder")).unwrap();
    let product = |name: &str, file: &str| {
        format!(
            "---\napiVersion: mesh/v1\nkind: DataProduct\nmetadata: {{name: {name}}}\nspec: {{shape: stream, derivation: {{sql: {{file: {file}}}}}}}\n"
        )
    };
    fs::write(at("a.yaml"), product("a", "query.sql") + &product("b", "folder/secret.sql") + &product("c", "folder/none.sql"))
        .unwrap();
    let (_, diagnostics, texts) = read_at(folder.path(), "local", BTreeMap::new());
    let said = render(&diagnostics, &texts, folder.path());
    let help = "files lie below the project root, the nearest folder above the manifests with a `.git`, and are named relative to the manifest";
    let expected = format!(
        "error[M0115] a.yaml:5:48: the path leads out of the project root\n  marked: \"query.sql\"\n  help: {help}\n\
         error[M0115] a.yaml:10:48: the path leads out of the project root\n  marked: \"folder/secret.sql\"\n  help: {help}\n\
         error[M0114] a.yaml:15:48: folder/none.sql: no such file\n  marked: \"folder/none.sql\"\n  help: paths are relative to the manifest's own folder\n\
         error[M0115] folder:1:1: the path leads out of the project root\n  help: {help}\n\
         error[M0115] secret.yaml:1:1: the path leads out of the project root\n  help: {help}\n"
    );
    assert_eq!(said, expected);
    assert!(!said.contains("hunter2") && texts.get("query.sql").is_none());
}

/// The most memory that this process has ever held, in kB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_alias_bomb_is_refused_in_no_time_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(20_000), "*a,".repeat(2_000));
    assert!((46_000..47_000).contains(&bomb.len()), "{}", bomb.len());
    fs::write(folder.path().join("bomb.yaml"), bomb).unwrap();
    let (before, start) = (peak_memory(), Instant::now());
    let (_, diagnostics, texts) = read_at(folder.path(), "local", BTreeMap::new());
    let (took, grew) = (start.elapsed(), peak_memory() - before);
    let said = render(&diagnostics, &texts, folder.path());
    assert_eq!(
        said,
        "error[M0109] bomb.yaml:2:14: too many values, with aliases written out\n  marked: \"*a\"\n  help: a manifest file is at most 1 MiB, 64 levels \
         deep, and 100,000 values with its aliases written out; split it\n"
    );
    assert!(took < Duration::from_secs(1), "took {took:?}");
    assert!(grew < 100_000, "took {grew} kB");
}

fn products() -> (Mesh, Texts) {
    let (mesh, diagnostics, texts) = read_at(&repository().join("products"), "local", BTreeMap::new());
    assert_eq!(render(&diagnostics, &texts, &repository()), "");
    (mesh.unwrap(), texts)
}

#[test]
fn the_products_are_read_as_they_are_written() {
    let (mesh, texts) = products();
    let names: Vec<&str> = mesh.products.keys().map(String::as_str).collect();
    assert_eq!(
        names.join(" "),
        "customers-demographics customers-enriched customers-info inventory-availability-high inventory-availability-low inventory-redistribution stations-enriched stations-info stations-status system-regions"
    );
    assert_eq!((mesh.domains.len(), mesh.teams.len(), mesh.root_id.as_str()), (3, 3, "products"));
    let redistribution = &mesh.products["inventory-redistribution"];
    assert_eq!(
        (redistribution.shape, &redistribution.key[..], redistribution.time.disorder_ms),
        (Shape::Table, &["pair".to_owned()][..], 60_000)
    );
    assert_eq!(
        (redistribution.topic.name.as_str(), redistribution.topic.partitions, redistribution.topic.replication),
        ("inventory.redistribution", 6, None)
    );
    let sql = &redistribution.derivation().unwrap().sql;
    assert!(matches!(sql.origin, SqlOrigin::Lines { .. }));
    for word in ["pair", "geo_distance", "MINUTE", "high.surplus >= low.shortage"] {
        let at = sql.text.find(word).unwrap();
        let place = sql.place(at..at + word.len());
        assert_eq!(&texts.get(&place.file).unwrap()[place.start..place.end], word);
    }
    assert!(matches!(mesh.products["stations-enriched"].derivation().unwrap().sql.origin, SqlOrigin::Whole { .. }));
    let Origin::Source(Source::Replay(replay)) = &mesh.products["stations-status"].origin else { panic!("no replay") };
    assert_eq!((replay.envelope, replay.oldest_ms, replay.path.is_absolute()), (true, Some(1_689_553_858_000), true));
    let Origin::Source(Source::Replay(replay)) = &mesh.products["stations-info"].origin else { panic!("no replay") };
    assert_eq!(replay.oldest_ms, Some(1_689_552_000_000));
    assert!(mesh.products.values().all(|p| p.not_yet.is_empty() && p.fingerprint.len() == 64));
}

#[test]
fn the_avro_twin_is_read_without_complaint() {
    let (mesh, diagnostics, texts) = read_at(&repository().join("tests/manifest/avro-twin"), "local", BTreeMap::new());
    assert_eq!(render(&diagnostics, &texts, &repository()), "");
    assert_eq!(mesh.unwrap().products.len(), 3);
}

#[test]
fn fingerprints_change_with_the_meaning_only() {
    let product = |version: &str, extra: &str| {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "# {extra}\napiVersion: mesh/v1\nkind: DataProduct\nspec: {{derivation: {{sql: SELECT 1}}, shape: stream, version: {version}}}\nmetadata: {{name: a}}\n"
        );
        fs::write(folder.path().join("a.yaml"), text).unwrap();
        read_at(folder.path(), "local", BTreeMap::new()).0.unwrap().products["a"].fingerprint.clone()
    };
    assert_eq!(product("1.0.0", "one"), product("1.0.0", "another comment"));
    assert_ne!(product("1.0.0", ""), product("1.0.1", ""));
}

#[test]
fn a_hundred_products_are_read_fast() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read_to_string(repository().join("products/inventory/inventory-redistribution.yaml")).unwrap();
    // Its tests name what it reads, which is not there.
    let whole = whole.split("  tests:\n").next().unwrap();
    let schema = fs::read_to_string(repository().join("schemas/inventory.redistribution.json")).unwrap();
    for index in 0..100 {
        let text = whole
            .replace("inventory-redistribution", &format!("product-{index}"))
            .replace("../../schemas/inventory.redistribution.json", "schema.json")
            .replace("name: inventory.redistribution", &format!("name: topic.{index}"))
            .replace("  domain: inventory\n  team: bicycle-inventory\n", "");
        fs::write(folder.path().join(format!("{index}.yaml")), text).unwrap();
    }
    fs::write(folder.path().join("schema.json"), schema).unwrap();
    let start = Instant::now();
    let (mesh, diagnostics, texts) = read_at(folder.path(), "local", BTreeMap::new());
    let took = start.elapsed();
    assert_eq!(render(&diagnostics, &texts, folder.path()), "");
    assert_eq!(mesh.unwrap().products.len(), 100);
    println!("100 products read in {took:?}");
    // A debug build takes ten times as long, and longer on a busy machine.
    let bound = if cfg!(debug_assertions) { Duration::from_secs(5) } else { Duration::from_millis(100) };
    assert!(took < bound, "took {took:?}");
}

#[test]
fn the_json_schema_in_the_repository_is_fresh() {
    let path = repository().join("schemas/mesh.schema.json");
    let fresh = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("MESH_BLESS").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == fresh, "schemas/mesh.schema.json is stale: run this test with MESH_BLESS=1");
}

/// All documents of the YAML files below a folder, as another reader of YAML reads them.
fn documents(folder: &Path) -> Vec<(PathBuf, serde_json::Value)> {
    let disk = Disk::new(&[folder.to_path_buf()]).unwrap();
    let mut documents = Vec::new();
    for path in disk.list(folder).unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            documents.push((path.clone(), serde::Deserialize::deserialize(document).unwrap()));
        }
    }
    documents
}

#[test]
fn manifests_are_valid_by_the_json_schema_too() {
    let validator = jsonschema::draft7::new(&json_schema()).unwrap();
    for folder in ["products", "tests/manifest/avro-twin", "tests/manifest/cases/good-everything"] {
        let documents = documents(&repository().join(folder));
        assert!(!documents.is_empty());
        for (path, document) in documents {
            let errors: Vec<String> =
                validator.iter_errors(&document).map(|e| format!("{} at {}", e, e.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        }
    }
    let wrong = serde_json::json!({"apiVersion": "mesh/v1", "kind": "DataProduct", "metadata": {"name": "a"}, "spec": {"shape": "stream", "topics": {}}});
    assert!(!validator.is_valid(&wrong));
    let wrong = serde_json::json!({"apiVersion": "mesh/v1", "kind": "Team", "metadata": {"name": "a"}, "spec": {"chanel": "x"}});
    assert!(!validator.is_valid(&wrong));
}

/// What the files of a mesh are, in memory.
struct Memory {
    text: Vec<u8>,
}

impl Files for Memory {
    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["a.yaml".into()])
    }
    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        if path.ends_with("a.yaml") { Ok(self.text.clone()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
    fn head(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.read(path, limit)
    }
    fn canonical(&self, _: &Path) -> io::Result<PathBuf> {
        Ok("/root".into())
    }
    fn root(&self) -> &Path {
        Path::new("/root")
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn survives(text: Vec<u8>) {
    let (_, diagnostics, texts) = read(&Memory { text }, &["a.yaml".into()], "local", &Overrides::default());
    for place in diagnostics.iter().filter_map(|d| d.place.as_ref()) {
        texts.line_column(place);
        if let Some(text) = texts.get(&place.file) {
            assert!(text.get(place.start..place.end).is_some(), "{place:?} is no part of the text");
        }
    }
}

/// A good document with some of its bytes changed.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let whole = fs::read(repository().join("tests/manifest/cases/good-everything/everything.yaml")).unwrap();
    let length = whole.len();
    let changes = prop::collection::vec(
        (0..length, prop_oneof![any::<u8>(), prop::sample::select(b"{}[]:,&*'\"|>\n -#%$!~0".to_vec())]),
        1..8,
    );
    (changes, 0..length, 0..length).prop_map(move |(changes, a, b)| {
        let mut text = whole.clone();
        for (at, byte) in changes {
            text[at] = byte;
        }
        text.drain(a.min(b)..a.max(b).min(a.min(b) + 40));
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_panic_the_reader(text in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(text);
    }

    #[test]
    fn no_mangled_manifest_panics_the_reader(text in mangled()) {
        survives(text);
    }
}

#[test]
fn what_is_there_is_found_by_every_pointer() {
    let (mesh, texts) = products();
    let product = &mesh.products["stations-status"];
    let text = |pointer: &str| {
        let place = product.place(pointer).unwrap();
        texts.get(&place.file).unwrap()[place.start..place.end].to_owned()
    };
    assert_eq!(text(""), "stations-status");
    assert_eq!(text("/spec/topic/name"), "stations.status");
    assert_eq!(text("/spec/topic/config/retention.ms"), "-1");
    assert_eq!(text("/spec/topic/replication"), "topic");
    assert_eq!(text("/spec/nothing/at/all"), "spec");
    assert_eq!(product.value_subject(), "stations.status-value");
    assert!(!has_errors(&[]));
}
