//! Aggregates: their types, and how they are taken out of the expressions that hold them.
//!
//! `round(avg(x), 2)` becomes the aggregate `avg(x)`, whose result is a column, and `round(<that column>, 2)` over it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result, TableReference, not_impl_err, plan_err};
use datafusion_expr::expr::{AggregateFunction as AggregateCall, AggregateFunctionParams, Sort as SortExpr};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, Signature, Volatility};

use super::functions::{self, AGGREGATES};
use super::nulls::{Facts, nullable};
use super::query::{Aggregate, AggregateFunction, Order};
use super::relations::schema_of;
use super::show;
use super::types::{Family, family, kept};
use crate::model::row::type_name;

/// The aggregate function of that name.
fn function(name: &str) -> Option<AggregateFunction> {
    use AggregateFunction as F;
    const ALL: [AggregateFunction; 19] = [
        F::Latest,
        F::Earliest,
        F::Count,
        F::Sum,
        F::Min,
        F::Max,
        F::Avg,
        F::StddevPop,
        F::StddevSamp,
        F::VarPop,
        F::VarSamp,
        F::ArrayAgg,
        F::StringAgg,
        F::BoolAnd,
        F::BoolOr,
        F::ApproxDistinct,
        F::ApproxPercentile,
        F::Histogram,
        F::TopK,
    ];
    ALL.into_iter().find(|function| function.name() == name)
}

/// What stands for an aggregate while DataFusion plans an expression.
pub(crate) fn marker(name: &str) -> Option<Arc<AggregateUDF>> {
    static MARKERS: LazyLock<BTreeMap<&str, Arc<AggregateUDF>>> =
        LazyLock::new(|| AGGREGATES.iter().map(|name| (*name, Arc::new(AggregateUDF::from(Marker::new(name))))).collect());
    MARKERS.get(functions::aggregate(name)?).cloned()
}

/// What an aggregate can be given, for a help line.
pub(crate) fn takes(name: &str) -> String {
    match functions::aggregate(name).unwrap_or(name) {
        number @ ("sum" | "avg" | "stddev_pop" | "stddev_samp" | "var_pop" | "var_samp") => format!("{number} takes a number"),
        name @ ("min" | "max") => format!("{name} takes a number, a text, a time or a BOOLEAN"),
        name @ ("bool_and" | "bool_or") => format!("{name} takes a BOOLEAN: write {name}(x > 0)"),
        "string_agg" => "string_agg takes a STRING: write string_agg(CAST(x AS STRING), ', ')".into(),
        "approx_percentile" => "write approx_percentile(x, 0.95) of a number x".into(),
        "histogram" => "write histogram(x, lo, hi, bins) of a number x: histogram(x, 0, 100, 10)".into(),
        "topk" => "write topk(x, 3); x is a number, a text, a time or a BOOLEAN".into(),
        other => format!("write {other}(x)"),
    }
}

/// Refuses what DataFusion would make possible by a cast.
pub(crate) fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    expr.apply(|e| {
        if let Expr::AggregateFunction(call) = e
            && let Some(filter) = &call.params.filter
        {
            let data_type = filter.get_type(schema)?;
            if !matches!(family(&data_type), Family::Boolean | Family::Null) {
                return plan_err!("FILTER needs BOOLEAN, not {}", type_name(&data_type));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
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

    /// The arguments in the types that the aggregate computes with.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let refuse = || plan_err!("{} does not take {types:?}", self.name);
        let Some((t, more)) = types.split_first() else { return refuse() };
        let numeric = t.is_integer() || matches!(family(t), Family::Number | Family::Null);
        let ordered = matches!(family(t), Family::Number | Family::Text | Family::Time | Family::Boolean | Family::Bytes);
        let double = DataType::Float64;
        let wide = match (self.name, more) {
            ("array_agg", []) if *t == DataType::Null => return refuse(),
            ("latest" | "earliest" | "count" | "array_agg", []) => vec![t.clone()],
            ("min" | "max", []) if ordered => vec![t.clone()],
            ("approx_distinct", []) if ordered => vec![t.clone()],
            ("topk", [_]) if ordered => vec![t.clone(), DataType::Int64],
            ("sum", []) if t.is_integer() => vec![DataType::Int64],
            ("sum", []) => match t {
                DataType::Decimal128(_, scale) => vec![DataType::Decimal128(38, *scale)],
                DataType::Float16 | DataType::Float32 | DataType::Float64 => vec![double],
                _ => return refuse(),
            },
            ("avg", []) => match t {
                DataType::Decimal128(..) => vec![t.clone()],
                _ if numeric => vec![double],
                _ => return refuse(),
            },
            ("stddev_pop" | "stddev_samp" | "var_pop" | "var_samp", []) if t.is_integer() => vec![DataType::Int64],
            ("stddev_pop" | "stddev_samp" | "var_pop" | "var_samp", []) if numeric => vec![double],
            ("bool_and" | "bool_or", []) if matches!(family(t), Family::Boolean | Family::Null) => vec![DataType::Boolean],
            ("string_agg", [_]) if matches!(family(t), Family::Text | Family::Null) => vec![DataType::Utf8, DataType::Utf8],
            ("approx_percentile", [_]) if numeric => vec![double.clone(), double],
            ("histogram", [_, _, _]) if numeric => vec![double.clone(), double.clone(), double, DataType::Int64],
            _ => return refuse(),
        };
        Ok(wide)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let list = |t: DataType| DataType::List(Arc::new(Field::new_list_field(t, true)));
        let first = match self.name {
            // The only one whose argument may be left out.
            "count" => DataType::Null,
            _ => self.coerce_types(types)?.swap_remove(0),
        };
        Ok(match self.name {
            "count" | "approx_distinct" => DataType::Int64,
            "stddev_pop" | "stddev_samp" | "var_pop" | "var_samp" => DataType::Float64,
            // As many digits behind the point as the argument has, and no fewer than six.
            "avg" => match first {
                DataType::Decimal128(_, scale) => DataType::Decimal128(38, scale.max(6)),
                other => other,
            },
            "array_agg" | "topk" => list(kept(&first)),
            "histogram" => list(DataType::Int64),
            _ => first,
        })
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
                    let aggregate = aggregate_of(&call)?;
                    let may = self.may_be_null(&aggregate, schema, facts);
                    let whole = Expr::AggregateFunction(call);
                    let column = self.add(&whole, whole.get_type(schema)?, may);
                    self.aggregates.push(aggregate);
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

    /// Whether an aggregate may be NULL for a group of rows of which `facts` hold. A group without a key may have no rows.
    fn may_be_null(&self, aggregate: &Aggregate, schema: &DFSchema, facts: &Facts) -> bool {
        use AggregateFunction as F;
        let emptied = self.group.is_empty() || aggregate.filter.is_some();
        match aggregate.function {
            F::Count | F::ApproxDistinct | F::Histogram => false,
            // Of one row there is none.
            F::StddevSamp | F::VarSamp => true,
            F::ArrayAgg => emptied,
            _ => emptied || aggregate.arguments.first().is_none_or(|argument| nullable(argument, schema, facts)),
        }
    }

    /// The output's columns of the groups.
    pub(crate) fn group_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().take(self.group.len()).map(|(_, column)| column)
    }
}

/// The aggregate that a call is.
fn aggregate_of(call: &AggregateCall) -> Result<Aggregate> {
    let name = call.func.name();
    let Some(function) = function(name) else { return plan_err!("unknown aggregate {name}") };
    let AggregateFunctionParams { args, distinct, filter, order_by, .. } = &call.params;
    let counts_rows = function == AggregateFunction::Count && matches!(args.as_slice(), [Expr::Literal(v, _)] if !v.is_null());
    // Of these it does not matter how often a value is there.
    let idle = matches!(name, "min" | "max" | "bool_and" | "bool_or" | "approx_distinct");
    let order = |sort: &SortExpr| Order { expr: sort.expr.clone(), descending: !sort.asc, nulls_first: sort.nulls_first };
    // The order of different values is their own.
    let order_by = if *distinct { &[] } else { order_by.as_slice() };
    Ok(Aggregate {
        function,
        arguments: if counts_rows && !distinct { Vec::new() } else { args.clone() },
        distinct: *distinct && !idle,
        filter: filter.as_deref().cloned(),
        order: order_by.iter().map(order).collect(),
    })
}

/// Whether an expression holds an aggregate.
pub(crate) fn holds_aggregate(expr: &Expr) -> bool {
    expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_)))).unwrap_or(false)
}
