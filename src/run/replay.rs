//! A replay: the loop that writes a file's lines to its product's topic, each exactly once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::board::Finished;
use super::epoch::{Cause, DeadLetter, EPOCH, Epoch};
use super::{Ended, Event, Shared};
use crate::format::{Encoded, FormatError, Line, LineEncoder, codes};
use crate::model::Product;
use crate::model::product::Replay;
use crate::sources::replay::Lines;
use serde_json::Value;

/// Lines between two looks at the clock.
const LINES_PER_LOOK: u64 = 64;

/// Replays the file from where the last committed epoch ended, then waits for the end of the run.
pub(super) fn run(shared: &Shared<'_>, product: &Product, replay: &Replay) -> Result<(), Ended> {
    let mut epoch = Epoch::open(shared, product)?;
    let mut encoder = encoder(shared, product)?;
    let mut encoded = Encoded::default();
    let position = epoch.progress.replay.clone().unwrap_or_default();
    let unreadable = |error: std::io::Error| Ended::Fatal(format!("{}: {}: {error}", product.name, replay.file));
    let (mut lines, same) = Lines::resume(&replay.path, &position).map_err(unreadable)?;
    if !same {
        shared.event(Event::Note {
            product: product.name.clone(),
            text: format!("{} is another file now: read from its beginning", replay.file),
        });
    }
    let mut frontier = epoch.progress.frontier.unwrap_or(i64::MIN);
    let mut pace = Pace::new(replay.speed);
    publish(shared, product, &epoch, frontier, false);
    let (mut line, mut number) = (Vec::new(), lines.position().lines);
    while !shared.board.is_stopped() {
        let before = pace.is_some().then(|| lines.position());
        if !lines.next(&mut line).map_err(unreadable)? {
            break;
        }
        number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        shared.counts(&product.name).records_in.fetch_add(1, Ordering::Relaxed);
        encoded.slab.clear();
        encoded.records.clear();
        match encode(&mut encoder, replay, &line, &mut encoded) {
            Ok(timestamp) => {
                let wait = pace.as_mut().map_or(Duration::ZERO, |pace| pace.wait(timestamp));
                if !wait.is_zero() {
                    epoch.progress.replay = before;
                    epoch.commit(&[], frontier)?;
                    publish(shared, product, &epoch, frontier, false);
                    if shared.board.wait_for_stop(Some(wait)) {
                        return Ok(());
                    }
                }
                frontier = frontier.max(timestamp);
                epoch.send(&encoded)?;
            }
            Err(bad) => put_aside(&mut epoch, replay, &line, number, frontier, &bad)?,
        }
        if number.is_multiple_of(LINES_PER_LOOK) && epoch.age() >= EPOCH {
            epoch.progress.replay = Some(lines.position());
            epoch.commit(&[], frontier)?;
            publish(shared, product, &epoch, frontier, false);
        }
    }
    epoch.progress.replay = Some(lines.position());
    epoch.commit(&[], frontier)?;
    publish(shared, product, &epoch, frontier, !shared.board.is_stopped());
    shared.board.wait_for_stop(None);
    Ok(())
}

/// A line that is no record of the product: to the dead letters, where it can be looked at.
fn put_aside(
    epoch: &mut Epoch<'_>,
    replay: &Replay,
    line: &[u8],
    number: u64,
    timestamp: i64,
    bad: &BadLine,
) -> Result<(), Ended> {
    let record = Cause { origin: &replay.file, partition: 0, offset: number as i64, timestamp: Some(timestamp) };
    let (code, reason) = (bad.code, bad.reason.as_str());
    epoch.dead_letter(&DeadLetter { record: Some(record), value: Some(line), code, reason, ..DeadLetter::default() })
}

fn encoder(shared: &Shared<'_>, product: &Product) -> Result<LineEncoder, Ended> {
    let (contract, ids) = (shared.contract(&product.name)?, shared.ids(&product.name)?);
    LineEncoder::new((contract.format, product.contract.framing), &contract.value, &product.key, ids.value, ids.key)
        .map_err(|error| Ended::Fatal(format!("{}: {error}", product.name)))
}

/// Why a line is no record.
struct BadLine {
    code: &'static str,
    reason: String,
}

impl From<FormatError> for BadLine {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Record { code, reason } => BadLine { code, reason },
            other => BadLine { code: codes::MALFORMED, reason: other.to_string() },
        }
    }
}

fn malformed(reason: impl Into<String>) -> BadLine {
    BadLine { code: codes::MALFORMED, reason: reason.into() }
}

/// Encodes a line as a record of the product; gives its time.
fn encode(encoder: &mut LineEncoder, replay: &Replay, line: &[u8], out: &mut Encoded) -> Result<i64, BadLine> {
    let json: Value = serde_json::from_slice(line).map_err(|error| malformed(format!("the line is no JSON: {error}")))?;
    let line = if replay.envelope {
        let timestamp = json.get("ts").and_then(Value::as_i64);
        let timestamp = timestamp.ok_or_else(|| malformed("an envelope has \"ts\", in milliseconds since 1970"))?;
        let value = json.get("value").ok_or_else(|| malformed("an envelope has \"value\", null to delete"))?;
        Line { value: Some(value), key: json.get("key"), timestamp }
    } else {
        Line { value: Some(&json), key: None, timestamp: replay.at_ms.unwrap_or(0) }
    };
    encoder.encode_line(&line, out)?;
    Ok(line.timestamp)
}

fn publish(shared: &Shared<'_>, product: &Product, epoch: &Epoch<'_>, frontier: i64, idle: bool) {
    shared.board.publish(&product.name, Finished { ends: epoch.ends(), frontier, idle });
}

/// Keeps event time and wall time apart by a factor.
struct Pace {
    speed: f64,
    start: Option<(Instant, i64)>,
}

impl Pace {
    /// `None`: as fast as it goes.
    fn new(speed: f64) -> Option<Pace> {
        (speed > 0.0).then_some(Pace { speed, start: None })
    }

    /// How long until a record is due.
    fn wait(&mut self, timestamp: i64) -> Duration {
        let (began, first) = *self.start.get_or_insert_with(|| (Instant::now(), timestamp));
        let after = (timestamp - first).max(0) as f64 / 1000.0 / self.speed;
        Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX).saturating_sub(began.elapsed())
    }
}
