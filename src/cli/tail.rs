//! `mesh tail`: a product's records, decoded by its schema.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::load::{self, Loaded, Manifests};
use super::out::Out;
use super::published;
use crate::format::{self, frame, frame::SchemaId};
use crate::kafka::Admin;
use crate::kafka::admin::At;
use crate::kafka::consumer::{Message, Reader};
use crate::model::product::{Format, Framing};
use crate::plan::entry::ProductEntry;
use crate::registry::Registry;
use crate::schema::Written;

/// Show a product's records, decoded by its schema
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The product
    name: String,

    /// Where to start: earliest, latest, or -N for the last N records
    #[arg(long, default_value = "-10", allow_hyphen_values = true)]
    from: From,

    /// End at the records that exist now
    #[arg(long)]
    until_end: bool,

    /// The form of the output
    #[arg(short = 'o', long = "output", default_value = "text")]
    output: Form,

    #[command(flatten)]
    manifests: Manifests,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    Last(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix('-').map(str::parse::<i64>)) {
            ("earliest", _) => Ok(From::Earliest),
            ("latest", _) => Ok(From::Latest),
            (_, Some(Ok(number))) if number > 0 => Ok(From::Last(number)),
            _ => Err("write earliest, latest, or -N for the last N records".into()),
        }
    }
}

pub(super) fn run(arguments: &Arguments, out: &Out) -> Result<Exit, Failure> {
    let loaded = load::environment(&arguments.manifests, out)?;
    let runtime = super::runtime()?;
    let entry = runtime.block_on(published::product(&loaded, &arguments.name))?;
    let mut tail = Tail::open(&loaded, &entry, arguments, runtime.handle().clone())?;
    tail.run(arguments, out)?;
    Ok(Exit::Worked)
}

/// The records of one topic, from somewhere on.
struct Tail {
    reader: Reader,
    registry: Registry,
    runtime: tokio::runtime::Handle,
    format: Format,
    framing: Framing,
    form: Form,
    /// Writer schemas by id; `None` where the registry has none.
    schemas: HashMap<SchemaId, Option<Written>>,
    positions: Vec<i64>,
    ends: Vec<i64>,
}

impl Tail {
    fn open(
        loaded: &Loaded,
        entry: &ProductEntry,
        arguments: &Arguments,
        runtime: tokio::runtime::Handle,
    ) -> Result<Tail, Failure> {
        let environment = &loaded.mesh.environment;
        let bounds = runtime.block_on(bounds(loaded, &entry.topic))?;
        let start = |(first, end): &(i64, i64)| match arguments.from {
            From::Earliest => *first,
            From::Latest => *end,
            From::Last(number) => end.saturating_sub(number).max(*first),
        };
        let positions: Vec<i64> = bounds.iter().map(start).collect();
        let ends = bounds.iter().map(|(_, end)| *end).collect();
        let mut reader = Reader::new(&environment.kafka, &loaded.mesh.root, "mesh.tail")?;
        let starts: Vec<(usize, i32, i64)> = (0..).zip(&positions).map(|(partition, offset)| (0, partition, *offset)).collect();
        reader.assign(std::slice::from_ref(&entry.topic), &starts)?;
        let registry = Registry::connect(&environment.registry, &loaded.mesh.root)?;
        let (format, framing, form) = (entry.contract.format, entry.contract.framing, arguments.output);
        Ok(Tail { reader, registry, runtime, format, framing, form, schemas: HashMap::new(), positions, ends })
    }

    fn run(&mut self, arguments: &Arguments, out: &Out) -> Result<(), Failure> {
        match arguments.from {
            From::Last(number) => self.last(number, out)?,
            _ => self.until_ends(out)?,
        }
        if arguments.until_end {
            return Ok(());
        }
        loop {
            for line in self.poll()?.into_iter().map(|record| record.line) {
                out.data(&line)?;
            }
        }
    }

    fn at_ends(&self) -> bool {
        self.positions.iter().zip(&self.ends).all(|(position, end)| position >= end)
    }

    fn until_ends(&mut self, out: &Out) -> Result<(), Failure> {
        while !self.at_ends() {
            let records = self.poll()?;
            let text: String = records.into_iter().map(|record| record.line).collect();
            out.data(&text)?;
        }
        Ok(())
    }

    /// The last records of the whole topic by their time, whatever their partition.
    fn last(&mut self, number: i64, out: &Out) -> Result<(), Failure> {
        let mut records = Vec::new();
        while !self.at_ends() {
            records.extend(self.poll()?);
        }
        records.sort_by_key(|record| record.order);
        let skip = records.len().saturating_sub(usize::try_from(number).unwrap_or(usize::MAX));
        out.data(&records.into_iter().skip(skip).map(|record| record.line).collect::<String>())
    }

    fn poll(&mut self) -> Result<Vec<Shown>, Failure> {
        let polled = self.reader.poll(Duration::from_millis(500), 1_000)?;
        let mut records = Vec::with_capacity(polled.messages.len());
        for message in &polled.messages {
            records.push(self.show(message)?);
            self.pass(message.partition(), message.offset() + 1);
        }
        for end in &polled.ends {
            self.pass(end.partition, end.offset);
        }
        Ok(records)
    }

    fn pass(&mut self, partition: i32, offset: i64) {
        if let Some(position) = usize::try_from(partition).ok().and_then(|partition| self.positions.get_mut(partition)) {
            *position = (*position).max(offset);
        }
    }

    fn show(&mut self, message: &Message) -> Result<Shown, Failure> {
        let headers = message.headers();
        let named = |name: &str| headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| *value);
        let key = self.decode(message.key(), named(frame::KEY_HEADER))?;
        let value = self.decode(message.payload(), named(frame::VALUE_HEADER))?;
        let (partition, offset) = (message.partition(), message.offset());
        let timestamp = message.timestamp().unwrap_or(0);
        let line = match self.form {
            Form::Json => {
                let record =
                    json!({"key": key, "value": value, "partition": partition, "offset": offset, "timestamp": time(timestamp)});
                format!("{record}\n")
            }
            Form::Text => format!("{partition}:{offset}  {}  {key}  {value}\n", time(timestamp)),
        };
        Ok(Shown { order: (timestamp, partition, offset), line })
    }

    /// Bytes by their schema; what can't be decoded is shown as what it is.
    fn decode(&mut self, bytes: Option<&[u8]>, named: Option<&[u8]>) -> Result<Value, Failure> {
        let Some(bytes) = bytes else { return Ok(Value::Null) };
        if self.framing == Framing::None {
            return Ok(format::plain_to_json(bytes));
        }
        let undecodable = |error: &dyn std::fmt::Display| json!({"undecodable": error.to_string(), "bytes": bytes.len()});
        let (id, body) = match frame::locate(named, bytes) {
            Ok(located) => located,
            Err(error) => return Ok(undecodable(&error)),
        };
        // JSON says itself what it is.
        let format = self.format;
        let schema = if format == Format::Json { None } else { self.schema(id)? };
        Ok(format::to_json(format, schema.map(Into::into), &body).unwrap_or_else(|error| undecodable(&error)))
    }

    fn schema(&mut self, id: SchemaId) -> Result<Option<&Written>, Failure> {
        let known = match self.schemas.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(match id {
                SchemaId::Id(id) => self.runtime.block_on(self.registry.by_id(id))?,
                SchemaId::Guid(_) => self.runtime.block_on(self.registry.by_guid(&id.to_string()))?,
            }),
        };
        Ok(known.as_ref())
    }
}

/// The first offset of each partition of a topic, and the one after its last committed record.
async fn bounds(loaded: &Loaded, topic: &str) -> Result<Vec<(i64, i64)>, Failure> {
    let admin = Admin::connect(&loaded.mesh.environment.kafka, &loaded.mesh.root, Duration::from_secs(10)).await?;
    let seen = admin.describe_topics(&[topic.to_owned()]).await?;
    let Some(state) = seen.get(topic) else {
        return Err(Failure::new(Exit::Failed, format!("topic {topic} does not exist")).hint("`mesh apply` makes it"));
    };
    let partitions: Vec<(&str, i32)> = (0..).zip(&state.partitions).map(|(partition, _)| (topic, partition)).collect();
    let starts = admin.offsets(&partitions, At::Start).await?;
    let ends = admin.offsets(&partitions, At::CommittedEnd).await?;
    Ok(starts.into_iter().zip(ends).collect())
}

/// A record as it is printed, and its place among others.
struct Shown {
    order: (i64, i32, i64),
    line: String,
}

/// A time in RFC 3339, UTC, with milliseconds.
fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}
