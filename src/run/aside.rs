//! What went into no result, and its way to the dead letters: rows that can't be computed, results that fit no contract,
//! rows that came too late.
//!
//! Rows that were merged have their records' bytes no more. The few that end here are read again by their offsets, all
//! of a step at once, so that the many need not carry what nobody asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::epoch::{Cause, DeadLetter, Epoch};
use super::merge::Origins;
use super::{Ended, Shared};
use crate::engine::{Batch, LateRow, RowError};
use crate::format::{Bad, Encoded, Encoder, Layout, codes};
use crate::kafka::admin::At;
use crate::kafka::consumer::{Message, Reader};
use crate::model::product::{Format, Framing, Shape};

/// How long records may take to be read again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records between two that are wanted at most; beyond it the reader jumps.
const GAP: i64 = 5_000;
/// Records taken from Kafka at once.
const POLL_RECORDS: usize = 8_192;

/// A record by its topic (the number that the reader has for it), partition and offset.
pub(super) type RecordId = (usize, i32, i64);

/// A row that went into no result.
#[derive(Debug)]
pub(super) struct Unused {
    /// The record that it came from; `None` when it comes of more than one.
    pub(super) record: Option<RecordId>,
    pub(super) code: &'static str,
    pub(super) reason: String,
    /// Further headers.
    more: Vec<(&'static str, String)>,
    /// The row itself, where no record stands for it.
    row: Option<Vec<u8>>,
}

impl Unused {
    /// A row that an expression fails on.
    pub(super) fn failed(error: RowError, record: Option<RecordId>) -> Unused {
        let more = vec![("mesh.expression", error.expression)];
        Unused { record, code: codes::ROW_ERROR, reason: error.reason, more, row: None }
    }

    /// A result that does not fit its contract.
    pub(super) fn unfit(bad: Bad, result: &Batch, record: Option<RecordId>) -> Unused {
        let reason = format!("a result does not fit its contract: {}", bad.reason);
        let row = || as_json(&result.rows.slice(bad.record as usize, 1));
        let row = if record.is_none() { row() } else { None };
        Unused { record, code: bad.code, reason, more: Vec::new(), row }
    }

    /// A row that came when the watermark had passed it.
    pub(super) fn late(late: &LateRow, watermark: i64, record: Option<RecordId>) -> Unused {
        let more = vec![("mesh.event-time", late.time.to_string()), ("mesh.watermark", watermark.to_string())];
        let reason = format!("its event time lies {} ms before the watermark", watermark.saturating_sub(late.time));
        let row = if record.is_none() { as_json(&late.row) } else { None };
        Unused { record, code: codes::LATE, reason, more, row }
    }
}

impl std::fmt::Display for Unused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.more.iter().find(|(name, _)| *name == "mesh.expression") {
            Some((_, expression)) => write!(f, "{expression}: {}", self.reason),
            None => write!(f, "{}: {}", self.code, self.reason),
        }
    }
}

/// One row as a JSON text; `None` for what JSON does not have.
fn as_json(row: &RecordBatch) -> Option<Vec<u8>> {
    let (format, framing, row_type) = (Format::Json, Framing::None, row.schema());
    let layout = Layout { format, framing, row_type, key: Vec::new(), time_column: None, shape: Shape::Stream };
    let mut encoded = Encoded::default();
    let batch = Batch::inserts(row.clone(), vec![0; row.num_rows()].into());
    Encoder::new(layout, "{}", 0, None).ok()?.encode(&batch, &mut encoded).ok()?;
    Some(encoded.value(encoded.records.first()?)?.to_vec())
}

/// Where the rows given to one step came from: their lanes and offsets, and the lanes' topics and partitions.
pub(super) struct Places<'a> {
    pub(super) origins: &'a Origins,
    pub(super) lanes: &'a [(usize, i32)],
}

impl Places<'_> {
    /// The record at a place among what was given.
    pub(super) fn record(&self, place: Option<(usize, usize)>) -> Option<RecordId> {
        let (batch, row) = place?;
        let (lane, offset) = self.origins.find(batch, row)?;
        let (topic, partition) = *self.lanes.get(lane)?;
        Some((topic, partition, offset))
    }
}

/// A record as it is in its topic.
struct Raw {
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// Reads records again, and writes them to the dead letters.
pub(super) struct Aside {
    reader: Reader,
    topics: Vec<String>,
}

impl Aside {
    pub(super) fn new(shared: &Shared<'_>, topics: &[String]) -> Result<Aside, Ended> {
        let reader = Reader::new(shared.kafka, shared.root, "mesh").map_err(Ended::from_kafka)?;
        Ok(Aside { reader, topics: topics.to_vec() })
    }

    /// Writes rows to the dead letters, each with its record's bytes.
    pub(super) fn write(&mut self, unused: &[Unused], epoch: &mut Epoch<'_>) -> Result<(), Ended> {
        let raws = self.read(&unused.iter().filter_map(|unused| unused.record).collect())?;
        for unused in unused {
            let raw = unused.record.and_then(|record| raws.get(&record));
            let record = unused.record.map(|(topic, partition, offset)| Cause {
                origin: self.topics.get(topic).map_or("", String::as_str),
                partition,
                offset,
                timestamp: raw.and_then(|raw| raw.timestamp),
            });
            let mut more = unused.more.clone();
            if record.is_some() && raw.is_none() {
                more.push(("mesh.lost", "the record is not in its topic any more".into()));
            }
            let (key, value) = match raw {
                Some(raw) => (raw.key.as_deref(), raw.value.as_deref()),
                None => (None, unused.row.as_deref()),
            };
            epoch.dead_letter(&DeadLetter { record, key, value, code: unused.code, reason: &unused.reason, more: &more })?;
        }
        Ok(())
    }

    /// The wanted records that are still there.
    fn read(&mut self, wanted: &BTreeSet<RecordId>) -> Result<BTreeMap<RecordId, Raw>, Ended> {
        let mut found = BTreeMap::new();
        let mut left = wanted.clone();
        self.drop_lost(&mut left)?;
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() {
            self.read_on(&mut left, &mut found, deadline)?;
        }
        if !wanted.is_empty() {
            // Nothing more is to be fetched.
            self.reader.assign(&self.topics, &[]).map_err(Ended::from_kafka)?;
        }
        Ok(found)
    }

    /// Strikes out what retention has taken.
    fn drop_lost(&self, left: &mut BTreeSet<RecordId>) -> Result<(), Ended> {
        let partitions: BTreeSet<(usize, i32)> = left.iter().map(|(topic, partition, _)| (*topic, *partition)).collect();
        let named: Vec<(&str, i32)> = partitions
            .iter()
            .map(|(topic, partition)| (self.topics.get(*topic).map_or("", String::as_str), *partition))
            .collect();
        let starts = self.reader.offsets(&named, At::Start).map_err(Ended::from_kafka)?;
        let starts: BTreeMap<(usize, i32), i64> = partitions.into_iter().zip(starts).collect();
        left.retain(|(topic, partition, offset)| starts.get(&(*topic, *partition)).is_none_or(|start| offset >= start));
        Ok(())
    }

    /// Reads each partition from the first record that is left of it, as long as the next one is not far.
    fn read_on(
        &mut self,
        left: &mut BTreeSet<RecordId>,
        found: &mut BTreeMap<RecordId, Raw>,
        deadline: Instant,
    ) -> Result<(), Ended> {
        let mut runs: BTreeMap<(usize, i32), (i64, i64)> = BTreeMap::new();
        for (topic, partition, offset) in left.iter() {
            let (_, last) = runs.entry((*topic, *partition)).or_insert((*offset, *offset));
            if *offset - *last <= GAP {
                *last = *offset;
            }
        }
        let starts: Vec<RecordId> = runs.iter().map(|((topic, partition), (first, _))| (*topic, *partition, *first)).collect();
        self.reader.assign(&self.topics, &starts).map_err(Ended::from_kafka)?;
        while !runs.is_empty() {
            if Instant::now() > deadline {
                return Err(Ended::Again("records that can't be used could not be read again in time".into()));
            }
            let polled = self.reader.poll(Duration::from_millis(100), POLL_RECORDS).map_err(Ended::from_kafka)?;
            let mut passed: BTreeMap<(usize, i32), i64> = BTreeMap::new();
            for message in &polled.messages {
                let id = (message.topic(), message.partition(), message.offset());
                if left.contains(&id) {
                    found.insert(id, raw(message));
                }
                passed.insert((id.0, id.1), id.2);
            }
            passed.extend(polled.ends.iter().map(|end| ((end.topic, end.partition), end.offset - 1)));
            for (partition, passed) in passed {
                // What was passed without being found was compacted away.
                left.retain(|(topic, number, offset)| (*topic, *number) != partition || *offset > passed);
                runs.retain(|run, (_, last)| *run != partition || *last > passed);
            }
        }
        Ok(())
    }
}

fn raw(message: &Message) -> Raw {
    Raw { timestamp: message.timestamp(), key: message.key().map(<[u8]>::to_vec), value: message.payload().map(<[u8]>::to_vec) }
}
