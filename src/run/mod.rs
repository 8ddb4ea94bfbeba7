//! Run: drives sources and derivations, exactly once, until it is told to stop or all inputs are drained.
//!
//! Every product that is made here has one job, and every job a thread and a transactional producer of its own. Jobs
//! know of each other only what stands on the board. A job whose transaction ended in doubt starts again from what
//! Kafka has committed; a job that can't go on ends the run.

mod aside;
mod board;
mod derive;
mod epoch;
pub(crate) mod merge;
pub mod progress;
mod replay;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use board::Board;
use progress::Progress;

use crate::format::frame::SchemaId;
use crate::format::{Decoded, Decoder, Encoder, Layout, Record};
use crate::kafka::admin::{Admin, NewTopic};
use crate::kafka::consumer::Reader;
use crate::kafka::{KafkaError, Kind};
use crate::model::environment::Kafka;
use crate::model::product::{Origin, Source};
use crate::model::{Mesh, Product};
use crate::plan::{Bound, ProductContract};
use crate::registry::{Registry, RegistryError};
use crate::schema::{self, Written};
use crate::sql::query::{Input, Query};

/// The topic of records that can't be used, of all products.
pub const DEAD_LETTERS: &str = "_mesh.dead-letters";

/// How often a job may start again without having committed anything in between.
const TRIES: u32 = 8;

/// The topic of a derivation's state.
pub fn changelog_topic(product: &str) -> String {
    format!("_mesh.changelog.{product}")
}

/// The consumer group under which a derivation's offsets are committed.
pub fn group(product: &str) -> String {
    format!("mesh.{product}")
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Names of products; empty: all that mesh makes.
    pub only: Vec<String>,
    /// Whether to end when all inputs are drained.
    pub until_idle: bool,
}

/// What a run reports while it goes on.
#[derive(Debug, Clone)]
pub enum Event {
    /// A product's job has started.
    Started { product: String },
    /// A derivation reads its inputs again to bring its state back.
    Rebuilding { product: String },
    /// A job starts again from what was committed.
    Again { product: String, reason: String },
    /// Something worth knowing.
    Note { product: String, text: String },
}

/// What a product's job has done so far.
#[derive(Debug, Default)]
pub struct Counts {
    pub records_in: AtomicU64,
    pub records_out: AtomicU64,
    pub dead_letters: AtomicU64,
    pub late: AtomicU64,
    pub epochs: AtomicU64,
    pub state_bytes: AtomicU64,
    /// Records that are known to wait for this product: read and not yet merged, or committed by a producer in this process
    /// and not yet read.
    pub lag: AtomicU64,
}

/// Why a job ended before the run did.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The run was told to stop.
    Stopped,
    /// What is committed is not known for certain, or a server failed: start again from there.
    Again(String),
    /// Another process produces the product now.
    Fenced(String),
    /// It can't go on.
    Fatal(String),
    /// A server can't be reached or refuses us.
    Unreachable(String),
}

impl Ended {
    fn from_kafka(error: KafkaError) -> Ended {
        match error.kind {
            Kind::Unauthorized => Ended::Unreachable(error.to_string()),
            _ if error.is_fenced() => Ended::Fenced(error.to_string()),
            _ => Ended::Again(error.to_string()),
        }
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// What must exist before a run does not: names each, and what to do.
    #[error("{0}")]
    NotApplied(String),
    /// Something a job can't get over.
    #[error("{0}")]
    Job(String),
    #[error("{0}")]
    Unreachable(String),
}

/// Schema ids of a product's records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) value: i32,
    pub(crate) key: Option<i32>,
}

/// Takes a record's key and value.
type Each<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// What all jobs share.
pub(crate) struct Shared<'a> {
    mesh: &'a Mesh,
    bound: &'a Bound,
    pub(crate) kafka: &'a Kafka,
    pub(crate) root: &'a Path,
    board: &'a Board,
    registry: Registry,
    runtime: tokio::runtime::Handle,
    ids: BTreeMap<String, Ids>,
    partitions: BTreeMap<String, i32>,
    counts: &'a BTreeMap<String, Counts>,
    events: &'a (dyn Fn(Event) + Sync),
    nothing: Counts,
}

/// A run that was prepared: everything it needs exists.
pub struct Run<'a> {
    shared: Shared<'a>,
    jobs: Vec<&'a Product>,
    options: Options,
}

/// The handle by which a run is watched and stopped from another thread.
#[derive(Debug, Default)]
pub struct Watch {
    board: Board,
    counts: BTreeMap<String, Counts>,
}

impl Watch {
    /// For the products that a run of these options makes.
    pub fn new(mesh: &Mesh, options: &Options) -> Watch {
        let counts = made_here(mesh, options).map(|product| (product.name.clone(), Counts::default())).collect();
        Watch { board: Board::default(), counts }
    }

    /// Asks the run to commit and leave.
    pub fn stop(&self) {
        self.board.stop();
    }

    /// What each product's job has done.
    pub fn counts(&self) -> &BTreeMap<String, Counts> {
        &self.counts
    }
}

/// The products that a run makes.
fn made_here<'a>(mesh: &'a Mesh, options: &Options) -> impl Iterator<Item = &'a Product> {
    let only = options.only.clone();
    let made = |product: &&Product| matches!(product.origin, Origin::Source(Source::Replay(_)) | Origin::Derivation(_));
    mesh.products.values().filter(made).filter(move |product| only.is_empty() || only.contains(&product.name))
}

impl<'a> Run<'a> {
    /// Connects, and checks that the topics and schemas of what is to run exist.
    pub async fn prepare(
        mesh: &'a Mesh,
        bound: &'a Bound,
        options: Options,
        watch: &'a Watch,
        events: &'a (dyn Fn(Event) + Sync),
    ) -> Result<Run<'a>, RunError> {
        let jobs: Vec<&Product> = made_here(mesh, &options).collect();
        let environment = &mesh.environment;
        let admin = Admin::connect(&environment.kafka, &mesh.root, Duration::from_secs(10)).await?;
        let registry = Registry::connect(&environment.registry, &mesh.root)?;
        let partitions = topics_of(mesh, bound, &jobs, &admin).await?;
        own_topics(bound, &jobs, &admin).await?;
        let ids = schema_ids(bound, &jobs, &registry).await?;
        let shared = Shared {
            mesh,
            bound,
            kafka: &environment.kafka,
            root: &mesh.root,
            board: &watch.board,
            registry,
            runtime: tokio::runtime::Handle::current(),
            ids,
            partitions,
            counts: &watch.counts,
            events,
            nothing: Counts::default(),
        };
        Ok(Run { shared, jobs, options })
    }

    /// Runs all jobs; returns when they were stopped, are drained (if asked for), or one can't go on.
    pub fn run(self) -> Result<(), RunError> {
        let Run { shared, jobs, options } = &self;
        jobs.iter().for_each(|product| shared.board.announce(&product.name));
        let failures = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for product in jobs {
                let failures = &failures;
                scope.spawn(move || {
                    if let Err(error) = run_job(shared, product) {
                        failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(error);
                        shared.board.stop();
                    }
                });
            }
            if options.until_idle {
                shared.board.wait_for_idle();
                shared.board.stop();
            }
        });
        let failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.into_iter().next().map_or(Ok(()), Err)
    }
}

/// Runs one job until the run ends, starting it again where that can help.
fn run_job(shared: &Shared<'_>, product: &Product) -> Result<(), RunError> {
    let mut tries = 0;
    loop {
        shared.event(Event::Started { product: product.name.clone() });
        let before = shared.counts(&product.name).epochs.load(Ordering::Relaxed);
        let reason = match run_once(shared, product) {
            Ok(()) | Err(Ended::Stopped) => return Ok(()),
            Err(Ended::Fatal(reason)) => return Err(RunError::Job(reason)),
            Err(Ended::Unreachable(reason)) => return Err(RunError::Unreachable(reason)),
            Err(Ended::Fenced(reason)) => {
                return Err(RunError::Job(format!("{}: another run has taken over: {reason}", product.name)));
            }
            Err(Ended::Again(reason)) => reason,
        };
        if shared.counts(&product.name).epochs.load(Ordering::Relaxed) > before {
            tries = 0;
        }
        tries += 1;
        if tries > TRIES {
            return Err(RunError::Unreachable(format!("{}: gave up after {TRIES} tries: {reason}", product.name)));
        }
        shared.event(Event::Again { product: product.name.clone(), reason });
        if shared.board.wait_for_stop(Some(Duration::from_millis(100) * 2u32.pow(tries))) {
            return Ok(());
        }
    }
}

fn run_once(shared: &Shared<'_>, product: &Product) -> Result<(), Ended> {
    match (&product.origin, shared.bound.queries.get(&product.name)) {
        (Origin::Source(Source::Replay(file)), _) => replay::run(shared, product, file),
        (Origin::Derivation(derivation), Some(query)) => derive::run(shared, product, derivation, query),
        _ => Ok(()),
    }
}

/// The partitions of every topic that is read or written, by topic.
async fn topics_of(mesh: &Mesh, bound: &Bound, jobs: &[&Product], admin: &Admin) -> Result<BTreeMap<String, i32>, RunError> {
    let mut names: Vec<String> = Vec::new();
    for product in jobs {
        names.push(product.topic.name.clone());
        let inputs = bound.reads.get(&product.name).into_iter().flatten();
        names.extend(inputs.filter_map(|input| mesh.products.get(input)).map(|input| input.topic.name.clone()));
    }
    names.sort();
    names.dedup();
    let seen = admin.describe_topics(&names).await?;
    let missing: Vec<&str> = names.iter().filter(|name| !seen.contains_key(*name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let (noun, verb) = if missing.len() == 1 { ("topic", "does") } else { ("topics", "do") };
        return Err(RunError::NotApplied(format!("{noun} {} {verb} not exist", missing.join(", "))));
    }
    Ok(seen.into_iter().map(|(name, topic)| (name, topic.partitions.len() as i32)).collect())
}

/// Makes the topics that runs need for themselves.
async fn own_topics(bound: &Bound, jobs: &[&Product], admin: &Admin) -> Result<(), RunError> {
    let compacted = || BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    let topic = |name: String, config| NewTopic { name, partitions: 1, replication: None, config };
    let large = BTreeMap::from([("max.message.bytes".to_owned(), epoch::LARGEST_LETTERS.to_string())]);
    let mut wanted = vec![topic(progress::TOPIC.into(), compacted()), topic(DEAD_LETTERS.into(), large)];
    for product in jobs {
        let state = bound.queries.get(&product.name).and_then(|query| crate::engine::Dataflow::compile(query).ok());
        if state.is_some_and(|flow| flow.has_changelog()) {
            wanted.push(topic(changelog_topic(&product.name), compacted()));
        }
    }
    let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let seen = admin.describe_topics(&names).await?;
    wanted.retain(|topic| !seen.contains_key(&topic.name));
    if wanted.is_empty() {
        return Ok(());
    }
    for (name, made) in admin.create_topics(&wanted, false).await? {
        match made {
            Err(error) if error.name != "TOPIC_ALREADY_EXISTS" => {
                return Err(RunError::NotApplied(format!("topic {name} can't be made: {error}")));
            }
            _ => {}
        }
    }
    let made: Vec<(String, i32)> = wanted.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    Ok(admin.await_topics(&made).await?)
}

/// The ids of the schemas that are written, by product.
async fn schema_ids(bound: &Bound, jobs: &[&Product], registry: &Registry) -> Result<BTreeMap<String, Ids>, RunError> {
    let mut ids = BTreeMap::new();
    for product in jobs {
        let Some(contract) = bound.contracts.get(&product.name) else { continue };
        let value = schema_id(registry, &product.value_subject(), contract, &contract.value).await?;
        let key = match (product.key_subject(), &contract.key) {
            (Some(subject), Some(text)) => Some(schema_id(registry, &subject, contract, text).await?),
            _ => None,
        };
        ids.insert(product.name.clone(), Ids { value, key });
    }
    Ok(ids)
}

/// The id of a contract's schema: as it is, or as a text that means the same and is laid out differently.
async fn schema_id(registry: &Registry, subject: &str, contract: &ProductContract, text: &str) -> Result<i32, RunError> {
    if let Some(registered) = registry.lookup(subject, contract.format, text).await? {
        return Ok(registered.id);
    }
    let parse = |text: &str| schema::parse(contract.format, text, &[]).ok();
    let same = |registered: &str| {
        parse(registered).zip(parse(text)).is_some_and(|(registered, wanted)| registered.same_as(&wanted, true))
    };
    match registry.latest(subject).await? {
        Some(latest) if same(&latest.schema.text) => Ok(latest.schema.id),
        _ => Err(RunError::NotApplied(format!("the schema of subject {subject} is not registered as the manifest has it"))),
    }
}

impl Shared<'_> {
    pub(crate) fn event(&self, event: Event) {
        (self.events)(event);
    }

    pub(crate) fn counts(&self, product: &str) -> &Counts {
        self.counts.get(product).unwrap_or(&self.nothing)
    }

    pub(crate) fn product(&self, name: &str) -> Result<&Product, Ended> {
        self.mesh.products.get(name).ok_or_else(|| Ended::Fatal(format!("there is no product {name}")))
    }

    pub(crate) fn contract(&self, product: &str) -> Result<&ProductContract, Ended> {
        self.bound.contracts.get(product).ok_or_else(|| Ended::Fatal(format!("{product} has no contract")))
    }

    pub(crate) fn ids(&self, product: &str) -> Result<Ids, Ended> {
        self.ids.get(product).copied().ok_or_else(|| Ended::Fatal(format!("{product} has no registered schema")))
    }

    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        self.partitions.get(topic).copied().unwrap_or(0)
    }

    /// A decoder for the columns that a query reads of an input.
    pub(crate) fn decoder(&self, input: &Input) -> Result<Decoder, Ended> {
        let contract = self.contract(&input.product)?;
        let layout = Layout {
            format: contract.format,
            framing: self.product(&input.product)?.contract.framing,
            row_type: input.row_type.clone(),
            key: input.key.clone(),
            time_column: input.time_column,
            shape: input.shape,
        };
        let mut decoder = Decoder::new(layout, &contract.value, contract.key.as_deref())
            .map_err(|error| Ended::Fatal(format!("the records of {} can't be read: {error}", input.product)))?;
        if let Some(ahead_ms) = self.product(&input.product)?.time.bound_ms() {
            decoder.bound_event_time(ahead_ms);
        }
        Ok(decoder)
    }

    /// How far event times of an input may lie in the future of their records' own timestamps.
    pub(crate) fn ahead_ms(&self, inputs: &[Input], input: usize) -> Result<i64, Ended> {
        let Some(input) = inputs.get(input) else { return Ok(0) };
        Ok(self.product(&input.product)?.time.bound_ms().unwrap_or(0))
    }

    /// An encoder for a derivation's results: the query's columns, in its order; they go into the contract's by name.
    pub(crate) fn encoder(&self, product: &Product, query: &Query) -> Result<Encoder, Ended> {
        let (contract, ids) = (self.contract(&product.name)?, self.ids(&product.name)?);
        let position = |column: &String| query.row_type.index_of(column).ok();
        let layout = Layout {
            format: contract.format,
            framing: product.contract.framing,
            row_type: query.row_type.clone(),
            key: product.key.iter().filter_map(position).collect(),
            time_column: None,
            shape: product.shape,
        };
        Encoder::new(layout, &contract.value, ids.value, ids.key)
            .map_err(|error| Ended::Fatal(format!("the records of {} can't be written: {error}", product.name)))
    }

    /// Decodes records of the product `input`, fetching the schemas they were written with. A registry that can't be reached
    /// is waited for, which `product` tells.
    pub(crate) fn decode(
        &self,
        decoder: &mut Decoder,
        records: &[Record<'_>],
        (product, input): (&str, &str),
    ) -> Result<Decoded, Ended> {
        let mut wait = Duration::from_millis(100);
        loop {
            let decoded = decoder.decode(records);
            if decoded.missing.is_empty() {
                return Ok(decoded);
            }
            for id in &decoded.missing {
                match self.runtime.block_on(self.writer_schema(*id, input)) {
                    // A schema that does not fit makes its records bad; the decoder says so of each.
                    Ok(Ok(schema)) => drop(decoder.add_schema(*id, &schema)),
                    Ok(Err(reason)) => decoder.refuse_schema(*id, &reason),
                    Err(error) => {
                        self.event(Event::Note { product: product.into(), text: format!("waits for the registry: {error}") });
                        if self.board.wait_for_stop(Some(wait)) {
                            return Err(Ended::Stopped);
                        }
                        wait = (wait * 2).min(Duration::from_secs(10));
                    }
                }
            }
        }
    }

    /// A schema that records of an input were written with, or why its records are bad.
    async fn writer_schema(&self, id: SchemaId, input: &str) -> Result<Result<Written, String>, RegistryError> {
        let unknown = || Err("the registry does not know it".to_owned());
        let number = match id {
            SchemaId::Guid(_) => return Ok(self.registry.by_guid(&id.to_string()).await?.map_or_else(unknown, Ok)),
            SchemaId::Id(number) => number,
        };
        let Some(schema) = self.registry.by_id(number).await? else { return Ok(unknown()) };
        let Some(product) = self.mesh.products.get(input) else { return Ok(Ok(schema)) };
        let own = |subject: &String| *subject == product.value_subject() || Some(subject) == product.key_subject().as_ref();
        Ok(match self.registry.subjects_of(number).await? {
            Some(subjects) if !subjects.is_empty() && !subjects.iter().any(own) => {
                Err(format!("schema {number} is of the subject {}, not of {}", subjects.join(", "), product.value_subject()))
            }
            _ => Ok(schema),
        })
    }

    /// How far a product had come.
    pub(crate) fn read_progress(&self, product: &str) -> Result<Progress, Ended> {
        let mut found = None;
        self.read_whole(progress::TOPIC, &mut |key, value| {
            if key == product.as_bytes() {
                found = value.map(<[u8]>::to_vec);
            }
        })?;
        found.map_or(Ok(Progress::default()), |bytes| Progress::decode(&bytes).map_err(Ended::Fatal))
    }

    /// Hands every committed record of a topic with one partition to `each`, in order.
    pub(crate) fn read_whole(&self, topic: &str, each: &mut Each<'_>) -> Result<(), Ended> {
        let mut reader = Reader::new(self.kafka, self.root, "mesh").map_err(Ended::from_kafka)?;
        let (mut position, end) = reader.watermarks(topic, 0).map_err(Ended::from_kafka)?;
        if position >= end {
            return Ok(());
        }
        reader.assign(&[topic.to_owned()], &[(0, 0, position)]).map_err(Ended::from_kafka)?;
        while position < end {
            let polled = reader.poll(Duration::from_millis(500), 10_000).map_err(Ended::from_kafka)?;
            for message in &polled.messages {
                position = message.offset() + 1;
                each(message.key().unwrap_or_default(), message.payload());
            }
            if let Some(end) = polled.ends.last() {
                position = position.max(end.offset);
            }
            if self.board.is_stopped() {
                return Err(Ended::Stopped);
            }
        }
        Ok(())
    }
}
