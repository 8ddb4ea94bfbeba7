//! A derivation: the loop that reads its inputs, steps its dataflow and writes the results, exactly once.
//!
//! One turn: read what has come, decode it, merge it by event time with the other inputs, step the dataflow over what
//! nothing can come before, write the results. Every 100 ms the turn ends with a commit of all of it. What was read but
//! not yet merged is not committed as read, so the only state to rebuild after a restart is the dataflow's own.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::aside::{Aside, Places, Unused};
use super::board::Finished;
use super::epoch::{Cause, DeadLetter, EPOCH, Epoch};
use super::merge::{Bound, Merge, Step};
use super::{Ended, Event, Shared};
use crate::engine::{BadRow, Dataflow, Rebuild};
use crate::format::{Decoder, Encoded, Encoder, Record, frame};
use crate::kafka::admin::At;
use crate::kafka::consumer::{Message, Reader};
use crate::model::product::{Derivation, OnBadRecord, Start};
use crate::model::{Product, Shape};
use crate::sql::query::Query;

/// Rows that wait in one lane at most before its partition is paused.
const LANE_ROWS: usize = 20_000;
/// Bytes of records that can't be decoded that wait in one lane at most before its partition is paused.
const LANE_BYTES: usize = 8 * 1024 * 1024;
/// Rows handed to the dataflow in one turn.
const STEP_ROWS: usize = 16_384;
/// Records taken from Kafka in one turn.
const POLL_RECORDS: usize = 8_192;
/// How long to wait for records when there are none.
const PATIENCE: Duration = Duration::from_millis(10);

/// One partition of one input.
struct Lane {
    input: usize,
    topic: usize,
    partition: i32,
    /// The offset that is read next.
    position: i64,
    /// While the state is rebuilt: the offset to stop at.
    until: Option<i64>,
    /// Since when the partition has been read to its end.
    at_end: Option<Instant>,
    /// How long that must be for it to count as idle, where another program writes the topic.
    idle: Duration,
    paused: bool,
    /// Records that can't be decoded, until those before them are merged.
    bad: VecDeque<BadRecord>,
    /// How many bytes these have.
    bad_bytes: usize,
}

struct BadRecord {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    code: &'static str,
    reason: String,
}

impl BadRecord {
    fn bytes(&self) -> usize {
        [&self.key, &self.value].into_iter().flatten().map(Vec::len).sum()
    }
}

impl Lane {
    fn new(input: usize, topic: usize, partition: i32, idle: Duration) -> Lane {
        let bad = VecDeque::new();
        Lane { input, topic, partition, position: 0, until: None, at_end: None, idle, paused: false, bad, bad_bytes: 0 }
    }

    fn put_aside(&mut self, bad: BadRecord) {
        self.bad_bytes += bad.bytes();
        self.bad.push_back(bad);
    }

    /// The first bad record, if all before it are merged: of those after it, `first_waiting` is the first that is not.
    fn next_bad(&mut self, first_waiting: Option<i64>) -> Option<BadRecord> {
        let bad = self.bad.pop_front_if(|bad| first_waiting.is_none_or(|first| bad.offset < first))?;
        self.bad_bytes -= bad.bytes();
        Some(bad)
    }

    /// Whether a record belongs to it and is still wanted.
    fn wants(&self, topic: usize, partition: i32, offset: i64) -> bool {
        self.topic == topic
            && self.partition == partition
            && offset >= self.position
            && self.until.is_none_or(|until| offset < until)
    }
}

/// The running derivation.
struct Derive<'a> {
    shared: &'a Shared<'a>,
    product: &'a Product,
    derivation: &'a Derivation,
    query: &'a Query,
    epoch: Epoch<'a>,
    flow: Dataflow,
    decoders: Vec<Decoder>,
    encoder: Encoder,
    encoded: Encoded,
    reader: Reader,
    topics: Vec<String>,
    lanes: Vec<Lane>,
    merge: Merge,
    disorder_ms: i64,
    /// The watermark of the last step.
    watermark: i64,
    /// Once something had to be put aside.
    aside: Option<Aside>,
    published: Option<Finished>,
}

/// Runs a derivation until the run ends.
pub(super) fn run(shared: &Shared<'_>, product: &Product, derivation: &Derivation, query: &Query) -> Result<(), Ended> {
    let mut derive = Derive::open(shared, product, derivation, query)?;
    derive.restore()?;
    while !shared.board.is_stopped() {
        derive.turn()?;
    }
    derive.commit()
}

impl<'a> Derive<'a> {
    fn open(shared: &'a Shared<'a>, product: &'a Product, derivation: &'a Derivation, query: &'a Query) -> Result<Self, Ended> {
        let epoch = Epoch::open(shared, product)?;
        let fatal = |error: String| Ended::Fatal(format!("{}: {error}", product.name));
        let mut flow = Dataflow::compile(query).map_err(|error| fatal(error.to_string()))?;
        if derivation.on_bad_record == OnBadRecord::DeadLetter {
            flow.on_bad_row(BadRow::SetAside);
        }
        let decoders = query.inputs.iter().map(|input| shared.decoder(input)).collect::<Result<Vec<_>, Ended>>()?;
        let mut topics: Vec<String> = Vec::new();
        let mut lanes = Vec::new();
        for (input, of) in query.inputs.iter().enumerate() {
            let product = shared.product(&of.product)?;
            let (name, idle) = (&product.topic.name, Duration::from_millis(product.time.idle_ms.unsigned_abs()));
            // A product that is read twice is consumed once; each of its lanes takes what it needs.
            let topic = topics.iter().position(|known| known == name).unwrap_or_else(|| {
                topics.push(name.clone());
                topics.len() - 1
            });
            lanes.extend((0..shared.partitions(name)).map(|partition| Lane::new(input, topic, partition, idle)));
        }
        Ok(Derive {
            encoder: shared.encoder(product, query)?,
            reader: Reader::new(shared.kafka, shared.root, &super::group(&product.name)).map_err(Ended::from_kafka)?,
            merge: new_merge(query, &lanes),
            disorder_ms: disorder_ms(query),
            watermark: i64::MIN,
            aside: None,
            encoded: Encoded::default(),
            published: None,
            shared,
            product,
            derivation,
            query,
            epoch,
            flow,
            decoders,
            topics,
            lanes,
        })
    }
}

fn new_merge(query: &Query, lanes: &[Lane]) -> Merge {
    let is_table = |input: usize| query.inputs.get(input).is_some_and(|input| input.shape == Shape::Table);
    Merge::new(lanes.iter().map(|lane| (lane.input, is_table(lane.input))), disorder_ms(query))
}

fn disorder_ms(query: &Query) -> i64 {
    query.inputs.iter().map(|input| input.disorder_ms).max().unwrap_or(0)
}

/// What happens on each turn.
impl Derive<'_> {
    fn turn(&mut self) -> Result<(), Ended> {
        let came = self.poll()?;
        self.learn_bounds();
        let stepped = self.step()?;
        self.put_aside()?;
        self.pause_and_resume()?;
        let age = self.epoch.age();
        if age >= EPOCH || (age >= PATIENCE && !came && !stepped) {
            self.commit()?;
        }
        if !self.epoch.is_open() {
            self.publish();
        }
        Ok(())
    }

    /// Reads what has come into the lanes; tells whether anything has.
    fn poll(&mut self) -> Result<bool, Ended> {
        let polled = self.reader.poll(PATIENCE, POLL_RECORDS).map_err(Ended::from_kafka)?;
        let mut by_lane: Vec<Vec<&Message>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for message in &polled.messages {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            for (lane, messages) in self.lanes.iter().zip(&mut by_lane) {
                if lane.wants(topic, partition, offset) {
                    messages.push(message);
                }
            }
        }
        for (lane, messages) in by_lane.iter().enumerate().filter(|(_, messages)| !messages.is_empty()) {
            self.decode(lane, messages)?;
        }
        for message in &polled.messages {
            self.pass(message.topic(), message.partition(), message.offset() + 1, false);
        }
        for end in &polled.ends {
            self.pass(end.topic, end.partition, end.offset, true);
        }
        Ok(!polled.messages.is_empty())
    }

    /// All before an offset has been read of a partition.
    fn pass(&mut self, topic: usize, partition: i32, offset: i64, end: bool) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.topic == topic && lane.partition == partition) {
            lane.position = lane.position.max(offset);
            lane.at_end = end.then(|| lane.at_end.unwrap_or_else(Instant::now));
        }
    }

    /// Decodes records of one lane and puts them there.
    fn decode(&mut self, at: usize, messages: &[&Message]) -> Result<(), Ended> {
        let Some(lane) = self.lanes.get_mut(at) else { return Ok(()) };
        let input = lane.input;
        let Some(decoder) = self.decoders.get_mut(input) else { return Ok(()) };
        let records: Vec<Record<'_>> = messages.iter().map(|message| record(message)).collect();
        let of = self.query.inputs.get(input).map_or("", |input| &input.product);
        let decoded = self.shared.decode(decoder, &records, (&self.product.name, of))?;
        let offset_of = |record: u32| messages.get(record as usize).map_or(0, |m| m.offset());
        let offsets = decoded.records.iter().map(|record| offset_of(*record)).collect();
        for bad in decoded.bad {
            let Some(message) = messages.get(bad.record as usize) else { continue };
            if self.derivation.on_bad_record == OnBadRecord::Stop {
                return Err(bad_record_stops(self.product, &self.topics[input], message, bad.code, &bad.reason));
            }
            lane.put_aside(BadRecord {
                offset: message.offset(),
                timestamp: message.timestamp().unwrap_or(0),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                code: bad.code,
                reason: bad.reason,
            });
        }
        self.merge.push(at, decoded.batch, offsets);
        self.shared.counts(&self.product.name).records_in.fetch_add(messages.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Learns how far each lane is known to have come.
    fn learn_bounds(&mut self) {
        let mut lag = 0;
        for (input, of) in self.query.inputs.iter().enumerate() {
            let finished = self.shared.board.finished(&of.product);
            for (at, lane) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.input == input) {
                self.merge.set_bound(at, bound_of(lane, finished.as_ref()));
                let end = finished.as_ref().and_then(|finished| finished.ends.get(lane.partition as usize));
                lag += self.merge.waiting(at) as u64 + end.map_or(0, |end| u64::try_from(end - lane.position).unwrap_or(0));
            }
        }
        self.shared.counts(&self.product.name).lag.store(lag, Ordering::Relaxed);
    }

    /// Steps the dataflow over what nothing can come before; tells whether there was anything.
    fn step(&mut self) -> Result<bool, Ended> {
        let mut before = self.merge.frontier();
        let steps = self.merge.release(STEP_ROWS).map_err(|error| self.broken(&error))?;
        let mut stepped = false;
        for step in steps {
            let frontier = step.frontier;
            if step.batches.is_empty() && frontier == before {
                continue;
            }
            stepped |= !step.batches.is_empty();
            self.step_over(step)?;
            before = frontier;
        }
        Ok(stepped)
    }

    fn step_over(&mut self, mut step: Step) -> Result<(), Ended> {
        if !step.batches.is_empty() {
            self.epoch.begin()?;
        }
        let origins = step.origins();
        let lanes: Vec<(usize, i32)> = self.lanes.iter().map(|lane| (lane.topic, lane.partition)).collect();
        let places = Places { origins: &origins, lanes: &lanes };
        let watermark = step.frontier.saturating_sub(self.disorder_ms);
        let mut unused = Vec::new();
        let results = self.flow.step(step.batches, watermark).map_err(|error| {
            let record = places.record(error.record);
            self.row_stops(&Unused::failed(error, record))
        })?;
        for error in self.flow.take_bad_rows() {
            let record = places.record(error.record);
            unused.push(Unused::failed(error, record));
        }
        for late in self.flow.take_late_rows() {
            unused.push(Unused::late(&late, self.watermark, places.record(late.record)));
        }
        self.watermark = watermark;
        for batch in &results {
            for bad in self.encoder.encode(batch, &mut self.encoded).err().unwrap_or_default() {
                let record = places.record(batch.origin(bad.record as usize));
                let unfit = Unused::unfit(bad, batch, record);
                if self.derivation.on_bad_record == OnBadRecord::Stop {
                    return Err(self.row_stops(&unfit));
                }
                unused.push(unfit);
            }
            self.epoch.send(&self.encoded)?;
        }
        self.put_rows_aside(&unused)
    }

    /// Rows that went into no result go to the dead letters.
    fn put_rows_aside(&mut self, unused: &[Unused]) -> Result<(), Ended> {
        if unused.is_empty() {
            return Ok(());
        }
        let aside = match self.aside.take() {
            Some(aside) => self.aside.insert(aside),
            None => self.aside.insert(Aside::new(self.shared, &self.topics)?),
        };
        aside.write(unused, &mut self.epoch)
    }

    /// A row that can't be computed ends the derivation.
    fn row_stops(&self, unused: &Unused) -> Ended {
        let place = unused.record.map(|(topic, partition, offset)| {
            let topic = self.topics.get(topic).map_or("", String::as_str);
            format!("{topic} partition {partition} offset {offset}")
        });
        let place = place.unwrap_or_else(|| "a row".into());
        Ended::Fatal(format!("{}: {place} can't be computed: {unused}", self.product.name))
    }

    fn broken(&self, error: &arrow::error::ArrowError) -> Ended {
        Ended::Fatal(format!("{}: merging its inputs failed: {error}", self.product.name))
    }

    /// Puts records that can't be decoded aside once all before them are merged.
    fn put_aside(&mut self) -> Result<(), Ended> {
        for at in 0..self.lanes.len() {
            let done = self.merge.first_waiting(at);
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            let (partition, origin) = (lane.partition, self.topics[lane.topic].as_str());
            while let Some(bad) = lane.next_bad(done) {
                let record = Cause { origin, partition, offset: bad.offset, timestamp: Some(bad.timestamp) };
                self.epoch.dead_letter(&DeadLetter {
                    record: Some(record),
                    key: bad.key.as_deref(),
                    value: bad.value.as_deref(),
                    code: bad.code,
                    reason: &bad.reason,
                    more: &[],
                })?;
            }
        }
        Ok(())
    }

    /// Keeps lanes that run ahead from filling the memory.
    fn pause_and_resume(&mut self) -> Result<(), Ended> {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let waiting = self.merge.waiting(at) + lane.bad.len();
            if !lane.paused && (waiting > LANE_ROWS || lane.bad_bytes > LANE_BYTES) {
                self.reader.pause(lane.topic, lane.partition).map_err(Ended::from_kafka)?;
                lane.paused = true;
            } else if lane.paused && waiting < LANE_ROWS / 2 && lane.bad_bytes < LANE_BYTES / 2 {
                self.reader.resume(lane.topic, lane.partition).map_err(Ended::from_kafka)?;
                lane.paused = false;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Ended> {
        if !self.epoch.is_open() {
            return Ok(());
        }
        if self.flow.has_changelog() {
            let (flow, epoch) = (&mut self.flow, &mut self.epoch);
            let mut written = Ok(());
            flow.drain_changelog(&mut |key, value| {
                if written.is_ok() {
                    written = epoch.changelog(key, value);
                }
            });
            written?;
        }
        let offsets = self.offsets();
        self.epoch.commit(&offsets, self.merge.frontier())?;
        let counts = self.shared.counts(&self.product.name);
        counts.late.store(self.flow.late_rows(), Ordering::Relaxed);
        counts.state_bytes.store(self.flow.state_bytes() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// For each partition, the offset of the first record that is not merged.
    fn offsets(&self) -> Vec<(String, i32, i64)> {
        let mut offsets: Vec<(String, i32, i64)> = Vec::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            let next = self.merge.first_waiting(at).unwrap_or(lane.position);
            let topic = &self.topics[lane.topic];
            // A product that is read twice in one query is committed as far as the slower one has come.
            match offsets.iter_mut().find(|(other, partition, _)| other == topic && *partition == lane.partition) {
                Some((_, _, offset)) => *offset = (*offset).min(next),
                None => offsets.push((topic.clone(), lane.partition, next)),
            }
        }
        offsets
    }

    /// Tells the readers of the product how far it has come.
    fn publish(&mut self) {
        let idle = self.merge.is_empty() && (0..self.lanes.len()).all(|lane| self.merge.is_idle(lane));
        // What operators hold back comes with event times that lie behind the watermark.
        let frontier = match self.flow.results_lag_ms() {
            None => self.merge.frontier(),
            Some(lag) => self.merge.frontier().saturating_sub(self.disorder_ms).saturating_sub(lag),
        };
        let finished = Finished { ends: self.epoch.ends(), frontier, idle };
        if self.published.as_ref() != Some(&finished) {
            self.shared.board.publish(&self.product.name, finished.clone());
            self.published = Some(finished);
        }
    }
}

/// A message as the decoder takes it.
fn record(message: &Message) -> Record<'_> {
    let plain = Record::new(message.key(), message.payload(), message.timestamp().unwrap_or(0));
    let headers = message.headers();
    if headers.is_empty() {
        return plain;
    }
    let named = |name: &str| headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| *value);
    Record { key_schema: named(frame::KEY_HEADER), value_schema: named(frame::VALUE_HEADER), ..plain }
}

/// What is known of a lane's rows to come.
fn bound_of(lane: &Lane, finished: Option<&Finished>) -> Bound {
    let nothing = Bound::At(i64::MIN);
    match finished {
        Some(finished) => {
            let end = usize::try_from(lane.partition).ok().and_then(|partition| finished.ends.get(partition));
            match end {
                Some(end) if lane.position >= *end && finished.idle => Bound::Idle,
                Some(end) if lane.position >= *end => Bound::At(finished.frontier),
                _ => nothing,
            }
        }
        None if lane.at_end.is_some_and(|since| since.elapsed() >= lane.idle) => Bound::Idle,
        None => nothing,
    }
}

fn bad_record_stops(product: &Product, topic: &str, message: &Message, code: &str, reason: &str) -> Ended {
    let (partition, offset) = (message.partition(), message.offset());
    Ended::Fatal(format!("{}: {topic} partition {partition} offset {offset} can't be read: {code}: {reason}", product.name))
}

/// What happens before the first turn.
impl Derive<'_> {
    /// Brings the dataflow's state back to where the last committed epoch left it, and goes to the offsets behind it.
    fn restore(&mut self) -> Result<(), Ended> {
        let committed = self.committed()?;
        if self.flow.has_changelog() {
            self.restore_changelog()?;
        }
        let frontier = self.epoch.progress.frontier.unwrap_or(i64::MIN);
        self.merge.restore_frontier(frontier);
        self.watermark = frontier.saturating_sub(self.disorder_ms);
        let from = self.rebuild_offsets(&committed, frontier)?;
        if from.iter().zip(&committed).any(|(from, to)| from < to) {
            self.shared.event(Event::Rebuilding { product: self.product.name.clone() });
            self.rebuild(&from, &committed, frontier)?;
        } else if self.flow.has_changelog() && frontier > i64::MIN {
            // No row is read again, but what the changelog kept must know how far the time had come.
            let told = self.flow.replay(Vec::new(), self.watermark);
            told.map_err(|error| Ended::Fatal(format!("{}: {error}", self.product.name)))?;
        }
        self.start_at(&committed)?;
        self.publish();
        Ok(())
    }

    /// For each lane the committed offset, or where the manifest says to start.
    fn committed(&mut self) -> Result<Vec<i64>, Ended> {
        let partitions: Vec<(String, i32)> =
            self.lanes.iter().map(|lane| (self.topics[lane.topic].clone(), lane.partition)).collect();
        let committed = self.reader.committed(&partitions).map_err(Ended::from_kafka)?;
        let mut offsets = Vec::with_capacity(committed.len());
        for ((lane, partition), offset) in self.lanes.iter().zip(&partitions).zip(committed) {
            let table = self.query.inputs.get(lane.input).is_some_and(|input| input.shape == Shape::Table);
            let start = if table { Start::Earliest } else { self.derivation.start };
            let at = match (offset, start) {
                (Some(offset), _) => {
                    offsets.push(offset);
                    continue;
                }
                (None, Start::Earliest) => At::Start,
                (None, Start::Latest) => At::CommittedEnd,
                (None, Start::Timestamp(time)) => At::Time(time),
            };
            offsets.push(self.offset((partition.0.as_str(), partition.1), at)?);
        }
        Ok(offsets)
    }

    fn offset(&self, partition: (&str, i32), at: At) -> Result<i64, Ended> {
        let found = self.reader.offsets(&[partition], at).map_err(Ended::from_kafka)?;
        Ok(found.first().copied().unwrap_or(0))
    }

    /// Where to start reading each lane so that its share of the state comes back.
    fn rebuild_offsets(&mut self, committed: &[i64], frontier: i64) -> Result<Vec<i64>, Ended> {
        let mut from = Vec::with_capacity(committed.len());
        for (lane, committed) in self.lanes.iter().zip(committed) {
            let partition = (self.topics[lane.topic].as_str(), lane.partition);
            let first = match self.flow.rebuild(lane.input) {
                Rebuild::Nothing => *committed,
                Rebuild::Whole => self.offset(partition, At::Start)?,
                Rebuild::Window { .. } if frontier == i64::MIN => *committed,
                Rebuild::Window { ms } => {
                    // The offset is found by the records' own times, behind which an event time may lie by so much.
                    let ahead = self.shared.ahead_ms(&self.query.inputs, lane.input)?;
                    let since = frontier.saturating_sub(self.disorder_ms).saturating_sub(ms).saturating_sub(ahead).max(0);
                    self.offset(partition, At::Time(since))?
                }
            };
            from.push(first.min(*committed));
        }
        Ok(from)
    }

    /// Reads `from..to` of each lane into the state; nothing comes out.
    fn rebuild(&mut self, from: &[i64], to: &[i64], frontier: i64) -> Result<(), Ended> {
        let live = std::mem::replace(&mut self.merge, new_merge(self.query, &self.lanes));
        self.lanes.iter_mut().zip(to).for_each(|(lane, to)| lane.until = Some(*to));
        self.start_at(from)?;
        let watermark = frontier.saturating_sub(self.disorder_ms);
        loop {
            let complete = |lane: &Lane| lane.until.is_none_or(|until| lane.position >= until);
            for (at, lane) in self.lanes.iter().enumerate() {
                self.merge.set_bound(at, if complete(lane) { Bound::Idle } else { Bound::At(i64::MIN) });
            }
            let all_read = self.lanes.iter().all(complete);
            let steps = self.merge.release(STEP_ROWS).map_err(|error| self.broken(&error))?;
            let batches: Vec<_> = steps.into_iter().flat_map(|step| step.batches).collect();
            if batches.is_empty() && all_read {
                break;
            }
            self.flow.replay(batches, watermark).map_err(|error| Ended::Fatal(format!("{}: {error}", self.product.name)))?;
            if self.shared.board.is_stopped() {
                return Err(Ended::Stopped);
            }
            if !all_read {
                self.poll()?;
            }
        }
        self.merge = live;
        for lane in &mut self.lanes {
            lane.until = None;
            // They are among the dead letters since they were read first.
            lane.bad.clear();
            lane.bad_bytes = 0;
        }
        Ok(())
    }

    /// Reads on from an offset of each lane.
    fn start_at(&mut self, offsets: &[i64]) -> Result<(), Ended> {
        let mut starts: Vec<(usize, i32, i64)> = Vec::new();
        for (lane, offset) in self.lanes.iter_mut().zip(offsets) {
            lane.position = *offset;
            lane.at_end = None;
            match starts.iter_mut().find(|(topic, partition, _)| *topic == lane.topic && *partition == lane.partition) {
                Some((_, _, first)) => *first = (*first).min(*offset),
                None => starts.push((lane.topic, lane.partition, *offset)),
            }
        }
        self.reader.assign(&self.topics, &starts).map_err(Ended::from_kafka)
    }

    fn restore_changelog(&mut self) -> Result<(), Ended> {
        let topic = super::changelog_topic(&self.product.name);
        let product = &self.product.name;
        let flow = &mut self.flow;
        let mut latest: std::collections::HashMap<Vec<u8>, Option<Vec<u8>>> = std::collections::HashMap::new();
        self.shared.read_whole(&topic, &mut |key, value| {
            latest.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        })?;
        for (key, value) in latest {
            if let Some(value) = value {
                flow.restore(&key, &value)
                    .map_err(|error| Ended::Fatal(format!("{product}: its state in {topic} can't be read: {error}")))?;
            }
        }
        Ok(())
    }
}
