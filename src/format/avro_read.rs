//! Avro to columns: the writer's schema is resolved to the contract's once, into steps that read just the columns wanted.

use super::avro::{Avro, Cursor, Field, Id, Kind, Logical, malformed, utf8};
use super::avro_json::{self, Form};
use super::column::{Column, Values};
use super::{Fault, FormatError, MAX_DEPTH, Written, codes, text};

/// Reads Avro values and keys into columns.
pub(super) struct AvroReader {
    contract: Avro,
    /// `None`: a key's schema is taken as its writer has it.
    key_schema: Option<Avro>,
    key: Vec<usize>,
}

/// A writer's schema, and how its records are read once that is known.
pub(super) struct Writer {
    schema: Avro,
    value: Option<Result<RecordSteps, String>>,
    key: Option<Result<KeySteps, String>>,
}

/// A record's fields in the order of their bytes.
#[derive(Debug)]
struct RecordSteps {
    steps: Vec<Step>,
    /// Columns that the writer did not have, each with its default's bytes and how they are read.
    defaults: Vec<(usize, Op, Vec<u8>)>,
}

#[derive(Debug)]
enum Step {
    Read(usize, Op),
    Skip(Id),
}

enum KeySteps {
    Scalar(usize, Op),
    Record(RecordSteps),
}

/// How a value's bytes become a column's value; which, the column's type says.
#[derive(Debug)]
enum Op {
    Null,
    Boolean,
    Int,
    /// A number, times this: for times that the reader has in a smaller unit.
    Long(i64),
    Float,
    Double,
    Counted,
    Fixed(usize),
    DecimalCounted(u8),
    DecimalFixed(u8, usize),
    /// For each of the writer's symbols the reader's, or that there is none.
    Enum(Vec<Result<String, String>>),
    Array(Box<Op>),
    Map(Box<Op>),
    Union(Vec<Result<Op, String>>),
    Record(RecordSteps),
}

impl Writer {
    pub(super) fn new(schema: Written<'_>) -> Result<Writer, FormatError> {
        Ok(Writer { schema: Avro::parse(schema)?, value: None, key: None })
    }
}

impl AvroReader {
    pub(super) fn new(
        columns: &[Column],
        key: &[usize],
        contract: Written<'_>,
        key_schema: Option<&str>,
    ) -> Result<Self, FormatError> {
        let reader = AvroReader {
            contract: Avro::parse(contract)?,
            key_schema: key_schema.map(Avro::parse).transpose()?,
            key: key.to_vec(),
        };
        // The contract must at least read itself.
        let own = Resolver { writer: &reader.contract, reader: &reader.contract };
        own.whole(columns).map_err(FormatError::Mismatch)?;
        Ok(reader)
    }

    /// Appends a record's value to all columns.
    pub(super) fn value(&self, writer: &mut Writer, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let Writer { schema, value, .. } = writer;
        let steps = value.get_or_insert_with(|| Resolver { writer: schema, reader: &self.contract }.whole(columns));
        let steps = steps.as_ref().map_err(|reason| Fault::new(codes::INCOMPATIBLE_SCHEMA, reason.clone()))?;
        let mut cursor = Cursor::new(body)?;
        record(steps, columns, &mut Input { cursor: &mut cursor, writer: schema, reader: &self.contract })?;
        cursor.end()
    }

    /// Appends a record's key to the key's columns.
    pub(super) fn key(&self, writer: &mut Writer, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let Writer { schema, key, .. } = writer;
        let reader = self.key_schema.as_ref().unwrap_or(schema);
        let steps = key.get_or_insert_with(|| Resolver { writer: schema, reader }.key(columns, &self.key));
        let steps = steps.as_ref().map_err(|reason| Fault::new(codes::INCOMPATIBLE_SCHEMA, reason.clone()))?;
        let mut cursor = Cursor::new(body)?;
        let mut input = Input { cursor: &mut cursor, writer: schema, reader };
        match steps {
            KeySteps::Record(steps) => record(steps, columns, &mut input)?,
            KeySteps::Scalar(at, op) => match columns.get_mut(*at) {
                Some(column) => read(op, column, &mut input)?,
                None => return Err(Fault::new(codes::BAD_KEY, "the layout has no key column")),
            },
        }
        cursor.end()
    }
}

/// Finds how one schema's bytes are read by another.
struct Resolver<'a> {
    writer: &'a Avro,
    reader: &'a Avro,
}

impl Resolver<'_> {
    fn whole(&self, columns: &[Column]) -> Result<RecordSteps, String> {
        match (self.writer.kind(self.writer.root), self.reader.kind(self.reader.root)) {
            (Kind::Record(written), Kind::Record(read)) => {
                self.record(written, read, columns, &(0..columns.len()).collect::<Vec<_>>())
            }
            _ => Err(format!(
                "a record is expected; the writer has {}, the contract {}",
                self.writer.describe(self.writer.root),
                self.reader.describe(self.reader.root)
            )),
        }
    }

    fn key(&self, columns: &[Column], key: &[usize]) -> Result<KeySteps, String> {
        match (self.writer.kind(self.writer.root), self.reader.kind(self.reader.root), key) {
            (Kind::Record(written), Kind::Record(read), _) => Ok(KeySteps::Record(self.record(written, read, columns, key)?)),
            (_, _, [only]) => match columns.get(*only) {
                Some(column) => Ok(KeySteps::Scalar(*only, self.value(self.writer.root, self.reader.root, column)?)),
                None => Err("the layout has no key column".into()),
            },
            _ => Err(format!("the key has {} columns, its schema is {}", key.len(), self.reader.describe(self.reader.root))),
        }
    }

    /// Steps for the `wanted` ones of `columns`, which are the reader's fields of the same names.
    fn record(&self, written: &[Field], read: &[Field], columns: &[Column], wanted: &[usize]) -> Result<RecordSteps, String> {
        // For each wanted column its field in the reader's schema.
        let mut open: Vec<(usize, &Column, &Field)> = Vec::new();
        for at in wanted {
            let Some(column) = columns.get(*at) else { continue };
            let name = column.field.name();
            let field =
                read.iter().find(|field| field.name == *name).ok_or_else(|| format!("the contract has no field {name:?}"))?;
            open.push((*at, column, field));
        }
        let mut steps = Vec::new();
        for field in written {
            let exact = open.iter().position(|(_, _, wanted)| wanted.name == field.name);
            let aliased = || open.iter().position(|(_, _, wanted)| wanted.aliases.contains(&field.name));
            // A name that the reader has too is never taken for an alias of another field.
            let found = if read.iter().any(|own| own.name == field.name) { exact } else { aliased() };
            match found {
                Some(place) => {
                    let (at, column, wanted) = open.remove(place);
                    let op =
                        self.value(field.id, wanted.id, column).map_err(|reason| format!("field {:?}: {reason}", wanted.name))?;
                    steps.push(Step::Read(at, op));
                }
                None => steps.push(Step::Skip(field.id)),
            }
        }
        let defaults = open.into_iter().map(|(at, column, field)| self.default(at, column, field)).collect::<Result<_, _>>()?;
        Ok(RecordSteps { steps, defaults })
    }

    /// A default is written once as the contract would write it, and then read for each record.
    fn default(&self, at: usize, column: &Column, field: &Field) -> Result<(usize, Op, Vec<u8>), String> {
        let name = &field.name;
        let default = field
            .default
            .as_ref()
            .ok_or_else(|| format!("field {name:?} is missing from the writer's schema and has no default"))?;
        let mut bytes = Vec::new();
        avro_json::write(self.reader, field.id, default, Form::Default, &mut bytes)
            .map_err(|fault| format!("the default of field {name:?}: {fault}"))?;
        let own = Resolver { writer: self.reader, reader: self.reader };
        Ok((at, own.value(field.id, field.id, column).map_err(|reason| format!("field {name:?}: {reason}"))?, bytes))
    }

    fn value(&self, writer: Id, reader: Id, column: &Column) -> Result<Op, String> {
        if let Kind::Union(branches) = self.writer.kind(writer) {
            let ops: Vec<Result<Op, String>> = branches.iter().map(|branch| self.value(*branch, reader, column)).collect();
            // A branch that can't be read is an error only when a record has it, unless it is so with all of them.
            return match ops.iter().find_map(|op| op.as_ref().err()) {
                Some(reason) if ops.iter().all(Result::is_err) => Err(reason.clone()),
                _ => Ok(Op::Union(ops)),
            };
        }
        if let Kind::Union(branches) = self.reader.kind(reader) {
            let name = &self.writer.get(writer).name;
            let same = |id: Id| std::mem::discriminant(self.reader.kind(id)) == std::mem::discriminant(self.writer.kind(writer));
            let mut order: Vec<Id> = branches.clone();
            order.sort_by_key(|id| (!same(*id), self.reader.get(*id).name != *name));
            let mut reason = None;
            for branch in order {
                match self.value(writer, branch, column) {
                    Ok(op) => return Ok(op),
                    // What is wrong with a branch of the same kind says more than that no branch fits.
                    Err(why) if same(branch) => reason = reason.or(Some(why)),
                    Err(_) => {}
                }
            }
            return Err(reason.unwrap_or_else(|| self.mismatch(writer, reader)));
        }
        self.plain(writer, reader, column)
    }

    fn mismatch(&self, writer: Id, reader: Id) -> String {
        format!("{} can't be read as {}", self.writer.describe(writer), self.reader.describe(reader))
    }

    /// Two types, neither of them a union.
    fn plain(&self, writer: Id, reader: Id, column: &Column) -> Result<Op, String> {
        let mismatch = || Err(self.mismatch(writer, reader));
        let op = match (self.writer.kind(writer), self.reader.kind(reader)) {
            (Kind::Null, Kind::Null) => Op::Null,
            (Kind::Boolean, Kind::Boolean) => Op::Boolean,
            (Kind::Int, Kind::Int | Kind::Float | Kind::Double) => Op::Int,
            (Kind::Int | Kind::Long, Kind::Long) => Op::Long(self.factor(writer, reader)?),
            (Kind::Long, Kind::Float | Kind::Double) => Op::Long(1),
            (Kind::Float, Kind::Float | Kind::Double) => Op::Float,
            (Kind::Double, Kind::Double) => Op::Double,
            (Kind::Bytes | Kind::String, Kind::Bytes | Kind::String) => match self.decimal(writer, reader)? {
                Some(precision) => Op::DecimalCounted(precision),
                None => Op::Counted,
            },
            (Kind::Fixed(a), Kind::Fixed(b)) if a == b => match self.decimal(writer, reader)? {
                Some(precision) => Op::DecimalFixed(precision, *a),
                None => Op::Fixed(*a),
            },
            (Kind::Enum { symbols: written, .. }, Kind::Enum { symbols, default }) => Op::Enum(
                written
                    .iter()
                    .map(|symbol| {
                        let known = symbols.iter().find(|known| *known == symbol).or(default.as_ref());
                        known.cloned().ok_or_else(|| format!("{symbol:?} is no symbol of {}", self.reader.describe(reader)))
                    })
                    .collect(),
            ),
            (Kind::Array(a), Kind::Array(b)) => match &column.values {
                Values::List(_, item) => Op::Array(Box::new(self.value(*a, *b, item)?)),
                _ => return mismatch(),
            },
            (Kind::Map(a), Kind::Map(b)) => match &column.values {
                Values::Map(_, _, value) => Op::Map(Box::new(self.value(*a, *b, value)?)),
                _ => return mismatch(),
            },
            (Kind::Record(a), Kind::Record(b)) => match &column.values {
                Values::Struct(columns, _) => Op::Record(self.record(a, b, columns, &(0..columns.len()).collect::<Vec<_>>())?),
                _ => return mismatch(),
            },
            _ => return mismatch(),
        };
        if fits(&op, &column.values) {
            return Ok(op);
        }
        let wanted = crate::model::row::type_name(column.field.data_type());
        Err(format!("{} does not fit a column of type {wanted}", self.reader.describe(reader)))
    }

    /// What a writer's time is multiplied with to be in the reader's unit.
    fn factor(&self, writer: Id, reader: Id) -> Result<i64, String> {
        let unit = |logical: Logical| match logical {
            Logical::Time(unit) | Logical::Timestamp(unit) | Logical::LocalTimestamp(unit) => Some(unit),
            _ => None,
        };
        match (unit(self.writer.get(writer).logical), unit(self.reader.get(reader).logical)) {
            (Some(from), Some(to)) if from <= to => Ok(to / from),
            (Some(_), Some(_)) => Err("times of a smaller unit can't be read as times of a larger one".into()),
            _ => Ok(1),
        }
    }

    /// The precision, if the reader has a decimal.
    fn decimal(&self, writer: Id, reader: Id) -> Result<Option<u8>, String> {
        match (self.writer.get(writer).logical, self.reader.get(reader).logical) {
            (Logical::Decimal { scale: from, .. }, Logical::Decimal { precision, scale }) if from == scale => Ok(Some(precision)),
            (Logical::None, Logical::Decimal { precision, .. }) => Ok(Some(precision)),
            (_, Logical::Decimal { .. }) => Err("decimals of another scale".into()),
            _ => Ok(None),
        }
    }
}

/// Whether a column can take what an op reads.
fn fits(op: &Op, values: &Values) -> bool {
    match op {
        Op::Null | Op::Union(_) | Op::Array(_) | Op::Map(_) | Op::Record(_) => true,
        Op::Boolean => matches!(values, Values::Bool(_)),
        Op::Int => matches!(
            values,
            Values::I32(_) | Values::I64(_) | Values::F32(_) | Values::F64(_) | Values::Date(_) | Values::Time32(..)
        ),
        Op::Long(_) => {
            matches!(values, Values::I64(_) | Values::F32(_) | Values::F64(_) | Values::Time64(..) | Values::Timestamp(..))
        }
        Op::Float => matches!(values, Values::F32(_) | Values::F64(_)),
        Op::Double => matches!(values, Values::F64(_)),
        Op::Counted => matches!(values, Values::Text(_) | Values::Bytes(_)),
        Op::Fixed(size) => matches!(values, Values::Bytes(_)) || matches!(values, Values::Fixed(n, _) if n == size),
        Op::DecimalCounted(_) | Op::DecimalFixed(..) => matches!(values, Values::Decimal(..)),
        Op::Enum(_) => matches!(values, Values::Text(_)),
    }
}

/// What steps read from.
struct Input<'a, 'b> {
    cursor: &'a mut Cursor<'b>,
    writer: &'a Avro,
    reader: &'a Avro,
}

fn record(steps: &RecordSteps, columns: &mut [Column], input: &mut Input<'_, '_>) -> Result<(), Fault> {
    for step in &steps.steps {
        match step {
            Step::Read(at, op) => {
                if let Some(column) = columns.get_mut(*at) {
                    read(op, column, input).map_err(|fault| fault.in_field(column.field.name()))?;
                }
            }
            Step::Skip(id) => skip(input.writer, *id, input.cursor, 0)?,
        }
    }
    for (at, op, bytes) in &steps.defaults {
        if let Some(column) = columns.get_mut(*at) {
            let mut input = Input { cursor: &mut Cursor::new(bytes)?, writer: input.reader, reader: input.reader };
            read(op, column, &mut input).map_err(|fault| fault.in_field(column.field.name()))?;
        }
    }
    Ok(())
}

/// Reads one value into a column.
fn read(op: &Op, column: &mut Column, input: &mut Input<'_, '_>) -> Result<(), Fault> {
    let cursor = &mut *input.cursor;
    match (op, &mut column.values) {
        (Op::Union(branches), _) => {
            let index = cursor.long()?;
            return match usize::try_from(index).ok().and_then(|index| branches.get(index)) {
                Some(Ok(op)) => read(op, column, input),
                Some(Err(reason)) => Err(Fault::new(codes::INCOMPATIBLE_SCHEMA, reason.clone())),
                None => Err(malformed(&format!("branch {index} of a union of {}", branches.len()))),
            };
        }
        (Op::Null, _) => return column.push_null(),
        (Op::Counted, Values::Text(texts)) => texts.push(cursor.text()?.as_bytes())?,
        (Op::Int, Values::I32(v) | Values::Date(v) | Values::Time32(_, v)) => v.push(cursor.int()?),
        (Op::Long(1), Values::I64(v) | Values::Timestamp(_, _, v) | Values::Time64(_, v)) => v.push(cursor.long()?),
        (Op::Double, Values::F64(v)) => v.push(cursor.double()?),
        (Op::Boolean, Values::Bool(v)) => v.push(cursor.boolean()?),
        (Op::Float, Values::F32(v)) => v.push(cursor.float()?),
        (Op::Float, Values::F64(v)) => v.push(f64::from(cursor.float()?)),
        (Op::Int, Values::I64(v)) => v.push(i64::from(cursor.int()?)),
        (Op::Int, Values::F32(v)) => v.push(cursor.int()? as f32),
        (Op::Int, Values::F64(v)) => v.push(f64::from(cursor.int()?)),
        (Op::Long(_), Values::F32(v)) => v.push(cursor.long()? as f32),
        (Op::Long(_), Values::F64(v)) => v.push(cursor.long()? as f64),
        (Op::Long(factor), Values::I64(v) | Values::Timestamp(_, _, v) | Values::Time64(_, v)) => {
            let value = cursor.long()?;
            v.push(
                value.checked_mul(*factor).ok_or_else(|| {
                    Fault::new(codes::OUT_OF_RANGE, format!("{value} times {factor} does not fit into 8 bytes"))
                })?,
            );
        }
        (Op::Counted, Values::Bytes(texts)) => texts.push(cursor.counted()?)?,
        (Op::Fixed(size), Values::Fixed(_, all)) => all.extend_from_slice(cursor.bytes(*size)?),
        (Op::Fixed(size), Values::Bytes(texts)) => texts.push(cursor.bytes(*size)?)?,
        (Op::DecimalCounted(precision), Values::Decimal(_, _, v)) => v.push(decimal(cursor.counted()?, *precision)?),
        (Op::DecimalFixed(precision, size), Values::Decimal(_, _, v)) => v.push(decimal(cursor.bytes(*size)?, *precision)?),
        (Op::Enum(symbols), Values::Text(texts)) => {
            let index = cursor.long()?;
            match usize::try_from(index).ok().and_then(|index| symbols.get(index)) {
                Some(Ok(symbol)) => texts.push(symbol.as_bytes())?,
                Some(Err(reason)) => return Err(Fault::new(codes::INCOMPATIBLE_SCHEMA, reason.clone())),
                None => return Err(malformed(&format!("symbol {index} of an enum of {}", symbols.len()))),
            }
        }
        _ => return nested(op, column, input),
    }
    column.valid();
    Ok(())
}

fn nested(op: &Op, column: &mut Column, input: &mut Input<'_, '_>) -> Result<(), Fault> {
    match (op, &mut column.values) {
        (Op::Array(op), Values::List(ends, items)) => {
            let mut index = 0;
            loop {
                let count = input.cursor.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    read(op, items, input).map_err(|fault| fault.in_item(index))?;
                    index += 1;
                }
            }
            ends.push(end(items)?);
        }
        (Op::Map(op), Values::Map(ends, keys, values)) => {
            loop {
                let count = input.cursor.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    let name = input.cursor.text()?;
                    if let Values::Text(texts) = &mut keys.values {
                        texts.push(name.as_bytes())?;
                    }
                    read(op, values, input).map_err(|fault| fault.in_field(name))?;
                }
            }
            ends.push(end(keys)?);
        }
        (Op::Record(steps), Values::Struct(columns, len)) => {
            record(steps, columns, input)?;
            *len += 1;
        }
        _ => return Err(malformed("the value does not fit its column")),
    }
    column.valid();
    Ok(())
}

fn end(items: &Column) -> Result<i32, Fault> {
    i32::try_from(items.len()).map_err(|_| Fault::new(codes::TOO_LARGE, "the arrays of one batch have more than 2^31 items"))
}

fn decimal(bytes: &[u8], precision: u8) -> Result<i128, Fault> {
    let value = Cursor::decimal(bytes)?;
    if text::has_digits(value, precision) {
        return Ok(value);
    }
    Err(Fault::new(codes::OUT_OF_RANGE, format!("{value} has more than {precision} digits")))
}

/// Passes over one value.
fn skip(schema: &Avro, id: Id, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::new(codes::TOO_DEEP, format!("nested more than {MAX_DEPTH} levels deep")));
    }
    match schema.kind(id) {
        Kind::Null => cursor.spend(1)?,
        Kind::Boolean => {
            cursor.bytes(1)?;
        }
        Kind::Int | Kind::Long | Kind::Enum { .. } => {
            cursor.long()?;
        }
        Kind::Float => {
            cursor.bytes(4)?;
        }
        Kind::Double => {
            cursor.bytes(8)?;
        }
        Kind::Bytes => {
            cursor.counted()?;
        }
        Kind::String => {
            utf8(cursor.counted()?)?;
        }
        Kind::Fixed(size) => {
            cursor.bytes(*size)?;
        }
        Kind::Record(fields) => {
            cursor.spend(1)?;
            for field in fields {
                skip(schema, field.id, cursor, depth + 1)?;
            }
        }
        Kind::Union(branches) => {
            let index = cursor.long()?;
            match usize::try_from(index).ok().and_then(|index| branches.get(index)) {
                Some(branch) => skip(schema, *branch, cursor, depth + 1)?,
                None => return Err(malformed(&format!("branch {index} of a union of {}", branches.len()))),
            }
        }
        Kind::Array(inner) | Kind::Map(inner) => loop {
            let count = cursor.block()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                if matches!(schema.kind(id), Kind::Map(_)) {
                    utf8(cursor.counted()?)?;
                }
                skip(schema, *inner, cursor, depth + 1)?;
            }
        },
    }
    Ok(())
}
