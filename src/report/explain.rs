//! A dataflow as text for a terminal, as Mermaid, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::json::print;
use super::paint::{Paint, line};
use crate::plan::step::SCHEMA_VERSION;

/// The widest line of text.
const WIDTH: usize = 80;

/// A product's dataflow, ready to be shown.
#[derive(Debug, Clone)]
pub struct Dataflow {
    pub product: String,
    /// `stream` or `table`.
    pub shape: &'static str,
    pub topic: String,
    /// The columns of the record key.
    pub key: Vec<String>,
    /// How far the watermark lies behind the inputs' latest event times, in milliseconds.
    pub disorder_ms: i64,
    pub inputs: Vec<Input>,
    pub root: Operator,
}

/// One occurrence of a product in FROM.
#[derive(Debug, Clone)]
pub struct Input {
    pub product: String,
    pub alias: String,
    pub shape: &'static str,
    pub key: Vec<String>,
    /// The column that is its event time.
    pub time: String,
    pub disorder_ms: i64,
    /// What is read of it after a restart.
    pub restart: String,
}

/// One operator.
#[derive(Debug, Clone)]
pub struct Operator {
    pub name: String,
    /// What its expressions are, by name.
    pub details: Vec<(String, String)>,
    /// What the changes on its output mean: `append`, `upsert by id`, `retract`.
    pub edge: String,
    /// For each input the columns by which its rows are brought together; `None`: they come as they are.
    pub rekeyed: Vec<Option<Vec<String>>>,
    /// How far its watermark lies behind that of the inputs.
    pub lag_ms: i64,
    pub row_bytes: usize,
    pub state: Option<State>,
    pub inputs: Vec<Operator>,
}

/// What an operator remembers.
#[derive(Debug, Clone)]
pub struct State {
    pub what: String,
    pub why: String,
    pub rebuilt: String,
    /// What one entry is, and its estimated bytes.
    pub entries: Vec<(String, usize)>,
}

impl State {
    fn size(&self) -> String {
        let entry = |(noun, bytes): &(String, usize)| format!("about {bytes} bytes a {noun}");
        self.entries.iter().map(entry).collect::<Vec<_>>().join(", ")
    }
}

/// The dataflow as a tree, the result at the top.
pub fn explain_text(flow: &Dataflow, color: bool) -> String {
    let paint = Paint(color);
    let mut out = String::new();
    let by = if flow.key.is_empty() { "without a key".to_owned() } else { format!("by {}", flow.key.join(", ")) };
    let _ = writeln!(out, "{}", paint.bold(&flow.product));
    wrap(&format!("a {}, written to topic {} {by}", flow.shape, flow.topic), "  ", "  ", &mut out);
    out.push('\n');
    branch(&flow.root, "", "", paint, &mut out);
    out.push_str("\nInputs\n");
    for input in &flow.inputs {
        let name =
            if input.product == input.alias { input.product.clone() } else { format!("{} AS {}", input.product, input.alias) };
        let key = if input.key.is_empty() { "no key".to_owned() } else { format!("key {}", input.key.join(", ")) };
        let text = format!(
            "{}, {key}, event time {}, {}; after a restart {}",
            input.shape,
            input.time,
            if input.disorder_ms == 0 {
                "in order".to_owned()
            } else {
                format!("up to {} out of order", span(input.disorder_ms))
            },
            input.restart
        );
        let _ = writeln!(out, "  {}", paint.bold(&name));
        wrap(&text, "    ", "    ", &mut out);
    }
    out.push_str("\nWatermark\n");
    let behind = if flow.disorder_ms == 0 { String::new() } else { format!(", less {}", span(flow.disorder_ms)) };
    let text = format!("the lowest of the inputs' latest event times, partitions that are idle left out{behind}");
    wrap(&text, "  ", "  ", &mut out);
    out
}

fn branch(operator: &Operator, lead: &str, below: &str, paint: Paint, out: &mut String) {
    let _ = writeln!(out, "{lead}{} {}", paint.bold(&operator.name), paint.dim(&format!("-> {}", operator.edge)));
    let bar = if operator.inputs.is_empty() { "   " } else { "│  " };
    for (name, text) in facts(operator) {
        let first = format!("{below}{bar}{name:<9} ");
        let rest = format!("{below}{bar}{}", " ".repeat(10));
        wrap(&text, &first, &rest, out);
    }
    for (at, input) in operator.inputs.iter().enumerate() {
        let last = at + 1 == operator.inputs.len();
        let (lead, next) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(input, &format!("{below}{lead}"), &format!("{below}{next}"), paint, out);
    }
}

/// All that is to be said of an operator, each with a name.
fn facts(operator: &Operator) -> Vec<(String, String)> {
    let mut facts = operator.details.clone();
    let sides = ["left", "right"];
    for (at, by) in operator.rekeyed.iter().enumerate() {
        let Some(by) = by else { continue };
        let by = if by.is_empty() { "nothing: all rows come together".to_owned() } else { format!("by {}", by.join(", ")) };
        let side = if operator.rekeyed.len() == 2 { format!(" ({})", sides[at.min(1)]) } else { String::new() };
        facts.push(("re-keyed".into(), format!("{by}{side}")));
    }
    if operator.lag_ms > 0 {
        facts.push(("lag".into(), format!("its watermark is {} behind the inputs'", span(operator.lag_ms))));
    }
    if let Some(state) = &operator.state {
        facts.push(("state".into(), state.what.clone()));
        facts.push(("why".into(), state.why.clone()));
        facts.push(("size".into(), state.size()));
        facts.push(("rebuilt".into(), format!("from {}", state.rebuilt)));
    }
    facts
}

/// Appends a text in lines of at most [`WIDTH`] characters.
fn wrap(text: &str, first: &str, rest: &str, out: &mut String) {
    let mut row = first.to_owned();
    let mut empty = true;
    for word in line(text).split(' ') {
        if !empty && row.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", row.trim_end());
            row = rest.to_owned();
            empty = true;
        }
        if !empty {
            row.push(' ');
        }
        row.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", row.trim_end());
}

/// A span of time in words: `1m`, `90s`, `250ms`.
fn span(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.into_iter().find(|(unit, _)| ms != 0 && ms % unit == 0) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".into(),
        None => format!("{ms}ms"),
    }
}

/// The dataflow as a Mermaid flowchart, the inputs at the left.
pub fn explain_mermaid(flow: &Dataflow) -> String {
    let mut out = String::from("flowchart LR\n");
    let mut number = 0;
    let root = node(&flow.root, &mut number, &mut out);
    let _ = writeln!(out, "  out[(\"{}\")]", quoted(&format!("{}\n{}", flow.product, flow.shape)));
    let _ = writeln!(out, "  {root} -- \"{}\" --> out", quoted(&flow.root.edge));
    out
}

/// Writes an operator and what feeds it; returns its id.
fn node(operator: &Operator, number: &mut usize, out: &mut String) -> String {
    let id = format!("n{number}");
    *number += 1;
    let mut label = vec![operator.name.clone()];
    label.extend(
        operator.details.iter().filter(|(name, _)| name != "columns").map(|(name, text)| format!("{name}: {}", short(text))),
    );
    if let Some(state) = &operator.state {
        label.push(format!("state: {}", short(&state.what)));
        label.push(state.size());
    }
    let (open, close) = match (operator.inputs.is_empty(), operator.state.is_some()) {
        (true, _) => ("([\"", "\"])"),
        (false, true) => ("[[\"", "\"]]"),
        (false, false) => ("[\"", "\"]"),
    };
    let _ = writeln!(out, "  {id}{open}{}{close}", quoted(&label.join("\n")));
    for (at, input) in operator.inputs.iter().enumerate() {
        let below = node(input, number, out);
        let rekeyed = operator.rekeyed.get(at).and_then(Option::as_ref);
        let rekeyed = rekeyed.map_or(String::new(), |by| format!("\nre-keyed by {}", short(&by.join(", "))));
        let _ = writeln!(out, "  {below} -- \"{}\" --> {id}", quoted(&format!("{}{rekeyed}", short(&input.edge))));
    }
    id
}

fn short(text: &str) -> String {
    const MOST: usize = 60;
    let text = line(text);
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST).chain("..".chars()).collect() }
}

/// A label between quotes: what Mermaid takes for its own signs is written as entities.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' | ';' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            '\n' => out.push_str("<br/>"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The dataflow for programs.
pub fn explain_json(flow: &Dataflow) -> String {
    let input = |input: &Input| {
        json!({
            "product": input.product,
            "alias": input.alias,
            "shape": input.shape,
            "key": input.key,
            "time": input.time,
            "disorder_ms": input.disorder_ms,
            "restart": input.restart,
        })
    };
    print(&json!({
        "schema_version": SCHEMA_VERSION,
        "product": flow.product,
        "shape": flow.shape,
        "topic": flow.topic,
        "key": flow.key,
        "disorder_ms": flow.disorder_ms,
        "inputs": flow.inputs.iter().map(input).collect::<Vec<Value>>(),
        "dataflow": operator(&flow.root),
    }))
}

fn operator(of: &Operator) -> Value {
    let details: Vec<Value> = of.details.iter().map(|(name, text)| json!({"name": name, "text": text})).collect();
    let state = of.state.as_ref().map(|state| {
        let entry = |(noun, bytes): &(String, usize)| json!({"of": noun, "bytes": bytes});
        json!({
            "what": state.what,
            "why": state.why,
            "rebuilt_from": state.rebuilt,
            "entries": state.entries.iter().map(entry).collect::<Vec<Value>>(),
        })
    });
    json!({
        "operator": of.name,
        "changes": of.edge,
        "details": details,
        "rekeyed_by": of.rekeyed,
        "watermark_lag_ms": of.lag_ms,
        "row_bytes": of.row_bytes,
        "state": state,
        "inputs": of.inputs.iter().map(operator).collect::<Vec<Value>>(),
    })
}
