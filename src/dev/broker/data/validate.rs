//! What a producer's records must be before they reach a log.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::dev::broker::batch::{self, Header, Keep, Producer};
use crate::dev::broker::partition::Refused;
use crate::dev::broker::topics::TopicConfig;

/// The attribute of batches that the broker stamped.
const LOG_APPEND_TIME: i16 = 1 << 3;
/// How many records are named that are at fault.
const NAMED: usize = 1_000;

/// The one batch in `records`, whole and undamaged.
///
/// # Errors
/// `InvalidRecord` for none, more than one, or one of an older format; `CorruptMessage`.
pub(in crate::dev::broker) fn single(records: &Bytes) -> Result<(Header, Bytes), Refused> {
    if Header::parse(records).is_ok_and(|header| header.size > records.len()) {
        // To Kafka a batch that ends too early is none.
        return Err(invalid("Produce requests must have at least one record batch per partition"));
    }
    let mut batches = batch::split(records)?.into_iter();
    let first = batches.next().ok_or_else(|| invalid("Produce requests must have at least one record batch per partition"))?;
    match batches.next() {
        None => Ok(first),
        Some(_) => Err(invalid("Produce requests are only allowed to contain exactly one record batch per partition")),
    }
}

/// The batch as it goes into the log: checked, stamped if the topic's records have the broker's time, and in the topic's
/// compression. `now` in ms.
///
/// # Errors
/// As Kafka refuses it: `MessageTooLarge`, `InvalidRecord`, `InvalidTimestamp`, `CorruptMessage` for records that cannot be
/// decompressed.
pub(in crate::dev::broker) fn produced(
    header: Header,
    batch: Bytes,
    config: &TopicConfig,
    now: i64,
) -> Result<(Header, Bytes), Refused> {
    if header.base_offset != 0 {
        return Err(invalid(&format!("The baseOffset of the record batch should be 0, but it is {}", header.base_offset)));
    }
    if header.size > config.max_message_bytes {
        let message = format!(
            "The record batch size is {} bytes which exceeds the maximum configured value of {}.",
            header.size, config.max_message_bytes
        );
        return Err(Refused { message: Some(message), ..ResponseError::MessageTooLarge.into() });
    }
    let checked = batch::check_produced(&header, &batch, false)?;
    let earliest = now.saturating_sub(config.before_max_ms);
    let latest = now.saturating_add(config.after_max_ms);
    let untimely = !config.log_append_time && (checked.min_timestamp < earliest || checked.max_timestamp > latest);
    if config.log.compact || untimely || header.is_log_append_time() {
        each(&header, &batch, config, (earliest, latest))?;
    }
    let (header, batch) = compressed(header, batch, config)?;
    if config.log_append_time {
        return Ok(batch::restamp(&header, &batch, now, true));
    }
    if checked.max_timestamp != header.max_timestamp || header.is_log_append_time() {
        let attributes = header.attributes & !LOG_APPEND_TIME;
        return Ok(batch::restamp(&Header { attributes, ..header }, &batch, checked.max_timestamp, false));
    }
    Ok((header, batch))
}

/// Looks at the single records (KIP-467): no key in a compacted topic, a time out of bounds.
fn each(header: &Header, batch: &Bytes, config: &TopicConfig, (earliest, latest): (i64, i64)) -> Result<(), Refused> {
    let (mut faults, mut error, mut index) = (Vec::new(), None, 0);
    batch::skim(header, batch, Keep::Nothing, |record| {
        let timely = config.log_append_time || record.timestamp == batch::NONE || (earliest..=latest).contains(&record.timestamp);
        if config.log.compact && record.key.is_none() {
            error = error.or(Some(ResponseError::InvalidRecord));
            faults.push((index, "Compacted topic cannot accept message without key.".to_owned()));
        } else if header.is_log_append_time() && (config.log_append_time || record.timestamp == batch::NONE) {
            error = Some(ResponseError::InvalidTimestamp);
            faults.push((index, "Producer should not set timestamp type to LogAppendTime.".to_owned()));
        } else if !timely {
            error = Some(ResponseError::InvalidTimestamp);
            let why = format!("Timestamp {} is out of range: it should be within [{earliest}, {latest}]", record.timestamp);
            faults.push((index, why));
        }
        index += 1;
        Ok(faults.len() < NAMED)
    })?;
    let Some(error) = error else { return Ok(()) };
    let message = match error {
        ResponseError::InvalidTimestamp => "One or more records have been rejected due to invalid timestamp",
        _ => "One or more records have been rejected",
    };
    Err(Refused { message: Some(message.to_owned()), records: faults, ..error.into() })
}

/// The batch in the topic's compression; as it came if the topic leaves that to the producer.
fn compressed(header: Header, batch: Bytes, config: &TopicConfig) -> Result<(Header, Bytes), Refused> {
    let Some(wanted) = config.compression.filter(|wanted| header.compression() != Ok(*wanted)) else {
        return Ok((header, batch));
    };
    let producer = Producer {
        id: header.producer_id,
        epoch: header.producer_epoch,
        sequence: header.base_sequence,
        transactional: header.is_transactional(),
    };
    let batch = batch::build(&batch::records(&header, &batch)?, producer, wanted)?;
    Ok((Header::parse(&batch)?, batch))
}

fn invalid(message: &str) -> Refused {
    Refused { message: Some(message.to_owned()), ..ResponseError::InvalidRecord.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::broker::batch::{Record, records};
    use crate::dev::broker::compression::Compression;

    const NOW: i64 = 1_000_000;

    fn batch(of: &[(Option<&'static str>, i64)], compression: Compression) -> (Header, Bytes) {
        let record = |(key, timestamp): &(Option<&'static str>, i64)| Record {
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from_static(b"v")),
            timestamp: *timestamp,
            ..Record::default()
        };
        let records: Vec<Record> = of.iter().map(record).collect();
        single(&batch::build(&records, Producer::NONE, compression).unwrap()).unwrap()
    }

    fn taken(of: (Header, Bytes), config: &TopicConfig) -> Result<(Header, Bytes), (ResponseError, Vec<i32>)> {
        let at = |refused: Refused| (refused.error, refused.records.iter().map(|(index, _)| *index).collect());
        produced(of.0, of.1, config, NOW).map_err(at)
    }

    #[test]
    fn a_good_batch_goes_into_the_log_as_it_came() {
        let (header, bytes) = batch(&[(Some("a"), NOW), (None, 5)], Compression::Lz4);
        assert_eq!(taken((header, bytes.clone()), &TopicConfig::default()), Ok((header, bytes)));
    }

    #[test]
    fn records_at_fault_are_named() {
        let mut config = TopicConfig { after_max_ms: 10, before_max_ms: 20, ..TopicConfig::default() };
        let untimely = batch(&[(None, NOW), (None, NOW + 11), (None, NOW - 20), (None, NOW - 21), (None, -1)], Compression::Gzip);
        assert_eq!(taken(untimely, &config), Err((ResponseError::InvalidTimestamp, vec![1, 3])));
        config.log.compact = true;
        let keyless = batch(&[(Some("a"), NOW), (None, NOW)], Compression::None);
        assert_eq!(taken(keyless, &config), Err((ResponseError::InvalidRecord, vec![1])));
        config.max_message_bytes = 60;
        assert_eq!(taken(batch(&[(Some("a"), NOW)], Compression::None), &config), Err((ResponseError::MessageTooLarge, vec![])));
    }

    #[test]
    fn the_highest_time_is_looked_up_and_not_believed() {
        let (header, bytes) = batch(&[(None, 7), (None, 9)], Compression::None);
        let lie = batch::restamp(&header, &bytes, 999, false);
        assert_eq!(taken(lie, &TopicConfig::default()).unwrap(), (header, bytes));
    }

    #[test]
    fn a_topic_may_stamp_and_compress_anew() {
        let config = TopicConfig { log_append_time: true, compression: Some(Compression::Zstd), ..TopicConfig::default() };
        let (header, bytes) = taken(batch(&[(None, 7), (None, NOW + 99_999_999)], Compression::Gzip), &config).unwrap();
        assert_eq!((header.compression(), header.max_timestamp), (Ok(Compression::Zstd), NOW));
        assert!(batch::split(&bytes).is_ok() && header.is_log_append_time());
        let times: Vec<i64> = records(&header, &bytes).unwrap().iter().map(|record| record.timestamp).collect();
        assert!(times.len() == 2 && header.count == 2);
        let stamped = batch::restamp(&header, &bytes, NOW, true);
        assert_eq!(taken(stamped, &config), Err((ResponseError::InvalidTimestamp, vec![0, 1])));
    }

    #[test]
    fn what_is_not_one_batch_is_refused() {
        let (_, one) = batch(&[(None, 7)], Compression::None);
        let error = |bytes: Bytes| single(&bytes).unwrap_err().error;
        assert_eq!(error(Bytes::new()), ResponseError::InvalidRecord);
        assert_eq!(error(one.slice(..one.len() - 1)), ResponseError::InvalidRecord);
        assert_eq!(error([&one[..], &one[..]].concat().into()), ResponseError::InvalidRecord);
        let mut damaged = one.to_vec();
        damaged[65] ^= 1;
        assert_eq!(error(damaged.into()), ResponseError::CorruptMessage);
    }
}
