//! The servers that a test talks to: those that `MESH_BOOTSTRAP` and `MESH_REGISTRY` name (`tests/stack/stack start`), which
//! all tests share, else a dev broker and registry of the test's own.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use mesh::dev::broker::{self, Settings};
use mesh::dev::registry;

/// Where the servers are. Those of the test's own end with this.
#[allow(dead_code, reason = "not every suite needs all of it")]
pub(crate) struct Servers {
    /// `host:port`
    pub(crate) bootstrap: String,
    /// The registry's base URL.
    pub(crate) registry: String,
    own: Option<Own>,
}

#[allow(dead_code, reason = "kept until the test ends")]
struct Own {
    registry: registry::Running,
    broker: broker::Running,
    data: tempfile::TempDir,
}

impl Servers {
    /// Those that are named, or new ones.
    pub(crate) fn get() -> Servers {
        match (std::env::var("MESH_BOOTSTRAP"), std::env::var("MESH_REGISTRY")) {
            (Ok(bootstrap), Ok(registry)) => Servers { bootstrap, registry, own: None },
            (Err(_), Err(_)) => Servers::dev(),
            _ => panic!("MESH_BOOTSTRAP and MESH_REGISTRY: name both servers or none"),
        }
    }

    /// Starts dev servers in a runtime that all of a process's tests share.
    fn dev() -> Servers {
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        let new = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        // From a task of its own, as a test may have a runtime that must not be blocked.
        RUNTIME.get_or_init(new).spawn(async move {
            let data = data();
            let broker = broker::Running::start(Settings::new(data.path())).await.unwrap();
            let journal = registry::OnTopic::open(broker.broker.clone()).unwrap();
            let registry = registry::Running::start(registry::Settings::default(), journal).await.unwrap();
            let (bootstrap, url) = (broker.bootstrap(), registry.url());
            tell.send(Servers { bootstrap, registry: url, own: Some(Own { registry, broker, data }) }).ok().unwrap();
        });
        told.recv().unwrap()
    }

    /// For what can't be done by two at once on the same servers: on shared ones the tests take turns.
    #[allow(dead_code, reason = "not every suite needs it")]
    pub(crate) fn turn(&self) -> Option<MutexGuard<'static, ()>> {
        static TURN: Mutex<()> = Mutex::new(());
        self.own.is_none().then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A folder of this process's own; those that ended processes left behind go.
fn data() -> tempfile::TempDir {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(all).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("servers-").and_then(|rest| rest.split('-').next());
        let ended = |id: &str| Path::new("/proc/self").exists() && !Path::new("/proc").join(id).exists();
        if process.is_some_and(ended) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new().prefix(&format!("servers-{}-", std::process::id())).tempdir_in(all).unwrap()
}
