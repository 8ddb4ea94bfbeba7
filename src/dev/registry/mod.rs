//! A schema registry that speaks Confluent's REST API (8.0): subjects and their versions, ids, references, compatibility
//! checks, configs and modes, contexts.
//!
//! The walk of a request: `http` takes it off the connection, `paths` finds what it names, `rest` makes the call. What
//! the registry knows is the `store`, a fold over the `records` of the topic `_schemas`, which a [`Journal`] keeps. A
//! change is decided on the state, written, and only then taken in and answered. What a schema means and which schemas are
//! compatible is the business of `crate::schema`, the same code that plans ask.

mod deletes;
mod errors;
mod http;
mod inline;
mod journal;
mod paths;
mod records;
mod requests;
mod rest;
mod schemas;
mod settings;
mod store;
mod subject;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use journal::{Entry, InMemory, Journal, OnTopic};

use errors::Refusal;
use records::Record;
use store::State;

/// What a registry is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The port on loopback; 0 takes a free one.
    pub port: u16,
    /// The Kafka cluster's id, which `/v1/metadata/id` tells.
    pub cluster_id: String,
}

/// A running registry. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Reads the journal, listens on 127.0.0.1, and serves in the background of the tokio runtime that this is called in.
    ///
    /// # Errors
    /// The port is taken, or the journal cannot be read.
    pub async fn start(settings: Settings, journal: impl Journal + 'static) -> io::Result<Running> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await?;
        let address = listener.local_addr()?;
        let registry = Arc::new(Registry::open(settings, Box::new(journal))?);
        let (stop, leaving) = watch::channel(false);
        let served = tokio::spawn(http::serve(registry, listener, leaving));
        Ok(Running { address, stop, served: Some(served) })
    }

    /// Where clients connect: `http://127.0.0.1:8081`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets requests under way end, and ends the connections. Does nothing the second time.
    pub async fn stop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(served) = self.served.take() {
            let _ = served.await;
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Registry {
    settings: Settings,
    state: RwLock<State>,
    journal: Box<dyn Journal>,
}

/// The most bytes that key and value of a record take together: the broker's `max.message.bytes`, less what a batch adds.
const LARGEST_RECORD: usize = 1_048_000;
/// Records are written in batches of about so many bytes.
const BATCH: usize = 512 * 1024;

impl Registry {
    fn open(settings: Settings, journal: Box<dyn Journal>) -> io::Result<Registry> {
        let mut state = State::default();
        for Entry { key, value, timestamp } in journal.read_all()? {
            if let Some(record) = Record::read(&key, value.as_deref()) {
                state.apply(record, timestamp);
            }
        }
        Ok(Registry { settings, state: RwLock::new(state), journal })
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        // The state changes by whole records, and nothing in that panics half-way.
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides on a change, writes it down, and takes it in.
    fn write<T>(&self, decide: impl FnOnce(&State) -> rest::Changed<T>) -> Result<T, Refusal> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (records, answer) = decide(&state)?;
        let timestamp =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
        let entry = |record: &Record| Entry { key: record.key(), value: record.value(), timestamp };
        let written: Vec<Entry> = records.iter().map(entry).collect();
        let size = |entry: &Entry| entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len);
        if let Some(large) = written.iter().map(size).find(|size| *size > LARGEST_RECORD) {
            return Err(Refusal::too_large(large, LARGEST_RECORD));
        }
        let (mut records, mut written) = (records.into_iter(), written.as_slice());
        while !written.is_empty() {
            let mut bytes = 0;
            let fits = |entry: &&Entry| {
                bytes += size(entry);
                bytes <= BATCH
            };
            let count = written.iter().take_while(fits).count().max(1);
            let (batch, rest) = written.split_at_checked(count).unwrap_or((written, &[]));
            self.journal.append(batch).map_err(|error| Refusal::store(&error))?;
            records.by_ref().take(count).for_each(|record| state.apply(record, timestamp));
            written = rest;
        }
        Ok(answer)
    }
}
