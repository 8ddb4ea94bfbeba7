//! What a manifest says of a test: read into rows, with all that is wrong with it at its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::codes;
use super::drive::Change;
use super::rows::{Asked, Canon, Complaint, Row, RowReader, project};
use crate::engine::Batch;
use crate::format::FormatError;
use crate::manifest::closest;
use crate::model::diagnostic::Code;
use crate::model::row::{DataType, Field, type_name};
use crate::model::test::{Section, Test, TestRecord, TestStep};
use crate::model::{Diagnostic, Diagnostics, Mesh, Product, RowType, Shape};
use crate::plan::Bound;
use crate::schema;
use crate::sql::query::Query;

/// A test, ready to run.
#[derive(Debug)]
pub(super) struct Script {
    /// One for each input of the query.
    pub(super) lanes: Vec<Lane>,
    /// The given records, by product.
    pub(super) given: BTreeMap<String, Vec<Given>>,
    pub(super) expect: Option<Vec<Change>>,
    pub(super) changelog: Option<Vec<Change>>,
}

/// What happens to one input.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) input: usize,
    pub(super) product: String,
    pub(super) batch: Batch,
    pub(super) items: Vec<Item>,
}

/// One thing that happens to an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A row of the lane's batch comes.
    Row(usize),
    /// The input's watermark reaches this time.
    Watermark(i64),
}

/// A given record.
#[derive(Debug)]
pub(super) struct Given {
    /// Its place among the product's steps.
    pub(super) step: usize,
    pub(super) at_ms: i64,
    pub(super) row: Row,
}

/// The products that a query reads, each once.
pub(super) struct Inputs(BTreeMap<String, Input>);

struct Input {
    reader: RowReader,
    shape: Shape,
    key: Vec<String>,
    /// Columns that the contract has and queries can't read: no type is known for them.
    untyped: Vec<String>,
}

impl Inputs {
    pub(super) fn new(mesh: &Mesh, bound: &Bound, query: &Query) -> Result<Inputs, FormatError> {
        let mut inputs = BTreeMap::new();
        for name in query.inputs.iter().map(|input| &input.product) {
            let (Some(product), Some(contract)) = (mesh.products.get(name), bound.contracts.get(name)) else { continue };
            let position = |column: &String| contract.row_type.index_of(column).ok();
            let key = product.key.iter().filter_map(position).collect();
            let row_type = Arc::new(required_where_read(&contract.row_type, query, name));
            let reader = RowReader::new(row_type, key, position(&product.time.field), product.shape)?;
            let parsed = schema::parse(contract.format, &contract.value, &[]);
            let untyped = parsed
                .map_or_else(|_| Vec::new(), |schema| schema.columns().unsupported.into_iter().map(|(name, _)| name).collect());
            inputs.insert(name.clone(), Input { reader, shape: product.shape, key: product.key.clone(), untyped });
        }
        Ok(Inputs(inputs))
    }
}

/// An input's row type, in which only those columns are required that the query reads: the others are nothing to it.
fn required_where_read(row_type: &RowType, query: &Query, product: &str) -> RowType {
    let inputs = || query.inputs.iter().filter(|input| input.product == product);
    let read = |name: &str| inputs().any(|input| input.row_type.field_with_name(name).is_ok());
    let fields = row_type.fields().iter();
    let field = |field: &Arc<Field>| {
        let nullable = field.is_nullable() || !read(field.name());
        field.as_ref().clone().with_nullable(nullable)
    };
    RowType::new(fields.map(field).collect::<Vec<_>>())
}

/// Reads the test at `index` of the product's.
pub(super) fn read(
    canon: &mut Canon,
    inputs: &mut Inputs,
    product: &Product,
    query: &Query,
    index: usize,
) -> (Option<Script>, Diagnostics) {
    let Some(test) = product.tests.get(index) else { return (None, Vec::new()) };
    let mut form = Form { product, pointer: format!("/spec/tests/{index}"), diagnostics: Vec::new() };
    form.name(test, index);
    let script = form.script(canon, inputs, query, test);
    (script, form.diagnostics)
}

struct Form<'a> {
    product: &'a Product,
    pointer: String,
    diagnostics: Diagnostics,
}

/// Whose columns and key a record has.
struct Relation<'a> {
    /// As messages name it.
    name: &'a str,
    row_type: Arc<RowType>,
    key: Vec<String>,
    shape: Shape,
    untyped: &'a [String],
}

impl Form<'_> {
    fn complain(&mut self, code: Code, below: &str, message: impl Into<String>, help: impl Into<String>) {
        let place = self.product.place(&format!("{}{below}", self.pointer));
        let (message, help) = (message.into(), help.into());
        let diagnostic = Diagnostic::error(code, place, message);
        self.diagnostics.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    fn name(&mut self, test: &Test, index: usize) {
        let first = self.product.tests.iter().position(|other| other.name == test.name);
        if let Some(first) = first.filter(|first| *first < index) {
            let message = format!("two tests of `{}` are called `{}`", self.product.name, test.name);
            let diagnostic =
                Diagnostic::error(codes::NAMED_TWICE, self.product.place(&format!("{}/name", self.pointer)), message);
            let diagnostic = diagnostic.help("say what each shows");
            self.diagnostics.push(match self.product.place(&format!("/spec/tests/{first}/name")) {
                Some(place) => diagnostic.related(place, "the first"),
                None => diagnostic,
            });
        }
    }

    fn script(&mut self, canon: &mut Canon, inputs: &mut Inputs, query: &Query, test: &Test) -> Option<Script> {
        let mut read = BTreeMap::new();
        for (name, steps) in &test.given {
            if let Some((rows, batch, items)) = self.given(inputs, name, steps) {
                read.insert(name.clone(), (rows, batch, items));
            }
        }
        if test.given.iter().all(|(_, steps)| steps.iter().all(|step| step.watermark_ms.is_some())) {
            let names: Vec<&str> = inputs.0.keys().map(String::as_str).collect();
            self.complain(
                codes::NOTHING_GIVEN,
                "/given",
                "the test gives no record",
                format!("the query reads {}", names.join(", ")),
            );
        }
        let key = |at: &usize| query.row_type.fields().get(*at).map(|field| field.name().clone());
        let result = Relation {
            name: "the result",
            row_type: canon.row_type().clone(),
            key: query.key.iter().filter_map(key).collect(),
            shape: self.product.shape,
            untyped: &[],
        };
        let expect = self.expected(canon, &result, Section::Expect, test.expect.as_deref());
        let changelog = self.expected(canon, &result, Section::Changelog, test.changelog.as_deref());
        self.asides(inputs, test);
        if !self.diagnostics.is_empty() {
            return None;
        }
        let mut lanes = Vec::new();
        for (at, input) in query.inputs.iter().enumerate() {
            let (batch, items) = match read.get(&input.product) {
                Some((_, batch, items)) => (batch.clone(), items.clone()),
                None => (inputs.0.get_mut(&input.product)?.reader.read(&[]).ok()?, Vec::new()),
            };
            match project(&batch, &input.row_type) {
                Ok(batch) => lanes.push(Lane { input: at, product: input.product.clone(), batch, items }),
                Err(reason) => {
                    self.complain(codes::NOT_RUN, "/given", reason, "");
                    return None;
                }
            }
        }
        let given = read.into_iter().map(|(name, (rows, _, _))| (name, rows)).collect();
        Some(Script { lanes, given, expect, changelog })
    }

    /// The records of one product, their batch, and what happens in which order.
    fn given(&mut self, inputs: &mut Inputs, name: &str, steps: &[TestStep]) -> Option<(Vec<Given>, Batch, Vec<Item>)> {
        let below = format!("/given/{}", escaped(name));
        let known: Vec<String> = inputs.0.keys().cloned().collect();
        let Some(input) = inputs.0.get_mut(name) else {
            self.unknown_input(&below, name, &known);
            return None;
        };
        let relation = Relation {
            name,
            row_type: input.reader.row_type().clone(),
            key: input.key.clone(),
            shape: input.shape,
            untyped: &input.untyped,
        };
        let (mut rows, mut asked, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for (at, step) in steps.iter().enumerate() {
            let below = format!("{below}/{at}");
            let record = &step.record;
            if let Some(ms) = step.watermark_ms {
                if record.value.is_some() || record.key.is_some() || record.delete || record.at_ms.is_some() {
                    let help = "write the record as a step of its own, before or after it";
                    self.complain(codes::FORM, &below, "a watermark stands alone", help);
                }
                items.push(Item::Watermark(ms));
                continue;
            }
            if let Some(record) = self.record(&relation, &below, record) {
                items.push(Item::Row(rows.len()));
                rows.push(Given { step: at, at_ms: record.at_ms, row: record.columns.clone() });
                asked.push(record);
            }
        }
        match input.reader.read(&asked) {
            Ok(batch) => Some((rows, batch, items)),
            Err(complaints) => {
                for complaint in &complaints {
                    let at = rows.get(complaint.record).map_or(0, |row| row.step);
                    self.unfit(&relation, &format!("{below}/{at}"), complaint);
                }
                None
            }
        }
    }

    fn unknown_input(&mut self, below: &str, name: &str, known: &[String]) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let help = match closest(name, &names) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("it reads {}", names.join(", ")),
        };
        self.complain(codes::UNKNOWN_INPUT, below, format!("the query of `{}` does not read `{name}`", self.product.name), help);
    }

    /// One record's columns, its key's among them; `None` after a complaint.
    fn record(&mut self, relation: &Relation<'_>, below: &str, record: &TestRecord) -> Option<Asked> {
        let before = self.diagnostics.len();
        if record.value.is_none() && !record.delete {
            let help = "it has a `value`, or `delete: true` with a `key`; to advance the watermark write `watermark: 00:01:00`";
            self.complain(codes::FORM, below, "the record has no value", help);
            return None;
        }
        let delete = record.deletes();
        if delete && relation.shape == Shape::Stream {
            let message = format!("`{}` is a stream, whose records are not deleted", relation.name);
            self.complain(codes::FORM, below, message, "only a table's rows are");
        }
        let mut columns = match &record.value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(columns)) => columns.clone(),
            Some(_) => {
                self.complain(
                    codes::FORM,
                    &format!("{below}/value"),
                    "a value is a map of columns",
                    "write `value: {column: 1}`",
                );
                return None;
            }
        };
        columns.retain(|name, _| !relation.untyped.contains(name));
        for (name, value) in &columns {
            self.known(relation, &format!("{below}/value/{}", escaped(name)), name, value);
        }
        let fits = self.key(relation, below, record, &mut columns);
        if delete {
            if let Some(lacking) = relation.key.iter().find(|name| columns.get(*name).is_none_or(Value::is_null))
                && fits
            {
                let message = format!("the delete does not say which row: its key is {}", relation.key.join(", "));
                let help = if relation.key.len() == 1 {
                    format!("add `key:` with the value of {lacking}")
                } else {
                    format!(
                        "add `key: {{{}}}`",
                        relation.key.iter().map(|name| format!("{name}: ..")).collect::<Vec<_>>().join(", ")
                    )
                };
                self.complain(codes::KEY, below, message, help);
            }
            columns.retain(|name, _| relation.key.contains(name));
        }
        (self.diagnostics.len() == before).then(|| Asked { at_ms: record.at_ms.unwrap_or(0), columns, delete })
    }

    /// Complains of a column that the relation does not have, and of such fields inside of it.
    fn known(&mut self, relation: &Relation<'_>, below: &str, name: &str, value: &Value) {
        match relation.row_type.field_with_name(name) {
            Ok(field) => self.known_inside(below, field.data_type(), value),
            Err(_) => {
                let names: Vec<&str> = relation.row_type.fields().iter().map(|field| field.name().as_str()).collect();
                self.unknown(below, format!("{} has no column `{name}`", quoted(relation.name)), name, &names);
            }
        }
    }

    fn unknown(&mut self, below: &str, message: String, name: &str, names: &[&str]) {
        let help = match closest(name, names) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("it has {}", names.join(", ")),
        };
        self.complain(codes::UNKNOWN_COLUMN, below, message, help);
    }

    fn known_inside(&mut self, below: &str, data_type: &DataType, value: &Value) {
        match (data_type, value) {
            (DataType::Struct(fields), Value::Object(members)) => {
                for (name, value) in members {
                    let below = format!("{below}/{}", escaped(name));
                    match fields.iter().find(|field| field.name() == name) {
                        Some(field) => self.known_inside(&below, field.data_type(), value),
                        None => {
                            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                            self.unknown(&below, format!("the struct has no field `{name}`"), name, &names);
                        }
                    }
                }
            }
            (DataType::List(item), Value::Array(items)) => {
                for (at, value) in items.iter().enumerate() {
                    self.known_inside(&format!("{below}/{at}"), item.data_type(), value);
                }
            }
            _ => {}
        }
    }

    /// Puts the columns of a key that was said among the others; whether it fits.
    fn key(&mut self, relation: &Relation<'_>, below: &str, record: &TestRecord, columns: &mut Row) -> bool {
        let Some(key) = &record.key else { return true };
        let before = self.diagnostics.len();
        let below = format!("{below}/key");
        let said: Vec<(&String, &Value)> = match (relation.key.as_slice(), key) {
            ([], _) => {
                self.complain(codes::KEY, &below, format!("{} has no key", quoted(relation.name)), "leave it out");
                return false;
            }
            ([only], Value::Object(members)) if members.len() == 1 && members.contains_key(only) => members.iter().collect(),
            ([only], value) => vec![(only, value)],
            (several, Value::Object(members))
                if members.len() == several.len() && several.iter().all(|name| members.contains_key(name)) =>
            {
                members.iter().collect()
            }
            (several, _) => {
                let message = format!("the key of {} is a map of {}", quoted(relation.name), several.join(", "));
                let names = several.iter().map(|name| format!("{name}: ..")).collect::<Vec<_>>().join(", ");
                self.complain(
                    codes::KEY,
                    &below,
                    message,
                    format!("write `key: {{{names}}}`, or leave it out where a value has them"),
                );
                return false;
            }
        };
        for (name, value) in said {
            match columns.get(name) {
                None => _ = columns.insert(name.clone(), value.clone()),
                Some(other) if other == value => {}
                Some(_) => {
                    let message = format!("the key is not what the value has in {name}");
                    self.complain(codes::KEY, &below, message, "leave it out: it is taken from the value");
                }
            }
        }
        self.diagnostics.len() == before
    }

    /// What the decoder says of a record.
    fn unfit(&mut self, relation: &Relation<'_>, below: &str, complaint: &Complaint) {
        let Some(column) = &complaint.column else {
            self.complain(complaint.code, below, complaint.reason.clone(), "");
            return;
        };
        let found = relation.row_type.field_with_name(column).map(|field| type_name(field.data_type()));
        let data_type = found.unwrap_or_default();
        if complaint.code == codes::MISSING_COLUMN {
            let message = format!(
                "the column `{column}` ({data_type}) is missing, the query reads it, and the contract of {} requires it",
                relation.name
            );
            self.complain(complaint.code, below, message, format!("add `{column}` to the value"));
            return;
        }
        let in_value = format!("{below}/value/{}", escaped(column));
        let below = if self.product.places.contains_key(&format!("{}{in_value}", self.pointer)) {
            in_value
        } else {
            format!("{below}/key")
        };
        self.complain(complaint.code, &below, complaint.reason.clone(), format!("`{column}` is {data_type}"));
    }

    /// The rows of `expect` or `changelog`.
    fn expected(
        &mut self,
        canon: &mut Canon,
        relation: &Relation<'_>,
        section: Section,
        records: Option<&[TestRecord]>,
    ) -> Option<Vec<Change>> {
        let mut asked = Vec::new();
        let mut said = Vec::new();
        for (at, record) in records?.iter().enumerate() {
            let below = format!("/{}/{at}", section.field());
            if section == Section::Expect && record.deletes() {
                let help = "leave the row out, or list every change under `changelog`";
                self.complain(codes::FORM, &below, "`expect` lists the rows at the end, and a deleted row is not there", help);
                continue;
            }
            if let Some(record) = self.record(relation, &below, record) {
                said.push((at, record.delete));
                asked.push(Asked { delete: false, ..record });
            }
        }
        match canon.expected(&asked) {
            Ok(rows) => {
                let times = said.iter().map(|(at, _)| records.and_then(|records| records.get(*at)?.at_ms));
                let changes = rows.into_iter().zip(&said).zip(times);
                Some(changes.map(|((row, (_, delete)), at_ms)| Change { at_ms, delete: *delete, row }).collect())
            }
            Err(complaints) => {
                for complaint in &complaints {
                    let at = said.get(complaint.record).map_or(0, |(at, _)| *at);
                    self.unfit(relation, &format!("/{}/{at}", section.field()), complaint);
                }
                None
            }
        }
    }

    /// The names in `dead_letters` and `late`.
    fn asides(&mut self, inputs: &Inputs, test: &Test) {
        let known: Vec<String> = inputs.0.keys().cloned().collect();
        for (section, asides) in [(Section::DeadLetters, &test.dead_letters), (Section::Late, &test.late)] {
            for (at, aside) in asides.iter().enumerate() {
                let below = format!("/{}/{at}", section.field());
                if let Some(name) = aside.input.as_ref().filter(|name| !known.contains(name)) {
                    self.unknown_input(&format!("{below}/input"), name, &known);
                }
                if aside.value.as_ref().is_some_and(|value| !value.is_object()) {
                    let help = "write `value: {column: 1}`";
                    self.complain(codes::FORM, &format!("{below}/value"), "a value is a map of columns", help);
                }
            }
        }
    }
}

fn quoted(name: &str) -> String {
    if name == "the result" { name.into() } else { format!("`{name}`") }
}

/// A name as a step of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
