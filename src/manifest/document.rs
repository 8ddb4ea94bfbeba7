//! The format of manifests: every section of every kind, as types.
//!
//! These types are the format's one definition. `walk` checks a document against them, and the JSON Schema that editors
//! use is generated from them; their doc comments are what a reader of a manifest sees. Every field that may be left out
//! says what holds then. What the program does not carry out yet stands here too, so that it is checked and never
//! silently ignored.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::units::{At, ByteSize, Date, Rate, Span, StartAt, Text, Timestamp};

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    DataProduct,
    Domain,
    Team,
    Policy,
    Environment,
}

impl Kind {
    /// All kinds, in the order they are explained.
    pub const ALL: [Kind; 5] = [Kind::DataProduct, Kind::Domain, Kind::Team, Kind::Policy, Kind::Environment];

    /// As `kind` names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::DataProduct => "DataProduct",
            Kind::Domain => "Domain",
            Kind::Team => "Team",
            Kind::Policy => "Policy",
            Kind::Environment => "Environment",
        }
    }

    /// As messages name it.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::DataProduct => "data product",
            Kind::Domain => "domain",
            Kind::Team => "team",
            Kind::Policy => "policy",
            Kind::Environment => "environment",
        }
    }

    /// What it is for.
    pub fn description(self) -> &'static str {
        match self {
            Kind::DataProduct => "One topic with a promise, and what makes it.",
            Kind::Domain => "A part of the business that owns data products.",
            Kind::Team => "Who answers when a data product does not.",
            Kind::Policy => "Rules that manifests keep. Read, but not carried out yet.",
            Kind::Environment => "Where Kafka and the registry are, and what holds there.",
        }
    }
}

/// What names and describes a document.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and hyphens, at most 63, unique within its kind.
    #[schemars(regex(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// One or two sentences for those who look for data.
    #[serde(default)]
    pub description: Option<String>,
    /// Marks by which policies, overrides and people select.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Short facts by key.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Further facts by key, for other programs.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A data product: one topic, what its records mean, and what makes them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataProductSpec {
    /// The product's version, such as `1.0.0`.
    #[serde(default)]
    pub version: Option<String>,
    /// The stage of its life; `active` when left out.
    #[serde(default)]
    pub lifecycle: Option<Lifecycle>,
    /// The Domain that owns it.
    #[serde(default)]
    pub domain: Option<String>,
    /// The Team that runs it.
    #[serde(default)]
    pub team: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// What its records mean: `stream` (each is a fact of its own) or `table` (the latest of a key is its value).
    pub shape: Shape,
    /// Columns of the value that form the record key, in order. A table needs them.
    #[serde(default)]
    pub key: Vec<String>,
    /// Its event time; the record's timestamp when left out.
    #[serde(default)]
    pub time: Option<Time>,
    /// The topic that carries it.
    #[serde(default)]
    pub topic: Option<Topic>,
    /// The contract: the schema of its records. A derived product may leave it out.
    #[serde(default)]
    pub schema: Option<Contract>,
    /// The query that makes it of other products. Not together with `source`.
    #[serde(default)]
    pub derivation: Option<Derivation>,
    /// Where its records enter. Without `source` and `derivation`, another program writes the topic.
    #[serde(default)]
    pub source: Option<Source>,
    /// Who may read and write it; becomes ACLs. Absent: ACLs are not managed.
    #[serde(default)]
    pub access: Option<Vec<Access>>,
    /// What its consumers may rely on.
    #[serde(default)]
    pub slo: Option<Slo>,
    /// Checks of its records while running.
    #[serde(default)]
    pub quality: Option<Vec<Check>>,
    /// Where its records go besides the topic.
    #[serde(default)]
    pub sinks: Option<Vec<Sink>>,
    /// A read-only HTTP view of a table.
    #[serde(default)]
    pub api: Option<Api>,
    /// Charts for the catalog's page.
    #[serde(default)]
    pub views: Option<Vec<View>>,
    /// Tests of the derivation, which `mesh test` runs offline.
    #[serde(default)]
    pub tests: Option<Vec<Test>>,
    /// Whether it may be deleted when it is no longer declared; `protect` when left out.
    #[serde(default)]
    pub deletion: Option<Deletion>,
    /// Whether a topic that exists and is not mesh's own may be taken over; `false` when left out.
    #[serde(default)]
    pub adopt: bool,
}

/// A stage of a product's life.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    Draft,
    Active,
    Deprecated,
    Retired,
}

/// Who answers for a product.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// A person's name.
    pub name: String,
    /// A mail address, or how else to reach them.
    #[serde(default)]
    pub contact: Option<String>,
}

/// What a product's records mean.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Append-only: every record is a fact of its own.
    Stream,
    /// The latest record of a key is its value; a null value deletes it.
    Table,
}

/// A product's event time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// A timestamp column, or `rowtime`, the record's own timestamp; `rowtime` when left out.
    #[serde(default)]
    pub field: Option<String>,
    /// How far records of one partition may be out of order, such as `1m`; `0s` when left out.
    #[serde(default)]
    pub disorder: Option<Span>,
    /// How far an event time may lie in the future of its record's own timestamp, such as `1h`; a record beyond it is a bad
    /// record; `1d` when left out. With `rowtime` both are the same.
    #[serde(default)]
    pub ahead: Option<Span>,
    /// How long a partition must be quiet, read to its end, until it no longer holds the others back, such as `10s`; `500ms`
    /// when left out. Where its producer is a derivation of the same run it is not needed.
    #[serde(default)]
    pub idle: Option<Span>,
}

/// The topic that carries a product.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Its name; the product's when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// How many partitions it has; the environment's default when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,
    /// On how many brokers each record lies; the environment's default, else the broker's, when left out.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub replication: Option<i16>,
    /// Settings of the topic by Kafka's names. What is not named here is not managed.
    #[serde(default)]
    pub config: BTreeMap<String, Text>,
}

/// The schema of a product's records.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The schema's language; `json` when left out.
    #[serde(default)]
    pub format: Option<SchemaFormat>,
    /// What stands around the records' bytes: `confluent` (a schema id, as the registry's serializers write it; so when left
    /// out) or `none` (plain JSON).
    #[serde(default)]
    pub framing: Option<Framing>,
    /// The file that holds it, relative to this manifest. A derived product may leave it out: inferred from the SQL.
    #[serde(default)]
    pub file: Option<String>,
    /// Which changes the registry allows; the environment's default when left out.
    #[serde(default)]
    pub compatibility: Option<Compatibility>,
}

/// A schema language.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaFormat {
    Json,
    Avro,
    Protobuf,
}

/// What stands around a record's bytes.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    Confluent,
    None,
}

/// A compatibility level of the registry.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

/// A query that makes a product of others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Derivation {
    /// One SELECT over other products: the text, or `{file: ..}`.
    pub sql: Sql,
    /// Where it starts to read when it has not run before: `earliest`, `latest` or a timestamp; `earliest` when left out.
    #[serde(default)]
    pub start: Option<StartAt>,
    /// What happens to a record that can't be read or computed; `dead_letter` when left out.
    #[serde(default)]
    pub on_bad_record: Option<OnBadRecord>,
}

/// A query's text, or the file that holds it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Sql {
    /// The text itself.
    Text(String),
    /// A file, relative to this manifest.
    File(FileRef),
}

/// A file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Relative to this manifest, below the project root.
    pub file: String,
}

/// What happens to a record that can't be read or computed.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRecord {
    /// It goes to the dead-letter topic, and the rest goes on.
    DeadLetter,
    /// The derivation stops.
    Stop,
}

/// Where a product's records enter; one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Source {
    /// Records come by HTTP POST.
    #[serde(default)]
    pub http: Option<HttpSource>,
    /// Records are fetched from a URL again and again.
    #[serde(default)]
    pub poll: Option<PollSource>,
    /// Records of a file, written once.
    #[serde(default)]
    pub replay: Option<ReplaySource>,
    /// Records are made up.
    #[serde(default)]
    pub generator: Option<GeneratorSource>,
}

/// Records come by HTTP POST.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSource {
    /// The path they are posted to.
    pub path: String,
    /// What a sender must show; anyone may post when left out.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// What is too much.
    #[serde(default)]
    pub limits: Option<HttpLimits>,
    /// Where the record key stands, such as `body.user_id`.
    #[serde(default)]
    pub key: Option<String>,
}

/// What a sender must show.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpAuth {
    /// A bearer token.
    pub bearer: SecretRef,
}

/// What is too much.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpLimits {
    /// The largest body, such as `64KiB`.
    #[serde(default)]
    pub body: Option<ByteSize>,
    /// The most requests, such as `200/s`.
    #[serde(default)]
    pub rate: Option<Rate>,
}

/// Records are fetched from a URL again and again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PollSource {
    /// What is fetched.
    pub url: String,
    /// How often, such as `60s`.
    pub every: Span,
    /// A JSON pointer to the array of records; the whole answer is one record when left out.
    #[serde(default)]
    pub records: Option<String>,
    /// What the server wants to see.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
}

/// Records of a file, written once.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaySource {
    /// A file of JSON lines, plain or gzip, relative to this manifest.
    pub file: String,
    /// A line is `{"ts": ms, "key"?, "value"}`, and value null deletes; else, and when left out, a line is the value.
    #[serde(default)]
    pub envelope: bool,
    /// The record time of lines without an envelope, such as `2023-07-17T00:00:00Z`; now when left out.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// How many times faster than it happened; 0, and when left out: as fast as it goes.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub speed: Option<f64>,
}

/// Records are made up.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorSource {
    /// How many, such as `10/s`.
    pub rate: Rate,
    /// How each column is made up.
    pub fields: BTreeMap<String, Value>,
}

/// A secret's place, never the secret itself; one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1, "x-secret" = true))]
pub struct SecretRef {
    /// An environment variable's name.
    #[serde(default)]
    pub env: Option<String>,
    /// A file, relative to this manifest.
    #[serde(default)]
    pub file: Option<String>,
}

/// What a principal may do with the product.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Kafka's name for it, such as `User:rebalancer`.
    pub principal: String,
    /// It may read.
    #[serde(default)]
    pub consume: Option<Consume>,
    /// It may write.
    #[serde(default)]
    pub produce: Option<Produce>,
}

/// How a principal reads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// The consumer group it reads with.
    pub group: String,
}

/// How a principal writes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Produce {
    /// The transactional id it writes with; none when left out.
    #[serde(default)]
    pub transactional_id: Option<String>,
}

/// What consumers may rely on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    /// How old the latest record may be, such as `60s`.
    #[serde(default)]
    pub freshness: Option<Span>,
}

/// A check of records while running.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What counts and findings call it.
    pub name: String,
    /// A CEL expression over `key` and `value` that is true of good records.
    pub cel: String,
    /// How much it matters; `error` when left out.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// What happens to a record that fails; `count` when left out.
    #[serde(default)]
    pub on_failure: Option<OnFailure>,
}

/// How much a rule matters.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    Warn,
}

/// What happens to a record that fails a check.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    Count,
    DeadLetter,
}

/// Where records go besides the topic; one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Sink {
    /// A table of an SQLite file.
    #[serde(default)]
    pub sqlite: Option<SqliteSink>,
    /// A table of a Postgres database.
    #[serde(default)]
    pub postgres: Option<PostgresSink>,
    /// Objects of a store.
    #[serde(default)]
    pub object_store: Option<ObjectSink>,
}

/// A table of an SQLite file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteSink {
    /// The database's file.
    pub path: String,
    /// The table's name.
    pub table: String,
    /// How rows are written: `upsert` for tables, `append` for streams, when left out.
    #[serde(default)]
    pub mode: Option<SinkMode>,
}

/// A table of a Postgres database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSink {
    /// One of the environment's connections.
    pub connection: String,
    /// The table's name.
    pub table: String,
    /// How rows are written: `upsert` for tables, `append` for streams, when left out.
    #[serde(default)]
    pub mode: Option<SinkMode>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkMode {
    Append,
    Upsert,
}

/// Objects of a store, one for each record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectSink {
    /// One of the environment's connections.
    pub connection: String,
    /// The object's key, a template over the record's columns.
    #[schemars(extend("x-per-record" = true))]
    pub key: String,
    /// The column that holds the object.
    pub content: String,
    /// Where the other columns are kept.
    #[serde(default)]
    pub index: Option<Box<Sink>>,
}

/// A read-only HTTP view of a table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The path it is served at.
    pub path: String,
    /// The column that picks a row.
    pub key: String,
}

/// A chart on the catalog's page.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// What the page calls it.
    pub name: String,
    /// What is drawn.
    pub chart: Chart,
    /// The column along the x axis.
    #[serde(default)]
    pub x: Option<String>,
    /// The column along the y axis.
    #[serde(default)]
    pub y: Option<String>,
}

/// What is drawn.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    Histogram,
    Line,
    Bar,
    Scatter,
    Table,
}

/// A test of a derivation: what happens to its inputs, and what must come out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Records of the products that the query reads, by the product's name, in the order of arrival.
    pub given: BTreeMap<String, Vec<TestStep>>,
    /// The rows at the end, exactly: a table's by key, a stream's in order per key.
    #[serde(default)]
    pub expect: Option<Vec<TestRecord>>,
    /// Every change, exactly and in order; deletes have `delete: true`.
    #[serde(default)]
    pub changelog: Option<Vec<TestRecord>>,
    /// Records that go to the dead letters, in order; none when left out.
    #[serde(default)]
    pub dead_letters: Option<Vec<TestLetter>>,
    /// Records that come too late and are left out, in order; none when left out.
    #[serde(default)]
    pub late: Option<Vec<TestLate>>,
}

/// Something that happens to an input: a record comes, or the watermark advances.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestStep {
    /// When it happens: a timestamp, or a time of 1970-01-01 such as `00:01:00`; the start of that day when left out.
    #[serde(default)]
    pub at: Option<At>,
    /// Its key: the value of one column, or a map of several. Taken from the value when left out.
    #[serde(default)]
    pub key: Value,
    /// Its value, column by column; columns that are left out are NULL. Null deletes.
    #[serde(default)]
    pub value: Value,
    /// Whether it deletes its key; `false` when left out.
    #[serde(default)]
    pub delete: bool,
    /// The input's watermark reaches this time; what comes behind it may be late. Stands alone.
    #[serde(default)]
    pub watermark: Option<At>,
}

/// A record that comes out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestRecord {
    /// Its event time; not looked at when left out.
    #[serde(default)]
    pub at: Option<At>,
    /// Its key: the value of one column, or a map of several. Taken from the value when left out.
    #[serde(default)]
    pub key: Value,
    /// Its value, column by column; columns that are left out must be NULL. Null deletes.
    #[serde(default)]
    pub value: Value,
    /// Whether it deletes its key; `false` when left out.
    #[serde(default)]
    pub delete: bool,
}

/// A record that goes to the dead letters. What is left out is not looked at.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestLetter {
    /// The product it was given to.
    #[serde(default)]
    pub input: Option<String>,
    /// The time it was given.
    #[serde(default)]
    pub at: Option<At>,
    /// Some of its columns.
    #[serde(default)]
    pub value: Value,
    /// Part of the reason, such as `division by zero`.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A record that comes too late. What is left out is not looked at.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestLate {
    /// The product it was given to.
    #[serde(default)]
    pub input: Option<String>,
    /// The time it was given.
    #[serde(default)]
    pub at: Option<At>,
    /// Some of its columns.
    #[serde(default)]
    pub value: Value,
}

/// Whether a product may be deleted when it is no longer declared.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deletion {
    Protect,
    Allow,
}

/// A part of the business that owns data products.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// The name that people read.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Who answers for the domain.
    #[serde(default)]
    pub executive_owner: Option<String>,
    /// How to reach them.
    #[serde(default)]
    pub executive_contact: Option<String>,
}

/// Who answers when a data product does not.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamSpec {
    /// The name that people read.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Where the team can be reached, such as `"#station-ops-oncall"`.
    #[serde(default)]
    pub channel: Option<String>,
    /// Who is called there, such as `"@station-ops-oncall"`.
    #[serde(default)]
    pub slack_alias: Option<String>,
}

/// Rules that manifests keep.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// `error` blocks plan and apply, `warn` annotates.
    pub severity: Severity,
    /// Which documents it is about; all when left out.
    #[serde(default, rename = "match")]
    pub matches: Option<PolicyMatch>,
    /// What must hold.
    pub rules: Vec<PolicyRule>,
    /// Who is let off, until when and why.
    #[serde(default)]
    pub exceptions: Vec<PolicyException>,
}

/// Which documents a policy is about: those that fit all that is said.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyMatch {
    /// A kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// All of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// One of these names.
    #[serde(default)]
    pub names: Vec<String>,
}

/// One rule of a policy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// Unique within the policy.
    pub id: String,
    /// A CEL expression over `self` that is true of good documents.
    pub cel: String,
    /// What is wrong otherwise.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub help: Option<String>,
}

/// Who is let off a policy.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyException {
    /// A product's name.
    pub product: String,
    /// The last day, such as `2027-01-31`.
    pub until: Date,
    /// Why.
    pub reason: String,
}

/// Where Kafka and the registry are, and what holds there. `${VAR}` stands for an environment variable.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentSpec {
    /// How to reach Kafka. Only `local` may leave it out: localhost:9092.
    #[serde(default)]
    pub kafka: Option<Kafka>,
    /// How to reach the schema registry. Only `local` may leave it out: http://localhost:8081.
    #[serde(default)]
    pub registry: Option<Registry>,
    /// Other catalogs that get the entries.
    #[serde(default)]
    pub catalogs: Option<Vec<Catalog>>,
    /// Databases and stores that sinks write to, by name.
    #[serde(default)]
    pub connections: Option<BTreeMap<String, Connection>>,
    /// What runs derivations: `embedded`, or `{flink: ..}`; `embedded` when left out.
    #[serde(default)]
    pub engine: Option<Engine>,
    /// What manifests may leave out.
    #[serde(default)]
    pub defaults: Option<Defaults>,
    /// This environment's last word: values for the products that match, over what their manifests say.
    #[serde(default)]
    pub overrides: Vec<Override>,
    /// What may not happen here.
    #[serde(default)]
    pub safety: Option<Safety>,
    /// What templates in other documents may use. No secrets.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
}

/// How to reach Kafka.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Encryption and authentication; plain text without authentication when left out.
    #[serde(default)]
    pub security: Option<Security>,
}

/// Encryption and authentication.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// The SASL mechanism; TLS without SASL when left out.
    #[serde(default)]
    pub mechanism: Option<Mechanism>,
    /// The user's name; with `mechanism`.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password; with `mechanism`.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// The certificate authority's PEM file; the system's authorities when left out.
    #[serde(default)]
    pub ca: Option<FileRef>,
    /// Whether the connection is encrypted; `true` when left out.
    #[serde(default)]
    pub tls: Option<bool>,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// How to reach the schema registry.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The base URL of Confluent's REST API, a path included.
    pub url: String,
    /// HTTP basic authentication; none when left out.
    #[serde(default)]
    pub basic: Option<Basic>,
}

/// HTTP basic authentication.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: SecretRef,
}

/// Another catalog that gets the entries; one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Catalog {
    /// Confluent Stream Catalog.
    #[serde(default)]
    pub confluent: Option<CatalogServer>,
    /// A server of OpenLineage events.
    #[serde(default)]
    pub openlineage: Option<CatalogServer>,
    /// DataHub.
    #[serde(default)]
    pub datahub: Option<CatalogServer>,
}

/// A catalog's server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogServer {
    /// Its base URL.
    pub url: String,
    /// HTTP basic authentication; none when left out.
    #[serde(default)]
    pub basic: Option<Basic>,
    /// A bearer token; none when left out.
    #[serde(default)]
    pub token: Option<SecretRef>,
}

/// A database or store; one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Connection {
    /// A Postgres database.
    #[serde(default)]
    pub postgres: Option<PostgresConnection>,
    /// An S3 bucket, or what speaks its protocol.
    #[serde(default)]
    pub s3: Option<S3Connection>,
}

/// A Postgres database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConnection {
    /// Its URL, which holds a password and so is a secret.
    pub url: SecretRef,
}

/// An S3 bucket.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Connection {
    /// The server's URL.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// The bucket's region.
    #[serde(default)]
    pub region: Option<String>,
    /// The access key's id.
    #[serde(default)]
    pub access_key: Option<SecretRef>,
    /// The access key's secret.
    #[serde(default)]
    pub secret_key: Option<SecretRef>,
}

/// What runs derivations.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Engine {
    /// By name.
    Named(EngineName),
    /// Elsewhere.
    Flink(FlinkEngine),
}

/// An engine by name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    Embedded,
}

/// Apache Flink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlinkEngine {
    /// Apache Flink runs derivations.
    pub flink: Flink,
}

/// Apache Flink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flink {
    /// The SQL Gateway's URL.
    pub gateway: String,
}

/// What manifests may leave out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Partitions of a topic; 6 when left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,
    /// Replication of a topic; the broker's default when left out.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub replication: Option<i16>,
    /// Compatibility level of a subject; `BACKWARD` when left out.
    #[serde(default)]
    pub compatibility: Option<Compatibility>,
}

/// Values for the products that match, over what their manifests say.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Which products; all when left out.
    #[serde(default, rename = "match")]
    pub matches: Option<OverrideMatch>,
    /// Partitions of their topics.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,
    /// Replication of their topics.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub replication: Option<i16>,
    /// Settings of their topics, key by key.
    #[serde(default)]
    pub config: BTreeMap<String, Text>,
}

/// Which products an override is about: those that fit all that is said.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideMatch {
    /// All of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// One of these names.
    #[serde(default)]
    pub names: Vec<String>,
}

/// What may not happen in an environment.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Safety {
    /// Whether `--prune` is allowed; `false` when left out.
    #[serde(default)]
    pub prune: bool,
    /// Topic names that are never deleted; `*` at the end matches any rest.
    #[serde(default)]
    pub protect: Vec<String>,
    /// The only cluster that plan and apply accept; any when left out.
    #[serde(default)]
    pub cluster_id: Option<String>,
}
