//! Record batches of format 2 (KIP-98): their headers, their records, and building them.
//!
//! A batch is kept as it came; only its first 16 bytes are patched, which its CRC does not cover. So what is needed of one is
//! mostly its [`Header`]. Records are read in two ways: [`records`] gives them all, slices of one buffer, and `check` walks
//! over them without keeping anything, however much the batch unfolds to.

use std::io::{ErrorKind, Read};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::compression::{Compression, LIMIT};

/// The size of a header in bytes.
pub const HEADER: usize = 61;
/// The bytes before the size counts: base offset and the size itself.
const BEFORE_SIZE: usize = 12;
/// Where the CRC stands, and where the bytes that it covers begin, the attributes first.
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
/// The attributes' bits.
const COMPRESSION: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;
/// No timestamp, no producer: what Kafka writes for them.
pub const NONE: i64 = -1;

/// Why bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// The bytes are not what was sent: a wrong size or CRC. Kafka answers `CORRUPT_MESSAGE`.
    #[error("damaged batch: {0}")]
    Damaged(&'static str),
    /// Whole, but against the rules. Kafka answers `INVALID_RECORD`.
    #[error("invalid batch: {0}")]
    Invalid(&'static str),
    /// A message format before 2. Kafka answers `UNSUPPORTED_FOR_MESSAGE_FORMAT`.
    #[error("message format {0} is not taken, only 2")]
    Format(i8),
}

/// A batch's header, without its CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub base_offset: i64,
    /// The whole batch in bytes, the first 12 included.
    pub size: usize,
    pub leader_epoch: i32,
    pub attributes: i16,
    /// The last record's offset is this much after the first's; that of a removed record counts as well.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to: the first one's, or the [delete horizon](Header::delete_horizon).
    pub first_timestamp: i64,
    pub max_timestamp: i64,
    /// -1 without a producer id.
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The first record's sequence number; the last one's is [`last_sequence`](Header::last_sequence).
    pub base_sequence: i32,
    /// Records in it. Compaction leaves fewer than there are offsets.
    pub count: i32,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, which may end before the batch does.
    ///
    /// # Errors
    /// Fewer than [`HEADER`] bytes, another format, or numbers that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Header, Corrupt> {
        if let Some(magic) = bytes.get(16).filter(|magic| **magic < 2) {
            return Err(Corrupt::Format(i8::try_from(*magic).unwrap_or(0)));
        }
        let mut bytes: &[u8] = bytes.first_chunk::<HEADER>().ok_or(Corrupt::Damaged("shorter than a header"))?;
        let base_offset = bytes.get_i64();
        let size = usize::try_from(bytes.get_i32()).ok().and_then(|size| size.checked_add(BEFORE_SIZE));
        let leader_epoch = bytes.get_i32();
        let magic = bytes.get_u8();
        let _crc = bytes.get_u32();
        let header = Header {
            base_offset,
            size: size.filter(|size| *size >= HEADER).ok_or(Corrupt::Damaged("its size cannot be"))?,
            leader_epoch,
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            first_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            count: bytes.get_i32(),
        };
        if magic != 2 {
            return Err(Corrupt::Damaged("its format is none"));
        }
        if header.last_offset_delta < 0 || header.count < 0 || i64::from(header.count) > i64::from(header.last_offset_delta) + 1 {
            return Err(Corrupt::Invalid("its number of records cannot be"));
        }
        header.compression()?;
        Ok(header)
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// The attributes have a number that no compression has.
    pub fn compression(&self) -> Result<Compression, Corrupt> {
        Compression::of(self.attributes).ok_or(Corrupt::Invalid("its compression is none"))
    }

    /// Whether the broker's clock gave the timestamp, one for all records: `message.timestamp.type=LogAppendTime`.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it holds a marker of a transaction's end instead of a client's records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id > NONE
    }

    /// The offset of the last record, or of what was the last one before compaction.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The last record's sequence number. The numbers begin again at 0 behind the highest.
    pub fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(if last > i64::from(i32::MAX) { last - i64::from(i32::MAX) - 1 } else { last }).unwrap_or(-1)
    }

    /// From when on compaction may remove the tombstones or the marker in it (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.first_timestamp)
    }

    /// Whether the CRC of `batch`, the whole of it, is right.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(batch: &[u8]) -> Result<(), Corrupt> {
        let crc = batch.get(CRC..ATTRIBUTES).map(|mut crc| crc.get_u32());
        match batch.get(ATTRIBUTES..) {
            Some(covered) if crc == Some(crc32c::crc32c(covered)) => Ok(()),
            _ => Err(Corrupt::Damaged("its CRC is wrong")),
        }
    }

    /// The header's bytes with the CRC of them and `body`.
    fn bytes(&self, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(HEADER + body.len());
        bytes.put_i64(self.base_offset);
        bytes.put_i32(i32::try_from(self.size.saturating_sub(BEFORE_SIZE)).unwrap_or(i32::MAX));
        bytes.put_i32(self.leader_epoch);
        bytes.put_u8(2);
        let mut covered = [0; HEADER - ATTRIBUTES];
        let mut rest = covered.as_mut_slice();
        rest.put_i16(self.attributes);
        rest.put_i32(self.last_offset_delta);
        rest.put_i64(self.first_timestamp);
        rest.put_i64(self.max_timestamp);
        rest.put_i64(self.producer_id);
        rest.put_i16(self.producer_epoch);
        rest.put_i32(self.base_sequence);
        rest.put_i32(self.count);
        bytes.put_u32(crc32c::crc32c_append(crc32c::crc32c(&covered), body));
        bytes.extend_from_slice(&covered);
        bytes
    }
}

/// Takes the batches in `bytes` apart: sizes, format, counts and CRCs are right, nothing is left over. What a *producer* may
/// not send is for [`check_produced`].
///
/// # Errors
/// One of them is not right.
pub fn split(bytes: &Bytes) -> Result<Vec<(Header, Bytes)>, Corrupt> {
    let mut rest = bytes.clone();
    let mut batches = Vec::with_capacity(1);
    while !rest.is_empty() {
        let header = Header::parse(&rest)?;
        if header.size > rest.len() {
            return Err(Corrupt::Damaged("it ends before its size"));
        }
        let batch = rest.split_to(header.size);
        Header::verify(&batch)?;
        batches.push((header, batch));
    }
    Ok(batches)
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of a batch. An uncompressed one's are slices of it.
///
/// # Errors
/// They are not what the header says, or unfold to more than [`LIMIT`].
pub fn records(header: &Header, batch: &Bytes) -> Result<Vec<Record>, Corrupt> {
    let body = body(batch)?;
    let body = match header.compression()? {
        Compression::None => body,
        compression => {
            Bytes::from(compression.decompress(&body).map_err(|_| Corrupt::Damaged("its records cannot be decompressed"))?)
        }
    };
    let mut records = Vec::with_capacity(usize::try_from(header.count).unwrap_or(0).min(body.len() / 7));
    walk(header, Slices::new(&body), Keep::All, |record| {
        records.push(record);
        Ok(true)
    })?;
    Ok(records)
}

/// What of a record is kept. A field that is not kept is empty, unless it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Keys,
    All,
}

/// The records of a batch one by one, decompressed piece by piece: with `Keep::Nothing` or small keys it takes little memory
/// whatever the batch unfolds to. Ends early when `visit` answers false.
///
/// # Errors
/// They are not what the header says, unfold to more than [`LIMIT`], or `visit`'s own.
pub fn skim(
    header: &Header,
    batch: &Bytes,
    keep: Keep,
    visit: impl FnMut(Record) -> Result<bool, Corrupt>,
) -> Result<(), Corrupt> {
    let body = body(batch)?;
    match header.compression()? {
        Compression::None => walk(header, Slices::new(&body), keep, visit),
        compression => {
            let input = compression.reader(&body).map_err(|_| UNREADABLE)?;
            walk(header, Stream::new(input), keep, visit)
        }
    }
}

const UNREADABLE: Corrupt = Corrupt::Damaged("its records cannot be decompressed");

fn body(batch: &Bytes) -> Result<Bytes, Corrupt> {
    if batch.len() < HEADER { Err(Corrupt::Damaged("shorter than a header")) } else { Ok(batch.slice(HEADER..)) }
}

/// What [`check_produced`] found in the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The lowest and the highest timestamp of a record; the batch's own claim is not believed.
    pub min_timestamp: i64,
    pub max_timestamp: i64,
}

/// What a producer's batch must be besides whole: as many records as offsets, one at least, in order; no marker; sequence
/// numbers with a producer id; and keys if the topic is compacted. Walks over the records.
///
/// # Errors
/// It is not so.
pub fn check_produced(header: &Header, batch: &Bytes, keys: bool) -> Result<Checked, Corrupt> {
    if header.count < 1 || i64::from(header.count) != i64::from(header.last_offset_delta) + 1 {
        return Err(Corrupt::Invalid("its number of records is not that of its offsets"));
    }
    if header.is_control() {
        return Err(Corrupt::Invalid("a client may not write markers"));
    }
    if header.has_producer() && header.base_sequence < 0 {
        return Err(Corrupt::Invalid("a producer id without a sequence number"));
    }
    if header.is_transactional() && !header.has_producer() {
        return Err(Corrupt::Invalid("a transaction without a producer id"));
    }
    let mut checked = Checked { min_timestamp: i64::MAX, max_timestamp: NONE };
    let mut next = header.base_offset;
    skim(header, batch, Keep::Nothing, |record| {
        if record.offset != next {
            return Err(Corrupt::Invalid("its offsets are not one after the other"));
        }
        if keys && record.key.is_none() {
            return Err(Corrupt::Invalid("a record without key in a compacted topic"));
        }
        next = next.saturating_add(1);
        checked.min_timestamp = checked.min_timestamp.min(record.timestamp);
        checked.max_timestamp = checked.max_timestamp.max(record.timestamp);
        Ok(true)
    })?;
    Ok(checked)
}

/// The batch with another highest timestamp in its header, and marked as stamped by the broker if `log_append_time`.
pub fn restamp(header: &Header, batch: &Bytes, max_timestamp: i64, log_append_time: bool) -> (Header, Bytes) {
    let attributes = if log_append_time { header.attributes | LOG_APPEND_TIME } else { header.attributes };
    let header = Header { attributes, max_timestamp, ..*header };
    let body = batch.get(HEADER..).unwrap_or_default();
    let mut bytes = header.bytes(body);
    bytes.extend_from_slice(body);
    (header, bytes.freeze())
}

/// Goes over a batch's records.
fn walk<I: Input>(
    header: &Header,
    mut input: I,
    keep: Keep,
    mut visit: impl FnMut(Record) -> Result<bool, Corrupt>,
) -> Result<(), Corrupt> {
    for _ in 0..header.count {
        let record = record(header, &mut input, keep)?;
        if !visit(record)? {
            return Ok(());
        }
    }
    if input.at_end()? { Ok(()) } else { Err(Corrupt::Invalid("more bytes than records")) }
}

fn record<I: Input>(header: &Header, input: &mut I, keep: Keep) -> Result<Record, Corrupt> {
    let size = u64::try_from(varint(input)?).map_err(|_| Corrupt::Invalid("a record's size cannot be"))?;
    let begin = input.position();
    let _attributes = input.byte()?;
    let timestamp = header.first_timestamp.wrapping_add(varlong(input)?);
    let delta = varint(input)?;
    if delta < 0 || delta > header.last_offset_delta {
        return Err(Corrupt::Invalid("a record's offset is not in its batch"));
    }
    let whole = keep == Keep::All;
    let key = field(input, keep != Keep::Nothing)?;
    let value = field(input, whole)?;
    let count = usize::try_from(varint(input)?).map_err(|_| Corrupt::Invalid("a record's number of headers cannot be"))?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let key = field(input, whole)?.ok_or(Corrupt::Invalid("a header without key"))?;
        let value = field(input, whole)?;
        if whole {
            headers.push((key, value));
        }
        if input.position().saturating_sub(begin) > size {
            return Err(Corrupt::Invalid("a record is longer than its size"));
        }
    }
    if input.position().saturating_sub(begin) != size {
        return Err(Corrupt::Invalid("a record's size is wrong"));
    }
    let timestamp = if header.is_log_append_time() { header.max_timestamp } else { timestamp };
    Ok(Record { offset: header.base_offset.saturating_add(i64::from(delta)), timestamp, key, value, headers })
}

/// A length and as many bytes; `None` for length -1.
fn field<I: Input>(input: &mut I, keep: bool) -> Result<Option<Bytes>, Corrupt> {
    match usize::try_from(varint(input)?) {
        Ok(size) if keep => input.take(size).map(Some),
        Ok(size) => input.skip(size).map(|()| Some(Bytes::new())),
        Err(_) => Ok(None),
    }
}

/// A zigzag varint of 32 bits: five bytes at most.
#[inline]
fn varint<I: Input>(input: &mut I) -> Result<i32, Corrupt> {
    let value = u32::try_from(unsigned(input, 5)?).map_err(|_| TOO_LONG)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// The same of 64 bits: ten bytes at most.
fn varlong<I: Input>(input: &mut I) -> Result<i64, Corrupt> {
    let value = unsigned(input, 10)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[inline(always)]
fn unsigned<I: Input>(input: &mut I, bytes: u32) -> Result<u64, Corrupt> {
    let first = u64::from(input.byte()?);
    if first < 0x80 {
        return Ok(first);
    }
    let mut value = first & 0x7f;
    for at in 1..bytes {
        let byte = u64::from(input.byte()?);
        let bits = byte & 0x7f;
        // The tenth byte has room for one bit.
        if at == 9 && bits > 1 {
            return Err(TOO_LONG);
        }
        value |= bits << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(TOO_LONG)
}

const TOO_LONG: Corrupt = Corrupt::Invalid("a number is too long");

/// Where records are read from.
trait Input {
    fn byte(&mut self) -> Result<u8, Corrupt>;
    fn take(&mut self, size: usize) -> Result<Bytes, Corrupt>;
    fn skip(&mut self, size: usize) -> Result<(), Corrupt>;
    /// Grows with each byte read.
    fn position(&self) -> u64;
    fn at_end(&mut self) -> Result<bool, Corrupt>;
}

const SHORT: Corrupt = Corrupt::Invalid("fewer bytes than records");

/// From memory: fields are slices of it.
struct Slices<'a> {
    whole: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Slices<'a> {
    fn new(whole: &'a Bytes) -> Slices<'a> {
        Slices { whole, rest: whole }
    }

    fn next(&mut self, size: usize) -> Result<&'a [u8], Corrupt> {
        let (next, rest) = self.rest.split_at_checked(size).ok_or(SHORT)?;
        self.rest = rest;
        Ok(next)
    }
}

impl Input for Slices<'_> {
    fn byte(&mut self) -> Result<u8, Corrupt> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn take(&mut self, size: usize) -> Result<Bytes, Corrupt> {
        self.next(size).map(|next| self.whole.slice_ref(next))
    }

    fn skip(&mut self, size: usize) -> Result<(), Corrupt> {
        self.next(size).map(|_| ())
    }

    fn position(&self) -> u64 {
        (self.whole.len() - self.rest.len()) as u64
    }

    fn at_end(&mut self) -> Result<bool, Corrupt> {
        Ok(self.rest.is_empty())
    }
}

/// From a decompressor, a piece at a time.
struct Stream<'a> {
    input: Box<dyn Read + 'a>,
    piece: Box<[u8]>,
    /// What of the piece is still to be read.
    at: usize,
    end: usize,
    /// What was read before the piece.
    before: u64,
}

impl<'a> Stream<'a> {
    fn new(input: Box<dyn Read + 'a>) -> Stream<'a> {
        Stream { input, piece: vec![0; 16 * 1024].into(), at: 0, end: 0, before: 0 }
    }

    /// What is there, at least a byte unless the end is reached.
    fn fill(&mut self) -> Result<&[u8], Corrupt> {
        while self.at >= self.end {
            self.before = self.position();
            (self.at, self.end) = (0, 0);
            self.end = match self.input.read(&mut self.piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(_) => return Err(UNREADABLE),
            };
            if self.before.saturating_add(self.end as u64) > LIMIT as u64 {
                return Err(Corrupt::Invalid("it unfolds to more than 256 MiB"));
            }
        }
        Ok(self.piece.get(self.at..self.end).unwrap_or_default())
    }

    /// Shows the next `size` bytes piece by piece.
    fn each(&mut self, size: usize, mut visit: impl FnMut(&[u8])) -> Result<(), Corrupt> {
        let mut left = size;
        while left > 0 {
            let piece = self.fill()?;
            let piece = piece.get(..left).unwrap_or(piece);
            if piece.is_empty() {
                return Err(SHORT);
            }
            visit(piece);
            let seen = piece.len();
            self.at += seen;
            left -= seen;
        }
        Ok(())
    }
}

impl Input for Stream<'_> {
    fn byte(&mut self) -> Result<u8, Corrupt> {
        if self.at >= self.end {
            self.fill()?;
        }
        let byte = self.piece.get(self.at).filter(|_| self.at < self.end).ok_or(SHORT)?;
        self.at += 1;
        Ok(*byte)
    }

    fn take(&mut self, size: usize) -> Result<Bytes, Corrupt> {
        // Grows with what is there, not with what the size claims.
        let mut bytes = Vec::with_capacity(size.min(self.piece.len()));
        self.each(size, |piece| bytes.extend_from_slice(piece))?;
        Ok(Bytes::from(bytes))
    }

    fn skip(&mut self, size: usize) -> Result<(), Corrupt> {
        self.each(size, |_| ())
    }

    fn position(&self) -> u64 {
        self.before.saturating_add(self.at as u64)
    }

    fn at_end(&mut self) -> Result<bool, Corrupt> {
        Ok(self.fill()?.is_empty())
    }
}

/// Who writes a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// -1 for none.
    pub id: i64,
    pub epoch: i16,
    /// The first record's sequence number.
    pub sequence: i32,
    pub transactional: bool,
}

impl Producer {
    /// A writer without a producer id.
    pub const NONE: Producer = Producer { id: -1, epoch: -1, sequence: -1, transactional: false };
}

/// A producer's batch of `records`, whose offsets do not count: they are 0, 1 and so on until the batch is appended.
///
/// # Errors
/// There are no records, or they are larger than a batch can be.
pub fn build(records: &[Record], producer: Producer, compression: Compression) -> Result<Bytes, Corrupt> {
    let transactional = if producer.transactional { TRANSACTIONAL } else { 0 };
    let header = Header {
        base_offset: 0,
        size: HEADER,
        leader_epoch: -1,
        attributes: compression as i16 | transactional,
        last_offset_delta: i32::try_from(records.len()).map_err(|_| TOO_LARGE)?.saturating_sub(1),
        first_timestamp: records.first().ok_or(Corrupt::Invalid("no records"))?.timestamp,
        max_timestamp: NONE,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.sequence,
        count: 0,
    };
    let numbered = records.iter().zip(0_i64..);
    encode(header, numbered.map(|(record, offset)| (offset, record)))
}

/// The marker of a transaction's end, as a batch with one offset (KIP-98).
pub fn end_marker(producer_id: i64, producer_epoch: i16, coordinator_epoch: i32, commit: bool, timestamp: i64) -> Bytes {
    let mut value = BytesMut::with_capacity(6);
    value.put_i16(0);
    value.put_i32(coordinator_epoch);
    let key = Bytes::from_static(if commit { &[0, 0, 0, 1] } else { &[0, 0, 0, 0] });
    let record = Record { offset: 0, timestamp, key: Some(key), value: Some(value.freeze()), headers: Vec::new() };
    let header = Header {
        base_offset: 0,
        size: HEADER,
        leader_epoch: -1,
        attributes: TRANSACTIONAL | CONTROL,
        last_offset_delta: 0,
        first_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id,
        producer_epoch,
        base_sequence: -1,
        count: 0,
    };
    // One small record without compression: nothing in it can be too large.
    encode(header, std::iter::once((0, &record))).unwrap_or_default()
}

/// What a batch of markers says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Whether the transaction was committed; else it was aborted.
    pub commit: bool,
    pub coordinator_epoch: i32,
}

/// The marker in a control batch; `None` if it is another kind of batch, or compaction emptied it.
///
/// # Errors
/// The control batch cannot be read.
pub fn marker(header: &Header, batch: &Bytes) -> Result<Option<Marker>, Corrupt> {
    if !header.is_control() {
        return Ok(None);
    }
    let Some(Record { key: Some(mut key), value, .. }) = records(header, batch)?.into_iter().next() else { return Ok(None) };
    let _version = key.try_get_i16().map_err(|_| SHORT)?;
    let commit = match key.try_get_i16().map_err(|_| SHORT)? {
        0 => false,
        1 => true,
        _ => return Ok(None),
    };
    let mut value = value.unwrap_or_default();
    let _version = value.try_get_i16().map_err(|_| SHORT)?;
    Ok(Some(Marker { commit, coordinator_epoch: value.try_get_i32().map_err(|_| SHORT)? }))
}

/// What compaction leaves of a batch: the same offsets, sequence numbers and producer with fewer records, or none. With a
/// delete horizon it says from when on its tombstones may go.
///
/// # Errors
/// The records are larger than a batch can be.
pub fn rebuild(header: &Header, records: &[Record], delete_horizon: Option<i64>) -> Result<Bytes, Corrupt> {
    let mut header = Header { count: 0, ..*header };
    if let Some(horizon) = delete_horizon {
        header.attributes |= DELETE_HORIZON;
        header.first_timestamp = horizon;
    }
    if records.is_empty() {
        header.attributes &= !(COMPRESSION | DELETE_HORIZON);
        header.first_timestamp = NONE;
    } else if !header.is_log_append_time() {
        header.max_timestamp = NONE;
    }
    encode(header, records.iter().map(|record| (record.offset.saturating_sub(header.base_offset), record)))
}

const TOO_LARGE: Corrupt = Corrupt::Invalid("larger than a batch can be");

/// A batch of these records and their offsets from the base; count, size and highest timestamp of the header are counted.
fn encode<'a>(mut header: Header, records: impl Iterator<Item = (i64, &'a Record)>) -> Result<Bytes, Corrupt> {
    let mut body = Vec::new();
    let mut one = Vec::new();
    for (delta, record) in records {
        one.clear();
        put_record(&mut one, header.first_timestamp, delta, record);
        put_varlong(&mut body, i64::try_from(one.len()).map_err(|_| TOO_LARGE)?);
        body.extend_from_slice(&one);
        header.count = header.count.saturating_add(1);
        header.max_timestamp = header.max_timestamp.max(record.timestamp);
    }
    let compression = header.compression()?;
    if compression != Compression::None {
        body = compression.compress(&body, None).map_err(|_| TOO_LARGE)?;
    }
    header.size = body.len().checked_add(HEADER).filter(|size| i32::try_from(*size).is_ok()).ok_or(TOO_LARGE)?;
    let mut bytes = header.bytes(&body);
    bytes.extend_from_slice(&body);
    Ok(bytes.freeze())
}

fn put_record(out: &mut Vec<u8>, first_timestamp: i64, delta: i64, record: &Record) {
    out.put_u8(0);
    put_varlong(out, record.timestamp.wrapping_sub(first_timestamp));
    put_varlong(out, delta);
    put_field(out, record.key.as_ref());
    put_field(out, record.value.as_ref());
    put_varlong(out, i64::try_from(record.headers.len()).unwrap_or(i64::MAX));
    for (key, value) in &record.headers {
        put_field(out, Some(key));
        put_field(out, value.as_ref());
    }
}

fn put_field(out: &mut Vec<u8>, field: Option<&Bytes>) {
    match field {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            out.extend_from_slice(bytes);
        }
    }
}

/// A zigzag varint; small numbers are the same in 32 and 64 bits.
fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn record(offset: i64, timestamp: i64, key: Option<Bytes>, value: Option<Bytes>) -> Record {
        Record { offset, timestamp, key, value, headers: Vec::new() }
    }

    fn three() -> Vec<Record> {
        let headers = vec![(Bytes::from_static(b"h"), None), (Bytes::new(), bytes_of("v"))];
        vec![
            record(0, 1_000, bytes_of("k"), bytes_of("v")),
            Record { headers, ..record(1, 990, None, bytes_of("")) },
            record(2, 1_234, bytes_of(""), None),
        ]
    }

    fn one(batch: &Bytes) -> (Header, Bytes) {
        split(batch).unwrap().into_iter().next().unwrap()
    }

    /// The batch with these bytes at a place, and the CRC made right.
    fn patched(batch: &Bytes, at: usize, with: &[u8]) -> Bytes {
        let mut batch = batch.to_vec();
        batch[at..at + with.len()].copy_from_slice(with);
        let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
        batch[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    #[test]
    fn records_come_back_whatever_the_compression() {
        for compression in Compression::ALL {
            let producer = Producer { id: 7, epoch: 2, sequence: 40, transactional: true };
            let batch = build(&three(), producer, compression).unwrap();
            let (header, whole) = one(&batch);
            assert_eq!(whole, batch);
            assert_eq!(records(&header, &batch).unwrap(), three());
            assert_eq!((header.count, header.last_offset_delta, header.last_sequence()), (3, 2, 42));
            assert_eq!((header.first_timestamp, header.max_timestamp), (1_000, 1_234));
            assert!(header.is_transactional() && !header.is_control() && !header.is_log_append_time());
            assert_eq!(header.compression(), Ok(compression));
            assert_eq!(check_produced(&header, &batch, false), Ok(Checked { min_timestamp: 990, max_timestamp: 1_234 }));
            let no_key = check_produced(&header, &batch, true);
            assert_eq!(no_key, Err(Corrupt::Invalid("a record without key in a compacted topic")));
        }
    }

    #[test]
    fn the_layout_is_that_of_the_specification() {
        // KIP-98's layout, written down by hand: one record, key `k`, value `v`, header `h` without value.
        let body = [22, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h'];
        let mut batch = Vec::new();
        batch.extend_from_slice(&42_i64.to_be_bytes());
        batch.extend_from_slice(&(49_i32 + 1 + 11).to_be_bytes());
        batch.extend_from_slice(&3_i32.to_be_bytes());
        batch.push(2);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&0_i16.to_be_bytes());
        batch.extend_from_slice(&0_i32.to_be_bytes());
        batch.extend_from_slice(&5_i64.to_be_bytes());
        batch.extend_from_slice(&5_i64.to_be_bytes());
        batch.extend_from_slice(&(-1_i64).to_be_bytes());
        batch.extend_from_slice(&(-1_i16).to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.extend_from_slice(&1_i32.to_be_bytes());
        batch.extend_from_slice(&body);
        batch.push(1);
        let batch = patched(&batch.into(), 0, &[]);
        let (header, _) = one(&batch);
        assert_eq!((header.base_offset, header.leader_epoch, header.has_producer()), (42, 3, false));
        let headers = vec![(Bytes::from_static(b"h"), None)];
        let expected = Record { headers, ..record(42, 5, bytes_of("k"), bytes_of("v")) };
        assert_eq!(records(&header, &batch).unwrap(), [expected]);
    }

    /// Written by Kafka's own client library, 4.3.1, in each compression: three records, of which the second has 40,000 bytes
    /// in the compressed ones, so that there is more than one block.
    #[test]
    fn batches_of_kafkas_java_client_are_read() {
        let recorded = include_str!("../../../tests/data/broker/record-batches.txt");
        let letters: Vec<u8> = (0..40_000_usize).map(|n| b"abcdefghijklmnopqrstuvw"[n % 23]).collect();
        for (line, compression) in recorded.lines().zip(Compression::ALL) {
            let (name, hex) = line.split_once(' ').unwrap();
            let hex: Vec<_> = hex.as_bytes().chunks(2).map(|byte| std::str::from_utf8(byte).unwrap()).collect();
            let bytes: Bytes = hex.iter().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let (header, batch) = one(&bytes);
            assert_eq!((name, header.compression()), (compression.name(), Ok(compression)));
            assert_eq!((header.base_offset, header.leader_epoch, header.count, header.is_transactional()), (7, 5, 3, true));
            assert_eq!((header.producer_id, header.producer_epoch, header.last_sequence()), (4_000, 3, 19));
            assert_eq!((header.first_timestamp, header.max_timestamp), (1_700_000_000_000, 1_700_000_000_005));
            let headers = vec![(Bytes::from_static(b"h"), bytes_of("v")), (Bytes::from_static(b"none"), None)];
            let second = if compression == Compression::None { b"small".as_slice() } else { &letters };
            let expected = [
                Record { headers, ..record(7, 1_700_000_000_000, bytes_of("key"), bytes_of("value")) },
                record(8, 1_700_000_000_005, None, Some(Bytes::copy_from_slice(second))),
                record(9, 1_699_999_999_999, bytes_of("tombstone"), None),
            ];
            assert!(records(&header, &batch).unwrap() == expected, "{name}");
            assert!(check_produced(&header, &batch, false).is_ok(), "{name}");
        }
        assert_eq!(recorded.lines().count(), Compression::ALL.len());
    }

    #[test]
    fn each_byte_under_the_crc_counts_and_the_offset_and_the_epoch_do_not() {
        let batch = build(&three(), Producer::NONE, Compression::None).unwrap();
        for at in 0..batch.len() {
            let mut changed = batch.to_vec();
            changed[at] ^= 0x10;
            let split = split(&changed.into());
            assert_eq!(split.is_ok(), at < 8 || (12..16).contains(&at), "byte {at}: {split:?}");
        }
        for size in 1..batch.len() {
            assert!(split(&batch.slice(..size)).is_err(), "{size} bytes");
        }
        assert_eq!(split(&Bytes::new()), Ok(Vec::new()));
    }

    #[test]
    fn older_formats_are_told_from_damage() {
        let batch = build(&three(), Producer::NONE, Compression::None).unwrap();
        assert_eq!(split(&patched(&batch, 16, &[1])), Err(Corrupt::Format(1)));
        assert_eq!(split(&patched(&batch, 16, &[0])), Err(Corrupt::Format(0)));
        assert!(matches!(split(&patched(&batch, 16, &[3])), Err(Corrupt::Damaged(_))));
        // Message sets of old formats may be shorter than a header.
        assert_eq!(split(&Bytes::from_static(&[0; 30])), Err(Corrupt::Format(0)));
    }

    #[test]
    fn a_producer_may_not_send_what_only_the_broker_writes() {
        let invalid = |at: usize, with: &[u8]| {
            let producer = Producer { id: 1, epoch: 0, sequence: 0, transactional: true };
            let batch = patched(&build(&three(), producer, Compression::None).unwrap(), at, with);
            let (header, batch) = one(&batch);
            check_produced(&header, &batch, false).unwrap_err().to_string()
        };
        assert_eq!(invalid(22, &[0x30]), "invalid batch: a client may not write markers");
        assert_eq!(invalid(53, &[0xff; 4]), "invalid batch: a producer id without a sequence number");
        assert_eq!(invalid(43, &[0xff; 8]), "invalid batch: a transaction without a producer id");
        assert_eq!(invalid(23, &[0, 0, 0, 3]), "invalid batch: its number of records is not that of its offsets");
        // The first record's offset in the batch: size, attributes and two bytes of timestamp are before.
        assert_eq!(invalid(64, &[2]), "invalid batch: its offsets are not one after the other");
        assert_eq!(invalid(61, &[0x7e]), "invalid batch: a record's size is wrong");
        let emptied = rebuild(&one(&build(&three(), Producer::NONE, Compression::Gzip).unwrap()).0, &[], None).unwrap();
        let (header, emptied) = one(&emptied);
        assert!(check_produced(&header, &emptied, false).is_err());
    }

    #[test]
    fn counts_that_do_not_fit_the_records_are_found() {
        for compression in Compression::ALL {
            let batch = build(&three(), Producer::NONE, compression).unwrap();
            let fewer = patched(&batch, 57, &2_i32.to_be_bytes());
            let (header, fewer) = one(&fewer);
            assert_eq!(records(&header, &fewer), Err(Corrupt::Invalid("more bytes than records")));
            let more = patched(&patched(&batch, 57, &4_i32.to_be_bytes()), 23, &3_i32.to_be_bytes());
            let (header, more) = one(&more);
            assert!(records(&header, &more).is_err());
            assert!(check_produced(&header, &more, false).is_err());
        }
        let batch = build(&three(), Producer::NONE, Compression::None).unwrap();
        assert!(split(&patched(&batch, 57, &4_i32.to_be_bytes())).is_err());
        assert!(split(&patched(&batch, 57, &(-1_i32).to_be_bytes())).is_err());
        assert!(split(&patched(&batch, 22, &[5])).is_err(), "a compression that there is not");
    }

    #[test]
    fn numbers_are_bounded_as_varints_are() {
        let read = |bytes: &'static [u8]| varint(&mut Slices::new(&Bytes::from_static(bytes)));
        assert_eq!(read(&[0x01]), Ok(-1));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN));
        assert_eq!(read(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MAX));
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
        assert!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).is_err());
        assert!(read(&[0x80]).is_err());
        for number in [0, 1, -1, 300, i64::MAX, i64::MIN, i64::from(i32::MIN)] {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, number);
            assert_eq!(varlong(&mut Slices::new(&bytes.into())), Ok(number));
        }
        let long = [0xff; 9].into_iter().chain([0x02]).collect::<Vec<u8>>();
        assert!(varlong(&mut Slices::new(&long.into())).is_err());
    }

    #[test]
    fn a_small_batch_that_unfolds_to_much_is_refused() {
        // A record of zeros that is larger than any batch may be.
        let size = LIMIT as u64 + 100;
        let mut front = Vec::new();
        put_varlong(&mut front, size.cast_signed());
        front.extend_from_slice(&[0, 0, 0, 1]);
        put_varlong(&mut front, size.cast_signed() - 10);
        let zeros = Read::chain(front.as_slice(), std::io::repeat(0).take(size));
        let body = zstd::stream::encode_all(zeros, 1).unwrap();
        let marker = one(&end_marker(1, 1, 1, true, 1)).0;
        let header = Header { attributes: Compression::Zstd as i16, size: HEADER + body.len(), ..marker };
        let mut batch = header.bytes(&body);
        batch.extend_from_slice(&body);
        assert!(batch.len() < 100_000);
        let (header, batch) = one(&batch.freeze());
        let refused = Corrupt::Invalid("it unfolds to more than 256 MiB");
        assert_eq!(skim(&header, &batch, Keep::Nothing, |_| Ok(true)), Err(refused));
    }

    #[test]
    fn markers_say_how_the_transaction_ended() {
        for commit in [true, false] {
            let batch = end_marker(9, 4, 11, commit, 77);
            let (header, batch) = one(&batch);
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 4, -1));
            assert_eq!((header.count, header.max_timestamp, header.last_offset_delta), (1, 77, 0));
            assert_eq!(marker(&header, &batch), Ok(Some(Marker { commit, coordinator_epoch: 11 })));
        }
        let (header, batch) = one(&build(&three(), Producer::NONE, Compression::None).unwrap());
        assert_eq!(marker(&header, &batch), Ok(None));
        let (header, marked) = one(&end_marker(9, 4, 11, true, 77));
        let (header, emptied) = one(&rebuild(&header, &[], None).unwrap());
        assert_eq!((marker(&header, &emptied), header.count), (Ok(None), 0));
        assert_eq!(one(&patched(&marked, 61 + 8, &[7])).1.len(), marked.len());
    }

    #[test]
    fn the_brokers_clock_stamps_all_records() {
        let batch = build(&three(), Producer::NONE, Compression::Lz4).unwrap();
        let (header, batch) = restamp(&one(&batch).0, &batch, 5_000, true);
        assert_eq!(one(&batch), (header, batch.clone()));
        assert!(header.is_log_append_time());
        let times: Vec<_> = records(&header, &batch).unwrap().iter().map(|record| record.timestamp).collect();
        assert_eq!(times, [5_000; 3]);
        let (header, batch) = restamp(&one(&build(&three(), Producer::NONE, Compression::None).unwrap()).0, &batch, 3, false);
        assert_eq!((header.max_timestamp, header.is_log_append_time()), (3, false));
        assert!(!batch.is_empty());
    }

    #[test]
    fn compaction_leaves_offsets_sequences_and_times() {
        for compression in Compression::ALL {
            let producer = Producer { id: 7, epoch: 2, sequence: i32::MAX, transactional: false };
            let mut batch = build(&three(), producer, compression).unwrap().to_vec();
            batch[..8].copy_from_slice(&100_i64.to_be_bytes());
            let (header, batch) = one(&batch.into());
            assert_eq!(header.last_sequence(), 1);
            let last = records(&header, &batch).unwrap().split_off(2);
            let (left, bytes) = one(&rebuild(&header, &last, Some(9_000)).unwrap());
            assert_eq!((left.base_offset, left.last_offset(), left.count), (100, 102, 1));
            assert_eq!((left.last_sequence(), left.producer_id, left.delete_horizon()), (1, 7, Some(9_000)));
            assert_eq!((records(&left, &bytes).unwrap(), left.max_timestamp), (last, 1_234));
            let (left, bytes) = one(&rebuild(&left, &[], None).unwrap());
            assert_eq!((left.base_offset, left.last_offset(), left.count, bytes.len()), (100, 102, 0, HEADER));
            assert_eq!((left.last_sequence(), left.delete_horizon(), left.max_timestamp), (1, None, 1_234));
            assert_eq!(records(&left, &bytes), Ok(Vec::new()));
        }
    }

    fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::weighted(0.9, proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let header = (proptest::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from), any_bytes());
        let headers = proptest::collection::vec(header, 0..3);
        (any::<i64>(), any_bytes(), any_bytes(), headers).prop_map(|(timestamp, key, value, headers)| Record {
            offset: 0,
            timestamp,
            key,
            value,
            headers,
        })
    }

    proptest! {
        #[test]
        fn what_is_built_comes_back(
            records in proptest::collection::vec(any_record(), 1..50),
            compression in proptest::sample::select(&Compression::ALL[..]),
            base in 0..i64::MAX / 2,
        ) {
            let mut batch = build(&records, Producer::NONE, compression).unwrap().to_vec();
            batch[..8].copy_from_slice(&base.to_be_bytes());
            let batch = Bytes::from(batch);
            let (header, batch) = one(&batch);
            let numbered: Vec<_> = records.into_iter().zip(base..).map(|(record, offset)| Record { offset, ..record }).collect();
            prop_assert_eq!(&super::records(&header, &batch).unwrap(), &numbered);
            prop_assert!(check_produced(&header, &batch, false).is_ok());
            let mut skimmed = Vec::new();
            skim(&header, &batch, Keep::All, |record| { skimmed.push(record); Ok(true) }).unwrap();
            prop_assert_eq!(skimmed, numbered);
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = split(&bytes);
            if let Ok(header) = Header::parse(&bytes) {
                let _ = records(&header, &bytes);
            }
        }

        #[test]
        fn a_whole_batch_with_arbitrary_content_does_not_panic(
            changes in proptest::collection::vec((0_usize..120, any::<u8>()), 1..6),
            compression in proptest::sample::select(&Compression::ALL[..]),
        ) {
            let mut batch = build(&three(), Producer::NONE, compression).unwrap().to_vec();
            for (at, with) in changes {
                let at = ATTRIBUTES + at % (batch.len() - ATTRIBUTES);
                batch[at] = with;
            }
            let batch = patched(&batch.into(), 0, &[]);
            for (header, batch) in split(&batch).unwrap_or_default() {
                let read = records(&header, &batch);
                let mut count = 0;
                let skimmed = skim(&header, &batch, Keep::Nothing, |_| { count += 1; Ok(true) });
                prop_assert_eq!(skimmed.is_ok(), read.is_ok());
                prop_assert_eq!(read.map_or(count, |read| read.len()), count);
                let _ = check_produced(&header, &batch, true);
                let _ = marker(&header, &batch);
            }
        }
    }
}
