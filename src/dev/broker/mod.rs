//! A broker that speaks the Kafka protocol: one node, its logs on disk, nothing to install.
//!
//! The walk of a request: [`server`] reads a frame and hands it to [`dispatch`], which decodes it, calls the one function
//! that serves its API and encodes what that answers. The functions stand in the file of their subject and share the
//! [`Broker`], whose parts lock themselves. What must outlive a kill stands in two places: records in the partitions' logs,
//! everything else in the [`journal`].

pub mod admin;
pub mod batch;
pub mod compression;
pub mod configs;
pub mod data;
pub mod dispatch;
pub mod faults;
pub mod groups;
pub mod journal;
pub mod layout;
pub mod log;
pub mod partition;
pub mod producers;
mod refusals;
pub mod security;
pub mod server;
pub mod topics;
pub mod transactions;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, watch};

use configs::Configs;
use faults::Faults;
use journal::{Journal, Kind};
use security::Security;
use topics::Topics;
use transactions::Transactions;

/// The one node's id.
pub const NODE: i32 = 1;

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the logs and the journal are kept; made if it is not there.
    pub data: PathBuf,
    /// The port on loopback; 0 takes a free one.
    pub port: u16,
    /// Whether ACLs are enforced. They are stored in any case.
    pub authorize: bool,
    /// Principals that may do everything, such as `User:admin`.
    pub super_users: Vec<String>,
    /// Broker configs by Kafka's names (`log.retention.ms`), as a `server.properties` would give them.
    pub configs: BTreeMap<String, String>,
    /// What tests make go wrong; may be changed while the broker runs.
    pub faults: Arc<Faults>,
}

impl Settings {
    /// A broker on a free port that keeps its data in `data`.
    pub fn new(data: impl Into<PathBuf>) -> Settings {
        Settings {
            data: data.into(),
            port: 0,
            authorize: false,
            super_users: Vec::new(),
            configs: BTreeMap::new(),
            faults: Arc::default(),
        }
    }
}

/// The broker: all that its connections share.
#[derive(Debug)]
pub struct Broker {
    pub settings: Settings,
    /// Where it listens.
    pub address: SocketAddr,
    /// The cluster's id: 22 characters of base64, made once per data directory.
    pub cluster_id: String,
    pub journal: Journal,
    pub configs: Configs,
    pub features: admin::features::Features,
    pub topics: Topics,
    /// What answers that are not yet written may take.
    pub answers: data::fetch::Answers,
    pub transactions: Transactions,
    pub security: Security,
    pub groups: groups::Groups,
    /// Becomes true when the broker leaves: whoever waits for something else waits for this as well.
    leaving: watch::Receiver<bool>,
}

/// Who sent a request, and in which version of its API.
#[derive(Debug, Clone)]
pub struct Call {
    pub version: i16,
    pub client_id: String,
    pub session: Arc<Session>,
}

/// What a connection remembers between its requests.
#[derive(Debug)]
pub struct Session {
    /// A number that no other connection of this process has.
    pub id: u64,
    pub peer: SocketAddr,
    /// Who the client is: `User:ANONYMOUS` unless it logged in.
    pub principal: Mutex<String>,
    /// How far its login has come.
    pub login: Mutex<security::sasl::Login>,
    /// Its answer's share of what answers may take, until it is written.
    pub share: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Session {
    /// Who the client is now.
    pub fn principal(&self) -> String {
        self.principal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the share of the answer that is under way; `None` when it is written.
    pub fn hold(&self, share: Option<OwnedSemaphorePermit>) {
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = share;
    }
}

/// A running broker. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    pub broker: Arc<Broker>,
    stop: watch::Sender<bool>,
    served: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Opens the data, listens, and serves in the background of the tokio runtime that this is called in.
    ///
    /// # Errors
    /// The port is taken, or the data cannot be read or written.
    pub async fn start(settings: Settings) -> io::Result<Running> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), settings.port);
        let listener = server::listen(address)?;
        let (stop, leaving) = watch::channel(false);
        let broker = Arc::new(Broker::open(settings, listener.local_addr()?, leaving)?);
        broker.transactions.recover(&*broker);
        tokio::spawn(transactions::sweep(broker.clone()));
        let served = tokio::spawn(server::serve(broker.clone(), listener));
        tokio::spawn(data::upkeep::retention_loop(broker.clone()));
        tokio::spawn(data::upkeep::compaction_loop(broker.clone()));
        tokio::spawn(groups::groups_loop(broker.clone()));
        Ok(Running { broker, stop, served: Some(served) })
    }

    /// Where clients connect: `127.0.0.1:9092`.
    pub fn bootstrap(&self) -> String {
        self.broker.address.to_string()
    }

    /// Ends the connections and writes what is still in memory. Does nothing the second time.
    pub async fn stop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(served) = self.served.take() {
            let _ = served.await;
        }
    }
}

impl Broker {
    fn open(settings: Settings, address: SocketAddr, leaving: watch::Receiver<bool>) -> io::Result<Broker> {
        std::fs::create_dir_all(&settings.data)?;
        let journal = Journal::open(&settings.data.join("journal"))?;
        let configs = Configs::open(&settings, address, &journal)?;
        let topics = Topics::open(&settings.data, &journal, |topic| configs.topic(topic), now())?;
        Ok(Broker {
            cluster_id: cluster_id(&journal)?,
            groups: groups::Groups::open(&journal, &configs, &topics, now())?,
            transactions: Transactions::open(&journal)?,
            answers: data::fetch::Answers::default(),
            topics,
            configs,
            features: admin::features::Features::open(&journal)?,
            security: Security::open(&journal)?,
            settings,
            address,
            journal,
            leaving,
        })
    }

    /// The time now, in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        now()
    }

    /// Ends when the broker leaves.
    pub async fn left(&self) {
        let mut leaving = self.leaving.clone();
        // An error says that the `Running` is gone, which is leaving as well.
        let _ = leaving.wait_for(|leaving| *leaving).await;
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn cluster_id(journal: &Journal) -> io::Result<String> {
    use base64::Engine;
    if let Some((_, id)) = journal.read::<String>(Kind::Cluster)?.into_iter().next() {
        return Ok(id);
    }
    let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
    journal.write(&[journal::Change::put(Kind::Cluster, "id", &id)?])?;
    Ok(id)
}
