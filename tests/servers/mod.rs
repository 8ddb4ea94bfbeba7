//! The servers that tests talk to: those that `MESH_BOOTSTRAP` and `MESH_REGISTRY` name (`tests/stack/stack start`), else a
//! dev broker and registry of this test process's own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mesh::dev::broker::{Running, Settings};
use mesh::dev::registry;

/// Where the servers are.
#[allow(dead_code, reason = "not every suite needs both")]
pub(crate) struct Servers {
    /// `host:port`
    pub(crate) bootstrap: String,
    /// The registry's base URL.
    pub(crate) registry: String,
}

/// The servers, started by whoever asks first.
pub(crate) fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| match (std::env::var("MESH_BOOTSTRAP"), std::env::var("MESH_REGISTRY")) {
        (Ok(bootstrap), Ok(registry)) => Servers { bootstrap, registry },
        (Err(_), Err(_)) => dev(),
        _ => panic!("MESH_BOOTSTRAP and MESH_REGISTRY: name both servers or none"),
    })
}

/// Starts the dev servers in a runtime that lives as long as the process.
fn dev() -> Servers {
    let data = data();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let broker = Running::start(Settings::new(data)).await.unwrap();
            let registry =
                registry::Running::start(registry::Settings::default(), registry::OnTopic::open(broker.broker.clone()).unwrap())
                    .await
                    .unwrap();
            tell.send(Servers { bootstrap: broker.bootstrap(), registry: registry.url() }).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
}

/// A folder of this process's own; those that ended processes left behind go.
fn data() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ended = |id: &str| Path::new("/proc/self").exists() && !Path::new("/proc").join(id).exists();
        if name.strip_prefix("servers-").is_some_and(ended) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    folder.join(format!("servers-{}", std::process::id()))
}
