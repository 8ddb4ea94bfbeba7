//! Golden plans. Each `tests/plan/NAME.yaml` is a case: manifests that were applied before, what else is in the world, the
//! manifests now; `NAME.txt` is the plan as text, and where there is a `NAME.md`, as Markdown. Every case also proves that applying to a world in memory and planning
//! again gives nothing, and that an apply killed before any call, or whose answers are lost, comes to the same end.
//! `MESH_GOLDEN=write cargo test --test plan` writes the texts anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says so when it fails")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mesh::apply::memory::Fault;
use mesh::apply::{self, Memory, Outcome, Who};
use mesh::manifest::{self, Files};
use mesh::model::{Diagnostics, Texts};
use mesh::plan::{self, Desired, Observed, Options, OwnTopics, Plan, SavedPlan, stale};
use mesh::report;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows.
    about: String,
    /// Files that are the same before and now.
    #[serde(default)]
    shared: BTreeMap<String, String>,
    /// Manifests that were applied before; nothing was when it is left out.
    #[serde(default)]
    before: BTreeMap<String, String>,
    /// Merged over the world that this gave; null takes away.
    #[serde(default)]
    world: Value,
    now: BTreeMap<String, String>,
    #[serde(default)]
    prune: bool,
}

/// Files in memory.
struct Folder(BTreeMap<PathBuf, Vec<u8>>);

impl Folder {
    fn of(files: [&BTreeMap<String, String>; 2]) -> Folder {
        Folder(files.into_iter().flatten().map(|(name, text)| (PathBuf::from(name), text.clone().into_bytes())).collect())
    }
}

impl Files for Folder {
    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.keys().filter(|path| path.extension().is_some_and(|e| e == "yaml")).cloned().collect())
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        let path = path.strip_prefix("/").unwrap_or(path);
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn head(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.read(path, limit)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(Path::new("/").join(path))
    }

    fn root(&self) -> &Path {
        Path::new("/")
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

const NOW_MS: i64 = 1_700_000_000_000;

fn read(folder: &Folder) -> (Desired, Diagnostics, Texts) {
    let (mesh, diagnostics, texts) = manifest::read(folder, &[PathBuf::from(".")], "local", &manifest::Overrides::default());
    let said = report::diagnostics(&diagnostics, &texts, false);
    assert!(!mesh::model::diagnostic::has_errors(&diagnostics), "{said}");
    let mesh = mesh.unwrap_or_else(|| panic!("{said}"));
    let (mut bound, unbound) = plan::bind(&mesh);
    bound.failing = mesh::testing::failing(&mesh, &bound).0;
    (Desired::of(&mesh, &bound, &OwnTopics::default()), unbound, texts)
}

/// Nothing here waits: every future is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a world in memory waits for nothing"),
    }
}

fn execute(memory: &mut Memory, plan: &Plan) -> Outcome {
    let who = Who { user: "tester".into(), host: "here".into(), pid: 1, since_ms: NOW_MS };
    now(apply::execute(memory, plan, &who, &mut |_| {}))
}

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                match value {
                    Value::Null => drop(base.remove(key)),
                    value => merge(base.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

fn fresh() -> Memory {
    let mut world = Observed::default();
    world.cluster.id = Some("cluster-1".into());
    world.cluster.brokers = 1;
    let mut memory = Memory::new(world);
    let defaults = [("cleanup.policy", "delete"), ("retention.ms", "604800000"), ("segment.ms", "604800000")];
    memory.defaults = defaults.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    memory
}

/// The world as it is when the case begins.
fn world(case: &Case) -> Memory {
    let mut memory = fresh();
    if !case.before.is_empty() {
        let (desired, unbound, texts) = read(&Folder::of([&case.shared, &case.before]));
        assert!(unbound.is_empty(), "{}", report::diagnostics(&unbound, &texts, false));
        let plan = plan::plan(&desired, &memory.world, Options { prune: false, now_ms: NOW_MS });
        assert!(execute(&mut memory, &plan).is_success(), "{}", report::plan_text(&plan, &texts, false));
    }
    let mut tree = serde_json::to_value(&memory.world).unwrap();
    if !case.world.is_null() {
        merge(&mut tree, &case.world);
    }
    let defaults = memory.defaults.clone();
    let mut memory = Memory::new(serde_json::from_value(tree).unwrap());
    memory.defaults = defaults;
    memory
}

/// The world without who did what when, to compare.
fn settled(memory: &Memory) -> Observed {
    let mut world = memory.world.clone();
    world.catalog.products.values_mut().for_each(|entry| entry.applied = None);
    world.catalog.lease = None;
    for subject in world.subjects.values_mut() {
        if let plan::Known::Is(subject) = subject {
            subject.versions.values_mut().for_each(|version| version.id = 0);
        }
    }
    world
}

/// The plan as text, and as Markdown.
fn run(name: &str, case: &Case) -> [(&'static str, String); 2] {
    let (desired, unbound, texts) = read(&Folder::of([&case.shared, &case.now]));
    let options = Options { prune: case.prune, now_ms: NOW_MS };
    let start = world(case);
    let plan = plan::plan(&desired, &start.world, options);
    assert_eq!(plan, plan::plan(&desired, &start.world, options), "{name}: planning is not deterministic");
    let again = |memory: &Memory| plan::plan(&desired, &memory.world, options);

    let mut memory = start.clone();
    let outcome = execute(&mut memory, &plan);
    assert!(outcome.is_success(), "{name}: {outcome:#?}");
    let second = again(&memory);
    assert!(second.is_empty(), "{name}: planning again gives\n{}", report::plan_text(&second, &texts, false));
    let end = settled(&memory);

    for call in 0..memory.calls {
        for fault in [Fault::KilledBefore(call), Fault::AnswerLost(call)] {
            let mut memory = start.clone();
            memory.fault = Some(fault);
            assert!(!execute(&mut memory, &plan).is_success(), "{name}: {fault:?} went unnoticed");
            memory.fault = None;
            let rest = again(&memory);
            let outcome = execute(&mut memory, &rest);
            assert!(outcome.is_success(), "{name}: after {fault:?}: {outcome:#?}");
            let shown = report::plan_text(&rest, &texts, false);
            assert_eq!(settled(&memory), end, "{name}: after {fault:?} and\n{shown}");
            assert!(again(&memory).is_empty(), "{name}: after {fault:?}, planning a third time is not empty");
        }
    }

    let saved = SavedPlan::new(plan.clone(), &desired, &start.world, "1");
    let saved: SavedPlan = serde_json::from_str(&serde_json::to_string(&saved).unwrap()).unwrap();
    assert_eq!(stale(&saved, &start.world, "1"), Vec::<String>::new(), "{name}");
    assert_eq!(stale(&saved, &memory.world, "1").is_empty(), plan.is_empty(), "{name}: a carried out plan still holds");

    let mut text = format!("{}\n\n", case.about);
    if !unbound.is_empty() {
        text.push_str(&report::diagnostics(&unbound, &texts, false));
        text.push('\n');
    }
    let json: Value = serde_json::from_str(&report::plan_json(&plan, &texts)).unwrap();
    assert_eq!(json["schema_version"], 1, "{name}");
    assert_eq!(json["counts"]["blocked"], plan.blocked.len(), "{name}");
    let lines = json["blocked"].as_array().unwrap().iter().filter(|entry| entry["place"].is_object());
    assert!(lines.clone().all(|entry| entry["place"]["line"].is_u64()), "{name}: {json:#}");
    [("txt", text + &report::plan_text(&plan, &texts, false)), ("md", report::plan_markdown(&plan, &texts))]
}

#[test]
fn every_case_gives_its_plan_and_then_nothing() {
    let folder = Path::new("tests/plan");
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    names.sort();
    assert!(names.len() >= 15, "only {} cases", names.len());
    let write = std::env::var("MESH_GOLDEN").is_ok_and(|value| value == "write");
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let case: Case = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (extension, text) in run(&name, &case) {
            let golden = path.with_extension(extension);
            // Markdown stands beside the text for some cases only.
            if extension == "md" && !golden.exists() {
                continue;
            }
            if write {
                std::fs::write(&golden, &text).unwrap();
            } else if std::fs::read_to_string(&golden).unwrap_or_default() != text {
                wrong.push(format!("--- {name}.{extension}\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not as written down:\n{}", wrong.join("\n"));
}

#[test]
fn a_moved_world_is_named() {
    let files = BTreeMap::from([("a.yaml".to_owned(), PRODUCT.to_owned()), ("a.json".to_owned(), SCHEMA.to_owned())]);
    let (desired, _, _) = read(&Folder::of([&files, &BTreeMap::new()]));
    let mut memory = fresh();
    let options = Options { prune: false, now_ms: NOW_MS };
    let plan = plan::plan(&desired, &memory.world, options);
    let saved = SavedPlan::new(plan.clone(), &desired, &memory.world, "1");
    execute(&mut memory, &plan);
    memory.world.cluster.id = Some("cluster-2".into());
    let moved = stale(&saved, &memory.world, "2").join("\n");
    insta::assert_snapshot!(moved, @r#"
the plan was made by mesh 1, this is 2
the plan was made for cluster cluster-1, this is cluster-2
catalog entry a did not exist and does now
subject a-value did not exist and does now
topic _mesh did not exist and does now
topic _mesh.progress did not exist and does now
topic a did not exist and does now
"#);
    let saved = SavedPlan::new(plan::plan(&desired, &memory.world, options), &desired, &memory.world, "1");
    if let Some(plan::Known::Is(topic)) = memory.world.topics.get_mut("a") {
        topic.partitions = 9;
        topic.id = Some("another".into());
    }
    insta::assert_snapshot!(stale(&saved, &memory.world, "1").join("\n"), @r#"
topic a: id was unset, is another
topic a: partitions was 1, is 9
"#);
}

#[test]
fn one_who_lost_the_lease_stops() {
    let files = BTreeMap::from([("a.yaml".to_owned(), PRODUCT.to_owned()), ("a.json".to_owned(), SCHEMA.to_owned())]);
    let (desired, _, _) = read(&Folder::of([&files, &BTreeMap::new()]));
    let mut memory = fresh();
    let plan = plan::plan(&desired, &memory.world, Options { prune: false, now_ms: NOW_MS });
    memory.fault = Some(Fault::Fenced(4));
    let outcome = execute(&mut memory, &plan);
    assert_eq!(outcome.error.as_ref().map(|error| error.kind), Some(apply::ErrorKind::Fenced));
    let (done, failed, skipped) = outcome.counts();
    assert!(done > 0 && failed > 0 && skipped > 0, "{outcome:#?}");
    assert_eq!(done + failed + skipped, plan.steps.len());
}

#[test]
fn a_failed_step_stops_only_what_depends_on_it() {
    let files = BTreeMap::from([
        ("a.yaml".to_owned(), PRODUCT.to_owned()),
        ("b.yaml".to_owned(), PRODUCT.replace("name: a}", "name: b}")),
        ("a.json".to_owned(), SCHEMA.to_owned()),
    ]);
    let (desired, _, _) = read(&Folder::of([&files, &BTreeMap::new()]));
    let mut memory = fresh();
    let plan = plan::plan(&desired, &memory.world, Options { prune: false, now_ms: NOW_MS });
    memory.fault = Some(Fault::AnswerLost(3));
    let outcome = execute(&mut memory, &plan);
    let states: Vec<String> = outcome.results.iter().map(|result| format!("{}: {:?}", result.step, result.state)).collect();
    insta::assert_snapshot!(states.join("\n"), @r#"
topic _mesh: Done
topic _mesh.progress: Done
subject a-value: Failed("no answer")
subject b-value: Done
topic a: Skipped("needs subject a-value")
topic b: Done
catalog entry a: Skipped("needs subject a-value")
catalog entry b: Done
"#);
}

#[test]
fn a_large_plan_fits_a_comment() {
    let mut files = BTreeMap::from([("a.json".to_owned(), SCHEMA.to_owned())]);
    for number in 0..400 {
        files.insert(
            format!("p{number:03}.yaml"),
            PRODUCT.replace("name: a}", &format!("name: product-{number:03}, description: \"<b> & | `x`\"}}")),
        );
    }
    let (desired, _, texts) = read(&Folder::of([&files, &BTreeMap::new()]));
    let plan = plan::plan(&desired, &fresh().world, Options { prune: false, now_ms: NOW_MS });
    let page = report::plan_markdown(&plan, &texts);
    assert!(page.len() <= 60_000 && page.starts_with(report::MARKER), "{} bytes", page.len());
    assert!(page.contains("Plan: 1202 to create"), "{}", &page[..500]);
    assert!(page.ends_with("sections did not fit; `mesh plan` shows everything._\n"), "{}", &page[page.len() - 200..]);
}

const PRODUCT: &str = "apiVersion: mesh/v1\nkind: DataProduct\nmetadata: {name: a}\nspec:\n  shape: stream\n  topic: {partitions: 1}\n  schema: {format: json, file: a.json}\n";
const SCHEMA: &str = r#"{"type":"object","properties":{"id":{"type":"string"}},"additionalProperties":false}"#;
