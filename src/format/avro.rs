//! Avro schemas as far as bytes depend on them, and the primitives of the binary encoding.
//!
//! Whether a text is a good schema is `schema`'s question; here it only must be clear what each byte means.

use hashbrown::HashMap;
use serde_json::{Map, Value};

use super::{Fault, FormatError, MAX_RECORD, Written, codes};
use crate::schema;

/// A schema's types; named types may refer to themselves.
#[derive(Debug)]
pub(super) struct Avro {
    types: Vec<Type>,
    pub(super) root: Id,
}

/// The position of a type in its schema.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) struct Type {
    pub(super) kind: Kind,
    pub(super) logical: Logical,
    /// The name without its namespace, for named types.
    pub(super) name: Option<String>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum { symbols: Vec<String>, default: Option<String> },
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record(Vec<Field>),
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) id: Id,
    pub(super) default: Option<Value>,
}

/// What a value means beyond its kind. One that does not fit its kind is ignored, as Avro says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    None,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Date,
    /// Units per second.
    Time(i64),
    Timestamp(i64),
    LocalTimestamp(i64),
    Uuid,
}

/// A schema's text as JSON.
fn json(text: &str) -> Result<Value, FormatError> {
    // serde_json refuses more than 128 levels, which bounds the recursion of who walks it. A bare name may stand without quotes.
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if primitive(text.trim()).is_some() => Ok(Value::String(text.trim().into())),
        Err(error) => Err(FormatError::Schema(format!("not a JSON text: {error}"))),
    }
}

impl Avro {
    /// Reads a schema's text, after those that it refers to.
    pub(super) fn parse<'a>(schema: impl Into<Written<'a>>) -> Result<Avro, FormatError> {
        let schema = schema.into();
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for (name, text) in schema::in_order(schema.references).map_err(|error| FormatError::Schema(error.message))? {
            let within = |error| FormatError::Schema(format!("in the referenced schema {name:?}: {error}"));
            json(text).and_then(|value| parser.schema(&value, None)).map_err(within)?;
        }
        let root = parser.schema(&json(schema.text)?, None)?;
        Ok(Avro { types: parser.types, root })
    }

    pub(super) fn get(&self, id: Id) -> &Type {
        // Ids are only made by the parser; null stands in for one that could not exist.
        const NULL: Type = Type { kind: Kind::Null, logical: Logical::None, name: None };
        self.types.get(id).unwrap_or(&NULL)
    }

    pub(super) fn kind(&self, id: Id) -> &Kind {
        &self.get(id).kind
    }

    /// The type's name for messages.
    pub(super) fn describe(&self, id: Id) -> String {
        let found = self.get(id);
        let name = found.name.clone().unwrap_or_default();
        match &found.kind {
            Kind::Null => "null".into(),
            Kind::Boolean => "boolean".into(),
            Kind::Int => "int".into(),
            Kind::Long => "long".into(),
            Kind::Float => "float".into(),
            Kind::Double => "double".into(),
            Kind::Bytes => "bytes".into(),
            Kind::String => "string".into(),
            Kind::Fixed(size) => format!("fixed {name} of {size} bytes"),
            Kind::Enum { .. } => format!("enum {name}"),
            Kind::Array(item) => format!("array of {}", self.describe_flat(*item)),
            Kind::Map(value) => format!("map of {}", self.describe_flat(*value)),
            Kind::Union(branches) => branches.iter().map(|b| self.describe_flat(*b)).collect::<Vec<_>>().join(" or "),
            Kind::Record(_) => format!("record {name}"),
        }
    }

    /// The same without what is inside, since types may contain themselves.
    fn describe_flat(&self, id: Id) -> String {
        match self.kind(id) {
            Kind::Array(_) => "array".into(),
            Kind::Map(_) => "map".into(),
            Kind::Union(_) => "union".into(),
            _ => self.describe(id),
        }
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

struct Parser {
    types: Vec<Type>,
    /// Full names.
    names: HashMap<String, Id>,
}

fn wrong<T>(message: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError::Schema(message.into()))
}

impl Parser {
    fn add(&mut self, kind: Kind, logical: Logical, name: Option<&str>) -> Id {
        let name = name.map(|full| full.rsplit('.').next().unwrap_or(full).to_owned());
        self.types.push(Type { kind, logical, name });
        self.types.len() - 1
    }

    fn schema(&mut self, value: &Value, space: Option<&str>) -> Result<Id, FormatError> {
        match value {
            Value::String(name) => self.find(name, space),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, space)).collect::<Result<_, _>>()?;
                Ok(self.add(Kind::Union(branches), Logical::None, None))
            }
            Value::Object(object) => self.object(object, space),
            other => wrong(format!("a schema is a name, an object or an array, not {other}")),
        }
    }

    fn find(&mut self, name: &str, space: Option<&str>) -> Result<Id, FormatError> {
        if let Some(kind) = primitive(name) {
            return Ok(self.add(kind, Logical::None, None));
        }
        let qualified = full_name(name, space);
        match self.names.get(&qualified).or_else(|| self.names.get(name)) {
            Some(id) => Ok(*id),
            None => wrong(format!("unknown type {name:?}")),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, space: Option<&str>) -> Result<Id, FormatError> {
        let Some(kind) = object.get("type") else { return wrong("a schema object needs a \"type\"") };
        let Value::String(kind) = kind else { return self.schema(kind, space) };
        if let Some(kind) = primitive(kind) {
            let logical = logical(object, &kind);
            return Ok(self.add(kind, logical, None));
        }
        let part = |name: &str| object.get(name).ok_or_else(|| FormatError::Schema(format!("type {kind:?} needs {name:?}")));
        match kind.as_str() {
            "array" => {
                let item = self.schema(part("items")?, space)?;
                Ok(self.add(Kind::Array(item), Logical::None, None))
            }
            "map" => {
                let value = self.schema(part("values")?, space)?;
                Ok(self.add(Kind::Map(value), Logical::None, None))
            }
            "record" | "error" | "enum" | "fixed" => {
                let Value::String(name) = part("name")? else { return wrong("a type's \"name\" is a text") };
                let space = object.get("namespace").and_then(Value::as_str).or(space).filter(|space| !space.is_empty());
                let full = full_name(name, space);
                let space = full.rsplit_once('.').map(|(space, _)| space.to_owned());
                // Known before its fields are read, so that they may refer to it.
                let id = self.add(Kind::Null, Logical::None, Some(&full));
                if self.names.insert(full.clone(), id).is_some() {
                    return wrong(format!("type {full:?} is defined twice"));
                }
                let kind = match kind.as_str() {
                    "enum" => enumeration(object)?,
                    "fixed" => fixed(object)?,
                    _ => self.record(part("fields")?, space.as_deref())?,
                };
                let logical = logical(object, &kind);
                if let Some(place) = self.types.get_mut(id) {
                    place.kind = kind;
                    place.logical = logical;
                }
                Ok(id)
            }
            name => self.find(name, space),
        }
    }

    fn record(&mut self, fields: &Value, space: Option<&str>) -> Result<Kind, FormatError> {
        let Value::Array(fields) = fields else { return wrong("a record's \"fields\" are an array") };
        let mut out: Vec<Field> = Vec::new();
        for field in fields {
            let (Some(name), Some(of)) = (field.get("name").and_then(Value::as_str), field.get("type")) else {
                return wrong("a field needs a \"name\" and a \"type\"");
            };
            if out.iter().any(|known| known.name == name) {
                return wrong(format!("field {name:?} stands twice in a record"));
            }
            let id = self.schema(of, space)?;
            out.push(Field {
                name: name.into(),
                aliases: texts(field.get("aliases")),
                id,
                default: field.get("default").cloned(),
            });
        }
        Ok(Kind::Record(out))
    }
}

fn full_name(name: &str, space: Option<&str>) -> String {
    match space {
        Some(space) if !name.contains('.') => format!("{space}.{name}"),
        _ => name.trim_start_matches('.').to_owned(),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn enumeration(object: &Map<String, Value>) -> Result<Kind, FormatError> {
    if object.get("symbols").and_then(Value::as_array).is_none() {
        return wrong("an enum needs \"symbols\"");
    }
    Ok(Kind::Enum {
        symbols: texts(object.get("symbols")),
        default: object.get("default").and_then(Value::as_str).map(str::to_owned),
    })
}

fn fixed(object: &Map<String, Value>) -> Result<Kind, FormatError> {
    match object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()) {
        Some(size) if size <= MAX_RECORD => Ok(Kind::Fixed(size)),
        _ => wrong(format!("a fixed type needs a \"size\" of at most {MAX_RECORD} bytes")),
    }
}

fn logical(object: &Map<String, Value>, kind: &Kind) -> Logical {
    let Some(name) = object.get("logicalType").and_then(Value::as_str) else { return Logical::None };
    match (name, kind) {
        ("decimal", Kind::Bytes | Kind::Fixed(_)) => {
            let precision = object
                .get("precision")
                .and_then(Value::as_u64)
                .and_then(|p| u8::try_from(p).ok())
                .filter(|p| (1..=38).contains(p));
            let scale = object.get("scale").map_or(Some(0), Value::as_u64).and_then(|s| i8::try_from(s).ok());
            match (precision, scale) {
                (Some(precision), Some(scale)) if i16::from(scale) <= i16::from(precision) => {
                    Logical::Decimal { precision, scale }
                }
                _ => Logical::None,
            }
        }
        ("date", Kind::Int) => Logical::Date,
        ("time-millis", Kind::Int) => Logical::Time(1_000),
        ("time-micros", Kind::Long) => Logical::Time(1_000_000),
        ("timestamp-millis", Kind::Long) => Logical::Timestamp(1_000),
        ("timestamp-micros", Kind::Long) => Logical::Timestamp(1_000_000),
        ("timestamp-nanos", Kind::Long) => Logical::Timestamp(1_000_000_000),
        ("local-timestamp-millis", Kind::Long) => Logical::LocalTimestamp(1_000),
        ("local-timestamp-micros", Kind::Long) => Logical::LocalTimestamp(1_000_000),
        ("local-timestamp-nanos", Kind::Long) => Logical::LocalTimestamp(1_000_000_000),
        ("uuid", Kind::String | Kind::Fixed(16)) => Logical::Uuid,
        _ => Logical::None,
    }
}

/// How many items without any bytes (nulls, empty records) a record may have.
const EMPTY_ITEMS: usize = 65_536;

/// Bytes that are read from the left.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// How many more items there may be in arrays and maps, and values without bytes. Other values take a byte at least,
    /// so an honest record never runs out.
    items: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of a body; an error if that is too large to be read.
    pub(super) fn new(body: &'a [u8]) -> Result<Self, Fault> {
        if body.len() > MAX_RECORD {
            return Err(Fault::new(codes::TOO_LARGE, format!("{} bytes; at most {MAX_RECORD} are read", body.len())));
        }
        Ok(Cursor { rest: body, items: body.len() + EMPTY_ITEMS })
    }

    /// To be called after the last value: nothing may be left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Fault::new(
            codes::TRAILING_BYTES,
            format!("{} bytes are left after the value; it was written with another schema", self.rest.len()),
        ))
    }

    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(truncated(count, self.rest.len())),
        }
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(unzigzag(u64::from(*byte)))
            }
            _ => self.long_of_many(),
        }
    }

    fn long_of_many(&mut self) -> Result<i64, Fault> {
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            if i == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(unzigzag(value));
            }
        }
        if self.rest.len() < 10 {
            Err(truncated(self.rest.len() + 1, self.rest.len()))
        } else {
            Err(malformed("a number has more than 64 bits"))
        }
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.long()?).map_err(|_| malformed("a number has more than 32 bits"))
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.bytes(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(malformed("a boolean is neither 0 nor 1")),
        }
    }

    pub(super) fn float(&mut self) -> Result<f32, Fault> {
        let bytes = self.bytes(4)?;
        Ok(f32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub(super) fn double(&mut self) -> Result<f64, Fault> {
        let bytes = self.bytes(8)?;
        Ok(f64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// Bytes with their length before them.
    #[inline]
    pub(super) fn counted(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.long()?;
        self.bytes(usize::try_from(length).map_err(|_| malformed("a length is negative"))?)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        utf8(self.counted()?)
    }

    /// The number of items of an array's or map's next block; 0 ends it.
    pub(super) fn block(&mut self) -> Result<usize, Fault> {
        let mut count = self.long()?;
        if count < 0 {
            count = count.checked_neg().ok_or_else(|| malformed("a block's count has no opposite"))?;
            if self.long()? < 0 {
                return Err(malformed("a block's size is negative"));
            }
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.spend(count)?;
        Ok(count)
    }

    /// Counts values that may have no bytes.
    pub(super) fn spend(&mut self, items: usize) -> Result<(), Fault> {
        let too_many = || Fault::new(codes::TOO_LARGE, format!("{items} items are claimed, more than the bytes can hold"));
        self.items = self.items.checked_sub(items).ok_or_else(too_many)?;
        Ok(())
    }

    /// A two's complement integer of any length, as decimals are written.
    pub(super) fn decimal(bytes: &[u8]) -> Result<i128, Fault> {
        let fill = if bytes.first().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
        let extra = bytes.len().saturating_sub(16);
        let (high, low) = bytes.split_at(extra);
        let mut word = [fill; 16];
        if let Some(place) = word.get_mut(16 - low.len()..) {
            place.copy_from_slice(low);
        }
        let value = i128::from_be_bytes(word);
        // What stands before the last 16 bytes may only repeat the sign.
        if high.iter().any(|byte| *byte != fill) || (extra > 0 && (value < 0) != (fill == 0xff)) {
            return Err(Fault::new(codes::OUT_OF_RANGE, format!("a decimal of {} bytes has more than 38 digits", bytes.len())));
        }
        Ok(value)
    }
}

#[cold]
fn truncated(wanted: usize, left: usize) -> Fault {
    Fault::new(codes::TRUNCATED, format!("the body ends too early: {wanted} bytes are expected, {left} are left"))
}

#[cold]
pub(super) fn malformed(reason: &str) -> Fault {
    Fault::new(codes::MALFORMED, reason)
}

/// A number from its zigzag form, which Protobuf has as well.
#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline]
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::new(codes::INVALID_UTF8, "the text is not UTF-8"))
}

/// Writes a number in zigzag form as Avro does, and Protobuf in `sint32` and `sint64`.
#[inline]
pub(super) fn write_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes bytes with their length before them.
#[inline]
pub(super) fn write_counted(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// Writes a decimal's integer in as few bytes as hold it, their number before them.
pub(super) fn write_decimal_bytes(value: i128, out: &mut Vec<u8>) {
    let word = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let mut start = 0;
    while start < 15 && word[start] == sign && (word[start + 1] >= 0x80) == (value < 0) {
        start += 1;
    }
    write_counted(&word[start..], out);
}

/// Writes a decimal's integer in exactly `size` bytes.
pub(super) fn write_decimal_fixed(value: i128, size: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let word = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    if let Some(more) = size.checked_sub(16) {
        out.resize(out.len() + more, sign);
        out.extend_from_slice(&word);
        return Ok(());
    }
    let (high, low) = word.split_at(16 - size);
    if high.iter().any(|byte| *byte != sign) || low.first().is_none_or(|byte| (*byte >= 0x80) != (value < 0)) {
        return Err(Fault::new(codes::OUT_OF_RANGE, format!("the decimal does not fit into {size} bytes")));
    }
    out.extend_from_slice(low);
    Ok(())
}
