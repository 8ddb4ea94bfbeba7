//! Product documents to products: what is left out is filled in from the environment, and the files they name are read.
//!
//! Of a setting that several places give, an environment's override is the last word, then the manifest, then the
//! environment's default, then the built-in one.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::codes;
use super::document::{self, DataProductSpec};
use super::files;
use super::read::{Declared, Reading, template_message};
use super::template::{Templates, is_template};
use super::units::{Span, StartPoint};
use super::yaml::{self, Node, Style};
use crate::model::diagnostic::Place;
use crate::model::environment::{Environment, Override};
use crate::model::product::{
    Compatibility, Contract, Deletion, Derivation, Format, Framing, Lifecycle, OnBadRecord, Origin, Owner, Product, Replay,
    SchemaText, Shape, Source, SqlOrigin, SqlText, Start, Time, Topic,
};
use crate::model::row::ROWTIME;

/// The longest schema or SQL file, in bytes.
const MAX_TEXT: u64 = 1024 * 1024;
/// How much of a replayed file is looked at for its oldest record, in bytes.
const HEAD: u64 = 256 * 1024;

/// The product that a document declares; `None` when it can't be used at all.
pub(super) fn resolve(
    reading: &mut Reading<'_>,
    declared: &Declared<'_, DataProductSpec>,
    environment: &Environment,
    templates: Option<&Templates>,
) -> Option<Product> {
    let (metadata, spec) = (&declared.metadata, &declared.spec);
    let overrides: Vec<&Override> = environment.overrides.iter().filter(|o| fits(o, &metadata.name, &metadata.tags)).collect();
    let contract = contract(reading, declared, environment);
    let origin = origin(reading, declared, templates);
    let mut places = declared.walked.places.clone();
    places.insert(String::new(), declared.name_place());
    let mut product = Product {
        name: metadata.name.clone(),
        description: metadata.description.clone(),
        tags: metadata.tags.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        version: spec.version.clone(),
        lifecycle: spec.lifecycle.map_or(Lifecycle::Active, lifecycle),
        domain: spec.domain.clone(),
        team: spec.team.clone(),
        owner: spec.owner.as_ref().map(|o| Owner { name: o.name.clone(), contact: o.contact.clone() }),
        shape: shape(spec.shape),
        key: spec.key.clone(),
        time: time(spec.time.as_ref()),
        topic: topic(&metadata.name, spec.topic.as_ref(), environment, &overrides),
        contract: contract?,
        origin: origin?,
        deletion: match spec.deletion {
            Some(document::Deletion::Allow) => Deletion::Allow,
            Some(document::Deletion::Protect) | None => Deletion::Protect,
        },
        adopt: spec.adopt,
        tests: super::trial::tests(declared),
        not_yet: not_yet(declared),
        places,
        fingerprint: String::new(),
    };
    product.fingerprint = fingerprint(&product, declared.walked.value.as_ref());
    Some(product)
}

fn fits(over: &Override, name: &str, tags: &[String]) -> bool {
    over.tags.iter().all(|tag| tags.contains(tag)) && (over.names.is_empty() || over.names.iter().any(|n| n == name))
}

fn time(spec: Option<&document::Time>) -> Time {
    let span = |part: fn(&document::Time) -> Option<&Span>, otherwise| spec.and_then(part).map_or(otherwise, |span| span.0);
    Time {
        field: spec.and_then(|time| time.field.clone()).unwrap_or_else(|| ROWTIME.into()),
        disorder_ms: span(|time| time.disorder.as_ref(), 0),
        ahead_ms: span(|time| time.ahead.as_ref(), Time::AHEAD_MS),
        idle_ms: span(|time| time.idle.as_ref(), Time::IDLE_MS),
    }
}

fn topic(name: &str, spec: Option<&document::Topic>, environment: &Environment, overrides: &[&Override]) -> Topic {
    let spec = spec.cloned().unwrap_or_default();
    let mut topic = Topic {
        name: spec.name.unwrap_or_else(|| name.to_owned()),
        partitions: spec.partitions.unwrap_or(environment.defaults.partitions),
        replication: spec.replication.or(environment.defaults.replication),
        config: spec.config.into_iter().map(|(key, value)| (key, value.0)).collect(),
    };
    for over in overrides {
        topic.partitions = over.partitions.unwrap_or(topic.partitions);
        topic.replication = over.replication.or(topic.replication);
        topic.config.extend(over.config.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    topic
}

fn contract(reading: &mut Reading<'_>, declared: &Declared<'_, DataProductSpec>, environment: &Environment) -> Option<Contract> {
    let spec = declared.spec.schema.clone().unwrap_or_default();
    let format = match spec.format {
        Some(document::SchemaFormat::Avro) => Format::Avro,
        Some(document::SchemaFormat::Protobuf) => Format::Protobuf,
        Some(document::SchemaFormat::Json) | None => Format::Json,
    };
    let framing = match spec.framing {
        Some(document::Framing::None) => Framing::None,
        Some(document::Framing::Confluent) | None => Framing::Confluent,
    };
    if framing == Framing::None && format != Format::Json {
        let message = "records without a frame do not say with which schema they were written, and so only JSON can be read";
        let help = "leave `framing` out, or write `format: json`";
        reading.error(codes::BAD_VALUE, declared.place("/spec/schema/framing"), message.to_owned(), help);
    }
    let text = match &spec.file {
        Some(file) => {
            let (file, text) = text_file(reading, declared, file, "/spec/schema/file", &["json", "avsc", "proto"])?;
            Some(SchemaText { file, text })
        }
        None => None,
    };
    if text.is_none() && declared.spec.derivation.is_none() {
        let message = format!("`{}` has no contract: no `spec.schema.file`", declared.metadata.name);
        let help = "only a derived product may leave its schema to be inferred; add `schema: {file: ..}`";
        reading.error(codes::CONTRACT_MISSING, declared.place("/spec/schema"), message, help);
    }
    let compatibility = spec.compatibility.map_or(environment.defaults.compatibility, compatibility);
    Some(Contract { format, framing, text, compatibility })
}

/// A text file that a manifest names. Only files that end as their kind does are opened: a manifest of a stranger could
/// else make a report show a line of any file of the project.
fn text_file(
    reading: &mut Reading<'_>,
    declared: &Declared<'_, DataProductSpec>,
    name: &str,
    pointer: &str,
    endings: &[&str],
) -> Option<(Arc<str>, Arc<str>)> {
    let named = reading.named(declared, name, pointer)?;
    let place = declared.place(pointer);
    let ends = named.open.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e));
    if !ends {
        let endings: Vec<String> = endings.iter().map(|e| format!(".{e}")).collect();
        let message = format!("the file does not end in {}", endings.join(", "));
        reading.error(codes::BAD_VALUE, place, message, "other files are not opened here; rename it");
        return None;
    }
    reading.text(&named.open, &named.shown, MAX_TEXT, Some(&place))
}

fn origin(reading: &mut Reading<'_>, declared: &Declared<'_, DataProductSpec>, templates: Option<&Templates>) -> Option<Origin> {
    if let (Some(_), Some(_)) = (&declared.spec.source, &declared.spec.derivation) {
        let message = format!("`{}` has both a `source` and a `derivation`", declared.metadata.name);
        let help = "records come from one place: make two products of it, the second derived from the first";
        reading.error(codes::TWO_ORIGINS, declared.place("/spec/derivation"), message, help);
        return None;
    }
    if let Some(derivation) = &declared.spec.derivation {
        let start = match derivation.start.as_ref().map(|s| s.0) {
            Some(StartPoint::Latest) => Start::Latest,
            Some(StartPoint::Timestamp(ms)) => Start::Timestamp(ms),
            Some(StartPoint::Earliest) | None => Start::Earliest,
        };
        let on_bad_record = match derivation.on_bad_record {
            Some(document::OnBadRecord::Stop) => OnBadRecord::Stop,
            Some(document::OnBadRecord::DeadLetter) | None => OnBadRecord::DeadLetter,
        };
        let sql = match &derivation.sql {
            document::Sql::Text(text) => inline_sql(reading, declared, text),
            document::Sql::File(file) => sql_file(reading, declared, &file.file, templates)?,
        };
        return Some(Origin::Derivation(Derivation { sql, start, on_bad_record }));
    }
    let Some(source) = &declared.spec.source else { return Some(Origin::External) };
    if let Some(replay) = &source.replay {
        return self::replay(reading, declared, replay).map(|replay| Origin::Source(Source::Replay(replay)));
    }
    source_kind(source).map(|kind| Origin::Source(Source::NotYet(kind.into())))
}

fn source_kind(source: &document::Source) -> Option<&'static str> {
    let kinds = [("http", source.http.is_some()), ("poll", source.poll.is_some()), ("generator", source.generator.is_some())];
    kinds.into_iter().find(|(_, present)| *present).map(|(kind, _)| kind)
}

/// A query in the manifest itself. Its places are those in the manifest where its lines stand there as they are; else it
/// is kept as a text of its own.
fn inline_sql(reading: &mut Reading<'_>, declared: &Declared<'_, DataProductSpec>, sql: &str) -> SqlText {
    let file = declared.document.file.clone();
    let text: Arc<str> = sql.into();
    let rendered = declared.walked.rewritten.contains("/spec/derivation/sql");
    let node = ["spec", "derivation", "sql"].iter().try_fold(&declared.document.node, |node, step| node.get(step));
    let starts = node.filter(|_| !rendered).and_then(|node| line_starts(reading.texts.get(&file)?, node));
    if let Some(starts) = starts {
        return SqlText { text, origin: SqlOrigin::Lines { file, starts } };
    }
    let how = if rendered { ", rendered" } else { "" };
    let file: Arc<str> = format!("{file} (SQL of {}{how})", declared.metadata.name).into();
    reading.texts.insert(file.clone(), text.clone());
    SqlText { text, origin: SqlOrigin::Whole { file } }
}

/// Where each line of a scalar's text stands in the manifest, byte for byte; `None` where quotes, escapes or folding
/// changed it.
fn line_starts(manifest: &str, node: &Node) -> Option<Vec<usize>> {
    let yaml::Value::Scalar(scalar) = &node.value else { return None };
    let written = manifest.get(node.bytes.clone())?;
    match scalar.style {
        Style::Plain => (written == scalar.text).then(|| vec![node.bytes.start]),
        Style::Quoted => {
            let inside = written.get(1..written.len().checked_sub(1)?)?;
            (inside == scalar.text).then(|| vec![node.bytes.start + 1])
        }
        Style::Folded => None,
        Style::Literal => {
            let line_start = |at: usize| manifest[..at].rfind('\n').map_or(0, |at| at + 1);
            // The node begins at its first line that is not empty.
            let empty = scalar.text.bytes().take_while(|b| *b == b'\n').count();
            let first = (0..empty).fold(line_start(node.bytes.start), |at, _| line_start(at.saturating_sub(1)));
            let mut starts = Vec::new();
            let (mut at, mut lines) = (first, manifest[first..].split('\n'));
            let text = scalar.text.strip_suffix('\n').unwrap_or(&scalar.text);
            for line in text.split('\n') {
                let written = lines.next()?;
                let shown = written.strip_suffix('\r').unwrap_or(written);
                starts.push(at + shown.strip_suffix(line)?.len());
                at += written.len() + 1;
            }
            Some(starts)
        }
    }
}

fn sql_file(
    reading: &mut Reading<'_>,
    declared: &Declared<'_, DataProductSpec>,
    name: &str,
    templates: Option<&Templates>,
) -> Option<SqlText> {
    let (file, text) = text_file(reading, declared, name, "/spec/derivation/sql/file", &["sql"])?;
    if !is_template(&text) {
        return Some(SqlText { text, origin: SqlOrigin::Whole { file } });
    }
    match templates?.render(&text) {
        Ok(rendered) => {
            let file: Arc<str> = format!("{file} (rendered)").into();
            let text: Arc<str> = rendered.into();
            reading.texts.insert(file.clone(), text.clone());
            Some(SqlText { text, origin: SqlOrigin::Whole { file } })
        }
        Err(error) => {
            let line = error.line.unwrap_or(1);
            let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
            let end = start + text[start..].lines().next().map_or(0, str::len);
            let (code, message) = template_message(&error, false);
            reading.error(code, Place::new(file, start..end), message, error.help);
            None
        }
    }
}

fn replay(reading: &mut Reading<'_>, declared: &Declared<'_, DataProductSpec>, spec: &document::ReplaySource) -> Option<Replay> {
    let pointer = "/spec/source/replay/file";
    let named = reading.named(declared, &spec.file, pointer)?;
    let at_ms = spec.at.as_ref().map(|at| at.0);
    let head = reading.files.canonical(&named.open).and_then(|path| Ok((path, reading.files.head(&named.open, HEAD)?)));
    match head {
        Ok((path, head)) => Some(Replay {
            path,
            file: spec.file.clone(),
            envelope: spec.envelope,
            at_ms,
            speed: spec.speed.unwrap_or(0.0),
            oldest_ms: if spec.envelope { oldest_ms(&head) } else { at_ms },
        }),
        Err(error) => {
            let code = if files::is_outside(&error) { codes::OUTSIDE } else { codes::UNREADABLE };
            let message = format!("{}: {}", named.shown.display(), files::trouble(&error));
            reading.error(code, declared.place(pointer), message, "paths are relative to the manifest's own folder");
            None
        }
    }
}

/// The earliest record time among the whole lines at the head of a file of envelopes.
fn oldest_ms(head: &[u8]) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Stamp {
        ts: i64,
    }
    head.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Stamp>(line).ok()).map(|stamp| stamp.ts).min()
}

/// Sections that are not carried out yet, with their places. `access` counts even when empty: it means that nobody may.
fn not_yet(declared: &Declared<'_, DataProductSpec>) -> Vec<(String, Option<Place>)> {
    fn filled<T>(list: &Option<Vec<T>>) -> bool {
        list.as_ref().is_some_and(|list| !list.is_empty())
    }
    let spec = &declared.spec;
    let source = spec.source.as_ref().and_then(source_kind).map(|kind| format!("source.{kind}"));
    let sections = [
        ("access", spec.access.is_some()),
        ("slo", spec.slo.is_some()),
        ("quality", filled(&spec.quality)),
        ("sinks", filled(&spec.sinks)),
        ("api", spec.api.is_some()),
        ("views", filled(&spec.views)),
    ];
    let names = sections.into_iter().filter(|(_, present)| *present).map(|(name, _)| name.to_owned());
    let at = |name: String| {
        let place = declared.place(&format!("/spec/{}", name.replace('.', "/")));
        (name, Some(place))
    };
    source.into_iter().chain(names).map(at).collect()
}

/// SHA-256 of all that decides what is applied; the same on every machine. Tests decide nothing.
fn fingerprint(product: &Product, document: Option<&Value>) -> String {
    let mut document = document.cloned();
    if let Some(spec) = document.as_mut().and_then(|document| document.get_mut("spec")?.as_object_mut()) {
        spec.shift_remove("tests");
    }
    let mut whole = json!({
        "document": document,
        "topic": {
            "name": product.topic.name,
            "partitions": product.topic.partitions,
            "replication": product.topic.replication,
            "config": product.topic.config,
        },
        "compatibility": product.contract.compatibility.name(),
        "schema": product.contract.text.as_ref().map(|schema| schema.text.to_string()),
        "sql": product.derivation().map(|derivation| derivation.sql.text.to_string()),
    });
    whole.sort_all_objects();
    format!("{:x}", Sha256::digest(whole.to_string()))
}

fn lifecycle(lifecycle: document::Lifecycle) -> Lifecycle {
    match lifecycle {
        document::Lifecycle::Draft => Lifecycle::Draft,
        document::Lifecycle::Active => Lifecycle::Active,
        document::Lifecycle::Deprecated => Lifecycle::Deprecated,
        document::Lifecycle::Retired => Lifecycle::Retired,
    }
}

fn shape(shape: document::Shape) -> Shape {
    match shape {
        document::Shape::Stream => Shape::Stream,
        document::Shape::Table => Shape::Table,
    }
}

/// A level as the rest of the program names it.
pub(super) fn compatibility(level: document::Compatibility) -> Compatibility {
    match level {
        document::Compatibility::None => Compatibility::None,
        document::Compatibility::Backward => Compatibility::Backward,
        document::Compatibility::BackwardTransitive => Compatibility::BackwardTransitive,
        document::Compatibility::Forward => Compatibility::Forward,
        document::Compatibility::ForwardTransitive => Compatibility::ForwardTransitive,
        document::Compatibility::Full => Compatibility::Full,
        document::Compatibility::FullTransitive => Compatibility::FullTransitive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(manifest: &str) -> Option<Vec<&str>> {
        let (documents, _) = yaml::read(manifest);
        let starts = line_starts(manifest, documents[0].get("sql").unwrap())?;
        Some(starts.into_iter().map(|at| &manifest[at..(at + 3).min(manifest.len())]).collect())
    }

    #[test]
    fn lines_of_a_query_are_found_in_its_manifest() {
        assert_eq!(starts("a: é\nsql: |\n  SELECT\n    1\n\n  FROM t\n"), Some(vec!["SEL", "  1", "\n  ", "FRO"]));
        assert_eq!(starts("sql: |\r\n  SELECT\r\n  1\r\n"), Some(vec!["SEL", "1\r\n"]));
        assert_eq!(starts("sql: |\n\n  SELECT\n"), Some(vec!["\n  ", "SEL"]));
        assert_eq!(starts("{sql: SELECT 1}"), Some(vec!["SEL"]));
        assert_eq!(starts("sql: 'SELECT 1'"), Some(vec!["SEL"]));
        assert_eq!(starts("sql: 'SELECT ''a'''"), None);
        assert_eq!(starts("sql: >\n  SELECT\n  1\n"), None);
        assert_eq!(starts("sql: SELECT\n  1\n"), None);
    }

    #[test]
    fn the_oldest_record_is_looked_for_in_whole_lines() {
        assert_eq!(oldest_ms(b"{\"ts\": 5, \"value\": {}}\nbroken\n{\"ts\": 3, \"value\": null}\n{\"ts\": 1, \"val"), Some(3));
        assert_eq!(oldest_ms(b""), None);
    }

    #[test]
    fn overrides_need_all_tags_and_one_name() {
        let over = Override { tags: vec!["big".into()], names: vec!["a".into(), "b".into()], ..Override::default() };
        let big = ["big".to_owned(), "x".to_owned()];
        assert!(fits(&over, "b", &big) && !fits(&over, "c", &big) && !fits(&over, "a", &[]));
        assert!(fits(&Override::default(), "c", &[]));
    }
}
