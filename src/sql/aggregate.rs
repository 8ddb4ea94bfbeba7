//! Aggregates: their types, and how they are taken out of the expressions that hold them.
//!
//! `round(avg(x), 2)` becomes the aggregate `avg(x)`, whose result is a column, and `round(<that column>, 2)` over it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result, TableReference, not_impl_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, Signature, Volatility};

use super::functions::AGGREGATES;
use super::nulls::{Facts, nullable};
use super::query::{Aggregate, AggregateFunction};
use super::relations::schema_of;
use super::show;
use super::types::{Family, family};

/// The aggregate function of that name.
fn function(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "latest" => AggregateFunction::Latest,
        "earliest" => AggregateFunction::Earliest,
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "avg" => AggregateFunction::Avg,
        _ => return None,
    })
}

/// What stands for an aggregate while DataFusion plans an expression.
pub(crate) fn marker(name: &str) -> Option<Arc<AggregateUDF>> {
    static MARKERS: LazyLock<BTreeMap<&str, Arc<AggregateUDF>>> =
        LazyLock::new(|| AGGREGATES.iter().map(|name| (*name, Arc::new(AggregateUDF::from(Marker::new(name))))).collect());
    MARKERS.get(name).cloned()
}

/// What an aggregate can be given, for a help line.
pub(crate) fn takes(name: &str) -> String {
    match name {
        "sum" => "sum takes a number".into(),
        "avg" => "avg takes a number; of a DECIMAL, write avg(CAST(x AS DOUBLE))".into(),
        "min" | "max" => format!("{name} takes a number, a text, a time or a BOOLEAN"),
        other => format!("write {other}(x)"),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    name: &'static str,
    signature: Signature,
}

impl Marker {
    fn new(name: &'static str) -> Self {
        Marker { name, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Marker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The argument in the type that the aggregate computes with, which is its result's type too, but for `count`.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [t] = types else { return plan_err!("{} takes one argument", self.name) };
        let wide = match (self.name, t, family(t)) {
            ("latest" | "earliest" | "count", t, _) => t.clone(),
            ("min" | "max", t, Family::Number | Family::Text | Family::Time | Family::Boolean | Family::Bytes) => t.clone(),
            ("sum", t, _) if t.is_integer() => DataType::Int64,
            ("sum", DataType::Decimal128(_, scale), _) => DataType::Decimal128(38, *scale),
            ("sum" | "avg", DataType::Float16 | DataType::Float32 | DataType::Float64, _) => DataType::Float64,
            ("avg", t, _) if t.is_integer() => DataType::Float64,
            _ => return plan_err!("{} does not take {t}", self.name),
        };
        Ok(vec![wide])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.name, types) {
            ("count", _) => Ok(DataType::Int64),
            (_, types) => match self.coerce_types(types)?.pop() {
                Some(t) => Ok(t),
                None => plan_err!("{} takes one argument", self.name),
            },
        }
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("the engine computes {}", self.name)
    }

    fn state_fields(&self, _: StateFieldsArgs) -> Result<Vec<Arc<Field>>> {
        not_impl_err!("the engine computes {}", self.name)
    }
}

/// The groups of a query and the aggregates that its expressions hold; equal ones once.
#[derive(Debug)]
pub(crate) struct Grouping {
    pub(crate) group: Vec<Expr>,
    pub(crate) aggregates: Vec<Aggregate>,
    fields: Vec<(Option<TableReference>, Arc<Field>)>,
    /// The expressions that the output's columns stand for.
    columns: Vec<(Expr, Column)>,
    /// The result's columns that are never NULL.
    pub(crate) facts: Facts,
}

impl Grouping {
    /// Groups by the given expressions over rows of `schema`.
    pub(crate) fn new(group: Vec<Expr>, schema: &DFSchema, facts: &Facts) -> Result<Self> {
        let mut grouping =
            Grouping { group: Vec::new(), aggregates: Vec::new(), fields: Vec::new(), columns: Vec::new(), facts: Facts::new() };
        for expr in group {
            if grouping.columns.iter().any(|(known, _)| *known == expr) {
                continue;
            }
            grouping.add(&expr, expr.get_type(schema)?, nullable(&expr, schema, facts));
            grouping.group.push(expr);
        }
        Ok(grouping)
    }

    fn add(&mut self, expr: &Expr, data_type: DataType, nullable: bool) -> Column {
        let column = match expr {
            Expr::Column(column) => Column::new(column.relation.clone(), column.name.clone()),
            other => {
                let name = show::sql(other);
                // Two expressions may read alike and differ in a type.
                let twins = self.columns.iter().filter(|(_, c)| c.name.trim_end_matches('\'') == name).count();
                Column::new_unqualified(name + &"'".repeat(twins))
            }
        };
        if !nullable {
            self.facts.insert(column.clone());
        }
        self.fields.push((column.relation.clone(), Arc::new(Field::new(&column.name, data_type, nullable))));
        self.columns.push((expr.clone(), column.clone()));
        column
    }

    /// The output's columns: those of the groups, then the aggregates.
    pub(crate) fn schema(&self) -> DFSchema {
        schema_of(self.fields.clone())
    }

    /// The expression over the output that means what `expr` means over the rows of `schema`. Error: a column that is
    /// neither grouped nor aggregated.
    pub(crate) fn lift(&mut self, expr: Expr, schema: &DFSchema, facts: &Facts) -> Result<Result<Expr, Column>> {
        let mut stray = None;
        let lifted = expr.transform_down(|e| {
            if let Some((_, column)) = self.columns.iter().find(|(known, _)| *known == e) {
                return Ok(Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump));
            }
            match e {
                Expr::AggregateFunction(call) => {
                    let (name, argument) = (call.func.name().to_string(), call.params.args.first().cloned());
                    let whole = Expr::AggregateFunction(call);
                    let Some(function) = function(&name) else { return plan_err!("unknown aggregate {name}") };
                    let may =
                        function != AggregateFunction::Count && argument.as_ref().is_none_or(|a| nullable(a, schema, facts));
                    let column = self.add(&whole, whole.get_type(schema)?, may);
                    let counts_rows =
                        function == AggregateFunction::Count && matches!(&argument, Some(Expr::Literal(v, _)) if !v.is_null());
                    self.aggregates.push(Aggregate::plain(function, argument.into_iter().filter(|_| !counts_rows).collect()));
                    Ok(Transformed::new(Expr::Column(column), true, TreeNodeRecursion::Jump))
                }
                Expr::Column(column) => {
                    stray.get_or_insert(column.clone());
                    Ok(Transformed::no(Expr::Column(column)))
                }
                other => Ok(Transformed::no(other)),
            }
        })?;
        Ok(match stray {
            Some(column) => Err(column),
            None => Ok(lifted.data),
        })
    }

    /// The output's columns of the groups.
    pub(crate) fn group_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().take(self.group.len()).map(|(_, column)| column)
    }
}

/// Whether an expression holds an aggregate.
pub(crate) fn holds_aggregate(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_)))).unwrap_or(false)
}
