//! Why a record is bad: the codes that dead letters carry, and what `mesh explain CODE` says of them.

use crate::model::diagnostic::{Code, CodeDoc};

pub const NOT_FRAMED: &str = "not_framed";
pub const UNKNOWN_SCHEMA: &str = "unknown_schema";
pub const INCOMPATIBLE_SCHEMA: &str = "incompatible_schema";
pub const NOT_JSON: &str = "not_json";
pub const INVALID_UTF8: &str = "invalid_utf8";
pub const TOO_DEEP: &str = "too_deep";
pub const TOO_LARGE: &str = "too_large";
pub const TRUNCATED: &str = "truncated";
pub const TRAILING_BYTES: &str = "trailing_bytes";
pub const MALFORMED: &str = "malformed";
pub const WRONG_TYPE: &str = "wrong_type";
pub const OUT_OF_RANGE: &str = "out_of_range";
pub const NULL_VALUE: &str = "null_value";
pub const MISSING: &str = "missing";
pub const DUPLICATE: &str = "duplicate";
pub const NOT_FINITE: &str = "not_finite";
pub const BAD_KEY: &str = "bad_key";
pub const NO_EVENT_TIME: &str = "no_event_time";
pub const FAR_FUTURE: &str = "far_future";
pub const ROW_ERROR: &str = "row_error";
pub const LATE: &str = "late";
pub const CONTRACT: &str = "contract";

/// Every code of this room.
pub const CODES: &[CodeDoc] = &[
    doc(
        NOT_FRAMED,
        "no schema id before the body",
        "Keys and values start with a zero byte and the schema's id in four bytes. Producers that use the registry's serializers \
         write both; a producer that sends plain text or plain Avro does not, and what it sends would decode to nonsense.",
    ),
    doc(
        UNKNOWN_SCHEMA,
        "the registry does not know the schema id",
        "The record names a schema id that the registry does not have, or that belongs to another topic. It was written against another \
         registry, or its first bytes are no frame at all.",
    ),
    doc(
        INCOMPATIBLE_SCHEMA,
        "the writer's schema can't be read as the contract",
        "The schema that the record was written with lacks a field without a default, or has another type for one. Compatibility checks \
         in the registry prevent this; set the subject's level to BACKWARD or stricter.",
    ),
    doc(
        NOT_JSON,
        "not a JSON text",
        "The body is no JSON text as RFC 8259 has it; the reason names the byte. NaN and Infinity are not JSON.",
    ),
    doc(INVALID_UTF8, "text that is not UTF-8", "JSON and Avro strings are UTF-8. Convert the text before it is produced."),
    doc(TOO_DEEP, "nested too deeply", "A value is nested more deeply than any contract needs (128 levels)."),
    doc(
        TOO_LARGE,
        "too large",
        "The record is larger than 8 MiB, or claims more items than its bytes can hold. Keep large objects outside of Kafka.",
    ),
    doc(TRUNCATED, "the body ends too early", "The body ends before the value that its schema describes."),
    doc(
        TRAILING_BYTES,
        "bytes after the value",
        "The body goes on after the value that its schema describes, so it was written with another schema.",
    ),
    doc(
        MALFORMED,
        "bytes that no value has",
        "The bytes can't be a value of the schema: a number of too many bytes, a branch or symbol that does not exist.",
    ),
    doc(
        WRONG_TYPE,
        "a value of another type",
        "A value has another type than the contract says; the reason names the column and both types.",
    ),
    doc(
        OUT_OF_RANGE,
        "a value that its column can't hold",
        "A number, date or time is outside of its column's range, or has more digits than it can keep.",
    ),
    doc(
        NULL_VALUE,
        "null where a value is required",
        "The contract does not allow null here. A null record value deletes a key of a table; a stream has no deletes.",
    ),
    doc(MISSING, "a required value is missing", "The contract requires the property and the record does not have it."),
    doc(
        DUPLICATE,
        "a property appears twice",
        "An object has the same property twice. Readers disagree on which one counts, so neither is taken.",
    ),
    doc(
        NOT_FINITE,
        "NaN or infinity",
        "JSON has no NaN and no infinities. Guard the expression, for instance with CASE WHEN, or use an Avro contract.",
    ),
    doc(
        BAD_KEY,
        "a key that can't be read",
        "A delete finds its row by the record's key; here there is no key, or it can't be decoded.",
    ),
    doc(NO_EVENT_TIME, "no event time", "The column that the product's time.field names is null."),
    doc(
        FAR_FUTURE,
        "an event time in the far future",
        "The event time lies further in the future of the record's own timestamp than the product's time.ahead allows (a day, when it \
         says nothing). Taken, the record would push the watermark so far that all after it were late.",
    ),
    doc(
        ROW_ERROR,
        "an expression fails on the row",
        "The derivation's expression in the header mesh.expression can't be computed for this record: a division by zero, an overflow, \
         a cast of a text that is no number. Guard it, for instance with NULLIF, CASE WHEN or TRY_CAST. Without an origin, the row is a \
         join's or an aggregate's and comes of more than one record.",
    ),
    doc(
        LATE,
        "later than it is waited for",
        "The watermark had passed the record's window, and its grace, when it came, so it is in no result. The headers mesh.event-time \
         and mesh.watermark say how late it was; a larger disorder of the product or a longer grace of the window would have let it in.",
    ),
    doc(CONTRACT, "against the contract", "A source's value does not fulfil the product's schema; the reason says where."),
];

const fn doc(code: &'static str, title: &'static str, explanation: &'static str) -> CodeDoc {
    CodeDoc { code: Code(code), title, explanation }
}
