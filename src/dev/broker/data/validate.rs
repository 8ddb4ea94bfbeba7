//! What a producer's records must be before they reach a log.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::dev::broker::batch::{self, Header, Keep, Producer};
use crate::dev::broker::partition::Refused;
use crate::dev::broker::topics::TopicConfig;

/// How many records are named that are at fault.
const NAMED: usize = 1_000;

/// The one batch in `records`, as it goes into the log: checked, stamped if the topic's records have the broker's time, and
/// in the topic's compression. `now` in ms.
///
/// # Errors
/// As Kafka refuses them: `CorruptMessage`, `MessageTooLarge`, `InvalidRecord`, `InvalidTimestamp`,
/// `UnsupportedForMessageFormat`.
pub(in crate::dev::broker) fn produced(records: &Bytes, config: &TopicConfig, now: i64) -> Result<(Header, Bytes), Refused> {
    let mut batches = batch::split(records)?.into_iter();
    let (header, batch) = batches.next().ok_or_else(|| invalid("Record batch has no batches at all"))?;
    if batches.next().is_some() {
        return Err(invalid("Compressed outer record has more than one batch"));
    }
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
    if checked.max_timestamp != header.max_timestamp {
        return Ok(batch::restamp(&header, &batch, checked.max_timestamp, false));
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
        } else if header.is_log_append_time() {
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
    Err(Refused { error, message: Some(message.to_owned()), records: faults })
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
