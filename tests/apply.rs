//! Plan and apply on the dev servers, or on those that `MESH_BOOTSTRAP` and `MESH_REGISTRY` name. Every test has names of its
//! own, its own catalog topic included, and takes away what it made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so when it fails")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh::apply::{self, ErrorKind, Live, Outcome, Target, Who};
use mesh::kafka::Admin;
use mesh::kafka::admin::{ConfigOp, ConfigSource, NewTopic};
use mesh::manifest;
use mesh::model::{Environment, Mesh, Texts};
use mesh::plan::{self, Bound, Desired, Options, OwnTopics, Plan};
use mesh::registry::Registry;
use mesh::report;
use servers::Servers;

mod servers;

/// The servers, and names that nobody else has.
struct Stage {
    #[allow(dead_code, reason = "kept until the test ends")]
    servers: Servers,
    prefix: String,
    folder: tempfile::TempDir,
    environment: Environment,
    own: OwnTopics,
}

impl Stage {
    fn new() -> Stage {
        static STAGES: AtomicUsize = AtomicUsize::new(0);
        let (stage, now) = (STAGES.fetch_add(1, Ordering::Relaxed), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let prefix = format!("t{}-{}-{stage}", std::process::id(), now.as_micros());
        let mut environment = Environment::local();
        let servers = Servers::get();
        environment.kafka.bootstrap.clone_from(&servers.bootstrap);
        environment.registry.url.clone_from(&servers.registry);
        let own = OwnTopics { catalog: format!("{prefix}._mesh"), progress: format!("{prefix}._mesh.progress") };
        Stage { servers, prefix, folder: tempfile::tempdir().unwrap(), environment, own }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text.replace("PREFIX", &self.prefix)).unwrap();
    }

    /// Two products: a table of orders, and what is derived from it.
    fn orders(&self, columns: &str, topic: &str) {
        let schema = format!(
            r#"{{"type":"object","properties":{{"id":{{"type":"string"}},{columns}}},"required":["id"],"additionalProperties":false}}"#
        );
        self.write("orders.json", &schema);
        self.write(
            "orders.yaml",
            &format!(
                "apiVersion: mesh/v1\nkind: DataProduct\nmetadata: {{name: orders}}\nspec:\n  shape: table\n  key: [id]\n  deletion: allow\n  \
                 topic: {{name: PREFIX.orders, {topic}}}\n  schema: {{format: json, file: orders.json, compatibility: BACKWARD}}\n"
            ),
        );
        self.write(
            "big.yaml",
            "apiVersion: mesh/v1\nkind: DataProduct\nmetadata: {name: big-orders}\nspec:\n  shape: table\n  key: [id]\n  deletion: allow\n  \
             topic: {name: PREFIX.big, partitions: 2}\n  derivation: {sql: \"SELECT id, amount FROM orders WHERE amount > 10\"}\n",
        );
    }

    fn mesh(&self) -> (Mesh, Bound, Texts) {
        let given = [self.folder.path().to_path_buf()];
        let files = manifest::Disk::new(&given).unwrap();
        let (mesh, diagnostics, texts) = manifest::read(&files, &given, "local", &manifest::Overrides::default());
        let mut mesh = mesh.unwrap_or_else(|| panic!("{}", report::diagnostics(&diagnostics, &texts, false)));
        assert!(diagnostics.is_empty(), "{}", report::diagnostics(&diagnostics, &texts, false));
        mesh.environment.kafka = self.environment.kafka.clone();
        mesh.environment.registry = self.environment.registry.clone();
        let (bound, _) = plan::bind(&mesh);
        (mesh, bound, texts)
    }

    async fn live(&self) -> Live {
        Live::connect(&self.environment, Path::new("."), self.own.clone()).await.unwrap()
    }

    fn desired(&self) -> Desired {
        let (mesh, bound, _) = self.mesh();
        Desired::of(&mesh, &bound, &self.own)
    }

    async fn plan(&self, live: &mut Live) -> Plan {
        let desired = self.desired();
        let observed = apply::observe(live, &desired).await.unwrap();
        plan::plan(&desired, &observed, Options::default())
    }

    fn text(&self, plan: &Plan) -> String {
        let folder = format!("{}/", self.folder.path().display());
        let text = report::plan_text(plan, &self.mesh().2, false).replace(&self.prefix, "PREFIX").replace(&folder, "");
        // The hash of a manifest that has the prefix in it is another every time.
        let known = |line: &&str| !line.trim_start().starts_with("manifest: ");
        text.lines().filter(known).map(|line| format!("{line}\n")).collect()
    }

    async fn apply(&self, live: &mut Live) -> Outcome {
        let plan = self.plan(live).await;
        apply::execute(live, &plan, &who("tester"), &mut |_| {}).await
    }

    async fn admin(&self) -> Admin {
        Admin::connect(&self.environment.kafka, Path::new("."), Duration::from_secs(10)).await.unwrap()
    }

    fn registry(&self) -> Registry {
        Registry::connect(&self.environment.registry, Path::new(".")).unwrap()
    }

    /// Takes away what the test has made.
    async fn leave(&self) {
        let admin = self.admin().await;
        let names: Vec<String> =
            admin.topic_names().await.unwrap().into_iter().filter(|name| name.starts_with(&self.prefix)).collect();
        admin.delete_topics(&names).await.unwrap();
        let registry = self.registry();
        for name in names {
            for part in ["key", "value"] {
                registry.delete_subject(&format!("{name}-{part}")).await.unwrap();
            }
        }
    }
}

fn who(user: &str) -> Who {
    Who { user: user.into(), host: "here".into(), pid: std::process::id(), since_ms: 1_700_000_000_000 }
}

fn done(outcome: &Outcome) {
    assert!(outcome.is_success(), "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_there_and_a_second_plan_is_empty() {
    let stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 3, config: {retention.ms: -1, cleanup.policy: compact}");
    let mut live = stage.live().await;
    let first = stage.plan(&mut live).await;
    assert_eq!((first.counts.create, first.counts.change, first.counts.blocked), (10, 0, 0), "{}", stage.text(&first));
    done(&apply::execute(&mut live, &first, &who("tester"), &mut |_| {}).await);
    let second = stage.plan(&mut live).await;
    assert_eq!(stage.text(&second), "No changes. The mesh matches the manifests.\n");

    let topics = stage.admin().await.describe_topics(&[stage.topic("orders")]).await.unwrap();
    let orders = &topics[&stage.topic("orders")];
    assert_eq!(orders.partitions.len(), 3);
    assert_eq!(orders.config["retention.ms"].value.as_deref(), Some("-1"));
    assert_eq!(orders.config["cleanup.policy"].value.as_deref(), Some("compact"));
    let registry = stage.registry();
    let value = registry.latest(&format!("{}-value", stage.topic("orders"))).await.unwrap().unwrap();
    assert!(value.schema.text.contains("amount"), "{}", value.schema.text);
    let level = registry.compatibility(Some(&format!("{}-key", stage.topic("big")))).await.unwrap();
    assert_eq!(level.map(|level| level.name()), Some("BACKWARD"));
    let catalog = stage.live().await.catalog().await.unwrap();
    let entry = &catalog.products["big-orders"];
    assert_eq!(
        (entry.lineage.inputs.as_slice(), entry.applied.as_ref().unwrap().by.as_str()),
        (&["orders".to_owned()][..], "tester")
    );
    assert!(catalog.intents.is_empty() && catalog.lease.is_none(), "{catalog:#?}");
    stage.leave().await;
}

/// As a kill between the registration and the level leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_only_holds_because_it_is_the_registrys_is_set() {
    let stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1");
    let mut live = stage.live().await;
    done(&stage.apply(&mut live).await);
    let subject = format!("{}-value", stage.topic("orders"));
    let config = format!("{}/config/{subject}", stage.environment.registry.url);
    reqwest::Client::new().delete(config).send().await.unwrap().error_for_status().unwrap();
    // Some registries answer with the global level where there is none of the subject's own: nobody can tell then.
    if stage.registry().compatibility(Some(&subject)).await.unwrap().is_some() {
        return stage.leave().await;
    }
    let plan = stage.plan(&mut live).await;
    assert!(stage.text(&plan).contains("compatibility unset -> BACKWARD"), "{}", stage.text(&plan));
    done(&apply::execute(&mut live, &plan, &who("tester"), &mut |_| {}).await);
    let level = stage.registry().compatibility(Some(&subject)).await.unwrap();
    assert_eq!(level.map(|level| level.name()), Some("BACKWARD"));
    stage.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_touches_only_what_is_ours() {
    let stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1, config: {min.compaction.lag.ms: 1000}");
    let mut live = stage.live().await;
    done(&stage.apply(&mut live).await);
    // An operator sets a key of his own.
    let theirs = vec![ConfigOp::Set("max.message.bytes".into(), "2000000".into())];
    let admin = stage.admin().await;
    admin.alter_configs(&[(stage.topic("orders"), theirs)], false).await.unwrap();
    let set = async || {
        admin.describe_topics(&[stage.topic("orders")]).await.unwrap()[&stage.topic("orders")].config["max.message.bytes"].source
    };
    // the broker hears of it a moment after the controller; the question is the wait
    while set().await != ConfigSource::Topic {}
    stage.orders(
        r#""amount":{"type":"number"},"note":{"type":"string"}"#,
        "partitions: 2, config: {max.compaction.lag.ms: 600000}",
    );
    let plan = stage.plan(&mut live).await;
    insta::assert_snapshot!(stage.text(&plan), @r#"
orders
  ~ change subject PREFIX.orders-value: register a new value schema after version 1
      schema: version 1 -> a new version
      column note: + STRING
  ~ change topic PREFIX.orders: partitions 1 -> 2, max.compaction.lag.ms 9223372036854775807 -> 600000, min.compaction.lag.ms 1000 -> 0
      partitions: 1 -> 2
      max.compaction.lag.ms: 9223372036854775807 -> 600000
      min.compaction.lag.ms: 1000 -> 0
      caution: the table is keyed by id: keys move to other partitions, old records stay where they are
  ~ change catalog entry orders: publish the change
      contract.columns: id STRING, amount DOUBLE -> id STRING, amount DOUBLE, note STRING

Set by others, left alone
  topic PREFIX.orders: max.message.bytes = 2000000

Plan: 0 to create, 3 to change, 0 to delete.
"#);
    done(&apply::execute(&mut live, &plan, &who("tester"), &mut |_| {}).await);
    let again = stage.plan(&mut live).await;
    assert!(again.is_empty(), "{}", stage.text(&again));
    let topics = stage.admin().await.describe_topics(&[stage.topic("orders")]).await.unwrap();
    let orders = &topics[&stage.topic("orders")];
    assert_eq!(orders.partitions.len(), 2);
    assert_eq!(orders.config["max.message.bytes"].value.as_deref(), Some("2000000"));
    assert_eq!(orders.config["max.compaction.lag.ms"].value.as_deref(), Some("600000"));
    assert_eq!(orders.config["min.compaction.lag.ms"].source, ConfigSource::Default);
    stage.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_would_refuse_is_blocked() {
    let stage = Stage::new();
    let strange = NewTopic { name: stage.topic("big"), partitions: 1, replication: None, config: Default::default() };
    stage.admin().await.create_topics(&[strange], false).await.unwrap();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1, config: {retention.ms: soon}");
    let mut live = stage.live().await;
    let plan = stage.plan(&mut live).await;
    // The reason is the broker's own words; it names what is wrong.
    let text = stage.text(&plan);
    let (before, after) = text.split_once("would refuse it: ").unwrap();
    let (words, after) = after.split_once(" (INVALID_CONFIG)").unwrap();
    assert!(words.contains("soon") && words.contains("retention.ms"), "{words}");
    insta::assert_snapshot!(format!("{before}would refuse it: WORDS (INVALID_CONFIG){after}"), @r#"
mesh
  + create topic PREFIX._mesh: partitions 1, cleanup.policy compact
  + create topic PREFIX._mesh.progress: partitions 1, cleanup.policy compact

big-orders
  ! blocked topic PREFIX.big: it exists and was not created by mesh [M0611]
      at big.yaml:8:3
      help: add `adopt: true` to the manifest's spec to take it over, or choose another topic name

orders
  ! blocked topic PREFIX.orders: the cluster would refuse it: WORDS (INVALID_CONFIG) [M0625]
      at orders.yaml:8:3
      help: correct spec.topic

Plan: 2 to create, 0 to change, 0 to delete, 2 blocked.
"#);
    stage.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incompatible_schema_is_blocked_with_reasons() {
    let stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1");
    let mut live = stage.live().await;
    done(&stage.apply(&mut live).await);
    stage.orders(r#""amount":{"type":"integer"}"#, "partitions: 1");
    let plan = stage.plan(&mut live).await;
    insta::assert_snapshot!(stage.text(&plan), @r#"
big-orders
  ! blocked subject PREFIX.big-value: the value schema is not BACKWARD compatible [M0631]
      at big.yaml:4:1
      - #/properties/amount: "amount" is an integer in the new schema, any number in the old schema (TYPE_NARROWED, version 1)
      help: keep what earlier records need, or choose a new topic for the new contract

orders
  ! blocked subject PREFIX.orders-value: the value schema is not BACKWARD compatible [M0631]
      at orders.yaml:9:3
      - #/properties/amount: "amount" is an integer in the new schema, any number in the old schema (TYPE_NARROWED, version 1)
      help: keep what earlier records need, or choose a new topic for the new contract

Plan: 0 to create, 0 to change, 0 to delete, 2 blocked.
"#);
    stage.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_applies_has_the_lease() {
    let stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1");
    let (mut first, mut second) = (stage.live().await, stage.live().await);
    let plan = stage.plan(&mut first).await;
    let own: Vec<_> = plan.steps.iter().take(2).collect();
    assert!(first.execute(&own).await.iter().all(Result::is_ok));
    first.begin(&who("anna"), &plan.intents).await.unwrap();
    second.begin(&who("bert"), &plan.intents).await.unwrap();
    let topic = plan.steps.iter().find(|step| step.id == format!("topic {}", stage.topic("orders"))).unwrap();
    let lost = first.execute(&[topic]).await.remove(0).unwrap_err();
    assert_eq!(lost.kind, ErrorKind::Fenced);
    let expected =
        format!("another apply has taken over: bert on here (process {}), since 2023-11-14 22:13:20 UTC", std::process::id());
    assert_eq!(lost.message, expected);
    assert!(!stage.admin().await.topic_names().await.unwrap().contains(&stage.topic("orders")));
    assert!(second.execute(&[topic]).await.remove(0).is_ok());
    second.end().await.unwrap();
    stage.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_apply_has_made_is_known_again() {
    let stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1, config: {segment.ms: 600000}");
    let mut live = stage.live().await;
    let plan = stage.plan(&mut live).await;
    for wave in [0..2, 2..6] {
        let steps: Vec<_> = plan.steps.get(wave.clone()).unwrap().iter().collect();
        assert!(live.execute(&steps).await.iter().all(Result::is_ok));
        if wave.start == 0 {
            live.begin(&who("killed"), &plan.intents).await.unwrap();
        }
    }
    drop(live);
    let mut live = stage.live().await;
    let rest = stage.plan(&mut live).await;
    assert_eq!((rest.counts.create, rest.counts.change, rest.counts.blocked), (4, 0, 0), "{}", stage.text(&rest));
    done(&apply::execute(&mut live, &rest, &who("tester"), &mut |_| {}).await);
    assert!(stage.plan(&mut live).await.is_empty());
    stage.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_that_vanished_are_pruned_when_all_allow_it() {
    let mut stage = Stage::new();
    stage.orders(r#""amount":{"type":"number"}"#, "partitions: 1");
    let mut live = stage.live().await;
    done(&stage.apply(&mut live).await);
    for file in ["orders.yaml", "orders.json", "big.yaml"] {
        std::fs::remove_file(stage.folder.path().join(file)).unwrap();
    }
    stage.write(
        "other.yaml",
        "apiVersion: mesh/v1\nkind: DataProduct\nmetadata: {name: other}\nspec:\n  shape: stream\n  topic: {name: PREFIX.other, partitions: 1}\n  \
         schema: {format: json, file: other.json}\n",
    );
    stage.write("other.json", r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#);
    stage.environment.safety.prune = true;
    let mut desired = stage.desired();
    desired.safety.prune = true;
    let observed = apply::observe(&mut live, &desired).await.unwrap();
    let plan = plan::plan(&desired, &observed, Options { prune: true, now_ms: 0 });
    insta::assert_snapshot!(stage.text(&plan), @r#"
big-orders
  - delete topic PREFIX.big: delete
      destroys data: all records of the topic are deleted
  - delete subject PREFIX.big-key: delete
  - delete subject PREFIX.big-value: delete
  - delete catalog entry big-orders: withdraw

orders
  - delete topic PREFIX.orders: delete
      destroys data: all records of the topic are deleted
  - delete subject PREFIX.orders-key: delete
  - delete subject PREFIX.orders-value: delete
  - delete catalog entry orders: withdraw

other
  + create subject PREFIX.other-value: register the value schema, BACKWARD
  + create topic PREFIX.other: partitions 1
  + create catalog entry other: publish

No longer declared
  big-orders (topic PREFIX.big, subject PREFIX.big-key, subject PREFIX.big-value): deleted
  orders (topic PREFIX.orders, subject PREFIX.orders-key, subject PREFIX.orders-value): deleted

Plan: 3 to create, 0 to change, 8 to delete.
"#);
    done(&apply::execute(&mut live, &plan, &who("tester"), &mut |_| {}).await);
    let names = stage.admin().await.topic_names().await.unwrap();
    assert!(!names.contains(&stage.topic("orders")) && !names.contains(&stage.topic("big")), "{names:?}");
    let observed = apply::observe(&mut live, &desired).await.unwrap();
    assert!(plan::plan(&desired, &observed, Options { prune: true, now_ms: 0 }).is_empty());
    stage.leave().await;
}
