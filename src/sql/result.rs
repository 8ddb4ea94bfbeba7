//! What the query's result must be for the product that it makes: a stream or a table, with the product's key.

use datafusion_common::DFSchema;

use super::codes;
use super::names::Scope;
use super::query::{Changes, Node};
use super::relations::{nearest, some_of};
use super::select::Selected;
use crate::model::diagnostic::{Diagnostic, Place, has_errors};
use crate::model::product::Shape;

/// What the product declares that the query makes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub shape: Shape,
    /// Columns of the record key; empty for a stream without one.
    pub key: &'a [String],
}

/// Checks the result against the product, and brings a table's rows under the product's key. Gives the positions of the
/// key's columns in the result.
pub(crate) fn check(selected: &mut Selected, target: &Target<'_>, scope: &mut Scope<'_>) -> Vec<usize> {
    let before = scope.diagnostics.len();
    let key = key_of(selected, target, scope);
    if target.shape == Shape::Table && !has_errors(scope.diagnostics.get(before..).unwrap_or_default()) {
        let own = selected.root.changes();
        let same = matches!(&own, Changes::Upsert(own) if same_columns(own, &key));
        match own {
            _ if same => {}
            Changes::Append => {}
            _ if has_groups(&selected.root) && !unique(selected, &key) => scope.diagnostics.push(no_order(target, scope)),
            _ => rekey(&mut selected.root, &key),
        }
    }
    key
}

/// Whether rows of groups are among the result's: they come when a step of the dataflow ends, in no certain order.
fn has_groups(node: &Node) -> bool {
    let groups = matches!(node, Node::Aggregate { changes: Changes::Upsert(_), .. });
    groups || node.inputs().into_iter().any(has_groups)
}

/// That of groups with equal keys none is the last.
fn no_order(target: &Target<'_>, scope: &Scope<'_>) -> Diagnostic {
    let names = target.key.join(", ");
    let message = format!("groups change in no certain order: nothing says which of several with one key ({names}) counts");
    let help =
        format!("GROUP BY {names} around it, with min(x) or max(x) for the other columns, or declare the result's own key");
    Diagnostic::error(codes::RESULT, scope.text.start(), message).help(help)
}

/// Puts a table's rows under another key than their own. Of rows with equal keys the last one counts.
fn rekey(root: &mut Node, key: &[usize]) {
    let own = root.changes();
    // Something to stand in its place while it is wrapped.
    let node =
        std::mem::replace(root, Node::Union { inputs: Vec::new(), schema: root.schema().clone(), changes: Changes::Append });
    let whole = if own == Changes::Retract { node } else { Node::Retract { input: Box::new(node) } };
    *root = Node::Rekey { input: Box::new(whole), key: key.to_vec() };
}

fn same_columns(a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && a.iter().all(|position| b.contains(position))
}

fn key_of(selected: &Selected, target: &Target<'_>, scope: &mut Scope<'_>) -> Vec<usize> {
    let schema = selected.root.schema().clone();
    let mut key = Vec::new();
    for column in target.key {
        match schema.index_of_column_by_name(None, column) {
            Some(position) => key.push(position),
            None => scope.diagnostics.push(missing(column, &schema, selected, scope)),
        }
    }
    if key.len() < target.key.len() {
        return key;
    }
    let place = selected.places.first().cloned().unwrap_or_else(|| scope.text.start());
    let error = |message: String, help: String| Diagnostic::error(codes::RESULT, scope.text.start(), message).help(help);
    let names = target.key.join(", ");
    let diagnostic = match (target.shape, selected.root.changes()) {
        (Shape::Stream, Changes::Append) => None,
        (Shape::Stream, _) if windowed(&selected.root) => Some(error(
            "the product is a stream, and EMIT CHANGES gives a table: each group's row is replaced until its window closes"
                .into(),
            "leave EMIT CHANGES out, or declare `shape: table` with the grouped columns as its key".into(),
        )),
        (Shape::Stream, _) if grouped(&selected.root) => Some(error(
            "the product is a stream, and GROUP BY without a window gives a table: each group's row is replaced again and again"
                .into(),
            "declare `shape: table` with the grouped columns as its key".into(),
        )),
        (Shape::Stream, _) => Some(error(
            "the product is a stream, and the query's result is a table: its rows are replaced and deleted".into(),
            "declare `shape: table`, or read a stream".into(),
        )),
        (Shape::Table, Changes::Append) if unique(selected, &key) => None,
        (Shape::Table, Changes::Append) if windowed(&selected.root) => {
            let own = selected.unique.clone().unwrap_or_default();
            let (message, help) = other_window_key(&own, selected, &names);
            Some(error(message, help))
        }
        (Shape::Table, Changes::Append) => Some(error(
            format!(
                "the product is a table, and the query's result is a stream: nothing says which of the rows of one key ({names}) counts"
            ),
            format!("GROUP BY {names}, and write latest(x) for the other columns, or declare `shape: stream`"),
        )),
        (Shape::Table, Changes::Upsert(own)) if grouped(&selected.root) => {
            other_key(&own, &key, selected, target).map(|(message, help)| error(message, help))
        }
        (Shape::Table, Changes::Retract) if grouped(&selected.root) => {
            other_key(&[], &key, selected, target).map(|(message, help)| error(message, help))
        }
        (Shape::Table, Changes::Upsert(_) | Changes::Retract) => None,
    };
    if let Some(mut diagnostic) = diagnostic {
        if let Some(clause) = grouped(&selected.root).then(|| scope.text.place_of_last_word(&["GROUP"])) {
            diagnostic.place = Some(if clause == scope.text.start() { place } else { clause });
        }
        scope.diagnostics.push(diagnostic);
    } else {
        nullable_key(&key, &schema, selected, scope);
    }
    key
}

fn missing(column: &str, schema: &DFSchema, selected: &Selected, scope: &Scope<'_>) -> Diagnostic {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let help = match nearest(column, names.iter().copied()) {
        Some(near) => format!("is it `{near}`? Else add it to the list of columns"),
        None => format!("add it to the list of columns; the result has {}", some_of(names)),
    };
    let place: Option<Place> = selected.places.last().cloned().map(|_| scope.text.start());
    Diagnostic::error(codes::RESULT, place, format!("the product's key has `{column}`, and the result has no such column"))
        .help(help)
}

/// Whether no two rows that are there have the same key.
fn unique(selected: &Selected, key: &[usize]) -> bool {
    selected.unique.as_ref().is_some_and(|unique| unique.iter().all(|position| key.contains(position)))
}

/// Why the key of a grouped result is not the product's.
fn other_key(own: &[usize], key: &[usize], selected: &Selected, target: &Target<'_>) -> Option<(String, String)> {
    let names = target.key.join(", ");
    if let [first, ..] = selected.lost_key.as_slice() {
        let message =
            format!("each row of the result is known by {}, which the list of columns lacks", selected.lost_key.join(", "));
        return Some((message, format!("add {first} to the list, and to the product's key")));
    }
    if same_columns(own, key) {
        return None;
    }
    let field = |position: &usize| selected.root.schema().fields().get(*position).map(|f| f.name().clone());
    let own: Vec<String> = own.iter().filter_map(field).collect();
    if own.is_empty() {
        let message = format!("aggregates without GROUP BY give one row, which has no key, and the product's key is {names}");
        return Some((message, "add GROUP BY with the columns of the key".into()));
    }
    let own = own.join(", ");
    let help = format!("GROUP BY {names}, or declare `key: [{own}]`");
    Some((format!("the result has one row for each {own}, and the product's key is {names}"), help))
}

/// The same for the groups of a window, each of which comes once.
fn other_window_key(own: &[usize], selected: &Selected, names: &str) -> (String, String) {
    let field = |position: &usize| selected.root.schema().fields().get(*position).map(|f| f.name().clone());
    let own = own.iter().filter_map(field).collect::<Vec<_>>().join(", ");
    if own.is_empty() {
        let message =
            format!("each row of the result is known by its group, some of whose columns the list lacks, and not by {names}");
        return (message, "add the grouped columns and a bound of the window to the list, and to the product's key".into());
    }
    let message = format!("the result has one row for each {own}, and the product's key is {names}");
    (message, format!("declare `key: [{own}]`, or `shape: stream`"))
}

/// A key is never NULL: a record without one can't be found again.
fn nullable_key(key: &[usize], schema: &DFSchema, selected: &Selected, scope: &mut Scope<'_>) {
    for position in key {
        let Some(field) = schema.fields().get(*position).filter(|f| f.is_nullable()) else { continue };
        let place = selected.places.get(*position).cloned();
        let message = format!("the key column `{}` may be NULL; such rows go to the dead letters", field.name());
        let help = format!("add WHERE {} IS NOT NULL, or say in the contract that it is required", field.name());
        scope.diagnostics.push(Diagnostic::warning(codes::RESULT, place, message).help(help));
    }
}

fn grouped(node: &Node) -> bool {
    aggregate(node).is_some()
}

fn windowed(node: &Node) -> bool {
    matches!(aggregate(node), Some(Node::Aggregate { window: Some(_), .. }))
}

/// The groups that a result consists of.
fn aggregate(node: &Node) -> Option<&Node> {
    match node {
        Node::Project { input, .. } | Node::Filter { input, .. } | Node::Retract { input } => aggregate(input),
        Node::Aggregate { .. } => Some(node),
        _ => None,
    }
}
