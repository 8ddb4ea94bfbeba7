//! YAML text to a tree of nodes that know where they stand; the only file that knows a YAML crate.
//!
//! The parser's events carry the places, and the tree is built from them within bounds: a text, its nesting and what
//! its aliases stand for are all limited *before* anything is copied. Nothing is converted here: a scalar keeps its text
//! until someone asks for a declared type, and [`resolve`] refuses what different YAML readers would read differently.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::Serialize;

/// The longest text of a manifest file, in bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;
/// The deepest nesting of lists and maps.
const MAX_DEPTH: usize = 64;
/// The most nodes of a file, those that its aliases stand for included.
const MAX_NODES: usize = 100_000;
/// The longest all scalars of a file may be together, those that its aliases stand for included, in bytes.
const MAX_SCALARS: usize = 4 * 1024 * 1024;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// A scalar's bytes without its quotes' escapes undone; of a list or map, its first line at most.
    pub bytes: Range<usize>,
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One scalar, its text as YAML means it (quotes and escapes undone, block scalars unindented).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    pub style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: numbers, booleans and null are written so.
    Plain,
    /// In quotes, or tagged `!!str`: always text.
    Quoted,
    /// A block scalar after `|`: its lines stand in the file as they are, but for their indentation.
    Literal,
    /// A block scalar after `>`.
    Folded,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_bytes: Range<usize>,
    pub node: Node,
}

/// Why a text is no tree, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
    pub help: &'static str,
    pub bytes: Range<usize>,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// It is not YAML.
    Syntax,
    /// It is YAML that manifests do without: tags, keys that are no text.
    Unsupported,
    /// One map names a key twice.
    Twice,
    /// It is larger than the bounds.
    TooLarge,
}

/// The documents of a text, in order; those that hold nothing are left out. What was read before a refusal is kept, so
/// that it can be checked too.
pub fn read(text: &str) -> (Vec<Node>, Vec<Refusal>) {
    if text.len() as u64 > MAX_BYTES {
        return (Vec::new(), vec![too_large("the file is larger than 1 MiB".into(), 0..0)]);
    }
    if let Some(at) = text.bytes().position(|b| b == 0) {
        let help = "a manifest is text; remove the NUL character";
        return (
            Vec::new(),
            vec![Refusal { kind: RefusalKind::Syntax, message: "a NUL character".into(), help, bytes: at..at + 1 }],
        );
    }
    let mut builder = Builder::new(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let done = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(Refusal {
                kind: RefusalKind::Syntax,
                message: format!("not YAML: {}", error.info()),
                help: "mind the indentation, and quote texts that hold `: `, ` #`, or begin with one of `{ [ & * ! | > @ %`",
                bytes: builder.point(error.marker().index()),
            }),
        };
        if let Err(refusal) = done {
            builder.refusals.push(refusal);
            break;
        }
    }
    (builder.documents, builder.refusals)
}

fn too_large(message: String, bytes: Range<usize>) -> Refusal {
    let help = "a manifest file is at most 1 MiB, 64 levels deep, and 100,000 values with its aliases written out; split it";
    Refusal { kind: RefusalKind::TooLarge, message, help, bytes }
}

/// How much a node weighs with its aliases written out.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    scalars: usize,
}

/// A list or map that is not complete yet.
struct Open {
    start: usize,
    anchor: usize,
    before: Weight,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, keys: BTreeSet<String>, key: Option<(String, Range<usize>)> },
}

struct Builder<'t> {
    text: &'t str,
    /// The byte of each character, and the text's length at last; `None`: every character is one byte.
    bytes: Option<Vec<usize>>,
    open: Vec<Open>,
    /// Complete anchored nodes by the parser's number for them.
    anchors: BTreeMap<usize, (Node, Weight)>,
    weight: Weight,
    documents: Vec<Node>,
    refusals: Vec<Refusal>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect());
        let (open, documents, refusals) = (Vec::new(), Vec::new(), Vec::new());
        Builder { text, bytes, open, anchors: BTreeMap::new(), weight: Weight::default(), documents, refusals }
    }

    /// The byte where character `index` starts.
    fn byte(&self, index: usize) -> usize {
        match &self.bytes {
            Some(bytes) => bytes.get(index).copied().unwrap_or(self.text.len()),
            None => index.min(self.text.len()),
        }
    }

    /// One character at `index`, or none at the text's end.
    fn point(&self, index: usize) -> Range<usize> {
        self.byte(index)..self.byte(index + 1)
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()).max(self.byte(span.start.index())));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                if tag.is_some() && !text_tag {
                    return Err(unsupported_tag(start..end));
                }
                let style = match style {
                    ScalarStyle::Plain if text_tag => Style::Quoted,
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                // An absent value stands where the next token begins; it is nothing there.
                let end = if text.is_empty() && style == Style::Plain { start } else { end };
                let before = self.weight;
                self.weigh(1, text.len(), start..end)?;
                self.complete(
                    Node { bytes: start..end, value: Value::Scalar(Scalar { text: text.into_owned(), style }) },
                    anchor,
                    before,
                )
            }
            Event::SequenceStart(anchor, tag) => self.begin(start, end, anchor, tag.is_some(), Content::List(Vec::new())),
            Event::MappingStart(anchor, tag) => self.begin(
                start,
                end,
                anchor,
                tag.is_some(),
                Content::Map { entries: Vec::new(), keys: BTreeSet::new(), key: None },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(end),
            Event::Alias(anchor) => self.alias(anchor, start..end),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd | Event::Nothing | Event::StreamStart | Event::StreamEnd => Ok(()),
        }
    }

    fn weigh(&mut self, nodes: usize, scalars: usize, bytes: Range<usize>) -> Result<(), Refusal> {
        self.weight.nodes += nodes;
        self.weight.scalars += scalars;
        if self.weight.nodes > MAX_NODES || self.weight.scalars > MAX_SCALARS {
            return Err(too_large("too many values, with aliases written out".into(), bytes));
        }
        Ok(())
    }

    fn begin(&mut self, start: usize, end: usize, anchor: usize, tagged: bool, content: Content) -> Result<(), Refusal> {
        if tagged {
            return Err(unsupported_tag(start..end));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_large(format!("nested more than {MAX_DEPTH} levels deep"), start..end));
        }
        let before = self.weight;
        self.weigh(1, 0, start..end)?;
        self.open.push(Open { start, anchor, before, content });
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<(), Refusal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        // A block's end is found only at the next token, lines below: show its first line.
        let line_end = self.text[open.start..end.max(open.start)].find('\n').map_or(end, |at| open.start + at);
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.complete(Node { bytes: open.start..line_end.max(open.start), value }, open.anchor, open.before)
    }

    fn alias(&mut self, anchor: usize, bytes: Range<usize>) -> Result<(), Refusal> {
        let Some((_, weight)) = self.anchors.get(&anchor) else {
            let message = "an alias that stands inside of what it names".into();
            return Err(Refusal { kind: RefusalKind::Syntax, message, help: "write the value out", bytes });
        };
        let (before, weight) = (self.weight, *weight);
        self.weigh(weight.nodes, weight.scalars, bytes)?;
        let Some((node, _)) = self.anchors.get(&anchor) else { return Ok(()) };
        let node = node.clone();
        if self.open.len() + depth(&node) > MAX_DEPTH {
            return Err(too_large(format!("nested more than {MAX_DEPTH} levels deep"), node.bytes));
        }
        self.complete(node, 0, before)
    }

    /// Puts a complete node where it belongs: into the open list or map, or among the documents.
    fn complete(&mut self, node: Node, anchor: usize, before: Weight) -> Result<(), Refusal> {
        if anchor != 0 {
            let weight = Weight { nodes: self.weight.nodes - before.nodes, scalars: self.weight.scalars - before.scalars };
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.open.last_mut() else {
            if !node.is_nothing() {
                self.documents.push(node);
            }
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { key: key @ None, .. } => *key = Some(key_text(node, self.text)?),
            Content::Map { entries, keys, key } => {
                if let Some((key, key_bytes)) = key.take() {
                    if !keys.insert(key.clone()) {
                        let message = format!("`{key}` is given twice");
                        let help = "YAML readers would keep one of the two and drop the other; remove one";
                        self.refusals.push(Refusal { kind: RefusalKind::Twice, message, help, bytes: key_bytes });
                    } else {
                        entries.push(Entry { key, key_bytes, node });
                    }
                }
            }
        }
        Ok(())
    }
}

fn unsupported_tag(bytes: Range<usize>) -> Refusal {
    Refusal {
        kind: RefusalKind::Unsupported,
        message: "a YAML tag".into(),
        help: "manifests need no tags: remove it; quotes make a text",
        bytes,
    }
}

/// A key's text; lists and maps are no keys.
fn key_text(node: Node, text: &str) -> Result<(String, Range<usize>), Refusal> {
    match node.value {
        Value::Scalar(scalar) => Ok((scalar.text, node.bytes)),
        _ => {
            let templated = text[..node.bytes.start].ends_with('{') || text[node.bytes.start..].starts_with("{{");
            Err(Refusal {
                kind: RefusalKind::Unsupported,
                message: "a list or map in the place of a key".into(),
                help: if templated { "quote a template: \"{{ name }}\"" } else { "keys are texts" },
                bytes: node.bytes,
            })
        }
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.node)).max().unwrap_or(0),
    }
}

impl Node {
    /// Whether it is a plain scalar that means null.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { text, style: Style::Plain }) if resolve(text) == Resolved::Null)
    }

    /// A map's value under `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A map's entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// A scalar's text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }
}

/// What a plain scalar means by YAML 1.2's core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// None of the others.
    Text,
    /// A number that YAML readers disagree on or that would lose digits: why.
    Doubtful(&'static str),
}

/// Resolves a plain scalar, refusing numbers that would change silently.
pub fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Doubtful("is not a number"),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Resolved::Doubtful("is not a finite number");
    }
    let all = |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix).filter(|digits| all(digits, radix)) {
            return i64::from_str_radix(digits, radix).map_or(Resolved::Doubtful("is too large for 64 bits"), Resolved::Int);
        }
    }
    if all(unsigned, 10) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Resolved::Doubtful("begins with 0, which some YAML readers drop and others take for octal");
        }
        return text
            .strip_prefix('+')
            .unwrap_or(text)
            .parse()
            .map_or(Resolved::Doubtful("is too large for 64 bits"), Resolved::Int);
    }
    if is_float(unsigned) {
        return match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Resolved::Float(number),
            _ => Resolved::Doubtful("is too large for a number"),
        };
    }
    Resolved::Text
}

/// `1.5`, `.5`, `1.`, `1e3` and the like, without a sign.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

/// A value as YAML text, for people and for manifests that are written by the program. Fails for what YAML has no form for.
pub fn write(value: &impl Serialize) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree as JSON, plain scalars resolved.
    fn json(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Scalar(s) if s.style == Style::Plain => match resolve(&s.text) {
                Resolved::Null => serde_json::Value::Null,
                Resolved::Bool(b) => b.into(),
                Resolved::Int(i) => i.into(),
                Resolved::Float(f) => f.into(),
                Resolved::Text => s.text.clone().into(),
                Resolved::Doubtful(why) => panic!("{} {why}", s.text),
            },
            Value::Scalar(s) => s.text.clone().into(),
            Value::List(items) => items.iter().map(json).collect(),
            Value::Map(entries) => serde_json::Value::Object(entries.iter().map(|e| (e.key.clone(), json(&e.node))).collect()),
        }
    }

    fn refusal(text: &str) -> String {
        let (_, refusals) = read(text);
        refusals.iter().map(|r| format!("{:?} {:?} {}\n", r.kind, r.bytes, r.message)).collect()
    }

    #[test]
    fn places_are_bytes_of_what_was_written() {
        let text = "é: |\n  SELECT é\n    x\nb: \"q\\n\"\nc: [1, {d: e}]\n";
        let (documents, refusals) = read(text);
        assert_eq!(refusals, vec![]);
        let map = &documents[0];
        assert_eq!(&text[map.entry("é").unwrap().key_bytes.clone()], "é");
        assert_eq!(&text[map.get("é").unwrap().bytes.clone()], "SELECT é\n    x\n");
        assert_eq!(map.get("é").unwrap().text(), Some("SELECT é\n  x\n"));
        assert_eq!(&text[map.get("b").unwrap().bytes.clone()], "\"q\\n\"");
        assert_eq!(&text[map.get("c").unwrap().bytes.clone()], "[1, {d: e}]");
    }

    #[test]
    fn several_documents_and_empty_ones() {
        let (documents, refusals) = read("# c\n---\na: 1\n---\n# nothing\n---\nb: 2\n");
        assert_eq!((documents.len(), refusals), (2, vec![]));
    }

    #[test]
    fn numbers_never_change_silently() {
        assert_eq!(resolve("NO"), Resolved::Text);
        assert_eq!(resolve("12"), Resolved::Int(12));
        assert_eq!(resolve("-1"), Resolved::Int(-1));
        assert_eq!(resolve("0x1F"), Resolved::Int(31));
        assert_eq!(resolve("1e3"), Resolved::Float(1000.0));
        assert_eq!(resolve("1.0.0"), Resolved::Text);
        assert_eq!(resolve("12:30:00"), Resolved::Text);
        assert_eq!(resolve("."), Resolved::Text);
        assert_eq!(resolve("e5"), Resolved::Text);
        assert!(matches!(resolve("012"), Resolved::Doubtful(_)));
        assert!(matches!(resolve("12345678901234567890123"), Resolved::Doubtful(_)));
        assert!(matches!(resolve("1e999"), Resolved::Doubtful(_)));
    }

    #[test]
    fn refusals_say_where() {
        insta::assert_snapshot!(refusal("a: [\n"), @"Syntax 5..5 not YAML: while parsing a node, did not find expected node content");
        insta::assert_snapshot!(refusal("a: b\n c: d\n"), @"Syntax 7..8 not YAML: mapping values are not allowed in this context");
        insta::assert_snapshot!(refusal("a: 1\na: 2\n"), @"Twice 5..6 `a` is given twice");
        insta::assert_snapshot!(refusal("a: !include b\n"), @"Unsupported 3..13 a YAML tag");
        insta::assert_snapshot!(refusal("a: {{ b }}\n"), @"Unsupported 4..9 a list or map in the place of a key");
        insta::assert_snapshot!(refusal("a: &x [*x]\n"), @"Syntax 7..9 an alias that stands inside of what it names");
        insta::assert_snapshot!(refusal("a: b\0c\n"), @"Syntax 4..5 a NUL character");
        insta::assert_snapshot!(refusal(&"- ".repeat(100)), @"TooLarge 128..128 nested more than 64 levels deep");
    }

    #[test]
    fn an_alias_bomb_is_counted_not_expanded() {
        let bomb = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(20_000), "*a,".repeat(2_000));
        insta::assert_snapshot!(refusal(&bomb), @"TooLarge 40022..40024 too many values, with aliases written out");
        let lol = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert!(refusal(lol).starts_with("TooLarge"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(1_000));
        assert!(refusal(&long).starts_with("TooLarge"));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[ -~äé\\n]{0,12}".prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
                prop::collection::btree_map("[a-z0-9: ]{1,6}", inner, 0..4)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            let text = write(&value).unwrap();
            let (documents, refusals) = read(&text);
            prop_assert_eq!(refusals, vec![]);
            prop_assert_eq!(documents.first().map_or(serde_json::Value::Null, json), value);
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,200}") {
            read(&text);
        }

        #[test]
        fn no_yaml_like_text_panics(text in "[-:\\[\\]{}&*!|>'\"#%@ \\nab1é,?\\t]{0,80}") {
            read(&text);
        }
    }
}
