//! JSON to columns: one pass over the text, led by the row type, that builds only the columns wanted.

use hashbrown::HashMap;

use super::column::{Column, Values};
use super::json_scan::{Number, Scanner};
use super::text::{self, TextError};
use super::{Fault, MAX_RECORD, codes};

/// Reads JSON values and keys into columns.
pub(super) struct JsonReader {
    value: ObjectPlan,
    key: KeyPlan,
    scratch: Vec<u8>,
}

/// How a record's key is read: a single column is a bare value, several are an object.
enum KeyPlan {
    Scalar(usize, Plan),
    Object(ObjectPlan),
}

/// How a value is read, beyond what its column's type says.
enum Plan {
    Plain,
    Item(Box<Plan>),
    Object(ObjectPlan),
}

/// How an object's properties find their columns. Properties come in the same order most of the time, so each remembers
/// which one followed it last; only when the guess fails is a name looked up.
struct ObjectPlan {
    known: Vec<Known>,
    by_name: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    /// The property that came first in the last object.
    first: usize,
    /// For each column, in which object it was last seen: tells duplicates and missing ones.
    seen: Vec<u64>,
    objects: u64,
    /// The columns to fill, and how.
    wanted: Vec<usize>,
    plans: Vec<Plan>,
}

struct Known {
    name: Box<[u8]>,
    /// Whether the name is written without escapes, so that its bytes can be compared.
    plain: bool,
    /// `None`: not wanted, skipped.
    column: Option<usize>,
    next: usize,
}

/// Names that are not wanted are remembered up to this number, so that records can't fill the memory with names.
const MAX_KNOWN: usize = 4_096;
const NOWHERE: usize = usize::MAX;

impl JsonReader {
    /// A reader for these columns, of which `key` form the record's key.
    pub(super) fn new(columns: &[Column], key: &[usize]) -> Self {
        let all: Vec<usize> = (0..columns.len()).collect();
        let key = match key {
            [only] => KeyPlan::Scalar(*only, columns.get(*only).map_or(Plan::Plain, plan)),
            several => KeyPlan::Object(ObjectPlan::new(columns, several)),
        };
        JsonReader { value: ObjectPlan::new(columns, &all), key, scratch: Vec::new() }
    }

    /// Appends a record's value to all columns.
    pub(super) fn value(&mut self, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let mut scanner = scanner(body, &mut self.scratch)?;
        self.value.whole(columns, &mut scanner)?;
        scanner.end()
    }

    /// Appends a record's key to the key's columns.
    pub(super) fn key(&mut self, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let mut scanner = scanner(body, &mut self.scratch)?;
        match &mut self.key {
            KeyPlan::Object(object) => object.whole(columns, &mut scanner)?,
            KeyPlan::Scalar(at, plan) => match columns.get_mut(*at) {
                Some(column) => read(plan, column, &mut scanner, 0)?,
                None => return Err(Fault::new(codes::BAD_KEY, "the layout has no key column")),
            },
        }
        scanner.end()
    }
}

fn scanner<'a>(body: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Scanner<'a>, Fault> {
    if body.len() > MAX_RECORD {
        return Err(Fault::new(codes::TOO_LARGE, format!("{} bytes; at most {MAX_RECORD} are read", body.len())));
    }
    Scanner::new(body, scratch)
}

fn plan(column: &Column) -> Plan {
    match &column.values {
        Values::List(_, item) => Plan::Item(Box::new(plan(item))),
        Values::Map(_, _, value) => Plan::Item(Box::new(plan(value))),
        Values::Struct(columns, _) => Plan::Object(ObjectPlan::new(columns, &(0..columns.len()).collect::<Vec<_>>())),
        _ => Plan::Plain,
    }
}

impl ObjectPlan {
    fn new(columns: &[Column], wanted: &[usize]) -> Self {
        let mut object = ObjectPlan {
            known: Vec::new(),
            by_name: HashMap::default(),
            first: 0,
            seen: vec![0; columns.len()],
            objects: 0,
            wanted: wanted.to_vec(),
            plans: columns.iter().map(plan).collect(),
        };
        for at in wanted {
            if let Some(column) = columns.get(*at) {
                object.remember(column.field.name().as_bytes(), Some(*at));
            }
        }
        object
    }

    fn remember(&mut self, name: &[u8], column: Option<usize>) -> usize {
        let at = self.known.len();
        let plain = name.iter().all(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20));
        self.known.push(Known { name: name.into(), plain, column, next: at + 1 });
        self.by_name.insert(name.into(), at);
        at
    }

    /// Reads a text that must be one object.
    fn whole(&mut self, columns: &mut [Column], scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if scanner.peek() == b'{' {
            return self.read(columns, scanner, 0);
        }
        let found = kind(scanner.peek());
        scanner.skip(0)?;
        scanner.end()?;
        Err(Fault::new(codes::WRONG_TYPE, format!("an object is expected, found {found}")))
    }

    /// Reads an object's properties into their columns; each wanted column grows by one.
    fn read(&mut self, columns: &mut [Column], scanner: &mut Scanner<'_>, depth: usize) -> Result<(), Fault> {
        scanner.deeper(depth)?;
        self.objects += 1;
        let (mut before, mut guess, mut found) = (NOWHERE, self.first, 0);
        let mut more = scanner.first(b'}');
        while more {
            scanner.peek();
            let at = match self.known.get(guess) {
                Some(known) if known.plain && scanner.is_name(&known.name) => guess,
                _ => self.look_up(scanner.text()?, before),
            };
            scanner.expect(b':')?;
            before = at;
            guess = self.known.get(at).map_or(NOWHERE, |known| known.next);
            match self.known.get(at).and_then(|known| known.column) {
                Some(index) => {
                    self.property(index, columns, scanner, depth)?;
                    found += 1;
                }
                None => scanner.skip(depth + 1)?,
            }
            more = scanner.another(b'}')?;
        }
        if found == self.wanted.len() { Ok(()) } else { self.fill_missing(columns) }
    }

    #[inline]
    fn property(&mut self, index: usize, columns: &mut [Column], scanner: &mut Scanner<'_>, depth: usize) -> Result<(), Fault> {
        let (Some(seen), Some(plan), Some(column)) =
            (self.seen.get_mut(index), self.plans.get_mut(index), columns.get_mut(index))
        else {
            return scanner.skip(depth + 1);
        };
        if *seen == self.objects {
            return Err(Fault::new(codes::DUPLICATE, "the property appears twice").in_field(column.field.name()));
        }
        *seen = self.objects;
        read(plan, column, scanner, depth + 1).map_err(|fault| fault.in_field(column.field.name()))
    }

    /// The place of a name in `known`, remembered as what follows `before`.
    #[cold]
    fn look_up(&mut self, name: &[u8], before: usize) -> usize {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None if self.known.len() < MAX_KNOWN && name.len() <= 256 => self.remember(name, None),
            None => return NOWHERE,
        };
        match self.known.get_mut(before) {
            Some(before) => before.next = at,
            None => self.first = at,
        }
        at
    }

    fn fill_missing(&mut self, columns: &mut [Column]) -> Result<(), Fault> {
        for index in &self.wanted {
            if self.seen.get(*index) != Some(&self.objects)
                && let Some(column) = columns.get_mut(*index)
                && column.push_null().is_err()
            {
                return Err(Fault::new(codes::MISSING, "missing, and the contract requires it").in_field(column.field.name()));
            }
        }
        Ok(())
    }
}

/// Reads one value into a column.
fn read(plan: &mut Plan, column: &mut Column, scanner: &mut Scanner<'_>, depth: usize) -> Result<(), Fault> {
    let byte = scanner.peek();
    match (&mut column.values, byte) {
        (_, b'n') => {
            scanner.literal(b"null")?;
            return column.push_null();
        }
        (Values::Text(texts), b'"') => texts.push(scanner.text()?)?,
        (Values::Bool(v), b't') => {
            scanner.literal(b"true")?;
            v.push(true);
        }
        (Values::Bool(v), b'f') => {
            scanner.literal(b"false")?;
            v.push(false);
        }
        (Values::I64(v), b'-' | b'0'..=b'9') => v.push(integer(scanner.number()?)?),
        (Values::F64(v), b'-' | b'0'..=b'9') => v.push(double(scanner.number()?)?),
        (Values::Struct(columns, len), b'{') => {
            if let Plan::Object(object) = plan {
                object.read(columns, scanner, depth)?;
                *len += 1;
            }
        }
        (Values::List(ends, items), b'[') => {
            read_items(plan, items, scanner, depth)?;
            ends.push(end(items)?);
        }
        (Values::Map(ends, keys, values), b'{') => {
            read_entries(plan, keys, values, scanner, depth)?;
            ends.push(end(keys)?);
        }
        (values, b'-' | b'0'..=b'9') => read_number(values, scanner.number()?)?,
        (values, b'"') => read_text(values, scanner.text()?)?,
        (values, byte) => {
            // What is no JSON at all is not called a value of the wrong type.
            scanner.skip(depth)?;
            return Err(wrong_type(values, byte));
        }
    }
    column.valid();
    Ok(())
}

fn end(items: &Column) -> Result<i32, Fault> {
    i32::try_from(items.len()).map_err(|_| Fault::new(codes::TOO_LARGE, "the arrays of one batch have more than 2^31 items"))
}

fn read_items(plan: &mut Plan, items: &mut Column, scanner: &mut Scanner<'_>, depth: usize) -> Result<(), Fault> {
    scanner.deeper(depth)?;
    let Plan::Item(plan) = plan else { return Ok(()) };
    let mut index = 0;
    let mut more = scanner.first(b']');
    while more {
        read(plan, items, scanner, depth + 1).map_err(|fault| fault.in_item(index))?;
        index += 1;
        more = scanner.another(b']')?;
    }
    Ok(())
}

fn read_entries(
    plan: &mut Plan,
    keys: &mut Column,
    values: &mut Column,
    scanner: &mut Scanner<'_>,
    depth: usize,
) -> Result<(), Fault> {
    scanner.deeper(depth)?;
    let (Plan::Item(plan), Values::Text(names)) = (plan, &mut keys.values) else {
        return Err(Fault::new(codes::WRONG_TYPE, "a map's keys are texts"));
    };
    let start = names.len();
    let mut more = scanner.first(b'}');
    while more {
        names.push(scanner.text()?)?;
        scanner.expect(b':')?;
        read(plan, values, scanner, depth + 1).map_err(|fault| fault.in_field(&names.show(names.len().saturating_sub(1))))?;
        more = scanner.another(b'}')?;
    }
    match names.twice(start) {
        Some(name) => Err(Fault::new(codes::DUPLICATE, "the property appears twice").in_field(&name)),
        None => Ok(()),
    }
}

/// Types that JSON has as texts.
fn read_text(values: &mut Values, text: &[u8]) -> Result<(), Fault> {
    let text = super::avro::utf8(text)?;
    match values {
        Values::Date(v) => v.push(text::parse_date(text).map_err(|e| text_fault(e, "a date (YYYY-MM-DD)", text))?),
        Values::Time32(unit, v) => {
            v.push(narrow(text::parse_time(text, *unit).map_err(|e| text_fault(e, "a time (HH:MM:SS)", text))?)?);
        }
        Values::Time64(unit, v) => v.push(text::parse_time(text, *unit).map_err(|e| text_fault(e, "a time (HH:MM:SS)", text))?),
        Values::Timestamp(unit, instant, v) => {
            let form = if *instant {
                "a date-time with an offset (2023-07-17T00:30:58Z)"
            } else {
                "a date-time without an offset (2023-07-17T00:30:58)"
            };
            v.push(text::parse_timestamp(text, *unit, *instant).map_err(|e| text_fault(e, form, text))?);
        }
        Values::Decimal(precision, scale, v) => {
            v.push(text::parse_decimal(text, *precision, *scale).map_err(|e| decimal_fault(e, *precision, *scale, text))?);
        }
        Values::Bytes(texts) => {
            let mut bytes = Vec::new();
            text::parse_base64(text, &mut bytes).map_err(|e| text_fault(e, "base64", text))?;
            texts.push(&bytes)?;
        }
        Values::Fixed(size, all) => {
            let mut bytes = Vec::new();
            text::parse_base64(text, &mut bytes).map_err(|e| text_fault(e, "base64", text))?;
            if bytes.len() != *size {
                return Err(Fault::new(codes::WRONG_TYPE, format!("{size} bytes are expected, found {}", bytes.len())));
            }
            all.extend_from_slice(&bytes);
        }
        values => return Err(wrong_type(values, b'"')),
    }
    Ok(())
}

/// Numbers of the less frequent types.
fn read_number(values: &mut Values, number: Number<'_>) -> Result<(), Fault> {
    match values {
        Values::I8(v) => v.push(narrow(integer(number)?)?),
        Values::I16(v) => v.push(narrow(integer(number)?)?),
        Values::I32(v) => v.push(narrow(integer(number)?)?),
        Values::U8(v) => v.push(narrow(integer(number)?)?),
        Values::U16(v) => v.push(narrow(integer(number)?)?),
        Values::U32(v) => v.push(narrow(integer(number)?)?),
        Values::U64(v) => v.push(match number {
            Number::Other(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map_err(|_| too_wide(text))?,
            number => narrow(integer(number)?)?,
        }),
        Values::F32(v) => v.push(float(number)?),
        Values::Timestamp(_, _, v) => v.push(integer(number)?),
        Values::Decimal(precision, scale, v) => {
            let mut buffer = itoa::Buffer::new();
            let text = match number {
                Number::Integer(value) => buffer.format(value),
                Number::Other(text) => text,
            };
            v.push(text::parse_decimal(text, *precision, *scale).map_err(|e| decimal_fault(e, *precision, *scale, text))?);
        }
        values => return Err(wrong_type(values, b'0')),
    }
    Ok(())
}

/// A number without a fraction; 3.0 is one, as JSON Schema has it.
#[inline]
fn integer(number: Number<'_>) -> Result<i64, Fault> {
    match number {
        Number::Integer(value) => Ok(value),
        Number::Other(text) => whole(text),
    }
}

#[cold]
fn whole(text: &str) -> Result<i64, Fault> {
    match text::parse_decimal(text, 38, 0) {
        Ok(value) => i64::try_from(value).map_err(|_| too_wide(text)),
        Err(_) if text.contains(['.', '-']) && text.parse().is_ok_and(|value: f64| value.abs() < 1e18) => {
            Err(Fault::new(codes::WRONG_TYPE, format!("an integer is expected, found {}", shortened(text))))
        }
        Err(_) => Err(too_wide(text)),
    }
}

#[cold]
fn too_wide(text: &str) -> Fault {
    Fault::new(codes::OUT_OF_RANGE, format!("{} does not fit into 8 bytes", shortened(text)))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[inline]
fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T, Fault> {
    T::try_from(value).map_err(|_| Fault::new(codes::OUT_OF_RANGE, format!("{value} does not fit into {} bytes", size_of::<T>())))
}

#[inline]
fn double(number: Number<'_>) -> Result<f64, Fault> {
    match number {
        Number::Integer(value) => Ok(value as f64),
        Number::Other(text) => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(too_wide(text)),
        },
    }
}

fn float(number: Number<'_>) -> Result<f32, Fault> {
    let value = match number {
        Number::Integer(value) => value as f32,
        Number::Other(text) => text.parse().unwrap_or(f32::INFINITY),
    };
    if value.is_finite() { Ok(value) } else { Err(Fault::new(codes::OUT_OF_RANGE, "the number does not fit into 4 bytes")) }
}

#[cold]
fn wrong_type(values: &Values, byte: u8) -> Fault {
    let expected = match values {
        Values::Bool(_) => "true or false",
        Values::Decimal(..) => "a number, or a number as a text,",
        Values::Date(_) | Values::Time32(..) | Values::Time64(..) | Values::Text(_) | Values::Bytes(_) | Values::Fixed(..) => {
            "a text"
        }
        Values::Timestamp(..) => "a date-time",
        Values::List(..) => "an array",
        Values::Map(..) | Values::Struct(..) => "an object",
        Values::F32(_) | Values::F64(_) => "a number",
        _ => "an integer",
    };
    Fault::new(codes::WRONG_TYPE, format!("{expected} is expected, found {}", kind(byte)))
}

#[cold]
fn text_fault(error: TextError, form: &str, text: &str) -> Fault {
    let shown = shortened(text);
    match error {
        TextError::Form => Fault::new(codes::WRONG_TYPE, format!("{form} is expected, found {shown:?}")),
        TextError::Range => Fault::new(codes::OUT_OF_RANGE, format!("{shown:?} is not {form} that the column can hold")),
    }
}

#[cold]
fn decimal_fault(error: TextError, precision: u8, scale: i8, text: &str) -> Fault {
    text_fault(error, &format!("a number of at most {precision} digits, {scale} of them decimals,"), text)
}

/// What a value is, by its first byte.
fn kind(byte: u8) -> &'static str {
    match byte {
        b'"' => "a text",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}
