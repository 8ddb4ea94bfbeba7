//! Connections: frames in, frames out, one request of a connection at a time and in order, as Kafka does it.
//!
//! Memory is bounded whatever clients do: a frame is read piece by piece, so that its header alone reserves nothing; large
//! frames share `BUFFERED`; an answer is written before the next request is read, and who does not read it is dropped.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Broker, Session, dispatch};

/// The largest frame taken, in bytes: Kafka's `socket.request.max.bytes`.
const FRAME: usize = 100 * 1024 * 1024;
/// Frames up to this size are read without asking; larger ones wait for their share of [`BUFFERED`].
const SMALL: usize = 64 * 1024;
/// What large frames of all connections may take together, in KiB.
const BUFFERED: u32 = 192 * 1024;
/// How long a connection may be silent between requests: Kafka's `connections.max.idle.ms`.
const IDLE: Duration = Duration::from_secs(600);
/// How long the rest of a begun frame, or a reader of an answer, may make no progress.
const STALLED: Duration = Duration::from_secs(60);

/// Binds `address` so that a restart finds the port free at once.
///
/// # Errors
/// The port is taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Takes connections until the broker leaves; then ends them all.
pub(super) async fn serve(broker: Arc<Broker>, listener: TcpListener) {
    let buffered = Arc::new(Semaphore::new(BUFFERED as usize));
    let places = most_connections();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Who finds no place waits in the listener's queue until another one leaves.
            accepted = listener.accept(), if connections.len() < places => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(broker.clone(), stream, peer, buffered.clone()));
                }
                // Out of file descriptors, most likely: one is free again when a connection ends.
                Err(_) => { tokio::time::sleep(Duration::from_millis(20)).await; }
            },
            Some(_) = connections.join_next() => {}
            () = broker.left() => break,
        }
    }
    connections.shutdown().await;
}

/// How many connections there may be: three quarters of the files that the process may open, so that logs can always be
/// opened. The process's soft limit is raised as far as it may be.
fn most_connections() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    usize::try_from(files / 4 * 3).unwrap_or(usize::MAX)
}

async fn connection(broker: Arc<Broker>, mut stream: TcpStream, peer: SocketAddr, buffered: Arc<Semaphore>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let _ = stream.set_nodelay(true);
    let session = Arc::new(Session {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        peer,
        principal: Mutex::new("User:ANONYMOUS".to_owned()),
        login: Mutex::default(),
        share: Mutex::default(),
    });
    // Whatever goes wrong on a connection ends it; the client connects again.
    while let Ok(Some(frame)) = read(&mut stream, &buffered).await {
        match dispatch::answer(&broker, &session, frame).await {
            dispatch::Answer::Send(bytes) => {
                if write(&mut stream, &bytes).await.is_err() {
                    return;
                }
                session.hold(None);
            }
            dispatch::Answer::Nothing => {}
            dispatch::Answer::Close => return,
        }
    }
}

/// The next frame without its size; `None` at the end of the connection or when it is no Kafka client's.
async fn read(stream: &mut TcpStream, buffered: &Arc<Semaphore>) -> io::Result<Option<Bytes>> {
    let Ok(size) = timeout(IDLE, stream.read_i32()).await else { return Ok(None) };
    let Ok(size) = usize::try_from(size?) else { return Ok(None) };
    // A request's header is 8 bytes at the least.
    if !(8..=FRAME).contains(&size) {
        return Ok(None);
    }
    let share = u32::try_from(size / 1024).unwrap_or(BUFFERED);
    let _share = if size > SMALL { buffered.acquire_many(share).await.ok() } else { None };
    let mut frame = BytesMut::with_capacity(size.min(SMALL));
    while frame.len() < size {
        frame.reserve((size - frame.len()).min(frame.len().max(SMALL)));
        let mut rest = (&mut *stream).take((size - frame.len()) as u64);
        match timeout(STALLED, rest.read_buf(&mut frame)).await {
            Ok(Ok(read)) if read > 0 => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(frame.freeze()))
}

/// Writes all of `bytes`, unless the client takes none for [`STALLED`].
async fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(STALLED, stream.write(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
