//! A query's text to a typed query.
//!
//! The walk of one query: `text` splits it into tokens and bounds its size, `parse` makes a tree of them, `refuse` refuses
//! the clauses that are not carried out. `from` finds the products and `join` says what each join means; `forms` refuses
//! expressions that have no meaning here, `names` writes their columns out, `expr` gives them types. `select` puts the
//! operators together, with `aggregate` for groups and `nulls` for what may be NULL. `result` compares with the product
//! that the query makes, and `prune` leaves out the columns that nothing reads.
//!
//! Reading gives a query *and* diagnostics; there is no query if one of them is an error.

pub mod codes;
pub mod functions;
pub mod query;

mod aggregate;
mod aggregate_call;
mod bounded;
mod calendar;
mod check;
mod describe;
mod desugar;
mod digest;
mod expr;
mod forms;
mod from;
mod geo;
mod join;
mod json;
mod names;
mod nulls;
mod own;
mod parse;
mod prune;
mod refuse;
mod relations;
mod result;
mod rewrite;
mod select;
pub(crate) mod show;
mod subquery;
mod text;
mod top_n;
mod types;
mod union;
mod unnest;
mod windows;
mod zones;

use std::sync::Arc;

use arrow::datatypes::Schema as RowType;

pub use geo::{geo_distance, haversine_km};
pub use query::{ColumnUse, Query};
pub use relations::{Relation, Relations};
pub use result::Target;
pub(crate) use show::sql as expression_sql;

use std::collections::HashSet;

use crate::model::diagnostic::{Diagnostics, Place, has_errors};
use crate::model::product::SqlText;
use names::Scope;
use subquery::Outside;

/// Binds a query: finds every name in `relations`, types every expression, and checks that the result is what `target`
/// declares. Gives all that is wrong, in the order of the text; the query is `None` if any of it is an error.
pub fn bind(sql: &SqlText, relations: &dyn Relations, target: &Target<'_>) -> (Option<Query>, Diagnostics) {
    on_own_stack(|| bind_here(sql, relations, target))
}

/// The relations that a query names in FROM, each with its place, in the order of the text. Only parses.
pub fn reads(sql: &SqlText) -> (Vec<(String, Place)>, Diagnostics) {
    on_own_stack(|| parse::reads(sql))
}

/// Runs on a stack that is large enough for the deepest tree that `text` lets through, whatever is left of the caller's:
/// a worker thread may have two megabytes, and the planner's frames are large.
fn on_own_stack<T>(work: impl FnOnce() -> T) -> T {
    const BYTES: usize = 64 * 1024 * 1024;
    stacker::grow(BYTES, work)
}

fn bind_here(sql: &SqlText, relations: &dyn Relations, target: &Target<'_>) -> (Option<Query>, Diagnostics) {
    let parsed = match parse::parse(sql) {
        Ok(parsed) => parsed,
        Err(diagnostic) => return (None, vec![*diagnostic]),
    };
    let mut scope = Scope::new(&parsed.text, relations);
    scope.emit.clone_from(&parsed.emit);
    scope.key = target.key.to_vec();
    let selected = subquery::bind(&parsed.query, Outside::default(), &mut scope);
    selected.iter().for_each(|selected| windows::check_emit(&selected.root, &mut scope));
    let query = selected.map(|mut selected| {
        // A refused clause may be just what the result lacks.
        let key = if scope.diagnostics.is_empty() { result::check(&mut selected, target, &mut scope) } else { Vec::new() };
        let (root, inputs) = prune::prune(selected.root, &scope.scanned);
        let row_type = Arc::new(RowType::new(root.schema().fields().clone()));
        let mut uses = std::mem::take(&mut scope.uses);
        uses.sort_by_key(|read| read.place.start);
        // A sub-query that is used twice was bound twice.
        let mut seen = HashSet::new();
        uses.retain(|read| seen.insert((read.product.clone(), read.column.clone(), read.place.start, read.place.end)));
        Query { inputs, root, row_type, key, uses }
    });
    let mut diagnostics = std::mem::take(&mut scope.diagnostics);
    diagnostics.sort_by_key(|d| d.place.as_ref().map(|p| (p.start, p.end)));
    diagnostics.dedup();
    let query = query.filter(|_| !has_errors(&diagnostics));
    (query, diagnostics)
}
