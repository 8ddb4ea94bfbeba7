//! Measures a request before it is decoded, so that decoding takes no more memory than the request deserves.
//!
//! `kafka-protocol` reserves room for as many elements as an array's length promises, before it reads one: eight bytes could
//! ask for gigabytes. So each request is walked first, by its layout in `layout.txt`: a length that the rest of the frame
//! cannot hold, or more than `ELEMENTS` elements in all, is refused.

use std::collections::BTreeMap;
use std::str::SplitWhitespace;
use std::sync::LazyLock;

/// The most elements of arrays and tagged fields a request may have. An element takes some hundred bytes when decoded.
const ELEMENTS: usize = 200_000;

/// A request's fields.
struct Layout {
    /// The first flexible version (KIP-482): lengths are varints, structures end with tagged fields.
    flexible: i16,
    fields: Vec<Field>,
}

struct Field {
    kind: Kind,
    /// The versions that have it.
    from: i16,
    to: i16,
    tag: Option<u64>,
}

enum Kind {
    Fixed(usize),
    Text,
    Bytes,
    /// One plain field is an array of plain values; else they are the fields of a structure.
    Array(Vec<Field>),
    Structure(Vec<Field>),
    /// A structure with a byte in front that says whether it is there.
    Nullable(Vec<Field>),
}

static LAYOUTS: LazyLock<BTreeMap<i16, Layout>> =
    LazyLock::new(|| include_str!("layout.txt").lines().filter(|line| !line.starts_with('#')).filter_map(layout).collect());

fn layout(line: &str) -> Option<(i16, Layout)> {
    let mut words = line.split_whitespace();
    let key = words.next()?.parse().ok()?;
    let _name = words.next()?;
    let flexible = words.next()?.parse().unwrap_or(i16::MAX);
    let (fields, _) = fields(&mut words)?;
    Some((key, Layout { flexible, fields }))
}

/// Fields up to a closing bracket, and what follows the bracket, or up to the end.
fn fields<'a>(words: &mut SplitWhitespace<'a>) -> Option<(Vec<Field>, &'a str)> {
    let mut all = Vec::new();
    while let Some(word) = words.next() {
        if let Some(rest) = word.strip_prefix([']', '}']) {
            return Some((all, rest));
        }
        let (kind, rest) = match word {
            "[" => fields(words).map(|(inner, rest)| (Kind::Array(inner), rest))?,
            "{" => fields(words).map(|(inner, rest)| (Kind::Structure(inner), rest))?,
            "?{" => fields(words).map(|(inner, rest)| (Kind::Nullable(inner), rest))?,
            _ => {
                let (name, rest) = word.split_at(word.find(['#', '@']).unwrap_or(word.len()));
                let kind = match name {
                    "s" => Kind::Text,
                    "b" => Kind::Bytes,
                    size => Kind::Fixed(size.parse().ok()?),
                };
                (kind, rest)
            }
        };
        all.push(field(kind, rest)?);
    }
    Some((all, ""))
}

/// A field with what stands behind it: `#1@15`, `@3-5`, or nothing.
fn field(kind: Kind, rest: &str) -> Option<Field> {
    let (tag, versions) = rest.split_once('@').unwrap_or((rest, "0"));
    let tag = tag.strip_prefix('#').map(str::parse).transpose().ok()?;
    let (from, to) = match versions.split_once('-') {
        Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
        None => (versions.parse().ok()?, i16::MAX),
    };
    Some(Field { kind, from, to, tag })
}

/// Whether the body of a request, which is what follows its header, can be decoded within bounds.
pub fn fits(key: i16, version: i16, body: &[u8]) -> bool {
    rest(key, version, body).is_some()
}

/// What is left of `body` after the request; `None` if it does not fit.
fn rest(key: i16, version: i16, body: &[u8]) -> Option<&[u8]> {
    let layout = LAYOUTS.get(&key)?;
    let mut walk = Walk { rest: body, version, flexible: version >= layout.flexible, elements: ELEMENTS };
    walk.structure(&layout.fields)?;
    Some(walk.rest)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    /// How many more elements are allowed.
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        let version = self.version;
        let here = |field: &&Field| (field.from..=field.to).contains(&version);
        for field in fields.iter().filter(here).filter(|field| field.tag.is_none()) {
            self.value(&field.kind)?;
        }
        if !self.flexible {
            return Some(());
        }
        let count = self.varint()?;
        self.spend(count)?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).ok()?;
            let (value, after) = self.rest.split_at_checked(size)?;
            if let Some(known) = fields.iter().filter(here).find(|field| field.tag == Some(tag)) {
                self.rest = value;
                self.value(&known.kind)?;
            }
            self.rest = after;
        }
        Some(())
    }

    fn value(&mut self, kind: &Kind) -> Option<()> {
        match kind {
            Kind::Fixed(size) => self.skip(*size),
            Kind::Text => {
                let size = if self.flexible { self.compact()? } else { self.int16()? };
                self.skip_sized(size)
            }
            Kind::Bytes => {
                let size = if self.flexible { self.compact()? } else { self.int32()? };
                self.skip_sized(size)
            }
            Kind::Array(of) => self.array(of),
            Kind::Structure(fields) => self.structure(fields),
            Kind::Nullable(fields) => {
                let there = self.rest.first() == Some(&1);
                self.skip(1)?;
                if there { self.structure(fields) } else { Some(()) }
            }
        }
    }

    fn array(&mut self, of: &[Field]) -> Option<()> {
        let count = if self.flexible { self.compact()? } else { self.int32()? };
        let Ok(count) = u64::try_from(count) else { return Some(()) };
        // Every element takes a byte at least.
        if count > self.rest.len() as u64 {
            return None;
        }
        self.spend(count)?;
        for _ in 0..count {
            match of {
                // An array of plain values has no structures, and so no tagged fields.
                [Field { kind: kind @ (Kind::Fixed(_) | Kind::Text | Kind::Bytes), from: 0, to: i16::MAX, tag: None }] => {
                    self.value(kind)?;
                }
                // A structure of one plain field has braces of its own, to be told from these.
                [Field { kind: Kind::Structure(fields), from: 0, to: i16::MAX, tag: None }] => self.structure(fields)?,
                fields => self.structure(fields)?,
            }
        }
        Some(())
    }

    fn spend(&mut self, elements: u64) -> Option<()> {
        self.elements = self.elements.checked_sub(usize::try_from(elements).ok()?)?;
        Some(())
    }

    fn skip(&mut self, size: usize) -> Option<()> {
        self.rest = self.rest.split_at_checked(size)?.1;
        Some(())
    }

    /// Skips what a length announces; a negative one is null.
    fn skip_sized(&mut self, size: i64) -> Option<()> {
        self.skip(usize::try_from(size).unwrap_or(0))
    }

    fn int16(&mut self) -> Option<i64> {
        let (bytes, after) = self.rest.split_first_chunk()?;
        self.rest = after;
        Some(i16::from_be_bytes(*bytes).into())
    }

    fn int32(&mut self) -> Option<i64> {
        let (bytes, after) = self.rest.split_first_chunk()?;
        self.rest = after;
        Some(i32::from_be_bytes(*bytes).into())
    }

    /// A compact length: one more than it is, so that 0 is null.
    fn compact(&mut self) -> Option<i64> {
        Some(i64::try_from(self.varint()?).ok()? - 1)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for at in 0..5 {
            let (byte, after) = self.rest.split_first()?;
            self.rest = after;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::{Encodable, Message, StrBytes};

    use super::*;

    /// Every version that kafka-protocol can encode is walked to its end exactly, and to no end when a byte is missing.
    fn walks<R: Message + Encodable>(key: ApiKey, request: &R) {
        for version in R::VERSIONS.min..=R::VERSIONS.max {
            let mut body = BytesMut::new();
            if request.encode(&mut body, version).is_err() {
                continue;
            }
            assert_eq!(rest(key as i16, version, &body), Some(&[][..]), "{key:?} {version}");
            if let Some(last) = body.len().checked_sub(1) {
                assert!(!fits(key as i16, version, &body[..last]), "{key:?} {version}");
            }
        }
    }

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    #[test]
    fn layouts_are_those_that_requests_have() {
        assert!(LAYOUTS.len() > 80, "{}", LAYOUTS.len());
        walks(ApiKey::Produce, &ProduceRequest::default());
        walks(ApiKey::JoinGroup, &JoinGroupRequest::default());
        walks(ApiKey::Metadata, &MetadataRequest::default());
        walks(ApiKey::ConsumerGroupHeartbeat, &ConsumerGroupHeartbeatRequest::default());
        walks(ApiKey::SaslHandshake, &SaslHandshakeRequest::default());
        let topic = CreatableTopic::default()
            .with_name(text("a").into())
            .with_assignments(vec![CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into()])])
            .with_configs(vec![CreatableTopicConfig::default().with_name(text("b")).with_value(Some(text("c")))]);
        walks(ApiKey::CreateTopics, &CreateTopicsRequest::default().with_topics(vec![topic.clone(), topic]));
        let topic = FetchTopic::default().with_topic(text("a").into()).with_partitions(vec![FetchPartition::default()]);
        walks(ApiKey::Fetch, &FetchRequest::default().with_topics(vec![topic.clone()]));
        let replica =
            FetchRequest::default().with_topics(vec![topic]).with_replica_state(ReplicaState::default().with_replica_epoch(7));
        walks(ApiKey::Fetch, &replica);
    }

    #[test]
    fn a_structure_of_one_field_ends_with_tagged_fields() {
        let topic = describe_topic_partitions_request::TopicRequest::default().with_name(text("a").into());
        let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic.clone(), topic]);
        walks(ApiKey::DescribeTopicPartitions, &request);
        let user = describe_user_scram_credentials_request::UserName::default().with_name(text("a"));
        let request = DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user.clone(), user]));
        walks(ApiKey::DescribeUserScramCredentials, &request);
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default().with_partitions(vec![partition.clone(), partition]);
        walks(ApiKey::DescribeQuorum, &DescribeQuorumRequest::default().with_topics(vec![topic]));
    }

    #[test]
    fn lengths_that_the_frame_cannot_hold_are_refused() {
        // Metadata: how many topics, then nothing.
        assert!(!fits(ApiKey::Metadata as i16, 1, &0x7fff_ffff_u32.to_be_bytes()));
        assert!(!fits(ApiKey::Metadata as i16, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]));
        // As many topics as there are bytes is too much in the end as well.
        let mut body = 1_000_000_u32.to_be_bytes().to_vec();
        body.resize(4_000_000, 0);
        assert!(!fits(ApiKey::Metadata as i16, 1, &body));
        assert!(!fits(1_000, 1, &[]));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(key in 0_i16..95, version in 0_i16..20, body: Vec<u8>) {
            fits(key, version, &body);
        }
    }
}
