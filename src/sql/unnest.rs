//! UNNEST in FROM: a row for each element of an array, or for each entry of a map, beside the row that holds it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{Column, DFSchema, TableReference};
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_functions::core::expr_fn::get_field;
use datafusion_sql::sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, JoinConstraint, JoinOperator, TableAlias, TableAliasColumnDef, TableFunctionArgs,
    Value,
};

use super::codes;
use super::forms::Aggregates;
use super::from::{self, From, Side};
use super::names::Scope;
use super::nulls::facts_of;
use super::parse::name_of;
use super::query::Node;
use super::relations::{Input, schema_of};
use super::types::kept;
use super::union::retracting;
use crate::model::diagnostic::{Diagnostic, Place};
use crate::model::row::{ROWTIME, RowType, type_name};

/// An UNNEST of FROM, before the relations that it reads are in sight.
pub(crate) struct Unnest<'a> {
    list: &'a Ast,
    pub(crate) alias: String,
    columns: &'a [TableAliasColumnDef],
    ordinality: bool,
    pub(crate) place: Place,
}

/// Reads `UNNEST(list) [WITH ORDINALITY] AS alias [(columns)]`.
pub(crate) fn read<'a>(
    args: &'a TableFunctionArgs,
    alias: Option<&'a TableAlias>,
    ordinality: bool,
    place: Place,
    scope: &mut Scope<'_>,
) -> Option<Unnest<'a>> {
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] = args.args.as_slice() else {
        let message = "UNNEST takes one array or map";
        scope.diagnostics.push(Diagnostic::error(codes::UNSUPPORTED, place, message).help("write UNNEST(a.list) AS t(element)"));
        return None;
    };
    let Some(alias) = alias else {
        let message = "UNNEST needs names for its columns";
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help("write UNNEST(a.list) AS t(element)"));
        return None;
    };
    Some(Unnest { list, alias: name_of(&alias.name), columns: &alias.columns, ordinality, place })
}

/// Whether a join of an UNNEST keeps rows whose list is empty. Refuses what is neither CROSS, INNER nor LEFT.
pub(crate) fn outer(join: &JoinOperator, place: &Place, scope: &mut Scope<'_>) -> Option<bool> {
    let (outer, on) = match join {
        JoinOperator::CrossJoin(on) | JoinOperator::Join(on) | JoinOperator::Inner(on) => (false, on),
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (true, on),
        _ => {
            let message = "UNNEST is joined by CROSS JOIN, or by LEFT JOIN .. ON TRUE where rows with an empty list are kept";
            scope.diagnostics.push(Diagnostic::error(codes::JOIN, place.clone(), message).help("write CROSS JOIN UNNEST(..)"));
            return None;
        }
    };
    let is_true = |on: &Ast| matches!(on, Ast::Value(value) if value.value == Value::Boolean(true));
    match on {
        JoinConstraint::On(on) if is_true(on) => Some(outer),
        JoinConstraint::None if matches!(join, JoinOperator::CrossJoin(_)) => Some(outer),
        _ => {
            let message = "UNNEST has no other condition than TRUE: each row meets the elements of its own list";
            let help = "write ON TRUE, and what the elements must fulfil into WHERE";
            scope.diagnostics.push(Diagnostic::error(codes::JOIN, place.clone(), message).help(help));
            None
        }
    }
}

/// The rows left of an UNNEST, each as often as its list has elements.
pub(crate) fn bind(left: Option<From>, unnest: Unnest<'_>, outer: bool, scope: &mut Scope<'_>) -> Option<From> {
    let schema = from::in_sight(scope);
    let list = scope.bind(unnest.list, &schema, &unnest.place, Aggregates::NotIn("UNNEST"))?;
    let data_type = list.expr.get_type(&schema).ok()?;
    let Some(found) = elements(&data_type) else {
        let message = format!("UNNEST takes an ARRAY or a MAP, not {}", type_name(&data_type));
        scope.diagnostics.push(Diagnostic::error(codes::TYPE_MISMATCH, list.place, message));
        return None;
    };
    let names: Vec<String> = unnest.columns.iter().map(|column| name_of(&column.name)).collect();
    let fields = columns(&found, &names, &unnest, scope)?;
    let input = Input {
        alias: unnest.alias.clone(),
        name: unnest.alias.clone(),
        row_type: Arc::new(RowType::new(fields.clone())),
        unsupported: Vec::new(),
        times: Vec::new(),
        product: None,
        optional: outer,
        window: None,
        timed: false,
    };
    scope.inputs.push(input);
    let From { side, mut facts, same } = left?;
    if !outer {
        facts.extend(facts_of(&Expr::IsNotNull(Box::new(list.expr.clone()))));
    }
    let node = retracting(side.node);
    let position = fields.last().filter(|_| unnest.ordinality).map(|f| Column::new(Some(unnest.alias.clone()), f.name()));
    let unique = side.unique.zip(position).map(|(mut unique, position)| {
        unique.push(position);
        unique
    });
    let node = operator(node, list.expr, &found, &fields, &unnest, outer);
    Some(From { side: Side { node, unique, time: side.time, near: side.near }, facts, same })
}

/// What the elements of a list are; a map's are its entries.
enum Elements {
    Of(Arc<Field>),
    Entries(Fields),
}

fn elements(list: &DataType) -> Option<Elements> {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(Elements::Of(item.clone())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => Some(Elements::Entries(fields.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// The fields that an array's elements are taken apart into: those of structs, unless the element has one name.
fn parts<'e>(elements: &'e Elements, unnest: &Unnest<'_>) -> Option<&'e Fields> {
    let named = unnest.columns.len().checked_sub(usize::from(unnest.ordinality));
    match elements {
        Elements::Of(item) if named != Some(1) => match item.data_type() {
            DataType::Struct(fields) => Some(fields),
            _ => None,
        },
        _ => None,
    }
}

/// The columns that UNNEST adds, under the names behind its alias, or else under names of their own.
fn columns(elements: &Elements, names: &[String], unnest: &Unnest<'_>, scope: &mut Scope<'_>) -> Option<Vec<Field>> {
    let renamed = |field: &Field, name: &str| field.clone().with_name(name).with_data_type(kept(field.data_type()));
    let mut fields: Vec<Field> = match (parts(elements, unnest), elements) {
        (Some(parts), Elements::Of(item)) => {
            let nullable = |f: &Field| f.is_nullable() || item.is_nullable();
            parts.iter().map(|f| renamed(f, f.name()).with_nullable(nullable(f))).collect()
        }
        (_, Elements::Of(item)) => vec![renamed(item, &unnest.alias)],
        (_, Elements::Entries(entries)) => entries.iter().zip(["key", "value"]).map(|(f, name)| renamed(f, name)).collect(),
    };
    if unnest.ordinality {
        fields.push(Field::new("ordinality", DataType::Int64, false));
    }
    let place = unnest.place.clone();
    let own: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
    if !names.is_empty() && names.len() != fields.len() {
        let message =
            format!("UNNEST has {} columns here, and the number of names behind its alias is {}", own.len(), names.len());
        let help = format!("its columns are {}", own.join(", "));
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help(help));
        return None;
    }
    for (field, name) in fields.iter_mut().zip(names) {
        *field = field.clone().with_name(name);
    }
    let called = |at: usize| fields.get(at).map_or("", |f| f.name().as_str());
    let twice = (0..fields.len()).find(|at| (0..*at).any(|other| called(other) == called(*at)) || called(*at) == ROWTIME);
    if let Some(at) = twice {
        let message = match called(at) {
            ROWTIME => format!("a column of UNNEST can't be called `{ROWTIME}`: that is the event time of the row"),
            name => format!("two columns of UNNEST are called `{name}`"),
        };
        let help = "write names of your own behind the alias: AS t(a, b)";
        scope.diagnostics.push(Diagnostic::error(codes::NAMES, place, message).help(help));
        return None;
    }
    Some(fields)
}

/// The operator, and above it the fields of structs as columns of their own.
fn operator(input: Node, list: Expr, elements: &Elements, fields: &[Field], unnest: &Unnest<'_>, outer: bool) -> Node {
    let qualifier = Some(TableReference::bare(unnest.alias.clone()));
    let added = |fields: &[Field]| -> Vec<_> {
        fields.iter().map(|f| (qualifier.clone(), Arc::new(f.clone().with_nullable(f.is_nullable() || outer)))).collect()
    };
    let own: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
    let schema_with = |fields: &[Field]| Arc::new(schema_of(own.iter().cloned().chain(added(fields)).collect()));
    let ordinality = unnest.ordinality;
    let (Some(parts), Elements::Of(item)) = (parts(elements, unnest), elements) else {
        return Node::Unnest { input: Box::new(input), list, outer, ordinality, schema: schema_with(fields) };
    };
    let whole = Field::new("element", item.data_type().clone(), item.is_nullable());
    let element = Expr::Column(Column::new(qualifier.clone(), "element"));
    let position = fields.get(parts.len()).cloned();
    let inner: Vec<Field> = std::iter::once(whole).chain(position.clone()).collect();
    let changes = input.changes();
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let node = Node::Unnest { input: Box::new(input), list, outer, ordinality, schema: schema_with(&inner) };
    let taken = parts.iter().map(|part| get_field(element.clone(), part.name().as_str()));
    let position = position.map(|f| Expr::Column(Column::new(qualifier.clone(), f.name())));
    let columns = columns.into_iter().chain(taken).chain(position).collect();
    let schema: Arc<DFSchema> = schema_with(fields);
    Node::Project { input: Box::new(node), columns, schema, changes }
}
