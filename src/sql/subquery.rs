//! Queries inside a query: `WITH name AS (..)`, `(SELECT ..) AS name` in FROM, and what stands in parentheses.
//!
//! A sub-query of WITH is bound anew wherever FROM names it: each use is an operator of its own.

use datafusion_common::{Column, DFSchema};
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast::{Query, SetExpr, TableAlias, TableAliasColumnDef};
use std::sync::Arc;

use super::codes;
use super::from::Factor;
use super::names::Scope;
use super::parse::name_of;
use super::query::{Changes, Node};
use super::refuse;
use super::relations::{Input, schema_of};
use super::select::{self, Selected};
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::{ROWTIME, RowType};

/// How deep sub-queries may stand in one another, those of WITH where they are used.
const MAX_DEPTH: usize = 24;

/// A sub-query of WITH.
pub(crate) struct Cte<'a> {
    pub(crate) name: String,
    alias: &'a TableAlias,
    query: &'a Query,
    used: bool,
    /// Whether binding it has failed: why was said then.
    failed: bool,
}

/// Binds a query with its WITH.
pub(crate) fn bind<'a>(query: &'a Query, scope: &mut Scope<'a>) -> Option<Selected> {
    let refused = refuse::query(query, scope.text);
    scope.diagnostics.extend(refused);
    let outside = scope.ctes.len();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        let (name, alias) = (name_of(&cte.alias.name), &cte.alias);
        let place = scope.text.place_of(alias.name.span);
        if scope.ctes.iter().skip(outside).any(|other| other.name == name) {
            let message = format!("WITH names `{name}` twice");
            scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("give one of them another name"));
        }
        scope.ctes.push(Cte { name, alias, query: &cte.query, used: false, failed: false });
    }
    let before = scope.diagnostics.len();
    let bound = body(&query.body, scope);
    if scope.diagnostics.len() == before {
        unused(outside, scope);
    }
    scope.ctes.truncate(outside);
    bound
}

fn body<'a>(body: &'a SetExpr, scope: &mut Scope<'a>) -> Option<Selected> {
    match body {
        SetExpr::Select(select) => {
            let refused = refuse::select(select, scope.text);
            scope.diagnostics.extend(refused);
            select::bind(select, scope)
        }
        SetExpr::Query(query) => bind(query, scope),
        other => {
            let refused = refuse::body(other, scope.text);
            scope.diagnostics.extend(refused);
            None
        }
    }
}

/// Refuses the sub-queries of the innermost WITH that nothing reads.
fn unused(outside: usize, scope: &mut Scope<'_>) {
    let unused: Vec<_> = scope.ctes.iter().skip(outside).filter(|cte| !cte.used).map(|cte| &cte.alias.name).collect();
    for name in unused {
        let place = scope.text.place_of(name.span);
        let message = format!("nothing reads the sub-query `{}` of WITH", name.value);
        scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, place, message).help("take it out, or name it in FROM"));
    }
}

/// A sub-query in FROM.
pub(crate) fn derived<'a>(query: &'a Query, alias: Option<&TableAlias>, place: Place, scope: &mut Scope<'a>) -> Option<Factor> {
    let bound = nested(query, &place, scope);
    let Some(alias) = alias else {
        let message = "a sub-query in FROM needs a name";
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("write `(SELECT ..) AS name`"));
        return None;
    };
    let place = scope.text.place_of(alias.name.span);
    let name = name_of(&alias.name);
    renamed(bound?, Named { alias: name.clone(), name, columns: &alias.columns, place }, scope)
}

/// The sub-query of WITH at a position, under its alias in FROM.
pub(crate) fn of_with(at: usize, alias: Option<&TableAlias>, place: Place, scope: &mut Scope<'_>) -> Option<Factor> {
    let cte = scope.ctes.get_mut(at)?;
    cte.used = true;
    if cte.failed {
        return None;
    }
    let (query, own, name) = (cte.query, cte.alias, cte.name.clone());
    // It sees those that stand before it.
    let hidden = scope.ctes.split_off(at);
    let bound = nested(query, &place, scope);
    scope.ctes.extend(hidden);
    if let Some(cte) = scope.ctes.get_mut(at) {
        cte.failed = bound.is_none();
    }
    let columns = alias.map(|alias| alias.columns.as_slice()).filter(|columns| !columns.is_empty()).unwrap_or(&own.columns);
    let alias = alias.map_or_else(|| name.clone(), |alias| name_of(&alias.name));
    renamed(bound?, Named { alias, name, columns, place }, scope)
}

fn nested<'a>(query: &'a Query, place: &Place, scope: &mut Scope<'a>) -> Option<Selected> {
    if scope.depth >= MAX_DEPTH {
        let message = format!("sub-queries nest more than {MAX_DEPTH} deep");
        let help = "make a product of its own of a part, and read that";
        scope.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, place.clone(), message).help(help));
        return None;
    }
    scope.nested(|scope| bind(query, scope))
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
fn renamed(selected: Selected, named: Named<'_>, scope: &mut Scope<'_>) -> Option<Factor> {
    let Named { alias, name, columns, place } = named;
    let names = column_names(&selected, columns, scope)?;
    let qualified = |name: &String| Column::new(Some(alias.clone()), name.clone());
    let unique = selected.unique.as_ref().and_then(|unique| unique.iter().map(|at| names.get(*at).map(qualified)).collect());
    let times = selected.times.iter().filter_map(|at| names.get(*at)).filter(|name| *name != ROWTIME).cloned().collect();
    let root = without_rowtime(selected, &names, scope)?;
    let names = names.iter().filter(|name| *name != ROWTIME);
    let fields: Vec<_> = root.schema().fields().iter().zip(names).map(|(f, name)| f.as_ref().clone().with_name(name)).collect();
    let row_type = Arc::new(RowType::new(fields));
    let input = Input { alias, name, row_type, unsupported: Vec::new(), times, product: None, optional: false };
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
