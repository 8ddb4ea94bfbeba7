//! Arbitrary bytes as requests, answered by a whole broker: raw, and behind a right header of an API and version that is
//! served, which is where a client's bytes are decoded.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mesh::dev::broker::dispatch::{self, SERVED};
use mesh::dev::broker::{Running, Session, Settings};
use tokio::runtime::Runtime;

/// After so many inputs a new broker takes over: topics that inputs made would pile up.
const INPUTS: u32 = 2_000;
/// How long an answer is awaited; requests may wait for what never comes.
const PATIENCE: Duration = Duration::from_millis(20);

struct Stage {
    runtime: Runtime,
    running: Running,
    session: Arc<Session>,
    inputs: u32,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let running = runtime.block_on(Running::start(Settings::new(folder.path()))).expect("a broker");
        let session = Session {
            id: 1,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            principal: Mutex::new("User:ANONYMOUS".to_owned()),
            login: Mutex::default(),
            share: Mutex::default(),
        };
        Stage { runtime, running, session: Arc::new(session), inputs: 0, _folder: folder }
    }

    fn answer(&mut self, frame: Bytes) {
        self.inputs += 1;
        let answer = dispatch::answer(&self.running.broker, &self.session, frame);
        // An answer is Some bytes, none, or the end of the connection; a panic is the only wrong one.
        let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
    }
}

static STAGE: Mutex<Option<Stage>> = Mutex::new(None);

fuzz_target!(|data: &[u8]| {
    let mut stage = STAGE.lock().expect("no panic before");
    if stage.as_ref().is_some_and(|stage| stage.inputs >= INPUTS) {
        *stage = None;
    }
    stage.get_or_insert_with(Stage::new).answer(frame(data));
});

/// The first byte picks the API, the second the version; what follows is the body. Beyond the APIs: raw bytes.
fn frame(data: &[u8]) -> Bytes {
    let [api, version, body @ ..] = data else { return Bytes::copy_from_slice(data) };
    let Some((key, min, max)) = SERVED.get(usize::from(*api)) else { return Bytes::copy_from_slice(&data[1..]) };
    let version = min + i16::from(*version) % (max - min + 1);
    let mut frame = BytesMut::new();
    frame.put_i16(*key as i16);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    if key.request_header_version(version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.freeze()
}
