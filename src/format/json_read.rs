//! JSON to columns: one walk over a simd-json tape, led by the row type, that builds only the columns wanted.

use hashbrown::{HashMap, HashSet};
use simd_json::{Buffers, ErrorType, Node, StaticNode, Tape};

use super::column::{Column, Values};
use super::text::{self, TextError};
use super::{Fault, MAX_DEPTH, MAX_RECORD, codes};

/// Reads JSON values and keys into columns; its buffers are used again for each record.
pub(super) struct JsonReader {
    value: ObjectPlan,
    key: KeyPlan,
    parser: Parser,
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
    by_name: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
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
    name: Box<str>,
    /// `None`: not wanted, skipped.
    column: Option<usize>,
    next: usize,
}

/// Names that are not wanted are remembered up to this number, so that records can't fill the memory with names.
const MAX_KNOWN: usize = 4_096;
const NOWHERE: usize = usize::MAX;

/// Up to here every whole number is a double.
const GREATEST_EXACT: f64 = 9_007_199_254_740_992.0;

impl JsonReader {
    /// A reader for these columns, of which `key` form the record's key.
    pub(super) fn new(columns: &[Column], key: &[usize]) -> Self {
        let all: Vec<usize> = (0..columns.len()).collect();
        let key = match key {
            [only] => KeyPlan::Scalar(*only, columns.get(*only).map_or(Plan::Plain, plan)),
            several => KeyPlan::Object(ObjectPlan::new(columns, several)),
        };
        JsonReader { value: ObjectPlan::new(columns, &all), key, parser: Parser::default() }
    }

    /// Appends a record's value to all columns.
    pub(super) fn value(&mut self, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let plan = &mut self.value;
        self.parser.parse(body, |nodes| plan.whole(columns, nodes))
    }

    /// Appends a record's key to the key's columns.
    pub(super) fn key(&mut self, body: &[u8], columns: &mut [Column]) -> Result<(), Fault> {
        let plan = &mut self.key;
        self.parser.parse(body, |nodes| match plan {
            KeyPlan::Object(object) => object.whole(columns, nodes),
            KeyPlan::Scalar(at, plan) => match columns.get_mut(*at) {
                Some(column) => read(plan, column, nodes),
                None => Err(Fault::new(codes::BAD_KEY, "the layout has no key column")),
            },
        })
    }
}

/// simd-json's tape with its buffers.
pub(super) struct Parser {
    tape: Tape<'static>,
    buffers: Buffers,
    input: Vec<u8>,
}

impl Default for Parser {
    fn default() -> Self {
        Parser { tape: Tape(Vec::new()), buffers: Buffers::with_max_depth(4_096, MAX_DEPTH), input: Vec::new() }
    }
}

impl Parser {
    /// Parses a text and hands its nodes to `walk`.
    fn parse(&mut self, body: &[u8], walk: impl FnOnce(&mut Nodes<'_, '_>) -> Result<(), Fault>) -> Result<(), Fault> {
        if body.len() > MAX_RECORD {
            return Err(Fault::new(codes::TOO_LARGE, format!("{} bytes; at most {MAX_RECORD} are read", body.len())));
        }
        self.input.clear();
        self.input.extend_from_slice(body);
        self.input.resize(body.len() + simd_json::INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let result = match simd_json::fill_tape_padded(&mut self.input, body.len(), &mut self.buffers, &mut tape) {
            Ok(()) => walk(&mut Nodes { nodes: &tape.0, at: 0 }),
            Err(error) => Err(syntax_fault(&error)),
        };
        self.tape = tape.reset();
        result
    }
}

#[cold]
fn syntax_fault(error: &simd_json::Error) -> Fault {
    match error.error() {
        ErrorType::InvalidUtf8 => Fault::new(codes::INVALID_UTF8, "the text is not UTF-8"),
        ErrorType::DepthLimitExceeded => {
            Fault::new(codes::TOO_DEEP, format!("nested more than {MAX_DEPTH} levels deep, at byte {}", error.index()))
        }
        ErrorType::Eof | ErrorType::NoStructure => Fault::new(codes::NOT_JSON, "the body is not a JSON text, it ends too early"),
        _ => Fault::new(codes::NOT_JSON, format!("the body is not a JSON text, see byte {}", error.index())),
    }
}

/// A place on the tape.
struct Nodes<'t, 'i> {
    nodes: &'t [Node<'i>],
    at: usize,
}

impl<'i> Nodes<'_, 'i> {
    #[inline]
    fn next(&mut self) -> Result<Node<'i>, Fault> {
        let node = self.nodes.get(self.at).copied().ok_or_else(|| Fault::new(codes::NOT_JSON, "the body ends too early"))?;
        self.at += 1;
        Ok(node)
    }

    /// Passes over one value, whatever is inside.
    #[inline]
    fn skip(&mut self) -> Result<(), Fault> {
        if let Node::Object { count, .. } | Node::Array { count, .. } = self.next()? {
            self.at += count;
        }
        Ok(())
    }
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
                object.remember(column.field.name(), Some(*at));
            }
        }
        object
    }

    fn remember(&mut self, name: &str, column: Option<usize>) -> usize {
        let at = self.known.len();
        self.known.push(Known { name: name.into(), column, next: at + 1 });
        self.by_name.insert(name.into(), at);
        at
    }

    /// Reads a text that must be one object.
    fn whole(&mut self, columns: &mut [Column], nodes: &mut Nodes<'_, '_>) -> Result<(), Fault> {
        match nodes.next()? {
            Node::Object { len, .. } => self.read(len, columns, nodes),
            other => Err(Fault::new(codes::WRONG_TYPE, format!("an object is expected, found {}", kind(other)))),
        }
    }

    /// Reads an object's properties into their columns; each wanted column grows by one.
    fn read(&mut self, properties: usize, columns: &mut [Column], nodes: &mut Nodes<'_, '_>) -> Result<(), Fault> {
        self.objects += 1;
        let (mut before, mut guess, mut found) = (NOWHERE, self.first, 0);
        for _ in 0..properties {
            let Node::String(name) = nodes.next()? else {
                return Err(Fault::new(codes::NOT_JSON, "a property's name is not a text"));
            };
            let at = match self.known.get(guess) {
                Some(known) if *known.name == *name => guess,
                _ => self.look_up(name, before),
            };
            before = at;
            let Some(known) = self.known.get(at) else {
                nodes.skip()?;
                guess = NOWHERE;
                continue;
            };
            guess = known.next;
            let Some(index) = known.column else {
                nodes.skip()?;
                continue;
            };
            let (Some(seen), Some(plan), Some(column)) =
                (self.seen.get_mut(index), self.plans.get_mut(index), columns.get_mut(index))
            else {
                continue;
            };
            if *seen == self.objects {
                return Err(Fault::new(codes::DUPLICATE, "the property appears twice").in_field(name));
            }
            *seen = self.objects;
            found += 1;
            read(plan, column, nodes).map_err(|fault| fault.in_field(name))?;
        }
        if found == self.wanted.len() { Ok(()) } else { self.fill_missing(columns) }
    }

    /// The place of a name in `known`, remembered as what follows `before`.
    #[cold]
    fn look_up(&mut self, name: &str, before: usize) -> usize {
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
fn read(plan: &mut Plan, column: &mut Column, nodes: &mut Nodes<'_, '_>) -> Result<(), Fault> {
    let node = nodes.next()?;
    match (&mut column.values, node) {
        (_, Node::Static(StaticNode::Null)) => return column.push_null(),
        (Values::Text(texts), Node::String(text)) => texts.push(text.as_bytes())?,
        (Values::Bool(v), Node::Static(StaticNode::Bool(value))) => v.push(value),
        (Values::I64(v), Node::Static(number)) => v.push(integer(number)?),
        (Values::F64(v), Node::Static(number)) => v.push(double(number)?),
        (Values::I32(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::I16(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::I8(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::U8(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::U16(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::U32(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::U64(v), Node::Static(StaticNode::U64(value))) => v.push(value),
        (Values::U64(v), Node::Static(number)) => v.push(narrow(integer(number)?)?),
        (Values::F32(v), Node::Static(number)) => v.push(float(number)?),
        (Values::Timestamp(_, _, v), Node::Static(number)) => v.push(integer(number)?),
        (Values::Struct(columns, len), Node::Object { len: properties, .. }) => {
            if let Plan::Object(object) = plan {
                object.read(properties, columns, nodes)?;
                *len += 1;
            }
        }
        (Values::List(ends, items), Node::Array { len, .. }) => {
            read_items(plan, len, items, nodes)?;
            ends.push(end(items)?);
        }
        (Values::Map(ends, keys, values), Node::Object { len, .. }) => {
            read_entries(plan, len, keys, values, nodes)?;
            ends.push(end(keys)?);
        }
        (values, Node::String(text)) => read_text(values, text)?,
        (values, Node::Static(number)) => read_number(values, number)?,
        (values, node) => return Err(wrong_type(values, node)),
    }
    column.valid();
    Ok(())
}

fn end(items: &Column) -> Result<i32, Fault> {
    i32::try_from(items.len()).map_err(|_| Fault::new(codes::TOO_LARGE, "the arrays of one batch have more than 2^31 items"))
}

fn read_items(plan: &mut Plan, len: usize, items: &mut Column, nodes: &mut Nodes<'_, '_>) -> Result<(), Fault> {
    let Plan::Item(plan) = plan else { return Ok(()) };
    for index in 0..len {
        read(plan, items, nodes).map_err(|fault| fault.in_item(index))?;
    }
    Ok(())
}

fn read_entries(
    plan: &mut Plan,
    len: usize,
    keys: &mut Column,
    values: &mut Column,
    nodes: &mut Nodes<'_, '_>,
) -> Result<(), Fault> {
    let Plan::Item(plan) = plan else { return Ok(()) };
    let mut names: HashSet<&str, foldhash::fast::RandomState> = HashSet::default();
    for _ in 0..len {
        let (Node::String(name), Values::Text(texts)) = (nodes.next()?, &mut keys.values) else {
            return Err(Fault::new(codes::WRONG_TYPE, "a map's keys are texts"));
        };
        if !names.insert(name) {
            return Err(Fault::new(codes::DUPLICATE, "the property appears twice").in_field(name));
        }
        texts.push(name.as_bytes())?;
        keys.valid();
        read(plan, values, nodes).map_err(|fault| fault.in_field(name))?;
    }
    Ok(())
}

/// Types that JSON has as texts.
fn read_text(values: &mut Values, text: &str) -> Result<(), Fault> {
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
        values => return Err(wrong_type(values, Node::String(text))),
    }
    Ok(())
}

/// Decimals that are written as numbers.
fn read_number(values: &mut Values, number: StaticNode) -> Result<(), Fault> {
    let Values::Decimal(precision, scale, v) = values else { return Err(wrong_type(values, Node::Static(number))) };
    let mut buffer = itoa::Buffer::new();
    let mut floats = ryu::Buffer::new();
    let text = match number {
        StaticNode::I64(value) => buffer.format(value),
        StaticNode::U64(value) => buffer.format(value),
        StaticNode::F64(value) => {
            let text = floats.format(value);
            // A double tells numbers of 15 digits from each other; of a longer one it is unknown what was written.
            let digits: String = text.chars().take_while(|c| *c != 'e').filter(char::is_ascii_digit).collect();
            if digits.trim_matches('0').len() > 15 || value.abs() > GREATEST_EXACT {
                return Err(Fault::new(
                    codes::OUT_OF_RANGE,
                    format!("{text} has more digits than a JSON number keeps; write it as a text"),
                ));
            }
            text
        }
        other => return Err(wrong_type(values, Node::Static(other))),
    };
    v.push(text::parse_decimal(text, *precision, *scale).map_err(|e| decimal_fault(e, *precision, *scale, text))?);
    Ok(())
}

/// A number without a fraction; 3.0 is one, as JSON Schema has it.
#[inline]
fn integer(number: StaticNode) -> Result<i64, Fault> {
    match number {
        StaticNode::I64(value) => Ok(value),
        StaticNode::U64(value) => i64::try_from(value)
            .map_err(|_| Fault::new(codes::OUT_OF_RANGE, format!("{value} is greater than {}, the greatest integer", i64::MAX))),
        StaticNode::F64(value) => whole(value),
        other => Err(Fault::new(codes::WRONG_TYPE, format!("an integer is expected, found {}", kind(Node::Static(other))))),
    }
}

#[cold]
fn whole(value: f64) -> Result<i64, Fault> {
    if value.fract() != 0.0 {
        return Err(Fault::new(codes::WRONG_TYPE, format!("an integer is expected, found {value}")));
    }
    if value.abs() > GREATEST_EXACT {
        return Err(Fault::new(
            codes::OUT_OF_RANGE,
            format!("{value:e} is no exact integer; write it without fraction and exponent"),
        ));
    }
    Ok(value as i64)
}

#[inline]
fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T, Fault> {
    T::try_from(value).map_err(|_| Fault::new(codes::OUT_OF_RANGE, format!("{value} does not fit into {} bytes", size_of::<T>())))
}

#[inline]
fn double(number: StaticNode) -> Result<f64, Fault> {
    match number {
        StaticNode::F64(value) => Ok(value),
        StaticNode::I64(value) => Ok(value as f64),
        StaticNode::U64(value) => Ok(value as f64),
        other => Err(Fault::new(codes::WRONG_TYPE, format!("a number is expected, found {}", kind(Node::Static(other))))),
    }
}

fn float(number: StaticNode) -> Result<f32, Fault> {
    let value = double(number)?;
    let float = value as f32;
    if float.is_finite() {
        Ok(float)
    } else {
        Err(Fault::new(codes::OUT_OF_RANGE, format!("{value:e} does not fit into 4 bytes")))
    }
}

#[cold]
fn wrong_type(values: &Values, node: Node<'_>) -> Fault {
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
    Fault::new(codes::WRONG_TYPE, format!("{expected} is expected, found {}", kind(node)))
}

#[cold]
fn text_fault(error: TextError, form: &str, text: &str) -> Fault {
    let shown: String = text.chars().take(40).collect();
    match error {
        TextError::Form => Fault::new(codes::WRONG_TYPE, format!("{form} is expected, found {shown:?}")),
        TextError::Range => Fault::new(codes::OUT_OF_RANGE, format!("{shown:?} is not {form} that the column can hold")),
    }
}

#[cold]
fn decimal_fault(error: TextError, precision: u8, scale: i8, text: &str) -> Fault {
    text_fault(error, &format!("a number of at most {precision} digits, {scale} of them decimals,"), text)
}

fn kind(node: Node<'_>) -> &'static str {
    match node {
        Node::String(_) => "a text",
        Node::Object { .. } => "an object",
        Node::Array { .. } => "an array",
        Node::Static(StaticNode::Bool(_)) => "a boolean",
        Node::Static(StaticNode::Null) => "null",
        Node::Static(_) => "a number",
    }
}
