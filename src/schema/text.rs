//! JSON texts with places: what serde_json would read, and besides where each part stands and how a number is written.
//!
//! Schemas need both. A diagnostic points at a column's declaration, and the registry tells `1` from `1.0`. Nesting is
//! bounded, so that no text can overflow the stack of whoever walks it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

/// How deep arrays and objects may nest; serde_json has the same bound.
pub(crate) const MAX_NESTING: usize = 128;

/// A JSON value and the bytes of the text it stands in.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) data: Data,
    pub(crate) span: Range<usize>,
}

/// What a JSON value is.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Object),
}

/// The members of an object in the text's order. A repeated key keeps its first position and its last value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    members: Vec<Member>,
    index: HashMap<String, usize>,
}

/// One member of an object.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    /// The bytes of the key, quotes included.
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Value,
}

/// A number as it is written, decomposed: `digits * 10^-scale`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    negative: bool,
    /// Decimal digits without leading zeros; `0` for zero.
    digits: String,
    scale: i64,
    /// Written without a fraction and without an exponent.
    pub(crate) integer: bool,
}

/// What is wrong with a text, and the byte where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) message: String,
    pub(crate) at: usize,
}

impl Value {
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&Object> {
        match &self.data {
            Data::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Value]> {
        match &self.data {
            Data::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_number(&self) -> Option<&Number> {
        match &self.data {
            Data::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match &self.data {
            Data::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A member's value, when this is an object that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    /// What kind of JSON it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.data {
            Data::Null => "null",
            Data::Bool(_) => "a boolean",
            Data::Number(_) => "a number",
            Data::String(_) => "a string",
            Data::Array(_) => "an array",
            Data::Object(_) => "an object",
        }
    }

    /// The value as text without whitespace, keys sorted when `sorted`. Two values print alike exactly when they are
    /// equal and their numbers are written with the same digits and scale.
    pub(crate) fn print(&self, sorted: bool) -> String {
        let mut out = String::new();
        self.print_into(sorted, &mut out);
        out
    }

    pub(crate) fn print_into(&self, sorted: bool, out: &mut String) {
        match &self.data {
            Data::Null => out.push_str("null"),
            Data::Bool(true) => out.push_str("true"),
            Data::Bool(false) => out.push_str("false"),
            Data::Number(number) => out.push_str(&number.print()),
            Data::String(text) => print_string(text, out),
            Data::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.print_into(sorted, out);
                }
                out.push(']');
            }
            Data::Object(object) => {
                let mut members: Vec<&Member> = object.members.iter().collect();
                if sorted {
                    members.sort_by(|a, b| a.key.cmp(&b.key));
                }
                out.push('{');
                for (at, member) in members.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    print_string(&member.key, out);
                    out.push(':');
                    member.value.print_into(sorted, out);
                }
                out.push('}');
            }
        }
    }
}

impl Object {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.member(key).map(|member| &member.value)
    }

    pub(crate) fn member(&self, key: &str) -> Option<&Member> {
        self.index.get(key).and_then(|at| self.members.get(*at))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    fn put(&mut self, member: Member) {
        match self.index.get(&member.key).and_then(|at| self.members.get_mut(*at)) {
            Some(known) => *known = member,
            None => {
                self.index.insert(member.key.clone(), self.members.len());
                self.members.push(member);
            }
        }
    }
}

impl Number {
    /// The nearest double.
    pub(crate) fn as_f64(&self) -> f64 {
        self.print().parse().unwrap_or(f64::NAN)
    }

    /// The value as a 32-bit integer, when it is written as one and fits.
    pub(crate) fn as_i32(&self) -> Option<i32> {
        if !self.integer || self.digits.len() > 10 {
            return None;
        }
        self.print().parse().ok()
    }

    /// Digits and scale as text: a plain number where the scale allows it, else with an exponent.
    pub(crate) fn print(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let length = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        let exponent = length.saturating_sub(1).saturating_sub(self.scale);
        if self.scale == 0 {
            return format!("{sign}{}", self.digits);
        }
        if self.scale > 0 && exponent >= -6 {
            let scale = usize::try_from(self.scale).unwrap_or(0);
            let padded = format!("{:0>width$}", self.digits, width = scale + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale);
            return format!("{sign}{whole}.{fraction}");
        }
        let (first, rest) = self.digits.split_at(1.min(self.digits.len()));
        let dot = if rest.is_empty() { "" } else { "." };
        let plus = if exponent >= 0 { "+" } else { "" };
        format!("{sign}{first}{dot}{rest}E{plus}{exponent}")
    }

    fn read(text: &str) -> Option<Number> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().ok().filter(|e| e.unsigned_abs() < 1_000_000)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        let integer = mantissa.len() == unsigned.len() && fraction.is_empty() && !mantissa.contains('.');
        Some(Number { negative: negative && digits != "0", digits: digits.to_owned(), scale, integer })
    }
}

/// A string as a JSON literal.
pub(crate) fn print_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads the first JSON value of a text, and the byte after it.
pub(crate) fn read(text: &str) -> Result<(Value, usize), Malformed> {
    Reader { text, at: 0, comments: false }.first()
}

/// Reads a text that is one JSON value and nothing after it but whitespace. Before and inside the value there may be
/// comments, as Avro allows.
pub(crate) fn read_whole(text: &str) -> Result<Value, Malformed> {
    let (value, end) = Reader { text, at: 0, comments: true }.first()?;
    let rest = text.get(end..).unwrap_or("");
    match rest.find(|c: char| !matches!(c, ' ' | '\t' | '\n' | '\r')) {
        None => Ok(value),
        Some(more) => Err(Malformed { message: "text after the end of the schema".into(), at: end + more }),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether `//` and `/* */` count as whitespace.
    comments: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn first(mut self) -> Result<(Value, usize), Malformed> {
        self.skip_space();
        let value = self.value(0)?;
        Ok((value, self.at))
    }

    fn skip_space(&mut self) {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += 1;
            }
            let rest = self.text.get(self.at..).unwrap_or("");
            let length = match (rest.get(..2), self.comments) {
                (Some("//"), true) => rest.find('\n').unwrap_or(rest.len()),
                (Some("/*"), true) => match rest.find("*/") {
                    Some(end) => end + 2,
                    None => return,
                },
                _ => return,
            };
            self.at += length;
        }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Malformed> {
        Err(Malformed { message: message.into(), at: self.at.min(self.text.len()) })
    }

    fn expected<T>(&self, what: &str) -> Result<T, Malformed> {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => self.fail(format!("not JSON: found {found:?} where {what} is expected")),
            None => self.fail(format!("not JSON: the text ends where {what} is expected")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        if depth > MAX_NESTING {
            return self.fail(format!("nested deeper than {MAX_NESTING} levels"));
        }
        let start = self.at;
        let data = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Data::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Value { data, span: start..self.at })
    }

    fn word(&mut self) -> Result<Data, Malformed> {
        for (word, data) in [("null", Data::Null), ("true", Data::Bool(true)), ("false", Data::Bool(false))] {
            if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
                self.at += word.len();
                if self.peek().is_some_and(|next| next.is_ascii_alphanumeric()) {
                    return self.expected("the end of a word");
                }
                return Ok(data);
            }
        }
        self.expected("a value")
    }

    fn object(&mut self, depth: usize) -> Result<Data, Malformed> {
        let mut object = Object::default();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Data::Object(object));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.expected("a key in double quotes");
            }
            let start = self.at;
            let key = self.string()?;
            let key_span = start..self.at;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.expected("a colon");
            }
            self.at += 1;
            self.skip_space();
            let value = self.value(depth + 1)?;
            object.put(Member { key, key_span, value });
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Data::Object(object));
                }
                _ => return self.expected("a comma or a closing brace"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Data, Malformed> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Data::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Data::Array(items));
                }
                _ => return self.expected("a comma or a closing bracket"),
            }
        }
    }

    fn number(&mut self) -> Result<Data, Malformed> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.peek(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            reader.at - from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let whole = digits(self);
        if whole == 0 || (zero && whole > 1) {
            return self.expected("a number without leading zeros");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if digits(self) == 0 {
                return self.expected("a digit");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return self.expected("a digit");
            }
        }
        if self.at - start > 1000 {
            return self.fail("a number of more than 1000 characters");
        }
        match self.text.get(start..self.at).and_then(Number::read) {
            Some(number) => Ok(Data::Number(number)),
            None => self.fail("a number out of range"),
        }
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let mut out = String::new();
        self.at += 1;
        loop {
            let from = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(self.text.get(from..self.at).unwrap_or(""));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                Some(_) => return self.fail("not JSON: a control character inside a string"),
                None => return self.fail("not JSON: a string that does not end"),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Malformed> {
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let c = self.code_point()?;
                out.push(c);
                return Ok(());
            }
            _ => return self.expected("an escape such as \\n"),
        };
        self.at += 1;
        out.push(c);
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, Malformed> {
        let high = self.hex()?;
        if !(0xd800..0xe000).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if high < 0xdc00 && self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
            let back = self.at;
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.expected("four hexadecimal digits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(text: &str) -> String {
        match read_whole(text) {
            Ok(value) => value.print(true),
            Err(e) => format!("{} at {}", e.message, e.at),
        }
    }

    #[test]
    fn numbers_keep_their_form() {
        for (text, printed) in [
            ("1", "1"),
            ("1.0", "1.0"),
            ("-0", "0"),
            ("1e2", "1E+2"),
            ("1.50E-3", "0.00150"),
            ("0.0000001", "1E-7"),
            ("12345678901234567890123", "12345678901234567890123"),
        ] {
            assert_eq!(print(text), printed, "{text}");
        }
    }

    #[test]
    fn keys_sort_and_the_last_of_a_repeated_key_counts() {
        assert_eq!(
            print(r#" {"b": 1, "a": [true, null], "b": "\u0041\ud83d\ude00\n"} "#),
            "{\"a\":[true,null],\"b\":\"A\u{1f600}\\n\"}"
        );
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(print("{not json"), "not JSON: found 'n' where a key in double quotes is expected at 1");
        assert_eq!(print("1 x"), "text after the end of the schema at 2");
        assert_eq!(print("[1"), "not JSON: the text ends where a comma or a closing bracket is expected at 2");
        assert_eq!(print("01"), "not JSON: the text ends where a number without leading zeros is expected at 2");
        assert_eq!(print("\"\\x\""), "not JSON: found 'x' where an escape such as \\n is expected at 2");
        assert_eq!(print("\u{feff}1"), "not JSON: found '\\u{feff}' where a value is expected at 0");
    }

    #[test]
    fn comments_are_whitespace_where_they_are_allowed() {
        let text = "// a\n{ /* b */ \"a\": // c\n 1 }";
        assert_eq!(print(text), r#"{"a":1}"#);
        assert_eq!(read(text).unwrap_err().message, "not JSON: found '/' where a value is expected");
        assert_eq!(print("1 // d"), "text after the end of the schema at 2");
        assert_eq!(print("/* no end"), "not JSON: found '/' where a value is expected at 0");
    }

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(print(&"[".repeat(100_000)), "nested deeper than 128 levels at 129");
    }

    #[test]
    fn places_are_bytes_of_the_text() {
        let text = r#"{"é": {"b" : 12}}"#;
        let (value, _) = read(text).unwrap();
        let inner = value.get("é").unwrap().as_object().unwrap().member("b").unwrap();
        assert_eq!(&text[inner.key_span.clone()], "\"b\"");
        assert_eq!(&text[inner.value.span.clone()], "12");
    }
}
