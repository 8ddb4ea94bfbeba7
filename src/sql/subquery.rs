//! Queries inside a query: `WITH name AS (..)`, `(SELECT ..) AS name` in FROM, and what stands in parentheses.
//!
//! A sub-query of WITH is bound anew wherever FROM names it: each use is an operator of its own.

use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast::{Query, SetExpr, Spanned, TableAlias, TableAliasColumnDef};
use std::sync::Arc;

use super::codes;
use super::from::Factor;
use super::names::Scope;
use super::parse::name_of;
use super::query::{Changes, Node};
use super::refuse;
use super::relations::{Input, schema_of};
use super::select::{self, Selected};
use super::text::MAX_BYTES;
use super::top_n::FirstRows;
use super::union;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::{ROWTIME, RowType};

/// How deep sub-queries may stand in one another, those of WITH where they are used.
const MAX_DEPTH: usize = 24;

/// How many bytes of sub-queries are bound, those of WITH at each use.
const MAX_BOUND: usize = 2 * MAX_BYTES;

/// A sub-query of WITH.
pub(crate) struct Cte<'a> {
    pub(crate) name: String,
    alias: &'a TableAlias,
    query: &'a Query,
    used: bool,
    /// Whether binding it has failed: why was said then.
    failed: bool,
}

/// What stands outside of a query, and counts inside.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// Whether its columns get other names, so that they need none of their own.
    pub(crate) renamed: bool,
    /// How WHERE bounds its ROW_NUMBER().
    pub(crate) first: Option<FirstRows>,
}

/// Binds a query with its WITH.
pub(crate) fn bind<'a>(query: &'a Query, outside: Outside, scope: &mut Scope<'a>) -> Option<Selected> {
    let refused = refuse::query(query, scope.text);
    scope.diagnostics.extend(refused);
    let own = scope.ctes.len();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        let (name, alias) = (name_of(&cte.alias.name), &cte.alias);
        let place = scope.text.place_of(alias.name.span);
        if scope.ctes.iter().skip(own).any(|other| other.name == name) {
            let message = format!("WITH names `{name}` twice");
            scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("give one of them another name"));
        }
        scope.ctes.push(Cte { name, alias, query: &cte.query, used: false, failed: false });
    }
    let before = scope.diagnostics.len();
    let bound = body(&query.body, outside, scope);
    if scope.diagnostics.len() == before {
        unused(own, scope);
    }
    scope.ctes.truncate(own);
    bound
}

/// Binds a query's body.
pub(crate) fn body<'a>(body: &'a SetExpr, outside: Outside, scope: &mut Scope<'a>) -> Option<Selected> {
    match body {
        SetExpr::Select(select) => {
            let refused = refuse::select(select, scope.text);
            scope.diagnostics.extend(refused);
            select::bind(select, outside, scope)
        }
        SetExpr::Query(query) => bind(query, outside, scope),
        other => union::bind(other, outside, scope),
    }
}

/// Refuses the sub-queries of the innermost WITH that nothing reads.
fn unused(own: usize, scope: &mut Scope<'_>) {
    let unused: Vec<_> = scope.ctes.iter().skip(own).filter(|cte| !cte.used).map(|cte| &cte.alias.name).collect();
    for name in unused {
        let place = scope.text.place_of(name.span);
        let message = format!("nothing reads the sub-query `{}` of WITH", name.value);
        scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, place, message).help("take it out, or name it in FROM"));
    }
}

/// A sub-query in FROM.
pub(crate) fn derived<'a>(
    query: &'a Query,
    alias: Option<&TableAlias>,
    first: Option<FirstRows>,
    place: Place,
    scope: &mut Scope<'a>,
) -> Option<Factor> {
    let renamed = alias.is_some_and(|alias| !alias.columns.is_empty());
    let bound = nested(query, Outside { renamed, first }, &place, scope);
    let Some(alias) = alias else {
        let message = "a sub-query in FROM needs a name";
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("write `(SELECT ..) AS name`"));
        return None;
    };
    let place = scope.text.place_of(alias.name.span);
    let name = name_of(&alias.name);
    as_named(bound?, Named { alias: name.clone(), name, columns: &alias.columns, place }, scope)
}

/// The query of WITH that a name in FROM means, and its position.
pub(crate) fn in_with<'a>(name: &str, scope: &Scope<'a>) -> Option<(usize, &'a Query)> {
    let at = scope.ctes.iter().rposition(|cte| cte.name == name)?;
    scope.ctes.get(at).map(|cte| (at, cte.query))
}

/// The sub-query of WITH at a position, under its alias in FROM.
pub(crate) fn of_with(
    at: usize,
    alias: Option<&TableAlias>,
    first: Option<FirstRows>,
    place: Place,
    scope: &mut Scope<'_>,
) -> Option<Factor> {
    let cte = scope.ctes.get_mut(at)?;
    cte.used = true;
    if cte.failed {
        return None;
    }
    let (query, own, name) = (cte.query, cte.alias, cte.name.clone());
    let columns = alias.map(|alias| alias.columns.as_slice()).filter(|columns| !columns.is_empty()).unwrap_or(&own.columns);
    // It sees those that stand before it.
    let hidden = scope.ctes.split_off(at);
    let bound = nested(query, Outside { renamed: !columns.is_empty(), first }, &place, scope);
    scope.ctes.extend(hidden);
    if let Some(cte) = scope.ctes.get_mut(at) {
        cte.failed = bound.is_none();
    }
    let alias = alias.map_or_else(|| name.clone(), |alias| name_of(&alias.name));
    as_named(bound?, Named { alias, name, columns, place }, scope)
}

fn nested<'a>(query: &'a Query, outside: Outside, place: &Place, scope: &mut Scope<'a>) -> Option<Selected> {
    if scope.depth >= MAX_DEPTH {
        let message = format!("sub-queries nest more than {MAX_DEPTH} deep");
        let help = "make a product of its own of a part, and read that";
        scope.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place.clone(), message).help(help));
        return None;
    }
    let text = scope.text.block(scope.text.bytes(query.span()).start);
    scope.bound = scope.bound.saturating_add(text.len());
    if scope.bound > MAX_BOUND {
        let message = format!("the sub-queries are more than {MAX_BOUND} bytes long, each counted where it is used");
        let help = "make a product of its own of what is used often, and read that";
        scope.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place.clone(), message).help(help));
        return None;
    }
    scope.nested(|scope| bind(query, outside, scope))
}

/// How FROM calls a sub-query.
struct Named<'q> {
    alias: String,
    name: String,
    /// Other names for all of its columns, or none.
    columns: &'q [TableAliasColumnDef],
    place: Place,
}

/// A sub-query's rows as FROM knows them.
fn as_named(selected: Selected, named: Named<'_>, scope: &mut Scope<'_>) -> Option<Factor> {
    let Named { alias, name, columns, place } = named;
    let names = column_names(&selected, columns, scope)?;
    let qualified = |name: &String| Column::new(Some(alias.clone()), name.clone());
    let unique = selected.unique.as_ref().and_then(|unique| unique.iter().map(|at| names.get(*at).map(qualified)).collect());
    let times = selected.times.iter().filter_map(|at| names.get(*at)).filter(|name| *name != ROWTIME).cloned().collect();
    let root = without_rowtime(selected, &names, scope)?;
    let names = names.iter().filter(|name| *name != ROWTIME);
    let fields: Vec<_> = root.schema().fields().iter().zip(names).map(|(f, name)| f.as_ref().clone().with_name(name)).collect();
    let row_type = Arc::new(RowType::new(fields));
    let input = Input {
        alias,
        name,
        row_type,
        unsupported: Vec::new(),
        times,
        product: None,
        window: None,
        optional: false,
        timed: true,
    };
    let node = Node::Rename { input: Box::new(root), schema: Arc::new(input.schema()) };
    Some(Factor { input, node, unique, place, as_of: None })
}

/// The names of a sub-query's columns: its own, or those behind its alias.
fn column_names(selected: &Selected, columns: &[TableAliasColumnDef], scope: &mut Scope<'_>) -> Option<Vec<String>> {
    let own: Vec<String> = selected.root.schema().fields().iter().map(|f| f.name().clone()).collect();
    let Some(first) = columns.first() else { return Some(own) };
    let names: Vec<String> = columns.iter().map(|column| name_of(&column.name)).collect();
    let span = columns.iter().fold(first.name.span, |span, column| span.union(&column.name.span));
    let place = scope.text.place_of(span);
    let twice = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name));
    let message = match twice {
        Some((_, name)) => format!("two columns of the sub-query are called `{name}`"),
        None if names.len() != own.len() => {
            format!("the sub-query has {} columns, and {} names stand behind its alias", own.len(), names.len())
        }
        None => return Some(names),
    };
    scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help(format!("its columns are {}", own.join(", "))));
    None
}

/// The sub-query without a column `rowtime`, which each relation of FROM has anyway: that it is the rows' event time is
/// required.
fn without_rowtime(selected: Selected, names: &[String], scope: &mut Scope<'_>) -> Option<Node> {
    let Selected { root, places, times, .. } = selected;
    let Some(at) = names.iter().position(|name| name == ROWTIME) else { return Some(root) };
    let key = match root.changes() {
        Changes::Upsert(key) => key,
        _ => Vec::new(),
    };
    if !times.contains(&at) || key.contains(&at) {
        let place = places.get(at).cloned();
        let message = "a column of a sub-query can't be called `rowtime`: that is the event time of its rows";
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("give it another name with AS"));
        return None;
    }
    let kept: Vec<_> = root.schema().iter().enumerate().filter(|(position, _)| *position != at).map(|(_, field)| field).collect();
    let columns = kept.iter().map(|(q, f)| Expr::Column(Column::new(q.cloned(), f.name().clone()))).collect();
    let schema: DFSchema = schema_of(kept.iter().map(|(q, f)| (q.cloned(), (*f).clone())).collect());
    let changes = match root.changes() {
        Changes::Upsert(_) => Changes::Upsert(key.into_iter().map(|position| position - usize::from(position > at)).collect()),
        other => other,
    };
    Some(Node::Project { input: Box::new(root), columns, schema: Arc::new(schema), changes })
}
