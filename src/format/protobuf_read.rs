//! Protobuf to columns: a record's bytes are read with the contract's numbers; of the writer's schema it only counts which
//! of its messages the record is.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;
use chrono::NaiveDate;
use hashbrown::HashMap;

use super::avro::Cursor;
use super::column::{Column, Values};
use super::protobuf::{self, Plain, Special, Wire, other_bytes, special};
use super::{Fault, FormatError, Written, codes};
use crate::model::row::type_name;
use crate::schema::{Member, MemberKind, Messages, Presence, Scalar};

/// Reads Protobuf values and keys into columns.
pub(super) struct ProtobufReader {
    /// The contract's message: its name without the package, and how its fields are read.
    name: String,
    steps: Vec<Step>,
    key: Vec<usize>,
}

/// A writer's schema, and how its keys are read once that is known.
pub(super) struct Writer {
    messages: Arc<Messages>,
    key: Option<(Vec<usize>, KeySteps)>,
}

/// How a key's fields are read, or why they can't be.
type KeySteps = Result<Vec<Step>, String>;

/// How one field is read.
#[derive(Debug)]
struct Step {
    number: u32,
    column: usize,
    presence: Presence,
    op: Op,
}

/// How a value is read; into what, the column's type says.
#[derive(Debug)]
enum Op {
    Scalar(Scalar),
    Enum(HashMap<i32, String, foldhash::fast::RandomState>),
    Special(Special),
    Message(Vec<Step>),
    List(Box<Op>),
    /// The values; keys are texts.
    Map(Box<Op>),
}

/// What a record has of one field.
enum Slot<'a> {
    None,
    One(Wire<'a>),
    Several(Vec<Wire<'a>>),
}

impl Writer {
    pub(super) fn new(schema: Written<'_>) -> Result<Writer, FormatError> {
        Ok(Writer { messages: protobuf::messages(schema)?, key: None })
    }
}

impl ProtobufReader {
    pub(super) fn new(columns: &[Column], key: &[usize], contract: Written<'_>) -> Result<Self, FormatError> {
        let messages = protobuf::messages(contract)?;
        let root = messages.first().ok_or_else(|| FormatError::Mismatch("the contract declares no message".into()))?;
        let wanted: Vec<(usize, &Column)> = columns.iter().enumerate().collect();
        let steps = steps(&messages, root, &wanted).map_err(FormatError::Mismatch)?;
        Ok(ProtobufReader { name: local_name(&messages, root), steps, key: key.to_vec() })
    }

    /// Appends a record's value to all columns.
    pub(super) fn value(&self, writer: &Writer, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let (indexes, body) = protobuf::indexes(body)?;
        let id = written(&writer.messages, &indexes)?;
        let name = local_name(&writer.messages, id);
        if name != self.name {
            let reason = format!("the record is a {name}, and the contract's message is {}", self.name);
            return Err(Fault::new(codes::INCOMPATIBLE_SCHEMA, reason));
        }
        message(&self.steps, columns, body)
    }

    /// Appends a record's key to the key's columns, which are fields of its message.
    pub(super) fn key(&self, writer: &mut Writer, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let (indexes, body) = protobuf::indexes(body)?;
        let id = written(&writer.messages, &indexes)?;
        let known = writer.key.take().filter(|(place, _)| *place == indexes);
        let (_, steps) = writer.key.insert(known.unwrap_or_else(|| {
            let wanted: Vec<(usize, &Column)> = self.key.iter().filter_map(|at| Some((*at, columns.get(*at)?))).collect();
            let found = steps(&writer.messages, id, &wanted).map(|mut steps| {
                // A key is written whole, and its zeros are left out.
                for step in steps.iter_mut().filter(|step| step.presence == Presence::Optional) {
                    step.presence = Presence::Required;
                }
                steps
            });
            (indexes, found)
        }));
        match steps {
            Ok(steps) => message(steps, columns, body),
            Err(reason) => Err(Fault::new(codes::INCOMPATIBLE_SCHEMA, reason.clone())),
        }
    }
}

fn written(messages: &Messages, indexes: &[usize]) -> Result<usize, Fault> {
    let none = || format!("the writer's schema has no message at {indexes:?}");
    messages.by_indexes(indexes).ok_or_else(|| Fault::new(codes::MALFORMED, none()))
}

fn local_name(messages: &Messages, id: usize) -> String {
    messages.get(id).map(|shape| shape.name.rsplit('.').next().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Steps for the wanted columns, which are fields of these names.
fn steps(messages: &Messages, id: usize, wanted: &[(usize, &Column)]) -> Result<Vec<Step>, String> {
    wanted
        .iter()
        .map(|(at, column)| {
            let name = column.field.name();
            let member = protobuf::member(messages, id, name)?;
            let op = member_op(messages, member, column).map_err(|reason| format!("field {name:?}: {reason}"))?;
            Ok(Step { number: member.number, column: *at, presence: member.presence, op })
        })
        .collect()
}

fn member_op(messages: &Messages, member: &Member, column: &Column) -> Result<Op, String> {
    match (&member.kind, member.presence, &column.values) {
        (MemberKind::Map(Scalar::String, value), _, Values::Map(_, _, values)) => {
            Ok(Op::Map(Box::new(op(messages, value, values)?)))
        }
        (MemberKind::Map(..), _, _) => Err(misfit("a map", column)),
        (kind, Presence::Repeated, Values::List(_, item)) => Ok(Op::List(Box::new(op(messages, kind, item)?))),
        (_, Presence::Repeated, _) => Err(misfit("a repeated field", column)),
        (kind, _, _) => op(messages, kind, column),
    }
}

fn op(messages: &Messages, kind: &MemberKind, column: &Column) -> Result<Op, String> {
    match kind {
        MemberKind::Scalar(scalar) if scalar_fits(*scalar, &column.values) => Ok(Op::Scalar(*scalar)),
        MemberKind::Scalar(scalar) => Err(misfit(&format!("{scalar:?}").to_lowercase(), column)),
        MemberKind::Enum(symbols) => match column.values {
            // Of two names of one number, the first counts.
            Values::Text(_) => Ok(Op::Enum(symbols.iter().rev().map(|(name, number)| (*number, name.clone())).collect())),
            _ => Err(misfit("an enum", column)),
        },
        MemberKind::Message(id) => {
            let name = messages.get(*id).map_or("", |shape| shape.name.as_str());
            match (special(name), &column.values) {
                (Some(Special::Timestamp), Values::Timestamp(_, true, _))
                | (Some(Special::Date), Values::Date(_))
                | (Some(Special::TimeOfDay), Values::Time32(..) | Values::Time64(..))
                | (Some(Special::Decimal), Values::Decimal(..)) => Ok(Op::Special(special(name).unwrap_or(Special::Date))),
                (Some(Special::Wrapper(scalar)), values) if scalar_fits(scalar, values) => {
                    Ok(Op::Special(Special::Wrapper(scalar)))
                }
                (_, Values::Struct(columns, _)) => {
                    let wanted: Vec<(usize, &Column)> = columns.iter().enumerate().collect();
                    Ok(Op::Message(steps(messages, *id, &wanted)?))
                }
                _ => Err(misfit(name, column)),
            }
        }
        MemberKind::Map(..) => Err(misfit("a map", column)),
        MemberKind::Not(reason) => Err(reason.clone()),
    }
}

fn misfit(what: &str, column: &Column) -> String {
    format!("{what} does not fit a column of type {}", type_name(column.field.data_type()))
}

fn scalar_fits(scalar: Scalar, values: &Values) -> bool {
    match scalar {
        Scalar::Bool => matches!(values, Values::Bool(_)),
        Scalar::Bytes => matches!(values, Values::Bytes(_)),
        Scalar::String => matches!(values, Values::Text(_)),
        Scalar::Double => matches!(values, Values::F64(_)),
        Scalar::Float => matches!(values, Values::F32(_) | Values::F64(_)),
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => matches!(values, Values::I32(_) | Values::I64(_)),
        Scalar::Uint64 | Scalar::Fixed64 => matches!(values, Values::U64(_)),
        _ => matches!(values, Values::I64(_)),
    }
}

/// Reads a message's fields into their columns. What stands several times counts as Protobuf has it: the last of a value,
/// all of a list, and of messages all together.
fn message(steps: &[Step], columns: &mut [Column], mut bytes: &[u8]) -> Result<(), Fault> {
    let mut slots: Vec<Slot<'_>> = steps.iter().map(|_| Slot::None).collect();
    while let Some((number, wire)) = protobuf::next(&mut bytes)? {
        for (step, slot) in steps.iter().zip(&mut slots).filter(|(step, _)| step.number == number) {
            let together = matches!(step.op, Op::List(_) | Op::Map(_) | Op::Message(_) | Op::Special(_));
            match slot {
                Slot::Several(wires) => wires.push(wire),
                Slot::One(first) if together => *slot = Slot::Several(vec![*first, wire]),
                Slot::None | Slot::One(_) => *slot = Slot::One(wire),
            }
        }
    }
    for (step, slot) in steps.iter().zip(slots) {
        let Some(column) = columns.get_mut(step.column) else { continue };
        field(step, column, &slot).map_err(|fault| fault.in_field(column.field.name()))?;
    }
    Ok(())
}

fn field(step: &Step, column: &mut Column, slot: &Slot<'_>) -> Result<(), Fault> {
    let wires = match slot {
        Slot::None => &[][..],
        Slot::One(wire) => std::slice::from_ref(wire),
        Slot::Several(wires) => wires.as_slice(),
    };
    match (&step.op, wires, step.presence) {
        (Op::List(op), wires, _) => list(op, column, wires),
        (Op::Map(op), wires, _) => map(op, column, wires),
        (_, [], Presence::Optional) => column.push_null(),
        (_, [], Presence::Required) => Err(Fault::new(codes::MISSING, "missing, and the schema requires it")),
        (op, [], _) => absent(op, column),
        (op, [only], _) => read(op, column, *only),
        (op, several, _) => {
            let mut all = Vec::new();
            for wire in several {
                let Wire::Bytes(bytes) = wire else { return Err(other_bytes()) };
                all.extend_from_slice(bytes);
            }
            read(op, column, Wire::Bytes(&all))
        }
    }
}

/// Appends what a field is when it is not written and has no null.
fn absent(op: &Op, column: &mut Column) -> Result<(), Fault> {
    match op {
        Op::Scalar(scalar) => push(protobuf::zero(*scalar), column),
        op => read(op, column, if matches!(op, Op::Enum(_)) { Wire::Varint(0) } else { Wire::Bytes(b"") }),
    }
}

fn read(op: &Op, column: &mut Column, wire: Wire<'_>) -> Result<(), Fault> {
    match (op, wire) {
        (Op::Scalar(scalar), wire) => push(protobuf::plain(*scalar, wire)?, column),
        (Op::Enum(symbols), Wire::Varint(value)) => {
            // A number that the contract does not know yet is kept as one.
            let number = value as i32;
            match symbols.get(&number) {
                Some(symbol) => push(Plain::Text(symbol), column),
                None => push(Plain::Text(itoa::Buffer::new().format(number)), column),
            }
        }
        (Op::Special(Special::Wrapper(scalar)), Wire::Bytes(mut bytes)) => {
            let mut value = protobuf::zero(*scalar);
            while let Some((number, wire)) = protobuf::next(&mut bytes)? {
                if number == 1 {
                    value = protobuf::plain(*scalar, wire)?;
                }
            }
            push(value, column)
        }
        (Op::Special(special), Wire::Bytes(bytes)) => read_special(*special, column, bytes),
        (Op::Message(steps), Wire::Bytes(bytes)) => {
            let Values::Struct(columns, len) = &mut column.values else { return Err(other_bytes()) };
            message(steps, columns, bytes)?;
            *len += 1;
            column.valid();
            Ok(())
        }
        _ => Err(other_bytes()),
    }
}

fn push(value: Plain<'_>, column: &mut Column) -> Result<(), Fault> {
    match (value, &mut column.values) {
        (Plain::Bool(value), Values::Bool(v)) => v.push(value),
        (Plain::Int(value), Values::I32(v)) => v.push(value as i32),
        (Plain::Int(value), Values::I64(v)) => v.push(value),
        (Plain::Unsigned(value), Values::U64(v)) => v.push(value),
        (Plain::Float(value), Values::F32(v)) => v.push(value as f32),
        (Plain::Float(value), Values::F64(v)) => v.push(value),
        (Plain::Bytes(value), Values::Bytes(texts)) => texts.push(value)?,
        (Plain::Text(value), Values::Text(texts)) => texts.push(value.as_bytes())?,
        _ => return Err(other_bytes()),
    }
    column.valid();
    Ok(())
}

fn list(op: &Op, column: &mut Column, wires: &[Wire<'_>]) -> Result<(), Fault> {
    let Values::List(ends, items) = &mut column.values else { return Err(other_bytes()) };
    let mut index = 0;
    for wire in wires {
        match (op, wire) {
            // Numbers may stand packed, whatever the schema says.
            (Op::Scalar(_) | Op::Enum(_), Wire::Bytes(bytes)) if !matches!(op, Op::Scalar(Scalar::String | Scalar::Bytes)) => {
                let mut rest = *bytes;
                while !rest.is_empty() {
                    let wire = unpacked(op, &mut rest).map_err(|fault| fault.in_item(index))?;
                    read(op, items, wire).map_err(|fault| fault.in_item(index))?;
                    index += 1;
                }
            }
            _ => {
                read(op, items, *wire).map_err(|fault| fault.in_item(index))?;
                index += 1;
            }
        }
    }
    ends.push(end(items)?);
    column.valid();
    Ok(())
}

fn unpacked<'a>(op: &Op, rest: &mut &'a [u8]) -> Result<Wire<'a>, Fault> {
    Ok(match op {
        Op::Scalar(Scalar::Double | Scalar::Fixed64 | Scalar::Sfixed64) => {
            Wire::Eight(u64::from_le_bytes(protobuf::take(rest, 8)?.try_into().unwrap_or_default()))
        }
        Op::Scalar(Scalar::Float | Scalar::Fixed32 | Scalar::Sfixed32) => {
            Wire::Four(u32::from_le_bytes(protobuf::take(rest, 4)?.try_into().unwrap_or_default()))
        }
        _ => Wire::Varint(protobuf::varint(rest)?),
    })
}

/// The entries of a map; of two with one key the later counts.
fn map(op: &Op, column: &mut Column, wires: &[Wire<'_>]) -> Result<(), Fault> {
    let Values::Map(ends, keys, values) = &mut column.values else { return Err(other_bytes()) };
    let mut places: HashMap<&[u8], usize, foldhash::fast::RandomState> = HashMap::default();
    let mut entries: Vec<(&[u8], Option<Wire<'_>>)> = Vec::with_capacity(wires.len());
    for wire in wires {
        let Wire::Bytes(mut bytes) = *wire else { return Err(other_bytes()) };
        let (mut key, mut value): (&[u8], _) = (b"", None);
        while let Some((number, wire)) = protobuf::next(&mut bytes)? {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => key = bytes,
                (2, wire) => value = Some(wire),
                _ => {}
            }
        }
        let place = *places.entry(key).or_insert(entries.len());
        match entries.get_mut(place) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }
    for (key, value) in entries {
        let key = super::avro::utf8(key)?;
        push(Plain::Text(key), keys)?;
        let read = match value {
            Some(wire) => read(op, values, wire),
            None => absent(op, values),
        };
        read.map_err(|fault| fault.in_field(key))?;
    }
    ends.push(end(keys)?);
    column.valid();
    Ok(())
}

fn end(items: &Column) -> Result<i32, Fault> {
    i32::try_from(items.len()).map_err(|_| Fault::new(codes::TOO_LARGE, "the lists of one batch have more than 2^31 items"))
}

/// The numbers of a message's fields 1 to 4, and the bytes of its first.
fn small(mut bytes: &[u8]) -> Result<([i64; 4], &[u8]), Fault> {
    let (mut numbers, mut first): ([i64; 4], &[u8]) = ([0; 4], b"");
    while let Some((number, wire)) = protobuf::next(&mut bytes)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => first = bytes,
            (number @ 1..=4, Wire::Varint(value)) => {
                if let Some(place) = numbers.get_mut(number as usize - 1) {
                    *place = value.cast_signed();
                }
            }
            _ => {}
        }
    }
    Ok((numbers, first))
}

fn read_special(special: Special, column: &mut Column, bytes: &[u8]) -> Result<(), Fault> {
    let ([one, two, three, four], first) = small(bytes)?;
    let out_of_range = |what: String| Fault::new(codes::OUT_OF_RANGE, what);
    match (special, &mut column.values) {
        (Special::Timestamp, Values::Timestamp(unit, _, v)) => {
            let value = in_unit(one, two, *unit).filter(|_| (0..1_000_000_000).contains(&two));
            v.push(
                value.ok_or_else(|| out_of_range(format!("{one} seconds and {two} nanoseconds since 1970 are no time here")))?,
            );
        }
        (Special::Date, Values::Date(v)) => {
            let date = i32::try_from(one).ok().zip(u32::try_from(two).ok()).zip(u32::try_from(three).ok());
            let date = date
                .filter(|((year, _), _)| *year != 0)
                .and_then(|((year, month), day)| NaiveDate::from_ymd_opt(year, month, day));
            let date = date.ok_or_else(|| out_of_range(format!("{one}-{two}-{three} is no day")))?;
            v.push(i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).unwrap_or_default());
        }
        (Special::TimeOfDay, values) => {
            let fits = (0..24).contains(&one)
                && (0..60).contains(&two)
                && (0..60).contains(&three)
                && (0..1_000_000_000).contains(&four);
            if !fits {
                return Err(out_of_range(format!("{one}:{two}:{three} and {four} nanoseconds are no time of day")));
            }
            let seconds = one * 3600 + two * 60 + three;
            match values {
                Values::Time32(unit, v) => {
                    v.push(in_unit(seconds, four, *unit).and_then(|v| i32::try_from(v).ok()).unwrap_or_default());
                }
                Values::Time64(unit, v) => v.push(in_unit(seconds, four, *unit).unwrap_or_default()),
                _ => return Err(other_bytes()),
            }
        }
        (Special::Decimal, Values::Decimal(precision, scale, v)) => {
            let value = rescaled(Cursor::decimal(first)?, three, i64::from(*scale));
            let limit = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            let value = value.filter(|value| value.checked_abs().is_some_and(|value| value < limit));
            let reason = || out_of_range(format!("a decimal of scale {three} does not fit into DECIMAL({precision}, {scale})"));
            v.push(value.ok_or_else(reason)?);
        }
        _ => return Err(other_bytes()),
    }
    column.valid();
    Ok(())
}

/// Seconds and nanoseconds in a unit; what is finer is cut off.
fn in_unit(seconds: i64, nanos: i64, unit: TimeUnit) -> Option<i64> {
    let (each, part) = match unit {
        TimeUnit::Second => (1, 1_000_000_000),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    seconds.checked_mul(each)?.checked_add(nanos / part)
}

/// A decimal with another scale; `None` if it has digits behind it, or too many.
fn rescaled(value: i128, from: i64, to: i64) -> Option<i128> {
    let power = |digits: i64| 10_i128.checked_pow(u32::try_from(digits).ok()?);
    if to >= from {
        return if value == 0 { Some(0) } else { value.checked_mul(power(to.checked_sub(from)?)?) };
    }
    let divisor = power(from.checked_sub(to)?)?;
    (value % divisor == 0).then(|| value / divisor)
}
