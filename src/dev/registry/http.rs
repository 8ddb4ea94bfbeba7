//! HTTP: connections, bodies, media types, and the answers that the framework gives before a call is made.
//!
//! Memory is bounded whatever clients do: bodies end at [`LARGEST`], large ones share [`BUFFERED`], connections are at most
//! [`MOST_CONNECTIONS`], and one that makes no progress is closed.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::Registry;
use super::errors::Refusal;
use super::paths::{self, Query};
use super::rest;

/// The largest body that is taken, in bytes.
const LARGEST: usize = 10 * 1024 * 1024;
/// How much of a body that is too large is read all the same, so that its sender comes to read the answer.
const PASSED_OVER: usize = 64 * 1024 * 1024;
/// Bodies up to this size are read without asking; larger ones wait for their share of [`BUFFERED`].
const SMALL: usize = 64 * 1024;
/// What large bodies may take together, in KiB.
const BUFFERED: u32 = 64 * 1024;
/// How many clients are served at once; more of them wait.
const MOST_CONNECTIONS: usize = 4_096;
/// How long a client may take to send a request's head, or a body.
const SLOWEST_HEAD: Duration = Duration::from_secs(30);
const SLOWEST_BODY: Duration = Duration::from_secs(60);
/// How long a connection may be silent, or its client take nothing.
const STALLED: Duration = Duration::from_secs(90);
/// How long requests under way may take when the registry leaves.
const LEAVING: Duration = Duration::from_secs(2);

/// Takes connections until the registry leaves; then lets requests under way end.
pub(super) async fn serve(registry: Arc<Registry>, listener: TcpListener, mut leaving: watch::Receiver<bool>) {
    let buffered = Arc::new(Semaphore::new(BUFFERED as usize));
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&listener, &places) => {
                let Some((stream, place)) = accepted else { continue };
                let (registry, buffered, leaving) = (registry.clone(), buffered.clone(), leaving.clone());
                connections.spawn(async move {
                    connection(registry, stream, buffered, leaving).await;
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
            () = left(&mut leaving) => break,
        }
    }
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(LEAVING, all_ended).await;
    connections.shutdown().await;
}

async fn left(leaving: &mut watch::Receiver<bool>) {
    // An error says that the `Running` is gone, which is leaving as well.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        // Out of file descriptors, most likely: one is free again when a connection ends.
        Err(_) => {
            sleep(Duration::from_millis(20)).await;
            None
        }
    }
}

async fn connection(registry: Arc<Registry>, stream: TcpStream, buffered: Arc<Semaphore>, mut leaving: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (registry, buffered) = (registry.clone(), buffered.clone());
        async move { Ok::<_, Infallible>(answer(registry, request.map(Body::new), buffered).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SLOWEST_HEAD).max_buf_size(SMALL);
    let served = http.serve_connection(TokioIo::new(Watched::new(stream)), service);
    tokio::pin!(served);
    tokio::select! {
        // Whatever goes wrong on a connection ends it; the client connects again.
        _ = served.as_mut() => {}
        () = left(&mut leaving) => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// A stream that fails when nothing went through it for [`STALLED`].
struct Watched {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
}

impl Watched {
    fn new(stream: TcpStream) -> Watched {
        Watched { stream, deadline: Box::pin(sleep(STALLED)) }
    }

    /// Passes on what came of it, and watches the time while nothing does.
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline.as_mut().reset(Instant::now() + STALLED);
            return polled;
        }
        self.deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

// Answers.

/// The media types that are answered with, the preferred one first, and how much each is preferred.
const PRODUCED: [(&str, u16); 3] =
    [("application/vnd.schemaregistry.v1+json", 1000), ("application/vnd.schemaregistry+json", 900), ("application/json", 500)];
/// What a body may be, besides these: of no particular type, which is taken for JSON.
const GENERIC: &str = "application/octet-stream";

async fn answer(registry: Arc<Registry>, request: Request<Body>, buffered: Arc<Semaphore>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (body, _share) = match read_body(body, &head.headers, &buffered).await {
        Ok(read) => read,
        Err(refusal) => return refused(&refusal, None),
    };
    let called = tokio::task::spawn_blocking(move || {
        call(&registry, head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default(), &head.headers, &body)
    });
    called.await.unwrap_or_else(|_| refused(&Refusal::http(500, "Internal Server Error"), None))
}

fn call(registry: &Registry, method: &str, path: &str, query: &str, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let Some(segments) = paths::segments(path) else {
        let page = "<html><head><title>Error 400</title></head><body><h2>HTTP ERROR 400</h2><p>The path is ambiguous or holds what no path may hold.</p></body></html>\n";
        return response(400, Some("text/html;charset=iso-8859-1"), page.to_owned());
    };
    let found = registry.read(|state| paths::find(state, segments, Query::read(query)));
    let (place, query) = match found {
        Ok((Some(place), query)) => (place, query),
        Ok((None, _)) => return refused(&Refusal::not_found(), None),
        Err(why) => return refused(&Refusal::http(400, why), None),
    };
    let allowed = place.methods();
    let served = if method == "HEAD" { "GET" } else { method };
    if method == "OPTIONS" {
        return options(allowed);
    }
    if !allowed.contains(&served) {
        let mut refused = refused(&Refusal::http(405, "HTTP 405 Method Not Allowed"), None);
        with_header(&mut refused, ALLOW, &all_methods(allowed).join(", "));
        return refused;
    }
    if !is_consumed(headers) {
        return refused(&Refusal::http(415, "HTTP 415 Unsupported Media Type"), Some(PRODUCED[0].0));
    }
    let Some(media_type) = negotiate(headers) else {
        return refused(&Refusal::http(406, "HTTP 406 Not Acceptable"), None);
    };
    match rest::answer(registry, &place, served, &query, body) {
        Ok(rest::Body::Json(value)) => response(200, Some(media_type), value.to_string()),
        Ok(rest::Body::Text(text)) => response(200, Some(media_type), text),
        Err(refusal) => refused(&refusal, Some(media_type)),
    }
}

/// All methods of a place, in the order in which Confluent's registry names them.
fn all_methods(allowed: &'static [&'static str]) -> Vec<&'static str> {
    let order = ["HEAD", "DELETE", "POST", "GET", "OPTIONS", "PUT"];
    let has = |method: &&str| match *method {
        "HEAD" => allowed.contains(&"GET"),
        "OPTIONS" => true,
        method => allowed.contains(&method),
    };
    order.into_iter().filter(has).collect()
}

fn options(allowed: &'static [&'static str]) -> Response<Body> {
    let methods = all_methods(allowed).join(", ");
    let mut answer = response(200, Some("text/plain"), methods.clone());
    with_header(&mut answer, ALLOW, &methods);
    answer
}

fn with_header(answer: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn refused(refusal: &Refusal, media_type: Option<&str>) -> Response<Body> {
    response(refusal.status, media_type, json!({"error_code": refusal.code, "message": refusal.message}).to_string())
}

fn response(status: u16, media_type: Option<&str>, body: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(media_type) = media_type {
        with_header(&mut answer, CONTENT_TYPE, media_type);
    }
    answer
}

// Media types.

/// Whether a body of this type is taken. None given is as good as any.
fn is_consumed(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let given = essence(given);
    given.is_empty() || matches(&given, GENERIC) || PRODUCED.iter().any(|(produced, _)| matches(&given, produced))
}

fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a media type is of a range such as `application/*`.
fn matches(range: &str, media_type: &str) -> bool {
    let group = range.strip_suffix('*').filter(|group| group.ends_with('/'));
    range == media_type || matches!(range, "*/*" | "*") || group.is_some_and(|group| media_type.starts_with(group))
}

/// The media type that the client likes best, and among those the one that the registry likes best; `None` if it likes none.
fn negotiate(headers: &HeaderMap) -> Option<&'static str> {
    let given: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|given| given.to_str().ok()).collect();
    let given = if given.iter().all(|given| given.trim().is_empty()) { "*/*".to_owned() } else { given.join(",") };
    let ranges = given.split(',').filter(|range| !range.trim().is_empty()).map(|range| {
        let quality =
            range.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q=")?.trim().parse::<f32>().ok());
        (essence(range), quality.unwrap_or(1.0).clamp(0.0, 1.0))
    });
    let mut best: Option<(f32, u16, &'static str)> = None;
    for (range, quality) in ranges {
        for (produced, preference) in PRODUCED {
            let better = best.is_none_or(|(q, p, _)| (quality, preference) > (q, p));
            if quality > 0.0 && better && matches(&range, produced) {
                best = Some((quality, preference, produced));
            }
        }
    }
    best.map(|(_, _, produced)| produced)
}

// Bodies.

type Share = Option<tokio::sync::OwnedSemaphorePermit>;

/// Reads a body whole. What it takes of [`BUFFERED`] is given back with the share.
async fn read_body(body: Body, headers: &HeaderMap, buffered: &Arc<Semaphore>) -> Result<(Bytes, Share), Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let read = timeout(SLOWEST_BODY, collect(body, announced, buffered)).await;
    read.map_err(|_| Refusal::http(408, "The body did not arrive in time"))?
}

async fn collect(body: Body, announced: Option<usize>, buffered: &Arc<Semaphore>) -> Result<(Bytes, Share), Refusal> {
    let too_large = || Refusal::http(413, format!("The body is larger than {LARGEST} bytes"));
    let mut share: Share = None;
    let mut read = BytesMut::new();
    let mut passed = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Refusal::http(400, format!("The body broke off: {error}")))?;
        if passed > 0 || read.len() + chunk.len() > LARGEST || announced.is_some_and(|announced| announced > LARGEST) {
            read.clear();
            passed += chunk.len();
            if passed > PASSED_OVER {
                return Err(too_large());
            }
            continue;
        }
        if share.is_none() && read.len() + chunk.len() > SMALL {
            let kib = u32::try_from(announced.unwrap_or(LARGEST) / 1024 + 1).unwrap_or(BUFFERED).min(BUFFERED);
            share = buffered.clone().acquire_many_owned(kib).await.ok();
        }
        read.extend_from_slice(&chunk);
    }
    if passed > 0 { Err(too_large()) } else { Ok((read.freeze(), share)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_media_type_that_is_liked_best_is_answered() {
        let [v1, any, json] = PRODUCED.map(|(produced, _)| produced);
        for (accept, expected) in [
            ("", Some(v1)),
            ("*/*", Some(v1)),
            ("application/*", Some(v1)),
            ("application/json", Some(json)),
            ("application/vnd.schemaregistry+json", Some(any)),
            ("application/json, application/vnd.schemaregistry+json", Some(any)),
            ("application/json;q=0.9, application/vnd.schemaregistry.v1+json;q=0.5", Some(json)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(v1)),
            ("application/json;q=0", None),
            ("text/plain", None),
        ] {
            assert_eq!(negotiate(&headers(ACCEPT, accept)), expected, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Some(v1));
    }

    #[test]
    fn json_and_what_may_be_json_is_taken() {
        for (content_type, taken) in [
            ("", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/octet-stream", true),
            ("text/plain", false),
            ("application/xml", false),
        ] {
            assert_eq!(is_consumed(&headers(CONTENT_TYPE, content_type)), taken, "{content_type}");
        }
    }

    #[test]
    fn methods_are_named_in_order() {
        assert_eq!(all_methods(&["GET"]).join(", "), "HEAD, GET, OPTIONS");
        assert_eq!(all_methods(&["DELETE", "POST"]).join(", "), "DELETE, POST, OPTIONS");
    }
}
