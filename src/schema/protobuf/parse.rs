//! The text of a Protobuf file to its declarations, as lax and as strict as the registry's own parser is.
//!
//! Words are letters, digits, `_`, `-` and `.` in any order; keywords are words at the place where they count. Behind a
//! field, an enum's value and `reserved`, a comment on the same line must be the last on it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::tree::{
    Call, Choice, Constant, Enum, Extend, Extensions, Field, File, Group, Label, MAX_NUMBER, Message, OneOf, Reserved, Service,
    Syntax, Type, Value,
};
use crate::schema::SchemaError;

/// How deep messages, and values of options, may nest.
pub(super) const MAX_NESTING: usize = 64;

type Result<T> = std::result::Result<T, SchemaError>;

/// Reads a file.
pub(super) fn file(text: &str) -> Result<File> {
    let mut parser = Parser { text, at: 0, syntax: None, declarations: 0, names: HashSet::new() };
    let mut file: File = Default::default();
    loop {
        parser.skip_space()?;
        if parser.at >= text.len() {
            file.syntax = parser.syntax;
            return Ok(file);
        }
        parser.in_file(&mut file)?;
    }
}

/// Where a declaration stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    Extend,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    syntax: Option<Syntax>,
    /// How many declarations were begun: `syntax` must be the first.
    declarations: usize,
    /// Types and services of the file, which may not be declared twice.
    names: HashSet<(bool, String)>,
}

impl<'a> Parser<'a> {
    // Characters and words.

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        self.fail_at(self.at..self.at, message)
    }

    fn fail_at<T>(&self, at: Range<usize>, message: impl Into<String>) -> Result<T> {
        Err(SchemaError::new(message, Some(at.start.min(self.text.len())..at.end.min(self.text.len()))))
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => self.fail(format!("not Protobuf: found {found:?} where {what} is expected")),
            None => self.fail(format!("not Protobuf: the text ends where {what} is expected")),
        }
    }

    fn skip_space(&mut self) -> Result<()> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(b'/') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<()> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = match rest.as_bytes().get(1) {
            Some(b'/') => rest.find('\n').map_or(rest.len(), |end| end + 1),
            Some(b'*') => match rest.get(2..).and_then(|inner| inner.find("*/")) {
                Some(end) => end + 4,
                None => return self.fail("not Protobuf: a comment that does not end"),
            },
            _ => return self.fail("not Protobuf: a single '/', where // or /* begins a comment"),
        };
        self.at += length;
        Ok(())
    }

    /// What may follow on the line behind a declaration: one comment.
    fn line_end(&mut self) -> Result<()> {
        while let Some(b' ' | b'\t') = self.byte() {
            self.at += 1;
        }
        if self.byte() != Some(b'/') {
            return Ok(());
        }
        let block = self.text.as_bytes().get(self.at + 1) == Some(&b'*');
        self.comment()?;
        if !block {
            return Ok(());
        }
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                None | Some(b'\n') => return Ok(()),
                Some(_) => return self.fail("not Protobuf here: more text on the line behind a trailing comment"),
            }
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Result<u8> {
        self.skip_space()?;
        match self.byte() {
            Some(byte) => Ok(byte),
            None => self.expected("more"),
        }
    }

    fn take_if(&mut self, byte: u8) -> Result<bool> {
        let found = self.peek()? == byte;
        if found {
            self.at += 1;
        }
        Ok(found)
    }

    fn require(&mut self, byte: u8) -> Result<()> {
        self.skip_space()?;
        if self.byte() != Some(byte) {
            return self.expected(&format!("{:?}", char::from(byte)));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self) -> Result<&'a str> {
        self.skip_space()?;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(rest.len());
        if length == 0 {
            return self.expected("a word");
        }
        self.at += length;
        Ok(rest.get(..length).unwrap_or_default())
    }

    fn no_digit_first(&self, word: &str) -> Result<()> {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let start = self.at.saturating_sub(word.len());
            return self
                .fail_at(start..self.at, format!("{word:?} begins with a digit, which names of fields and values may not"));
        }
        Ok(())
    }

    /// A word, bare or in parentheses or brackets, and which of them.
    fn name(&mut self) -> Result<(&'a str, Option<char>)> {
        let (open, close) = match self.peek()? {
            b'(' => ('(', b')'),
            b'[' => ('[', b']'),
            _ => return Ok((self.word()?, None)),
        };
        self.at += 1;
        let word = self.word()?;
        self.require(close)?;
        Ok((word, Some(open)))
    }

    fn number(&mut self) -> Result<i32> {
        let word = self.word()?;
        let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        let number = hex.map_or_else(|| word.parse(), |digits| i32::from_str_radix(digits, 16));
        match number {
            Ok(number) => Ok(number),
            Err(_) => {
                let start = self.at.saturating_sub(word.len());
                self.fail_at(start..self.at, format!("not Protobuf: found {word:?} where a whole number is expected"))
            }
        }
    }

    /// A bare word or a string.
    fn string(&mut self) -> Result<String> {
        match self.peek()? {
            b'"' | b'\'' => self.quoted(),
            _ => Ok(self.word()?.to_owned()),
        }
    }

    /// A string in quotes; adjacent ones are one.
    fn quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        let mut quote = self.peek()?;
        if !matches!(quote, b'"' | b'\'') {
            return self.expected("a string in quotes");
        }
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(c) = rest.chars().next() else {
                return self.fail("not Protobuf: a string that does not end");
            };
            self.at += c.len_utf8();
            if u32::from(c) == u32::from(quote) {
                match self.peek()? {
                    next @ (b'"' | b'\'') => {
                        quote = next;
                        self.at += 1;
                    }
                    _ => return Ok(out),
                }
            } else if c == '\\' {
                let escaped = self.escape()?;
                out.push(escaped);
            } else {
                out.push(c);
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(c) = rest.chars().next() else {
            return self.fail("not Protobuf: a string that does not end");
        };
        let (skip, radix, most) = match c {
            'x' | 'X' => (1, 16, 2),
            '0'..='7' => (0, 8, 3),
            _ => {
                self.at += c.len_utf8();
                return Ok(match c {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    other => other,
                });
            }
        };
        self.at += skip;
        let digits: String = rest.chars().skip(skip).take(most).take_while(|c| c.is_digit(radix)).collect();
        self.at += digits.len();
        match u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32) {
            Some(c) => Ok(c),
            None => self.expected("a hexadecimal digit behind \\x"),
        }
    }

    /// A type: a name or `map<K, V>`, which `word` may have begun.
    fn data_type(&mut self, word: Option<&str>, depth: usize) -> Result<String> {
        let word = match word {
            Some(word) => word.to_owned(),
            None => self.word()?.to_owned(),
        };
        if word != "map" {
            return Ok(word);
        }
        self.not_too_deep(depth)?;
        self.require(b'<')?;
        let key = self.data_type(None, depth + 1)?;
        self.require(b',')?;
        let value = self.data_type(None, depth + 1)?;
        self.require(b'>')?;
        Ok(format!("map<{key}, {value}>"))
    }

    fn not_too_deep(&self, depth: usize) -> Result<()> {
        if depth > MAX_NESTING { self.fail(format!("nested deeper than {MAX_NESTING} levels")) } else { Ok(()) }
    }

    // Declarations.

    fn in_file(&mut self, file: &mut File) -> Result<()> {
        let first = self.declarations == 0;
        self.declarations += 1;
        if self.take_if(b';')? {
            return Ok(());
        }
        let start = self.at;
        let word = self.word()?;
        match word {
            "package" => {
                file.package = Some(self.name()?.0.to_owned());
                self.require(b';')?;
            }
            "import" => {
                let path = self.string()?;
                let list = match path.as_str() {
                    "weak" => &mut file.weak_imports,
                    "public" => &mut file.public_imports,
                    _ => &mut file.imports,
                };
                let path = if matches!(path.as_str(), "weak" | "public") { self.string()? } else { path };
                list.push(unix_path(&path));
                self.require(b';')?;
            }
            "syntax" => self.read_syntax(start, first)?,
            "option" => file.options.push(self.option_line()?),
            "reserved" => drop(self.reserved()?),
            "message" | "enum" => {
                let declared = if word == "enum" { Type::Enum(self.enumeration()?) } else { Type::Message(self.message(0)?) };
                if !self.names.insert((false, declared.name().to_owned())) {
                    return self.fail_at(start..start, format!("{} is declared twice", declared.name()));
                }
                file.types.push(declared);
            }
            "service" => {
                let service = self.service()?;
                if !self.names.insert((true, service.name.clone())) {
                    return self.fail_at(start..start, format!("service {} is declared twice", service.name));
                }
                file.services.push(service);
            }
            "extend" => file.extends.push(self.extend()?),
            "edition" => {
                return self.fail_at(start..self.at, "editions are not supported by the registry; use syntax = \"proto3\"");
            }
            other => {
                let message =
                    format!("not Protobuf: found {other:?} where message, enum, import or another declaration is expected");
                return self.fail_at(start..self.at, message);
            }
        }
        Ok(())
    }

    fn read_syntax(&mut self, start: usize, first: bool) -> Result<()> {
        self.require(b'=')?;
        if !first {
            return self.fail_at(start..self.at, "syntax must be the first declaration, and the only one of its kind");
        }
        self.syntax = match self.quoted()?.as_str() {
            "proto2" => Some(Syntax::Proto2),
            "proto3" => Some(Syntax::Proto3),
            other => {
                return self.fail_at(start..self.at, format!("syntax {other:?} is none; there are \"proto2\" and \"proto3\""));
            }
        };
        self.require(b';')
    }

    fn message(&mut self, depth: usize) -> Result<Message> {
        self.not_too_deep(depth)?;
        let mut message = Message { name: self.name()?.0.to_owned(), ..Message::default() };
        self.require(b'{')?;
        while !self.take_if(b'}')? {
            if self.take_if(b';')? {
                continue;
            }
            let start = self.at;
            match self.word()? {
                "option" => message.options.push(self.option_line()?),
                "reserved" => message.reserved.push(self.reserved()?),
                "message" => message.types.push(Type::Message(self.message(depth + 1)?)),
                "enum" => message.types.push(Type::Enum(self.enumeration()?)),
                "extend" => message.extends.push(self.extend()?),
                "oneof" => message.oneofs.push(self.oneof()?),
                "extensions" => message.extensions.push(self.extensions()?),
                word => match self.labelled(start, word, Place::Message)? {
                    Member::Field(field) => message.fields.push(field),
                    Member::Group(group) => message.groups.push(group),
                },
            }
        }
        Ok(message)
    }

    /// A field that may have a label, or a group.
    fn labelled(&mut self, start: usize, word: &str, place: Place) -> Result<Member> {
        let label = match word {
            "required" if self.syntax == Some(Syntax::Proto3) => {
                return self.fail_at(start..self.at, "proto3 has no required fields");
            }
            "required" => Some(Label::Required),
            "optional" => Some(Label::Optional),
            "repeated" => Some(Label::Repeated),
            _ => None,
        };
        if label.is_none() && self.syntax != Some(Syntax::Proto3) && !(word == "map" && self.peek()? == b'<') {
            let what = if place == Place::Message { "a field" } else { "an extension" };
            let message = format!(
                "found {word:?} where {what} begins: required, optional or repeated, unless the file has syntax = \"proto3\""
            );
            return self.fail_at(start..self.at, message);
        }
        let kind = self.data_type(label.is_none().then_some(word), 0)?;
        if label.is_some() && kind.starts_with("map<") {
            return self.fail_at(start..self.at, "a map has no label");
        }
        if kind == "group" {
            return Ok(Member::Group(self.group(label)?));
        }
        Ok(Member::Field(self.field(start, label, kind)?))
    }

    fn field(&mut self, start: usize, label: Option<Label>, kind: String) -> Result<Field> {
        let (name, _) = self.name()?;
        self.no_digit_first(name)?;
        self.require(b'=')?;
        let number = self.number()?;
        let mut options = self.options()?;
        let default = strip(&mut options, "default");
        let json_name = strip(&mut options, "json_name");
        self.require(b';')?;
        let at = start..self.at;
        self.line_end()?;
        Ok(Field { label, kind, name: name.to_owned(), number, default, json_name, options, at })
    }

    fn group(&mut self, label: Option<Label>) -> Result<Group> {
        let name = self.word()?.to_owned();
        self.require(b'=')?;
        let number = self.number()?;
        let mut fields = Vec::new();
        self.require(b'{')?;
        while !self.take_if(b'}')? {
            let start = self.at;
            let word = self.word()?;
            // A group is refused before it is read, so that groups in groups do not recurse.
            if word == "group" {
                return self.fail_at(start..self.at, "a group within a group");
            }
            match self.labelled_field(start, word)? {
                Some(field) => fields.push(field),
                None => return self.fail_at(start..self.at, "a group within a group"),
            }
        }
        Ok(Group { label, name, number, fields })
    }

    /// A field that may have a label; `None` where a group begins.
    fn labelled_field(&mut self, start: usize, word: &str) -> Result<Option<Field>> {
        let back = self.at;
        if matches!(word, "required" | "optional" | "repeated") && self.word()? == "group" {
            return Ok(None);
        }
        self.at = back;
        match self.labelled(start, word, Place::Message)? {
            Member::Field(field) => Ok(Some(field)),
            Member::Group(_) => Ok(None),
        }
    }

    fn oneof(&mut self) -> Result<OneOf> {
        let mut oneof = OneOf { name: self.name()?.0.to_owned(), fields: Vec::new(), groups: Vec::new(), options: Vec::new() };
        self.require(b'{')?;
        while !self.take_if(b'}')? {
            let start = self.at;
            let kind = self.data_type(None, 0)?;
            match kind.as_str() {
                "group" => oneof.groups.push(self.group(None)?),
                "option" => oneof.options.push(self.option_line()?),
                _ => oneof.fields.push(self.field(start, None, kind)?),
            }
        }
        Ok(oneof)
    }

    fn enumeration(&mut self) -> Result<Enum> {
        let mut declared = Enum { name: self.name()?.0.to_owned(), ..Enum::default() };
        self.require(b'{')?;
        while !self.take_if(b'}')? {
            if self.take_if(b';')? {
                continue;
            }
            let word = self.word()?;
            self.no_digit_first(word)?;
            match word {
                "option" => declared.options.push(self.option_line()?),
                "reserved" => declared.reserved.push(self.reserved()?),
                name => {
                    self.require(b'=')?;
                    let number = self.number()?;
                    let options = self.options()?;
                    self.require(b';')?;
                    self.line_end()?;
                    declared.constants.push(Constant { name: name.to_owned(), number, options });
                }
            }
        }
        Ok(declared)
    }

    fn extend(&mut self) -> Result<Extend> {
        let mut extend = Extend { name: self.name()?.0.to_owned(), fields: Vec::new() };
        self.require(b'{')?;
        while !self.take_if(b'}')? {
            if self.take_if(b';')? {
                continue;
            }
            let start = self.at;
            match self.word()? {
                "option" => drop(self.option_line()?),
                "reserved" => drop(self.reserved()?),
                word => {
                    // The registry forgets groups here.
                    if let Member::Field(field) = self.labelled(start, word, Place::Extend)? {
                        extend.fields.push(field);
                    }
                }
            }
        }
        Ok(extend)
    }

    fn service(&mut self) -> Result<Service> {
        let mut service = Service { name: self.name()?.0.to_owned(), calls: Vec::new(), options: Vec::new() };
        self.require(b'{')?;
        while !self.take_if(b'}')? {
            if self.take_if(b';')? {
                continue;
            }
            let start = self.at;
            match self.word()? {
                "option" => service.options.push(self.option_line()?),
                "reserved" => drop(self.reserved()?),
                "rpc" => service.calls.push(self.call()?),
                other => return self.fail_at(start..self.at, format!("found {other:?} where rpc or option is expected")),
            }
        }
        Ok(service)
    }

    fn call(&mut self) -> Result<Call> {
        let name = self.name()?.0.to_owned();
        let (request, request_streams) = self.call_type()?;
        let start = self.at;
        if self.word()? != "returns" {
            return self.fail_at(start..self.at, format!("rpc {name}: returns is expected behind the request"));
        }
        let (response, response_streams) = self.call_type()?;
        let mut options = Vec::new();
        if self.take_if(b'{')? {
            while !self.take_if(b'}')? {
                if self.take_if(b';')? {
                    continue;
                }
                let start = self.at;
                match self.word()? {
                    "option" => options.push(self.option_line()?),
                    "reserved" => drop(self.reserved()?),
                    other => return self.fail_at(start..self.at, format!("found {other:?} where option is expected")),
                }
            }
        } else {
            self.require(b';')?;
        }
        Ok(Call { name, request, request_streams, response, response_streams, options })
    }

    /// A type in parentheses, and whether it streams.
    fn call_type(&mut self) -> Result<(String, bool)> {
        self.require(b'(')?;
        let word = self.word()?;
        let streams = word == "stream";
        let kind = self.data_type((!streams).then_some(word), 0)?;
        self.require(b')')?;
        Ok((kind, streams))
    }

    fn reserved(&mut self) -> Result<Vec<Reserved>> {
        let mut values = Vec::new();
        loop {
            values.push(match self.peek()? {
                b'"' | b'\'' => Reserved::Name(self.quoted()?),
                _ => self.range(b",;")?,
            });
            match self.peek()? {
                b';' => {
                    self.at += 1;
                    self.line_end()?;
                    return Ok(values);
                }
                b',' => self.at += 1,
                _ => return self.expected("',' or ';'"),
            }
        }
    }

    /// A number, or a range unless one of `ends` follows.
    fn range(&mut self, ends: &[u8]) -> Result<Reserved> {
        let first = self.number()?;
        if ends.contains(&self.peek()?) {
            return Ok(Reserved::Number(first));
        }
        let start = self.at;
        if self.word()? != "to" {
            return self.fail_at(start..self.at, "a ',', a ';' or \"to\" is expected behind a number");
        }
        let start = self.at;
        let last = match self.word()? {
            "max" => MAX_NUMBER,
            word => match word.parse() {
                Ok(last) => last,
                Err(_) => {
                    return self.fail_at(start..self.at, format!("found {word:?} where a whole number or \"max\" is expected"));
                }
            },
        };
        Ok(Reserved::Range(first, last))
    }

    fn extensions(&mut self) -> Result<Extensions> {
        let mut extensions = Extensions { values: Vec::new(), options: Vec::new() };
        loop {
            extensions.values.push(self.range(b",;[")?);
            match self.peek()? {
                b'[' => {
                    extensions.options = self.options()?;
                    self.require(b';')?;
                    return Ok(extensions);
                }
                b';' => {
                    self.at += 1;
                    return Ok(extensions);
                }
                b',' => self.at += 1,
                _ => return self.expected("',' or ';'"),
            }
        }
    }

    // Options.

    fn option_line(&mut self) -> Result<Choice> {
        let option = self.option(b'=', 0)?;
        self.require(b';')?;
        Ok(option)
    }

    /// Options in brackets, if there are any.
    fn options(&mut self) -> Result<Vec<Choice>> {
        let mut options = Vec::new();
        if !self.take_if(b'[')? {
            return Ok(options);
        }
        loop {
            options.push(self.option(b'=', 0)?);
            if self.take_if(b']')? {
                return Ok(options);
            }
            self.require(b',')?;
        }
    }

    fn option(&mut self, separator: u8, depth: usize) -> Result<Choice> {
        self.not_too_deep(depth)?;
        let (word, wrap) = self.name()?;
        let name = if wrap == Some('[') { format!("[{word}]") } else { word.to_owned() };
        let mut inner: Vec<(String, bool)> = Vec::new();
        while self.take_if(b'.')? {
            match self.name()? {
                (word, Some('(')) => inner.push((word.to_owned(), true)),
                (word, Some(_)) => inner.push((format!("[{word}]"), false)),
                (word, None) => inner.extend(word.split('.').map(|part| (part.to_owned(), false))),
            }
            if inner.len() > MAX_NESTING {
                return self.fail(format!("an option of more than {MAX_NESTING} parts"));
            }
        }
        if !(separator == b':' && self.peek()? == b'{') {
            self.require(separator)?;
        }
        let mut value = self.value(depth)?;
        for (name, custom) in inner.into_iter().rev() {
            value = Value::Inner(Box::new(Choice { name, custom, value }));
        }
        Ok(Choice { name, custom: wrap == Some('('), value })
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        self.not_too_deep(depth)?;
        Ok(match self.peek()? {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            b'"' | b'\'' => Value::Text(self.quoted()?),
            b'-' | b'0'..=b'9' => Value::Number(self.word()?.to_owned()),
            _ => Value::Word(self.word()?.to_owned()),
        })
    }

    fn map(&mut self, depth: usize) -> Result<Value> {
        self.require(b'{')?;
        let mut map: Vec<(String, Value)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while !self.take_if(b'}')? {
            let Choice { name, value, .. } = self.option(b':', depth + 1)?;
            let place = *places.entry(name.clone()).or_insert(map.len());
            match (value, map.get_mut(place)) {
                (Value::Inner(inner), Some((_, Value::Map(known)))) => put(known, inner.name, bare(inner.value)),
                (Value::Inner(inner), known) => {
                    let value = Value::Map(vec![(inner.name, bare(inner.value))]);
                    match known {
                        Some((_, known)) => *known = value,
                        None => map.push((name, value)),
                    }
                }
                (value, None) => map.push((name, value)),
                (value, Some((_, known))) => {
                    let mut list = match std::mem::replace(known, Value::List(Vec::new())) {
                        Value::List(list) => list,
                        one => vec![one],
                    };
                    match value {
                        Value::List(more) => list.extend(more),
                        one => list.push(one),
                    }
                    *known = Value::List(list);
                }
            }
            if !self.take_if(b',')? {
                self.take_if(b';')?;
            }
        }
        Ok(Value::Map(map))
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        self.require(b'[')?;
        let mut list = Vec::new();
        while !self.take_if(b']')? {
            list.push(self.value(depth + 1)?);
            if !self.take_if(b',')? && self.peek()? != b']' {
                return self.expected("',' or ']'");
            }
        }
        Ok(Value::List(list))
    }
}

enum Member {
    Field(Field),
    Group(Group),
}

/// Takes an option out; of several with the name, the last one counts.
fn strip(options: &mut Vec<Choice>, name: &str) -> Option<String> {
    let mut found = None;
    options.retain(|option| {
        if option.name != name {
            return true;
        }
        found = match &option.value {
            Value::Text(text) | Value::Word(text) | Value::Number(text) => Some(text.clone()),
            other => Some(format!("{other:?}")),
        };
        false
    });
    found
}

/// Behind a dotted name within a map the registry forgets what kind of word a value was.
fn bare(value: Value) -> Value {
    match value {
        Value::Word(word) | Value::Number(word) => Value::Text(word),
        other => other,
    }
}

fn put(map: &mut Vec<(String, Value)>, name: String, value: Value) {
    match map.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => map.push((name, value)),
    }
}

/// An import's path with single slashes, and no steps that stay where they are.
pub(super) fn unix_path(path: &str) -> String {
    let path = path.replace('\\', "/");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    if parts.is_empty() && root.is_empty() { ".".into() } else { format!("{root}{}", parts.join("/")) }
}
