//! Writing into a manifest: the rows of one section of a test are replaced or added, all else stays byte for byte.
//!
//! Rows that stay keep their own text with its comments. What is written is YAML's flow form, one row an item.

use std::ops::Range;

use serde_json::Value as Json;

use super::document::Kind;
use super::template::is_template;
use super::yaml::{self, Entry, Node, Resolved, Style, Value, resolve};

/// How wide written lines may become.
const WIDTH: usize = 110;

/// A row of a section as it shall stand.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// As the row at this place stands now.
    Keep(usize),
    New(&'a Json),
}

/// Writes the rows of a section (`expect`) of the test at `index` of a product. The text comes back as it was but for that,
/// or a reason why it can't be written there.
pub fn set_rows(text: &str, product: &str, index: usize, field: &str, rows: &[Row<'_>]) -> Result<String, String> {
    let (documents, refusals) = yaml::read(text);
    if let Some(refusal) = refusals.first() {
        return Err(refusal.message.clone());
    }
    let is_product = |document: &&Node| {
        let name = document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
        document.get("kind").and_then(Node::text) == Some(Kind::DataProduct.name()) && name == Some(product)
    };
    let tests = documents.iter().find(is_product).and_then(|document| document.get("spec")?.get("tests"));
    let Some(Node { value: Value::List(tests), .. }) = tests else { return Err(format!("{product} has no tests there")) };
    let Some(Node { value: Value::Map(entries), bytes }) = tests.get(index) else { return Err("there is no such test".into()) };
    let writer = Writer { text, flow: text[bytes.start..].starts_with('{'), newline: newline(text) };
    match entries.iter().find(|entry| entry.key == field) {
        Some(entry) => writer.replace(entry, rows),
        None => writer.add(entries, field, rows),
    }
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

struct Writer<'t> {
    text: &'t str,
    /// Whether the test is written in braces.
    flow: bool,
    newline: &'static str,
}

impl Writer<'_> {
    fn replace(&self, entry: &Entry, rows: &[Row<'_>]) -> Result<String, String> {
        let node = &entry.node;
        let colon = self.text[entry.key_bytes.end..].find(':').map(|at| entry.key_bytes.end + at + 1);
        let colon = colon.ok_or("the field has no colon")?;
        let empty = node.bytes.is_empty();
        let start = if empty { colon } else { node.bytes.start };
        let before = self.text.get(colon..start).ok_or("it is an alias of a value that stands elsewhere")?;
        let marked = !empty && self.text[start..].starts_with(['&', '!']);
        if marked || before.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            return Err("its value has an anchor or a tag".into());
        }
        let items: &[Node] = if let Value::List(items) = &node.value { items } else { &[] };
        let in_block = !empty && self.text[start..].starts_with('-');
        let end = match (empty, in_block) {
            (true, _) => colon,
            // What stands behind the last row belongs to it.
            (_, true) => self.line_end(self.end(node)?),
            (_, false) => self.end(node)?,
        };
        let indent = if in_block { self.column(start) } else { self.indent(entry.key_bytes.start) };
        let written = if in_block && !rows.is_empty() {
            // The first row stands where the list began.
            let rows = self.block(rows, &self.chunks(items, start)?, indent);
            rows.strip_prefix(&" ".repeat(indent)).map(str::to_owned).unwrap_or(rows)
        } else if self.flow || rows.is_empty() {
            let kept = items.iter().map(|item| Ok(item.bytes.start..self.end(item)?)).collect::<Result<Vec<_>, String>>()?;
            self.flow_list(rows, &kept, indent)
        } else {
            let kept = items.iter().map(|item| Ok(item.bytes.start..self.end(item)?)).collect::<Result<Vec<_>, String>>()?;
            let chunks: Vec<String> = kept.into_iter().map(|range| self.item(&self.text[range], indent)).collect();
            format!("{}{}", self.newline, self.block(rows, &chunks, indent))
        };
        // A list in lines takes its place behind the colon, without what was between.
        let from = if in_block && !rows.is_empty() { start } else { colon };
        let written = if written.starts_with(['[', '{']) { format!(" {written}") } else { written };
        Ok(format!("{}{written}{}", &self.text[..from], &self.text[end..]))
    }

    fn add(&self, entries: &[Entry], field: &str, rows: &[Row<'_>]) -> Result<String, String> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Err("the test is empty".into()) };
        let end = self.end_of_entry(last)?;
        let indent = self.column(first.key_bytes.start);
        if self.flow {
            let written = self.flow_list(rows, &[], self.indent(end));
            return Ok(format!("{}, {field}: {written}{}", &self.text[..end], &self.text[end..]));
        }
        let end = self.text[end..].find('\n').map_or(self.text.len(), |at| end + at);
        let head = self.text[..end].trim_end_matches('\r');
        let (nl, spaces) = (self.newline, " ".repeat(indent));
        let written = if rows.is_empty() {
            format!("{nl}{spaces}{field}: []")
        } else {
            format!("{nl}{spaces}{field}:{nl}{}", self.block(rows, &[], indent + 2))
        };
        Ok(format!("{head}{written}{}", &self.text[head.len()..]))
    }

    /// The items of a list in lines, each with the comments before it and behind it, whole lines without their last break.
    fn chunks(&self, items: &[Node], start: usize) -> Result<Vec<String>, String> {
        let mut from = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let mut chunks = Vec::new();
        for item in items {
            let line_end = self.line_end(self.end(item)?);
            chunks.push(self.text[from..line_end].to_owned());
            from = self.text[line_end..].find('\n').map_or(self.text.len(), |at| line_end + at + 1);
        }
        // Its comments stand before the list, which begins at its first row.
        if let Some(first) = chunks.first_mut() {
            let spaces = " ".repeat(self.column(start));
            *first = format!("{spaces}{}", first.trim_start());
        }
        Ok(chunks)
    }

    fn block(&self, rows: &[Row<'_>], kept: &[String], indent: usize) -> String {
        let rows = rows.iter().map(|row| match row {
            Row::Keep(at) => kept.get(*at).cloned().unwrap_or_default(),
            Row::New(value) => self.item(&flow(value, indent + 2, self.newline), indent),
        });
        rows.collect::<Vec<_>>().join(self.newline)
    }

    fn item(&self, text: &str, indent: usize) -> String {
        format!("{}- {text}", " ".repeat(indent))
    }

    fn flow_list(&self, rows: &[Row<'_>], kept: &[Range<usize>], indent: usize) -> String {
        let rows = rows.iter().map(|row| match row {
            Row::Keep(at) => kept.get(*at).and_then(|range| self.text.get(range.clone())).unwrap_or_default().to_owned(),
            Row::New(value) => flow(value, indent, self.newline),
        });
        format!("[{}]", rows.collect::<Vec<_>>().join(", "))
    }

    /// Where the line of a place ends, its break left out.
    fn line_end(&self, at: usize) -> usize {
        at + self.text[at..].lines().next().map_or(0, str::len)
    }

    /// Where rows of a section begin: further in than its field or, in braces, than its line.
    fn indent(&self, at: usize) -> usize {
        let line = self.text[..at].rsplit('\n').next().unwrap_or_default();
        let spaces = line.chars().take_while(|c| *c == ' ').count();
        if self.flow { spaces + 4 } else { self.column(at) + 2 }
    }

    /// How many characters stand before a place in its line.
    fn column(&self, at: usize) -> usize {
        self.text[..at].rsplit('\n').next().map_or(0, |line| line.chars().count())
    }

    fn end_of_entry(&self, entry: &Entry) -> Result<usize, String> {
        if entry.node.bytes.is_empty() {
            return Ok(self.text[entry.key_bytes.end..].find(':').map_or(entry.key_bytes.end, |at| entry.key_bytes.end + at + 1));
        }
        if entry.node.bytes.start < entry.key_bytes.end {
            return Err("an alias stands at its end".into());
        }
        self.end(&entry.node)
    }

    /// Where a node ends: behind its last value, or its own bracket.
    fn end(&self, node: &Node) -> Result<usize, String> {
        let start = node.bytes.start;
        let last = match &node.value {
            Value::Scalar(scalar) => {
                let end = node.bytes.end;
                let block = matches!(scalar.style, Style::Literal | Style::Folded);
                return Ok(if block { start + self.text[start..end].trim_end().len() } else { end });
            }
            Value::List(items) => {
                items.last().map(|item| if item.bytes.start < start { Err(ALIAS.into()) } else { self.end(item) })
            }
            Value::Map(entries) => entries.last().map(|entry| self.end_of_entry(entry)),
        };
        let last = last.transpose()?;
        let Some(close) = self.text[start..].chars().next().and_then(|open| match open {
            '[' => Some(']'),
            '{' => Some('}'),
            _ => None,
        }) else {
            return last.ok_or_else(|| "a list without items".to_owned());
        };
        let mut at = last.unwrap_or(start + 1);
        loop {
            let rest = &self.text[at..];
            match rest.chars().next() {
                Some(c) if c == close => return Ok(at + 1),
                Some('#') => at += rest.find('\n').ok_or("a bracket that is not closed")?,
                Some(c) if c.is_whitespace() || c == ',' => at += c.len_utf8(),
                // An alias or a tag at the end: what it is named by.
                _ => return Err(ALIAS.into()),
            }
        }
    }
}

const ALIAS: &str = "an alias stands in it";

/// A value in YAML's flow form, broken into lines that are indented a little further.
fn flow(value: &Json, indent: usize, newline: &str) -> String {
    let mut pieces = vec![String::new()];
    write(value, &mut pieces);
    let (mut out, mut width) = (String::new(), indent);
    for (at, piece) in pieces.iter().enumerate() {
        let length = piece.chars().count();
        if at > 0 && width + 1 + length > WIDTH {
            out.push_str(newline);
            out.push_str(&" ".repeat(indent + 2));
            width = indent + 2;
        } else if at > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(piece);
        width += length;
    }
    out
}

/// Appends a value to the last piece; lines may be broken between pieces.
fn write(value: &Json, pieces: &mut Vec<String>) {
    let put = |pieces: &mut Vec<String>, text: &str| {
        if let Some(last) = pieces.last_mut() {
            last.push_str(text);
        }
    };
    match value {
        Json::Array(items) => {
            put(pieces, "[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    put(pieces, ",");
                    pieces.push(String::new());
                }
                write(item, pieces);
            }
            put(pieces, "]");
        }
        Json::Object(members) => {
            put(pieces, "{");
            for (at, (name, item)) in members.iter().enumerate() {
                if at > 0 {
                    put(pieces, ",");
                    pieces.push(String::new());
                }
                put(pieces, &format!("{}: ", scalar(name)));
                write(item, pieces);
            }
            put(pieces, "}");
        }
        Json::String(text) => put(pieces, &scalar(text)),
        other => put(pieces, &other.to_string()),
    }
}

/// A text as it is read back: plain where no reader of YAML takes it for anything else.
fn scalar(text: &str) -> String {
    let others = ["y", "n", "yes", "no", "on", "off"];
    let time = text.len() >= 8 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-' | b'T' | b'Z'));
    let plain = text.starts_with(|c: char| c.is_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '/' | '+' | '(' | ')' | '\''))
        && !others.contains(&text.to_lowercase().as_str());
    let is_text = matches!(resolve(text), Resolved::Text);
    if is_text && (plain || (time && text.contains(':'))) {
        return text.to_owned();
    }
    let quoted = Json::from(text).to_string();
    // What looks like a template is written as a template that gives it.
    if is_template(text) { quoted.replace("{{", "{{ '{{' }}").replace("{%", "{{ '{%' }}") } else { quoted }
}

#[cfg(test)]
mod tests {
    use super::super::template::Templates;
    use super::*;
    use serde_json::json;

    /// The test of a product, with the rows of `expect` set.
    fn set(test: &str, rows: &[Row<'_>]) -> String {
        let head = "kind: DataProduct\nmetadata: {name: a}\nspec:\n  tests:\n";
        let text = format!("{head}{test}");
        match set_rows(&text, "a", 0, "expect", rows) {
            Ok(text) => {
                let (documents, refusals) = yaml::read(&text);
                assert_eq!((documents.len(), refusals), (1, vec![]), "{text}");
                text.strip_prefix(head).unwrap().to_owned()
            }
            Err(reason) => format!("{reason}\n"),
        }
    }

    #[test]
    fn rows_take_their_place_and_the_rest_stays() {
        let row = json!({"value": {"id": 1, "name": "no", "at": "00:00:10"}});
        let new = [Row::New(&row)];
        let both = [Row::Keep(1), Row::New(&row), Row::Keep(0)];
        let block = "  - name: x\n    expect:   # exact\n      # one\n      - {a: 1}   # first\n      # two\n      - a: 2\n        b: [1,\n          2]   # last\n    # end\n    given: {}\n";
        let cases = [
            set(block, &both),
            set(block, &new),
            set(block, &[]),
            set("  - name: x\n    expect: []   # none\n    given: {}\n", &new),
            set("  - name: x\n    expect: [{a: 1}, {b: 2}]\n", &both),
            set("  - name: x\n    expect:\n    given: {}\n", &new),
            set("  - name: x\n    given: {}   # nothing\n  - name: y\n", &new),
            set("  - {name: x, expect: [{a: 1}, {a: 2,\n     }], given: {}}\n", &both),
            set("  - {name: x, given: {}}\n", &new),
            set("  - name: x\r\n    expect: []\r\n    given: {}\r\n", &new),
            set("  - name: x\n    given: &g [1]\n    expect: *g\n", &new),
            set("  - name: x\n    expect: &g []\n", &new),
        ];
        insta::assert_snapshot!(cases.join("--\n").replace('\r', "\\r"), @r#"
  - name: x
    expect:   # exact
      # one
      # two
      - a: 2
        b: [1,
          2]   # last
      - {value: {id: 1, name: "no", at: 00:00:10}}
      - {a: 1}   # first
    # end
    given: {}
--
  - name: x
    expect:   # exact
      # one
      - {value: {id: 1, name: "no", at: 00:00:10}}
    # end
    given: {}
--
  - name: x
    expect: []
    # end
    given: {}
--
  - name: x
    expect:
      - {value: {id: 1, name: "no", at: 00:00:10}}   # none
    given: {}
--
  - name: x
    expect:
      - {b: 2}
      - {value: {id: 1, name: "no", at: 00:00:10}}
      - {a: 1}
--
  - name: x
    expect:
      - {value: {id: 1, name: "no", at: 00:00:10}}
    given: {}
--
  - name: x
    given: {}   # nothing
    expect:
      - {value: {id: 1, name: "no", at: 00:00:10}}
  - name: y
--
  - {name: x, expect: [{a: 2,
     }, {value: {id: 1, name: "no", at: 00:00:10}}, {a: 1}], given: {}}
--
  - {name: x, given: {}, expect: [{value: {id: 1, name: "no", at: 00:00:10}}]}
--
  - name: x\r
    expect:\r
      - {value: {id: 1, name: "no", at: 00:00:10}}\r
    given: {}\r
--
it is an alias of a value that stands elsewhere
--
its value has an anchor or a tag
"#);
    }

    #[test]
    fn texts_are_read_back_as_they_were() {
        let words = "1 1.5 true NO null ~ #a {a} [ \u{e9} 2023-07-17 00:00:10 12:30:45.5 \" ' a'b &a *a !a %a @a 0x1f 1e5 .5 +1 = << {{x}} {%";
        let others = ["", " a", "a ", "a: b", "a #b", "- a", "a\nb", "\t", "{{ x }}", "a {% b %}", "\u{7}"];
        let templates = Templates::new("local", &std::collections::BTreeMap::new());
        for text in words.split(' ').chain(others) {
            let written = flow(&json!({"v": text}), 0, "\n");
            let (documents, refusals) = yaml::read(&written);
            assert_eq!(refusals, vec![], "{written}");
            let Some(Value::Scalar(scalar)) = documents[0].get("v").map(|node| &node.value) else { unreachable!("{written}") };
            assert!(scalar.style == Style::Quoted || resolve(&scalar.text) == Resolved::Text, "{written}");
            let read = if is_template(&scalar.text) { templates.render(&scalar.text).unwrap() } else { scalar.text.clone() };
            assert_eq!(read, text, "{written}");
        }
    }
}
