//! One SELECT: FROM, WHERE, GROUP BY, HAVING and the list of columns, bound to operators.

use arrow::datatypes::{DataType, Field};
use datafusion_common::{Column, DFSchema};
use datafusion_expr::{Cast, Expr, ExprSchemable};
use datafusion_sql::sqlparser::ast::{
    Distinct, ExcludeSelectItem, Expr as Ast, GroupByExpr, Ident, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, Value, WildcardAdditionalOptions,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::aggregate::{Grouping, holds_aggregate};
use super::aggregate_call;
use super::codes;
use super::expr::{Bound, conjunction};
use super::forms::Aggregates;
use super::from;
use super::names::Scope;
use super::nulls::{Facts, facts_of, nullable};
use super::parse::name_of;
use super::query::{Changes, Emit, Node};
use super::refuse;
use super::relations::schema_of;
use super::show;
use super::subquery::Outside;
use super::top_n::{self, Numbering};
use super::types::{Family, family, kept};
use super::union::{distinct, retracting};
use super::windows;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::{ROWTIME, type_name};

/// The most columns that a SELECT may have.
const MAX_COLUMNS: usize = 5_000;

/// A column of the result, before aggregates are taken out of it.
#[derive(Debug, Clone)]
struct Item {
    name: String,
    expr: Expr,
    place: Place,
    /// The tree that it came from; `None` for a column of a `*`.
    ast: Option<Ast>,
}

/// The rows that the list of columns is computed from.
pub(crate) struct Rows {
    pub(crate) node: Node,
    pub(crate) schema: DFSchema,
    pub(crate) facts: Facts,
    /// The columns of a table's key.
    pub(crate) key: Vec<Column>,
    /// Columns of which no two rows that are there have equal values, where such are known.
    pub(crate) unique: Option<Vec<Column>>,
    /// Columns that are equal to a column of the key, and that column.
    pub(crate) same: Vec<(Column, Column)>,
    /// Columns that are the rows' event time.
    pub(crate) times: Vec<Column>,
}

/// A query or sub-query, bound. Its columns have bare names that differ.
pub(crate) struct Selected {
    pub(crate) root: Node,
    /// The places of the result's columns.
    pub(crate) places: Vec<Place>,
    /// The columns that each row of a table was known by, if the list of columns lacks one of them.
    pub(crate) lost_key: Vec<String>,
    /// Columns of which no two rows that are there have equal values, where such are known.
    pub(crate) unique: Option<Vec<usize>>,
    /// Columns that are the rows' event time.
    pub(crate) times: Vec<usize>,
}

/// Binds a SELECT. What is wrong is kept in the scope.
pub(crate) fn bind<'a>(select: &'a Select, outside: Outside, scope: &mut Scope<'a>) -> Option<Selected> {
    let before = scope.diagnostics.len();
    let mut filter: Vec<Ast> = select.selection.iter().flat_map(from::split).cloned().collect();
    let from = from::bind(select, scope, &mut filter);
    if !scope.complete {
        return None;
    }
    let schema = from::in_sight(scope);
    let mut conditions = Vec::new();
    for part in &filter {
        if let Some(bound) = scope.bind_condition(part, &schema, "WHERE", Aggregates::NotIn("WHERE")) {
            conditions.push(bound.expr);
        }
    }
    let numbering = top_n::bind(select, outside.first, &schema, scope);
    let items = items(select, numbering.as_ref(), outside.renamed, scope, &schema);
    let group = group(select, &items, scope, &schema);
    let having = select.having.as_ref().and_then(|h| scope.bind_condition(h, &schema, "HAVING", Aggregates::Allowed));
    let mut items: Vec<Item> = items.into_iter().flatten().collect();
    match outside.renamed {
        true => make_names_differ(&mut items),
        false => check_names(&items, scope),
    }
    let mut from = from?;
    if scope.diagnostics.len() > before {
        return None;
    }
    from.facts.extend(conditions.iter().flat_map(facts_of));
    let (key, unique) = (from.side.key(), from.side.unique);
    let (key, unique) = (key.clone().unwrap_or_default(), unique.or(key));
    let times = event_times(from.side.time, scope);
    let node = filtered(from.side.node, conditions);
    let mut rows = Rows { node, schema, facts: from.facts, key, unique, same: from.same, times };
    let listed = items.len();
    items.extend(numbering.iter().flat_map(numbered_by));
    let grouped = group.is_some() || having.is_some() || items.iter().any(|item| holds_aggregate(&item.expr));
    if grouped {
        let arm = scope.text.arm(scope.text.bytes(select.select_token.0.span).start);
        let clause = scope.text.place_of_last_in(&arm, &["GROUP"]);
        rows = aggregated(rows, (group.unwrap_or_default(), clause), &mut items, having, scope)?;
    } else {
        windows::unused_grace(scope);
    }
    let by = items.split_off(listed);
    if let Some(numbering) = numbering {
        rows = top_n::first_rows(rows, with_expressions(numbering, by));
    }
    let selected = project(rows, items, scope)?;
    Some(once(select, selected))
}

/// What a ROW_NUMBER() partitions and sorts by, as columns that aggregates can be taken out of.
fn numbered_by(numbering: &Numbering) -> impl Iterator<Item = Item> {
    let bounds = numbering.partition.iter().chain(numbering.order.iter().map(|(bound, ..)| bound));
    bounds.map(|Bound { expr, ast, place }| Item {
        name: String::new(),
        expr: expr.clone(),
        place: place.clone(),
        ast: Some(ast.clone()),
    })
}

fn with_expressions(mut numbering: Numbering, by: Vec<Item>) -> Numbering {
    let bounds = numbering.partition.iter_mut().chain(numbering.order.iter_mut().map(|(bound, ..)| bound));
    for (bound, item) in bounds.zip(by) {
        bound.expr = item.expr;
    }
    numbering
}

/// The result, each row once if DISTINCT says so.
fn once(select: &Select, selected: Selected) -> Selected {
    if matches!(select.distinct, Some(Distinct::Distinct)) { distinct(selected) } else { selected }
}

/// The columns that are the event time of the rows, which is that of one input.
fn event_times(time: Option<usize>, scope: &Scope<'_>) -> Vec<Column> {
    let Some(input) = time.and_then(|at| scope.inputs.get(at)) else { return Vec::new() };
    let names = input.times.iter().map(String::as_str).chain([ROWTIME]);
    names.map(|name| Column::new(Some(input.alias.clone()), name)).collect()
}

fn filtered(node: Node, conditions: Vec<Expr>) -> Node {
    match conjunction(conditions) {
        Some(predicate) => Node::Filter { input: Box::new(node), predicate },
        None => node,
    }
}

/// The list of columns, `*` written out; `None` for each that could not be bound.
fn items(
    select: &Select,
    numbering: Option<&Numbering>,
    renamed: bool,
    scope: &mut Scope<'_>,
    schema: &DFSchema,
) -> Vec<Option<Item>> {
    let mut items = Vec::new();
    for item in &select.projection {
        let around = scope.text.place(item);
        if items.len() > MAX_COLUMNS {
            let message = format!("the result has more than {MAX_COLUMNS} columns");
            scope.diagnostics.push(Diagnostic::error(codes::TOO_LARGE, around, message).help("name the columns that are needed"));
            break;
        }
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } if top_n::row_number(expr).is_some() => {
                let name = match item {
                    SelectItem::ExprWithAlias { alias, .. } => Some(name_of(alias)),
                    _ => None,
                };
                // It is no column where nothing outside reads it, or where it was refused.
                if numbering.is_some_and(Numbering::is_listed) {
                    items.push(number(name, around, renamed, scope));
                }
            }
            SelectItem::UnnamedExpr(expr) => {
                let bound = scope.bind(expr, schema, &around, Aggregates::Allowed);
                items.push(bound.and_then(|bound| unnamed(expr, bound, renamed, scope)));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let bound = scope.bind(expr, schema, &around, Aggregates::Allowed);
                items.push(bound.map(|Bound { expr, ast, place }| Item { name: name_of(alias), expr, place, ast: Some(ast) }));
            }
            SelectItem::ExprWithAliases { .. } => {
                scope.diagnostics.push(Diagnostic::error(
                    codes::UNSUPPORTED,
                    around,
                    "several aliases for one expression are not supported",
                ));
                items.push(None);
            }
            SelectItem::Wildcard(options) => items.extend(wildcard(None, options, scope)),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                items.extend(qualified_wildcard(name, options, scope));
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                let message = "`.*` behind an expression is not supported";
                scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, around, message).help("name the fields: `a.b.c`"));
                items.push(None);
            }
        }
    }
    items
}

/// The number of a row.
fn number(name: Option<String>, place: Place, renamed: bool, scope: &mut Scope<'_>) -> Option<Item> {
    if name.is_none() && !renamed {
        let message = "an expression needs a name, which becomes the field's";
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("write `ROW_NUMBER() OVER (..) AS name`"));
        return None;
    }
    Some(Item { name: name.unwrap_or_default(), expr: top_n::number(), place, ast: None })
}

/// An expression without AS: a column, or a field of one, keeps its name. Others need none if they are `renamed`.
fn unnamed(expr: &Ast, bound: Bound, renamed: bool, scope: &mut Scope<'_>) -> Option<Item> {
    let last = match &bound.ast {
        Ast::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    if let Some(last) = last {
        return Some(Item { name: last.value.clone(), expr: bound.expr, place: bound.place, ast: Some(bound.ast) });
    }
    if renamed {
        return Some(Item { name: show::sql(&bound.expr), expr: bound.expr, place: bound.place, ast: Some(bound.ast) });
    }
    let help = match expr {
        Ast::Function(call) => format!("write `{}(..) AS name`", super::forms::call_name(call)),
        _ => "write `expression AS name`".to_string(),
    };
    scope
        .diagnostics
        .push(Diagnostic::error(codes::NAMES, bound.place, "an expression needs a name, which becomes the field's").help(help));
    None
}

/// `alias.*`
fn qualified_wildcard(name: &ObjectName, options: &WildcardAdditionalOptions, scope: &mut Scope<'_>) -> Vec<Option<Item>> {
    let input = match name.0.as_slice() {
        [ObjectNamePart::Identifier(alias)] => scope.input(alias),
        _ => None,
    };
    match input {
        Some(input) => wildcard(Some(input), options, scope),
        None => {
            let aliases: Vec<String> = scope.inputs.iter().map(|i| i.alias.clone()).collect();
            let place = scope.text.place(name);
            let message = format!("FROM has no relation `{name}`");
            scope.diagnostics.push(
                Diagnostic::error(codes::UNKNOWN_RELATION, place, message).help(format!("FROM has {}", aliases.join(", "))),
            );
            vec![None]
        }
    }
}

/// All columns of one input, or of all, but those behind EXCEPT or EXCLUDE. `rowtime` is not among them.
fn wildcard(only: Option<usize>, options: &WildcardAdditionalOptions, scope: &mut Scope<'_>) -> Vec<Option<Item>> {
    let refused = refuse::wildcard(options, scope.text);
    let place = scope.text.place_of(options.wildcard_token.0.span);
    let excepted = excepted(options);
    let inputs: Vec<usize> = only.map_or_else(|| (0..scope.inputs.len()).collect(), |one| vec![one]);
    let mut left_out = Vec::new();
    for name in &excepted {
        let matches = |c: &str| c == name.value || (name.quote_style.is_none() && c.eq_ignore_ascii_case(&name.value));
        let mut known = inputs.iter().filter_map(|at| scope.inputs.get(*at));
        let unsupported = |c: &(String, String)| c.0.eq_ignore_ascii_case(&name.value);
        if !known.any(|input| input.columns().any(matches) || input.unsupported.iter().any(unsupported)) {
            let place = scope.text.place_of(name.span);
            let columns: Vec<String> =
                inputs.iter().filter_map(|at| scope.inputs.get(*at)).flat_map(|i| i.columns().map(str::to_string)).collect();
            let diagnostic =
                Diagnostic::error(codes::UNKNOWN_COLUMN, place, format!("`*` has no column `{}` to leave out", name.value));
            let near = super::relations::nearest(&name.value, columns.iter().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"));
            scope.diagnostics.push(match near {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            });
        }
        left_out.push(name.clone());
    }
    let out = |column: &str| {
        left_out.iter().any(|n| n.value == column || (n.quote_style.is_none() && n.value.eq_ignore_ascii_case(column)))
    };
    let mut items = Vec::new();
    for at in inputs {
        let Some(input) = scope.inputs.get(at).cloned() else { continue };
        if let Some((column, reason)) = input.unsupported.iter().find(|(column, _)| !out(column)) {
            let message = format!("column `{}.{column}` can't be read: {reason}", input.alias);
            let help = format!("write `* EXCEPT ({column})`");
            scope.diagnostics.push(Diagnostic::error(codes::UNREADABLE_COLUMN, place.clone(), message).help(help));
        }
        for column in input.columns().filter(|c| *c != ROWTIME && !out(c)) {
            scope.read(at, column, place.clone());
            let expr = Expr::Column(Column::new(Some(input.alias.clone()), column));
            items.push(Some(Item { name: column.to_string(), expr, place: place.clone(), ast: None }));
        }
    }
    if !refused.is_empty() {
        scope.diagnostics.extend(refused);
        items.push(None);
    }
    items
}

/// The names behind EXCEPT or EXCLUDE.
fn excepted(options: &WildcardAdditionalOptions) -> Vec<Ident> {
    let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident().cloned());
    let except = options.opt_except.iter().flat_map(|e| std::iter::once(&e.first_element).chain(&e.additional_elements)).cloned();
    let exclude = options.opt_exclude.iter().flat_map(|e| match e {
        ExcludeSelectItem::Single(name) => vec![name],
        ExcludeSelectItem::Multiple(names) => names.iter().collect(),
    });
    except.chain(exclude.filter_map(last)).collect()
}

/// Gives columns names of their own that get others outside.
fn make_names_differ(items: &mut [Item]) {
    let mut known = HashSet::new();
    for (at, item) in items.iter_mut().enumerate() {
        if !known.insert(item.name.clone()) {
            item.name = format!("{} {}", item.name, at + 1);
            known.insert(item.name.clone());
        }
    }
}

/// Refuses names that two columns of the result would have.
fn check_names(items: &[Item], scope: &mut Scope<'_>) {
    let mut known: HashMap<&str, &Item> = HashMap::new();
    for item in items {
        let Some(first) = known.insert(&item.name, item) else { continue };
        known.insert(&item.name, first);
        let message = format!(
            "two columns of the result are called `{}`: {} and {}",
            item.name,
            show::sql(&first.expr),
            show::sql(&item.expr)
        );
        let help = if item.ast.is_none() && matches!(item.expr, Expr::Column(_)) {
            format!("name the columns, or leave one out: `* EXCEPT ({})`", item.name)
        } else {
            "give one of them another name with AS, or leave it out".to_string()
        };
        let diagnostic = Diagnostic::error(codes::NAMES, item.place.clone(), message).help(help);
        scope.diagnostics.push(if first.place == item.place {
            diagnostic
        } else {
            diagnostic.related(first.place.clone(), "first here")
        });
    }
}

/// GROUP BY: expressions, names of the list's columns, or their positions. `None` without GROUP BY.
fn group(select: &Select, items: &[Option<Item>], scope: &mut Scope<'_>, schema: &DFSchema) -> Option<Vec<Expr>> {
    let GroupByExpr::Expressions(expressions, _) = &select.group_by else { return None };
    if expressions.is_empty() {
        return None;
    }
    Some(expressions.iter().filter_map(|expr| group_item(expr, select, items, scope, schema)).collect())
}

fn group_item(expr: &Ast, select: &Select, items: &[Option<Item>], scope: &mut Scope<'_>, schema: &DFSchema) -> Option<Expr> {
    let place = scope.text.place(expr);
    let chosen = match expr {
        Ast::Value(value) => match &value.value {
            Value::Number(number, _) => {
                let stars =
                    select.projection.iter().any(|i| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
                let position = number.parse::<usize>().ok().filter(|n| !stars && (1..=items.len()).contains(n));
                let Some(position) = position else {
                    let message = format!("GROUP BY {number} is no position in the list of columns, which has {}", items.len());
                    scope.diagnostics.push(Diagnostic::error(codes::GROUPING, place, message).help("name the column"));
                    return None;
                };
                // A column that could not be bound was refused already.
                Some(items.get(position - 1)?.as_ref()?)
            }
            _ => None,
        },
        // A column of FROM goes before a name of the list, as in standard SQL.
        Ast::Identifier(name) if !scope.inputs.iter().any(|i| i.columns().any(|c| c.eq_ignore_ascii_case(&name.value))) => {
            let name = name_of(name);
            items.iter().flatten().find(|item| item.name == name)
        }
        _ => None,
    };
    let expr = match chosen {
        Some(item) => item.expr.clone(),
        None => scope.bind(expr, schema, &place, Aggregates::NotIn("GROUP BY"))?.expr,
    };
    if top_n::is_number(&expr) {
        let message = "ROW_NUMBER() can't stand in GROUP BY: it is computed from the groups";
        scope.diagnostics.push(Diagnostic::error(codes::GROUPING, place, message).help("number the rows in a sub-query"));
        return None;
    }
    if holds_aggregate(&expr) {
        scope
            .diagnostics
            .push(Diagnostic::error(codes::GROUPING, place, "an aggregate can't stand in GROUP BY").help("group by columns"));
        return None;
    }
    Some(expr)
}

/// Takes the aggregates out of the list and HAVING. Gives the grouped rows. `clause`: where GROUP BY stands.
fn aggregated(
    rows: Rows,
    (mut group, clause): (Vec<Expr>, Place),
    items: &mut [Item],
    having: Option<Bound>,
    scope: &mut Scope<'_>,
) -> Option<Rows> {
    let Rows { node, schema, facts, .. } = rows;
    let listed: Vec<(&str, &Expr)> = items.iter().map(|item| (item.name.as_str(), &item.expr)).collect();
    let window = windows::group(&mut group, &listed, &clause, scope).ok()?;
    let node = retracting(node);
    if node.changes() == Changes::Retract {
        let listed = items.iter().filter_map(|item| item.ast.as_ref()).chain(having.as_ref().map(|having| &having.ast));
        let refused: Vec<Diagnostic> = listed.flat_map(|ast| aggregate_call::irrevocable(ast, scope.text)).collect();
        if !refused.is_empty() {
            scope.diagnostics.extend(refused);
            return None;
        }
    }
    let mut grouping = Grouping::new(group, &schema, &facts).ok()?;
    for item in items.iter_mut().filter(|item| !top_n::is_number(&item.expr)) {
        let place = item.place.clone();
        item.expr = lifted(&mut grouping, item.expr.clone(), item.ast.as_ref(), &schema, &facts, place, scope)?;
    }
    let having = match having {
        Some(bound) => Some(lifted(&mut grouping, bound.expr, Some(&bound.ast), &schema, &facts, bound.place, scope)?),
        None => None,
    };
    let output = grouping.schema();
    let told = window.as_ref().and_then(|window| window.told);
    let positions: Vec<usize> = (0..grouping.group.len()).filter(|at| Some(*at) != told).collect();
    let key: Vec<Column> =
        grouping.group_columns().enumerate().filter(|(at, _)| Some(*at) != told).map(|(_, c)| c.clone()).collect();
    let window = window.map(|window| window.window);
    let is_final = window.is_some_and(|window| window.emit == Emit::Final);
    let mut known = grouping.facts.clone();
    known.extend(having.iter().flat_map(facts_of));
    let Grouping { group, aggregates, .. } = grouping;
    let node = Node::Aggregate {
        input: Box::new(node),
        group,
        aggregates,
        window,
        schema: Arc::new(output.clone()),
        changes: if is_final { Changes::Append } else { Changes::Upsert(positions) },
    };
    let node = filtered(node, having.into_iter().collect());
    Some(Rows { node, schema: output, facts: known, unique: Some(key.clone()), key, same: Vec::new(), times: Vec::new() })
}

/// An expression over the groups; a column that is neither grouped nor aggregated is refused at its own place.
fn lifted(
    grouping: &mut Grouping,
    expr: Expr,
    ast: Option<&Ast>,
    schema: &DFSchema,
    facts: &Facts,
    place: Place,
    scope: &mut Scope<'_>,
) -> Option<Expr> {
    match grouping.lift(expr, schema, facts).ok()? {
        Ok(expr) => Some(expr),
        Err(column) => {
            let place = ast.and_then(|ast| place_of_column(ast, &column, scope)).unwrap_or(place);
            let name = column.flat_name();
            let message = format!("`{name}` is neither grouped nor aggregated: a group has many of it");
            let help = format!("write latest({name}), or add it to GROUP BY");
            scope.diagnostics.push(Diagnostic::error(codes::GROUPING, place, message).help(help));
            None
        }
    }
}

/// Where a tree, its names written out, names a column first.
fn place_of_column(ast: &Ast, column: &Column, scope: &Scope<'_>) -> Option<Place> {
    use datafusion_sql::sqlparser::ast::visit_expressions;
    use std::ops::ControlFlow;
    let alias = column.relation.as_ref().map(|r| r.table().to_string());
    let found = visit_expressions(ast, |e| match e {
        Ast::CompoundIdentifier(names) => match names.as_slice() {
            [a, c, ..] if Some(&a.value) == alias.as_ref() && c.value == column.name => ControlFlow::Break(Box::new(e.span())),
            _ => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(span) => Some(scope.text.place_of(*span)),
        ControlFlow::Continue(()) => None,
    }
}

/// The list of columns over its rows.
fn project(rows: Rows, items: Vec<Item>, scope: &mut Scope<'_>) -> Option<Selected> {
    let Rows { node, schema, facts, key, unique, same, times } = rows;
    let before = scope.diagnostics.len();
    let mut columns = Vec::new();
    let mut fields = Vec::new();
    let mut places = Vec::new();
    for item in items {
        let data_type = item.expr.get_type(&schema).ok()?;
        if matches!(family(&data_type), Family::Null | Family::Interval) {
            let message = format!("column `{}` is {}, which no contract has", item.name, type_name(&data_type));
            let help = if data_type == DataType::Null {
                "write CAST(NULL AS STRING), or another type"
            } else {
                "write it as a number or a text"
            };
            scope.diagnostics.push(Diagnostic::error(codes::TYPE_MISMATCH, item.place, message).help(help));
            continue;
        }
        fields.push((None, Arc::new(Field::new(&item.name, kept(&data_type), nullable(&item.expr, &schema, &facts)))));
        columns.push(in_kept_type(item.expr, &data_type));
        places.push(item.place);
    }
    if scope.diagnostics.len() > before {
        return None;
    }
    let mut lost_key = Vec::new();
    let changes = match node.changes() {
        Changes::Append => Changes::Append,
        Changes::Retract => Changes::Retract,
        Changes::Upsert(_) => {
            let found: Vec<Option<usize>> = key.iter().map(|column| position_of_key(&mut columns, column, &same)).collect();
            lost_key = key.iter().zip(&found).filter(|(_, at)| at.is_none()).map(|(column, _)| column.flat_name()).collect();
            if lost_key.is_empty() { Changes::Upsert(found.into_iter().flatten().collect()) } else { Changes::Retract }
        }
    };
    // A delete of an upsert edge has no more than the key: without it, whole rows are taken back.
    let node = if lost_key.is_empty() { node } else { Node::Retract { input: Box::new(node) } };
    let is = |expr: &Expr, column: &Column| matches!(expr, Expr::Column(c) if c == column);
    let unique = unique.and_then(|unique| unique.iter().map(|column| columns.iter().position(|expr| is(expr, column))).collect());
    let times = (0..columns.len()).filter(|at| columns.get(*at).is_some_and(|expr| times.iter().any(|t| is(expr, t)))).collect();
    let root = Node::Project { input: Box::new(node), columns, schema: Arc::new(schema_of(fields)), changes };
    Some(Selected { root, places, lost_key, unique, times })
}

fn in_kept_type(expr: Expr, data_type: &DataType) -> Expr {
    let kept = kept(data_type);
    if kept == *data_type { expr } else { Expr::Cast(Cast::new(Box::new(expr), kept)) }
}

/// Where the list has a column of the key. One that equals it takes its place: a delete carries no other.
fn position_of_key(columns: &mut [Expr], key: &Column, same: &[(Column, Column)]) -> Option<usize> {
    let exact = columns.iter().position(|expr| matches!(expr, Expr::Column(column) if column == key));
    exact.or_else(|| {
        let equal = |expr: &Expr| matches!(expr, Expr::Column(column) if same.iter().any(|(c, k)| c == column && k == key));
        let position = columns.iter().position(equal)?;
        *columns.get_mut(position)? = Expr::Column(key.clone());
        Some(position)
    })
}
